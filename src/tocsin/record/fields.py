"""What each field of an event holds: a closed word, a name, free text, who it was, a prompt.

One table, against which the structs are checked: a field that somebody adds is treated as free text
until it is listed here, and a test fails.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import cache
from operator import attrgetter
from typing import Final, Literal, get_args

import msgspec
from msgspec import inspect

from tocsin.events.envelope import Event, Links, Segment
from tocsin.events.kinds import Body
from tocsin.limits import REDACTED_ITEMS_MAX

Sort = Literal["closed", "name", "free", "person", "session", "prompt"]
"""What a field holds: nothing that a person could write into it, an identifier, free text, who
somebody is, which conversation it is, or which words a model was asked."""

FREE: Final = frozenset(
    {
        "policy.decided.reason",
        "intervention.why",
        "failure.detail",
        "tool.denied.reason",
        "feedback.comment",
        "control.changed.reason",
        "access.reason",
        "rollout.stage.reason",
        "review.outcome.note",
        "content.erased.reason",
    }
)
"""Fields in which somebody writes sentences, by kind and name."""

PEOPLE: Final = frozenset({"links.user", "review.outcome.reviewer"})
"""Fields that say who somebody is; they hold pseudonyms, and nothing else ever."""

SESSIONS: Final = frozenset({"links.session"})
"""Fields that say which conversation it is; they hold pseudonyms, and nothing else ever."""

PROMPTS: Final = frozenset({"stream.opened.prompt"})
"""Fields that say which words a model was asked; they hold fingerprints, and nothing else ever."""

NAMES: Final = frozenset(
    {
        "id",
        "source",
        "schema",
        "links.request",
        "links.call",
        "links.retrieval",
        "links.tool_call",
        "segment.route",
        "segment.model",
        "segment.model_version",
        "segment.policy",
        "segment.policy_digest",
        "segment.calibrations",
        "segment.language",
        "segment.surface",
        "stream.opened.api",
        "stream.ended.failure",
        "stream.ended.receipt",
        "stream.ended.steps",
        "stream.ended.lowest",
        "stream.ended.verifiers",
        "alarm.check",
        "alarm.verifier",
        "alarm.verifier_version",
        "alarm.calibration",
        "alarm.rule",
        "alarm.category",
        "alarm.receipt",
        "intervention.by",
        "failure.failure",
        "failure.response",
        "failure.check",
        "tool.attempted.tool",
        "tool.denied.tool",
        "tool.returned.tool",
        "retrieval.sources",
        "output.classified.check",
        "output.classified.category",
        "output.classified.label",
        "feedback.category",
        "usage.currency",
        "limit.limit",
        "control.changed.control",
        "control.changed.to",
        "control.changed.by",
        "access.by",
        "access.role",
        "access.action",
        "access.target",
        "access.break_glass",
        "policy.changed.policy",
        "policy.changed.digest",
        "policy.changed.before",
        "policy.changed.by",
        "calibration.changed.check",
        "calibration.changed.digest",
        "calibration.changed.before",
        "calibration.changed.by",
        "rollout.stage.rollout",
        "rollout.stage.stage",
        "rollout.stage.by",
        "review.outcome.outcome",
        "content.kept.content",
        "content.kept.what",
        "content.erased.by",
        "record.shed.source",
    }
)
"""Fields that hold identifiers; searched too, since nothing stops people from putting more there.
Of a mapping, the keys are meant, and what they lead to where that is text."""

One = Callable[[Event], str]
"""Gives a field that holds one text."""

Maybe = Callable[[Event], str | None]
"""Gives a field that may hold a text."""

Several = Callable[[Event], Collection[str]]
"""Gives a field that holds several names."""


class Plan:
    """How events of one kind are looked at.

    Args:
        body: the kind's struct.
    """

    def __init__(self, body: type[msgspec.Struct]) -> None:
        kind = str(body.__struct_config__.tag)
        sections: tuple[tuple[str, str, type[msgspec.Struct]], ...] = (
            ("", "", Event),
            ("links.", "links.", Links),
            ("segment.", "segment.", Segment),
            (f"{kind}.", "body.", body),
        )
        single: list[str] = []
        several: list[Several] = []
        written: list[str] = []
        people: list[str] = []
        prompts: list[str] = []
        self.sorts: dict[str, dict[str, Sort]] = {}
        for listed, place, struct in sections:
            sorts = self.sorts[place] = _sorts(struct, listed)
            for field, sort in sorts.items():
                if sort == "name" and struct is not Segment:
                    if _is_several(struct, field):
                        several.append(_texts_of(struct, field, place + field))
                    else:
                        single.append(place + field)
                elif sort == "free":
                    written.append(place + field)
                elif sort == "person" and struct is not Links:
                    people.append(place + field)
                elif sort == "prompt":
                    prompts.append(place + field)
        self.names: Callable[[Event], tuple[str | None, ...]] = attrgetter(*single)
        self.several: list[Several] = several
        self.written: list[One] = [attrgetter(path) for path in written]
        self.people: list[One] = [attrgetter(path) for path in people]
        self.prompts: list[Maybe] = [attrgetter(path) for path in prompts]

    def crowded(self, event: Event) -> bool:
        """Whether a field holds more names than are kept."""
        if len(event.segment.calibrations) > REDACTED_ITEMS_MAX:
            return True
        return bool(self.several) and any(len(f(event)) > REDACTED_ITEMS_MAX for f in self.several)


def sort_of(path: str) -> Sort | None:
    """Return what a field of text holds, by its path; None where nobody has said.

    Example:
        >>> sort_of("feedback.comment"), sort_of("links.user"), sort_of("alarm.check")
        ('free', 'person', 'name')
    """
    if path in FREE:
        return "free"
    if path in PEOPLE:
        return "person"
    if path in SESSIONS:
        return "session"
    if path in PROMPTS:
        return "prompt"
    return "name" if path in NAMES else None


def fields_of_text() -> dict[str, Sort | None]:
    """Return every field of an event that may hold text, by path, and what it holds.

    Made from the structs: a field that somebody adds is in here at once, and None until it is
    listed. Until then it is treated as free text.
    """
    found: dict[str, Sort | None] = {}
    for prefix, struct in (("", Event), ("links.", Links), ("segment.", Segment)):
        found.update({prefix + f: sort_of(prefix + f) for f in _text_fields(struct)})
    for body in get_args(Body):
        kind = f"{body.__struct_config__.tag}."
        found.update({kind + f: sort_of(kind + f) for f in _text_fields(body)})
    return found


_info = cache(inspect.type_info)
"""What msgspec knows of a struct; that of an event goes through every kind, so it is kept."""


def _sorts(struct: type[msgspec.Struct], prefix: str) -> dict[str, Sort]:
    return {f: sort_of(prefix + f) or "free" for f in _text_fields(struct)}


def _text_fields(struct: type[msgspec.Struct]) -> list[str]:
    shown = _info(struct)
    if not isinstance(shown, inspect.StructType):
        msg = f"{struct} is no struct"
        raise TypeError(msg)
    return [
        field.name
        for field in shown.fields
        if not (struct is Event and field.name in {"body", "links", "segment"})
        and _holds_text(field.type)
    ]


def _holds_text(kind: inspect.Type) -> bool:
    """Whether a value of this type may hold text that is not from a closed list."""
    if isinstance(kind, inspect.Metadata):
        return _holds_text(kind.type)
    if isinstance(kind, inspect.UnionType):
        return any(map(_holds_text, kind.types))
    if isinstance(kind, inspect.VarTupleType | inspect.ListType | inspect.SetType):
        return _holds_text(kind.item_type)
    closed = (
        inspect.LiteralType,
        inspect.IntType,
        inspect.FloatType,
        inspect.BoolType,
        inspect.NoneType,
    )
    return not isinstance(kind, closed)


def _type_of(struct: type[msgspec.Struct], field: str) -> inspect.Type:
    found: inspect.Type = {f.name: f.type for f in getattr(_info(struct), "fields", ())}[field]
    return found


def _is_several(struct: type[msgspec.Struct], field: str) -> bool:
    return isinstance(_type_of(struct, field), inspect.VarTupleType | inspect.DictType)


def _texts_of(struct: type[msgspec.Struct], field: str, path: str) -> Several:
    """Give all texts of a field; of a mapping to texts, what it leads to as well."""
    read = attrgetter(path)
    kind = _type_of(struct, field)
    if isinstance(kind, inspect.DictType) and _holds_text(kind.value_type):
        return lambda event: [text for pair in read(event).items() for text in pair]
    return read


segment_names: Final[Callable[[Segment], tuple[str, ...]]] = attrgetter(
    *(f for f in _sorts(Segment, "segment.") if not _is_several(Segment, f))
)
"""Gives the single names of a segment."""

PLANS: Final = {body: Plan(body) for body in get_args(Body)}
"""How events are looked at, by kind."""
