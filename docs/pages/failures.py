"""The page of the table of failures."""

from __future__ import annotations

from pages.markdown import HEAD, cell
from tocsin.policy.failures import FAILURES, MAY_PASS, MEANING, MODES, PHASES, RESPONSES, TABLE

FAILURES_HEAD = """\
What becomes of a response when a part fails: this table, and nothing else, decides. The default \
is closed: where a policy enforces, text that could not be checked is not shown. A failure passes \
only where a policy names it in `pass`, and only where the last column allows it; the guard status \
then says `degraded`, never `ok`.
"""


def failures_page() -> str:
    """Return what is done about each failure, by phase and mode."""
    phases = [phase.replace("_", " ") for phase in PHASES]
    heads = [f"{mode}, {phase}" for mode in MODES for phase in phases]
    rows = [
        [
            f"`{failure}`",
            MEANING[failure],
            *(TABLE[failure, phase, mode] for mode in MODES for phase in PHASES),
            "yes" if failure in MAY_PASS else "no",
        ]
        for failure in FAILURES
    ]
    columns = ["failure", "what happened", *heads, "may pass"]
    return HEAD + "\n".join(
        [
            "# Failures\n",
            FAILURES_HEAD,
            *[f"- **{name}**: {meaning}." for name, meaning in RESPONSES.items()],
            "",
            f"| {' | '.join(columns)} |",
            "|" + "---|" * len(columns),
            *[f"| {' | '.join(cell(c) for c in row)} |" for row in rows],
        ]
    )
