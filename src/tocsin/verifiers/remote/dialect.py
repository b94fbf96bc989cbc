"""What every dialect gives: a request for texts, and judgements from the answer's bytes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import msgspec

from tocsin.verifiers.remote.text import Case
from tocsin.verifiers.stepwise import Judgement, NoJudgement
from tocsin.verifiers.taxonomy import BY_ID

Said = Judgement | NoJudgement


class Dialect(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="dialect"
):
    """How one kind of server is asked, and how its answers are read. Options are its fields."""

    batches: ClassVar[bool] = False
    """One request may carry the texts of several responses."""

    @property
    def span(self) -> tuple[float, float]:
        """The range of the scores, ends included."""
        return (0.0, 1.0)

    @property
    def categories(self) -> tuple[str, ...]:
        """Categories that scores are broken down into."""
        return ()

    @property
    def needs_conversation(self) -> bool:
        """Without a conversation there is nothing to ask."""
        return False

    def complaint(self) -> str:
        """Say what is wrong with the options, and what to do; empty where nothing is."""
        return ""

    def request(self, model: str, cases: Sequence[Case]) -> dict[str, Any]:
        """Give the request's body; every dialect defines this."""
        raise NotImplementedError

    def read(self, body: bytes, cases: Sequence[Case]) -> list[Said]:
        """Read one judgement for each case, none by guesswork; every dialect defines it."""
        raise NotImplementedError


def bad(detail: str) -> NoJudgement:
    """Say that an answer cannot be read; its words stay out, for they may be the text's."""
    return NoJudgement("bad_answer", detail)


def within(value: float, span: tuple[float, float]) -> bool:
    """Tell whether a number is one, and within a range."""
    return math.isfinite(value) and span[0] <= value <= span[1]


def outside(value: float, span: tuple[float, float]) -> NoJudgement:
    """Say that a number is not one that the server may give."""
    return NoJudgement("out_of_range", f"{value!r} is not within {span[0]!r} to {span[1]!r}")


def unknown_categories(names: Sequence[str]) -> str:
    """Complain about categories that do not exist; empty where all do."""
    strange = [name for name in names if name not in BY_ID]
    if not strange:
        return ""
    return f"categories: {strange[0]!r} is no category; use one of {', '.join(BY_ID)}"
