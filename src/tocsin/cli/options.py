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
                         default="probability", show_default=True,
                         help="Range of the score; a higher one is safer in both."),
            click.option("--verifier", default="unspecified", help="Name of the verifier."),
            click.option("--verifier-version", default="unspecified", help="Its version."),
            click.option("--step-definition", default="unspecified",
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


def make_signal(signal: str, verifier: str, verifier_version: str, step_definition: str) -> Signal:
    """Put the identity of the signal together."""
    return Signal(
        kind=signal,  # type: ignore[arg-type]
        verifier=verifier,
        verifier_version=verifier_version,
        step_definition=step_definition,
    )


def make_plan(**choices: Any) -> Plan:
    """Make a plan from options, `risk` written with a dash and `epsilon` as text."""
    choices["epsilons"] = parse_epsilons(choices.pop("epsilon"))
    choices["risk"] = choices["risk"].replace("-", "_")
    return Plan(**choices)
