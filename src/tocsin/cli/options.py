"""Options that several commands share, and how their text becomes values."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from tocsin.errors import InputError
from tocsin.model import BOUNDS, Signal
from tocsin.risk.plan import MISSING_POLICIES, OBJECTIVES, STATISTICS, UNITS, Plan
from tocsin.risk.trajectories import Trajectories

F = TypeVar("F", bound=Callable[..., Any])


def _all(options: list[Callable[[F], F]]) -> Callable[[F], F]:
    def decorate(f: F) -> F:
        for option in reversed(options):
            f = option(f)
        return f

    return decorate


DATA_OPTIONS = ("layout", "columns", "score_column", "segment_column", "scores")


def data_options(f: F) -> F:
    """How to read the data file."""
    return _all(
        [
            click.option("--layout", default="auto", show_default=True,
                         help="Layout: auto, tocsin, e-valuator, reference, llama, fineharm, "
                         "red-team-attempts."),
            click.option("--column", "columns", multiple=True, metavar="OURS=THEIRS",
                         help="Name of one of our columns in the file; may be repeated."),
            click.option("--score-column", metavar="NAME", help="Column that holds the score."),
            click.option("--segment-column", metavar="NAME",
                         help="Column that names the segment of each trajectory."),
            click.option("--scores", metavar="FILE",
                         help="Scores by turn, for a layout that holds text alone."),
        ]
    )(f)  # fmt: skip


def signal_options(f: F) -> F:
    """What the score is; part of the calibration's identity."""
    return _all(
        [
            click.option("--signal", type=click.Choice(["probability", "real"]),
                         default=None,
                         help="Range of the score, safe-high in both; probability by default."),
            click.option("--verifier", default=None,
                         help="Name of the verifier; a file of `tocsin score` says it itself."),
            click.option("--verifier-version", default=None, help="Its version."),
            click.option("--step-definition", default=None,
                         help="What one step is: line, sentence, turn, ..."),
        ]
    )(f)  # fmt: skip


def plan_options(f: F) -> F:
    """What is promised, and by what means."""
    return _all(
        [
            click.option("--epsilon", default="0.1", show_default=True, metavar="E[,E...]",
                         help="Risk to stay under; several certificates where several are given."),
            click.option("--delta", default=0.1, show_default=True,
                         help="Probability that the promise fails over the calibration draw."),
            click.option("--bound", type=click.Choice(BOUNDS), default="exact", show_default=True,
                         help="crc promises on average; the others with probability 1 - delta."),
            click.option("--objective", type=click.Choice(OBJECTIVES), default="balanced",
                         show_default=True, help="What `auto` optimises; the promise holds."),
            click.option("--missing", type=click.Choice(MISSING_POLICIES), default="error",
                         show_default=True, help="What a missing score does, here and deployed."),
            click.option("--unit", type=click.Choice(UNITS), default=None,
                         help="Exchangeable unit; one trajectory per group where groups repeat."),
            click.option("--fit-share", default=0.5, show_default=True,
                         help="Share of the groups on which learned statistics are fitted."),
            click.option("--seed", default=0, show_default=True, help="Of every random draw."),
        ]
    )(f)  # fmt: skip


statistic_option = click.option(
    "--statistic", type=click.Choice(STATISTICS), default="auto", show_default=True,
    help="What turns the scores so far into one number.",
)  # fmt: skip


def parse_epsilons(text: str) -> tuple[float, ...]:
    """Parse ``0.05,0.1``; an InputError names what is no number."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"--epsilon {text!r}: give numbers separated by commas") from None


def parse_columns(pairs: tuple[str, ...]) -> dict[str, str]:
    """Parse ``ours=theirs`` pairs."""
    out = {}
    for pair in pairs:
        ours, equals, theirs = pair.partition("=")
        if not equals or not ours or not theirs:
            raise InputError(f"--column {pair!r}: write OURS=THEIRS, such as score=p_safe")
        out[ours] = theirs
    return out


def read_data(
    data: str,
    layout: str,
    columns: tuple[str, ...],
    score_column: str | None,
    segment_column: str | None,
    scores: str | None,
) -> Trajectories:
    """Read the data file as the options say."""
    from tocsin.evaluation.datasets import read

    return read(
        data,
        layout=layout,
        columns=parse_columns(columns) or None,
        score_column=score_column,
        segment_column=segment_column,
        scores=scores,
    )


def read_key(path: str) -> bytes:
    """Read a PEM file."""
    try:
        return Path(path).read_bytes()
    except OSError as e:
        raise InputError(f"cannot read the key {path!r}: {e.strerror}") from None


IDENTITY_OPTIONS = ("signal", "verifier", "verifier_version", "step_definition")


def make_signal(data: str, score_column: str | None, given: dict[str, str | None]) -> Signal:
    """Put the identity of the signal together, from the options and from what the file says.

    Args:
        data: the file; one that `tocsin score` wrote says whose scores each column holds.
        score_column: the column that was asked for, if another than `score`.
        given: what the options say, None where they say nothing.

    Raises:
        InputError: option and file contradict each other, or the file contradicts itself.
    """
    from tocsin.evaluation import identity

    fields = identity.read_identity(data, score_column)
    for name, field in identity.FIELDS.items():
        option = given[name]
        if option is not None and fields.setdefault(field, option) != option:
            raise InputError(
                f"--{name.replace('_', '-')} {option!r}: {data} says that its scores are of "
                f"{fields[field]!r}; leave the option out, or name another --score-column"
            )
    return identity.make_signal(data, fields)


def make_plan(**choices: Any) -> Plan:
    """Make a plan from options, `risk` written with a dash and `epsilon` as text."""
    choices["epsilons"] = parse_epsilons(choices.pop("epsilon"))
    choices["risk"] = choices["risk"].replace("-", "_")
    return Plan(**choices)
