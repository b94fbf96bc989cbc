"""Labelled text through a verifier: which score belongs to which step.

The text of each trajectory is fed as a gateway would feed it: what the model saw as observations,
what it wrote as text, each row a turn. Steps are the rows of the file where the step definition is
``turn``, else the pieces that the definition cuts the rows into.
"""

from __future__ import annotations

import asyncio
import itertools
from bisect import bisect_left
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from tocsin.evaluation.texts import Texts
from tocsin.model import TEXT, Channel, Context, Delta, Outcome, Score
from tocsin.stream.steps import Segmenter, StepDefinition
from tocsin.verifiers.contract import AnyVerifier, AsyncVerifier, Declaration, Verifier

OBSERVATION = Channel("observation")


@dataclass(frozen=True)
class Piece:
    """A step of the output: a row of the file, or a part of one.

    Args:
        row: index of its row within the trajectory.
        start, end: offsets in the text of all rows joined.
    """

    row: int
    start: int
    end: int


@dataclass(frozen=True)
class Scored:
    """One trajectory, scored; lists have one entry a piece, None where there is no score.

    Args:
        values: safe-high; the worst of all scores that speak for the piece.
        categories: the same for each harm category.
        unknown: how often each reason was given.
        judged: pieces of which the verifier said a score.
    """

    values: list[float | None]
    categories: dict[str, list[float | None]] = field(default_factory=dict)
    unknown: dict[str, int] = field(default_factory=dict)
    judged: int = 0


@dataclass(frozen=True)
class Trajectory:
    """The rows of one trajectory, and the steps that they are cut into."""

    texts: Sequence[str]
    observations: Sequence[str]
    pieces: Sequence[Piece]

    @cached_property
    def ends(self) -> list[int]:
        """Offset at which each piece ends."""
        return [piece.end for piece in self.pieces]

    @cached_property
    def rows(self) -> list[int]:
        """Row of each piece."""
        return [piece.row for piece in self.pieces]

    def deltas(self) -> Iterator[tuple[int, Delta]]:
        """Yield what a session is fed, each with its row."""
        for row, (text, observed) in enumerate(zip(self.texts, self.observations, strict=True)):
            if observed:
                yield row, Delta(text=observed, channel=OBSERVATION, ends="turn")
            yield row, Delta(text=text, ends="turn")


def trajectories(texts: Texts, steps: StepDefinition) -> Iterator[Trajectory]:
    """Cut each trajectory into steps."""
    starts = texts.starts
    for first, end in itertools.pairwise(starts):
        rows = [str(text) for text in texts.text[first:end]]
        observed = [str(text) for text in texts.obs[first:end]]
        yield Trajectory(rows, observed, cut(rows, steps))


def cut(rows: Sequence[str], steps: StepDefinition) -> list[Piece]:
    """Cut rows into steps; with ``turn`` each row is one, however long.

    Example:
        >>> cut(["One. Two.", ""], StepDefinition("sentence"))
        [Piece(row=0, start=0, end=5), Piece(row=0, start=5, end=9)]
        >>> cut(["One. Two.", ""], StepDefinition("turn"))
        [Piece(row=0, start=0, end=9), Piece(row=1, start=9, end=9)]
    """
    pieces: list[Piece] = []
    at = 0
    segmenter = Segmenter(steps)
    for row, text in enumerate(rows):
        if steps.kind == "turn":
            pieces.append(Piece(row, at, at + len(text)))
        else:
            pieces += [Piece(row, step.start, step.end) for step in segmenter.feed(text, "turn")]
        at += len(text)
    return pieces or [Piece(0, 0, 0)]


def score(verifier: Verifier, trajectory: Trajectory) -> Scored:
    """Score one trajectory."""
    session = verifier.open(Context())
    said = [(row, outcome) for row, d in trajectory.deltas() for outcome in session.feed(d)]
    said += [(len(trajectory.texts) - 1, outcome) for outcome in session.close()]
    return assign(verifier.declares, trajectory, said)


async def score_all(
    verifier: AnyVerifier, todo: Iterator[tuple[int, Trajectory]], at_once: int
) -> AsyncIterator[tuple[int, Scored]]:
    """Score many trajectories, at most `at_once` of them side by side, as they get done."""
    if isinstance(verifier, Verifier):
        for number, trajectory in todo:
            yield number, score(verifier, trajectory)
            await asyncio.sleep(0)  # so that an interrupt gets through
        return

    running: set[asyncio.Task[tuple[int, Scored]]] = set()
    try:
        for number, trajectory in todo:
            running.add(asyncio.ensure_future(_score_later(verifier, number, trajectory)))
            while len(running) >= at_once:
                done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    yield task.result()
        for finished in asyncio.as_completed(running):
            yield await finished
    finally:
        for task in running:
            task.cancel()
        await verifier.aclose()


async def _score_later(
    verifier: AsyncVerifier, number: int, trajectory: Trajectory
) -> tuple[int, Scored]:
    session = verifier.open_async(Context())
    said: list[tuple[int, Outcome]] = []
    for row, delta in trajectory.deltas():
        said += [(row, outcome) for outcome in await session.feed(delta)]
    said += [(len(trajectory.texts) - 1, outcome) for outcome in await session.close()]
    return number, assign(verifier.declares, trajectory, said)


# -------------------------------------------------------------------------------------- assignment


def assign(
    declares: Declaration, trajectory: Trajectory, said: Sequence[tuple[int, Outcome]]
) -> Scored:
    """Give each step the worst of the scores that speak for it; an unknown makes it missing.

    An outcome of the text belongs to the step in which its offset falls, one of an observation to
    the first step of the row that saw it. A step for which nothing was said repeats the step before
    it where there was nothing new to judge.

    Args:
        declares: of the verifier.
        trajectory: its steps.
        said: outcomes, each with the row that was being fed.
    """
    pieces = trajectory.pieces
    heard: list[list[Outcome]] = [[] for _ in pieces]
    for row, outcome in said:
        heard[_place(trajectory, row, outcome, heard)].append(outcome)
    values: list[float | None] = []
    categories: dict[str, list[float | None]] = {name: [] for name in declares.categories}
    unknown: dict[str, int] = {}
    judged = 0
    for i, outcomes in enumerate(heard):
        scores = []
        for outcome in outcomes:
            if isinstance(outcome, Score) and _sound(declares, outcome):
                scores.append(outcome)
            else:
                reason = "out_of_range" if isinstance(outcome, Score) else outcome.reason
                unknown[reason] = unknown.get(reason, 0) + 1
        known = bool(outcomes) and len(scores) == len(outcomes)
        judged += known
        silent = not outcomes and _nothing_new(declares, trajectory, pieces[i])
        before = values[-1] if values else declares.high
        values.append(min(s.value for s in scores) if known else before if silent else None)
        for name, column in categories.items():
            found = [s.categories[name] for s in scores if name in s.categories]
            past = column[-1] if column else declares.high
            column.append(min(found) if known and found else past if silent else None)
    return Scored(values, categories, unknown, judged)


def _sound(declares: Declaration, score: Score) -> bool:
    """Whether all of a score is within the declared range; what is not a number is not."""
    values = (score.value, *score.categories.values())
    return all(declares.low <= value <= declares.high for value in values)


def _place(
    trajectory: Trajectory, row: int, outcome: Outcome, heard: Sequence[Sequence[Outcome]]
) -> int:
    pieces = trajectory.pieces
    if outcome.channel != TEXT:
        return min(bisect_left(trajectory.rows, row), len(pieces) - 1)
    at = min(bisect_left(trajectory.ends, outcome.upto), len(pieces) - 1)
    # An empty turn ends where the one before it did; what is said while it is fed is its own.
    while heard[at] and at + 1 < len(pieces) and pieces[at].row < row:
        if pieces[at + 1].start < pieces[at + 1].end:
            break
        at += 1
    return at


def _nothing_new(declares: Declaration, trajectory: Trajectory, piece: Piece) -> bool:
    """Whether a step brought nothing that the verifier scores."""
    text = piece.end > piece.start and "text" in declares.channels
    observed = bool(trajectory.observations[piece.row]) and "observation" in declares.channels
    return not text and not observed
