"""Redaction: what people write is masked before it is stored, by patterns and a keyed hash.

Every string of an event is of one sort: a closed word, a name (an id, a route, a tool...), free
text, a person, a session, or a prompt. Names and free text are searched for secrets and personal
data; what is found is replaced by ``[category:hash]``, where equal values of one tenant have equal
hashes and those of two tenants have not. A person and a session always become pseudonyms, a prompt
a fingerprint. Where the search fails, free text is dropped and names become hashes: what happened
is still recorded, and counted.

Patterns find what has a shape. A name of a person in a sentence has none, and stays.
"""

from __future__ import annotations

import hmac
import unicodedata
from base64 import b32encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final, Protocol

import msgspec

from tocsin.errors import InputError
from tocsin.events.envelope import Event, Links, Segment
from tocsin.limits import (
    REDACTED_EVENT_CHARS_MAX,
    REDACTED_ITEMS_MAX,
    REDACTED_KNOWN_MAX,
    REDACTED_NAME_CHARS_MAX,
    REDACTED_PEOPLE_MAX,
    REDACTED_PROMPT_CHARS_MAX,
    REDACTED_TEXT_CHARS_MAX,
    REDACTION_KEY_BYTES_MIN,
    REDACTORS_MAX,
)
from tocsin.model import Channel, Context, Delta, Finding
from tocsin.record.fields import PLANS, Sort, segment_names
from tocsin.verifiers.patterns import Patterns, Rule, rules
from tocsin.verifiers.patterns.compiled import rule_set
from tocsin.verifiers.patterns.engines import triggers
from tocsin.verifiers.patterns.rulebook import wide

_STEM_CHARS: Final = 14
_CHECK_CHARS: Final = 6
_PSEUDONYM_CHARS: Final = 2 + _STEM_CHARS + _CHECK_CHARS
_HASH_BYTES: Final = 10
_COARSE_CHARS: Final = 64
"""Coarse reasons come again and again; what is longer is hardly said twice."""

_NUMBERS: Final = frozenset(r.id for r in wide() if r.number and not r.context)
"""Rules whose numbers may as well be a part of an id."""

_JOINS: Final = "-_./:@#\\"

_UNCHECKED: Final = "unchecked"
_LONG: Final = "long"


class Finder(Protocol):
    """Finds what must not be stored. Any exception of it is a failure that the redactor bears."""

    ahead_chars: int
    """So many characters behind a place may decide whether something is found before it."""

    def clean(self, names: Sequence[str]) -> bool:
        """Say that nothing can be found in any of these; False where that is not sure."""

    def find(self, text: str) -> list[Finding]:
        """Return what is found, in any order."""


class PatternFinder:
    """The built-in patterns, or rules of your own, as a finder.

    Names are screened all at once, so that an event without anything to find costs microseconds.
    Free text is searched as it is, folded and decoded.

    Args:
        chosen: the rules; the built-in ones and those for redaction alone where left out. A rule
            that is for some kinds of channels only is used where it is for text.

    Raises:
        InputError: a rule does not compile.
        MissingExtra: RE2 or python-stdnum is not installed.

    Example:
        >>> [f.rule for f in PatternFinder().find("ask ann@example.com")]
        ['email']
    """

    def __init__(self, chosen: Sequence[Rule] | None = None) -> None:
        used = tuple(rules(redacting=True) if chosen is None else chosen)
        self._patterns = Patterns(
            used, forms=("folded", "decoded"), channels=("text",), engine="re2"
        )
        sets = (rule_set(used, "re2", fold=fold) for fold in (True, False))
        texts = {ready.text: None for of in sets for ready in of.rules}
        self._screen = triggers(tuple(texts), "re2").open()
        self.ahead_chars = self._patterns.declares.hold_back_chars

    def clean(self, names: Sequence[str]) -> bool:
        """Say that nothing can be found in any of these; False where that is not sure.

        What is visible ASCII without an escape reads the same in every form that names are searched
        in. A trigger may fire in vain, never the other way round.
        """
        joined = "\n".join(names)
        if not joined.isascii() or "%" in joined or not all(map(str.isprintable, names)):
            return False
        return not self._screen.fired(joined, joined, final=True)

    def find(self, text: str) -> list[Finding]:
        """Return what is found, in any order."""
        session = self._patterns.open(Context())
        outcomes = session.feed(Delta(channel=Channel(), text=text)) + session.close()
        found = [f for outcome in outcomes for f in getattr(outcome, "findings", ())]
        return [f for f in found if f.rule not in _NUMBERS or _stands_free(text, f.start, f.end)]


class Redaction:
    """What the redactors of all tenants share: the finder, names known to be clean, counts.

    Args:
        finder: what finds; None finds nothing and vouches for nothing: every free text is dropped.
        key: secret, at least `REDACTION_KEY_BYTES_MIN` bytes; tenants' keys are derived from it.
        known: names from the configuration, such as those of routes, policies and checks, which
            pass as they are.

    Raises:
        InputError: the key is too short.

    Example:
        >>> of = Redaction(PatternFinder(), b"k" * 32).tenant
        >>> of("shop").text("mail ann@example.com") == of("shop").text("mail ann@example.com")
        True
        >>> of("shop").text("mail ann@example.com") == of("bank").text("mail ann@example.com")
        False
    """

    def __init__(self, finder: Finder | None, key: bytes, known: Iterable[str] = ()) -> None:
        if len(key) < REDACTION_KEY_BYTES_MIN:
            raise InputError(
                f"the key of the redaction has {len(key)} bytes; "
                f"give {REDACTION_KEY_BYTES_MIN} random ones"
            )
        self.finder = finder
        self.known = frozenset(known)
        self.failures = 0
        """Times that the search failed, so that content was dropped."""
        self.masked = 0
        """Values that were masked."""
        self._key = key
        self._fresh: set[str | Segment | None] = {None}
        self._old: set[str | Segment | None] = {None}
        self._tenants: dict[str, Redactor] = {}

    def tenant(self, name: str) -> Redactor:
        """Return the redactor of a tenant."""
        made = self._tenants.get(name)
        if made is None:
            if len(self._tenants) >= REDACTORS_MAX:
                self._tenants.clear()
            key = hmac.digest(self._key, b"tocsin.redaction/1\0" + _bytes(name), "sha256")
            made = self._tenants[name] = Redactor(self, key)
        return made

    def unchecked(self, names: Iterable[str | None]) -> list[str]:
        """Return those names that are not known to be clean."""
        fresh, old, known = self._fresh, self._old, self.known
        return [n for n in names if n not in fresh and n not in old and n not in known and n]

    def seen(self, segment: Segment) -> bool:
        """Say whether all names of this segment are known to be clean."""
        return segment in self._fresh or segment in self._old

    def clean(self, names: Sequence[str]) -> bool:
        """Say whether nothing can be found in names, and remember those."""
        if self.finder is None:
            return False
        if any(len(n) > REDACTED_NAME_CHARS_MAX for n in names) or not self.finder.clean(names):
            return False
        self.remember(names)
        return True

    def remember(self, names: Iterable[str | Segment]) -> None:
        """Remember names that are clean, for a while: two generations, the older one forgotten."""
        if len(self._fresh) >= REDACTED_KNOWN_MAX:
            self._old, self._fresh = self._fresh, {None}
        self._fresh.update(names)


class _Spent:
    """How many characters of one event were searched so far; a search may take long."""

    __slots__ = ("chars",)

    def __init__(self) -> None:
        self.chars = 0


class Redactor:
    """Redacts what one tenant sends; made by `Redaction.tenant`.

    Args:
        shared: what all tenants share.
        key: the tenant's own.
    """

    __slots__ = ("_key", "_people", "_sessions", "_shared")

    def __init__(self, shared: Redaction, key: bytes) -> None:
        self._shared = shared
        self._key = key
        self._people: dict[str, str] = {}
        self._sessions: dict[str, str] = {}

    def event(self, event: Event) -> Event:
        """Return the event as it may be stored: the same object where nothing had to change."""
        plan = PLANS[type(event.body)]
        shared = self._shared
        unchecked = shared.unchecked(plan.names(event))
        segment = event.segment
        fresh = not shared.seen(segment)
        if fresh:
            unchecked += shared.unchecked(segment_names(segment))
            unchecked += shared.unchecked(segment.calibrations)
        for of in plan.several:
            unchecked += shared.unchecked(of(event))
        if (
            (unchecked and not self._clean(unchecked))
            or plan.crowded(event)
            or (plan.written and shared.unchecked([of(event) for of in plan.written]))
            or (plan.people and any(of(event) for of in plan.people))
            or (plan.prompts and not all(self._is_print(of(event)) for of in plan.prompts))
        ):
            return _rebuilt(event, self)
        if fresh:
            shared.remember((segment,))
        links = event.links
        if links.user is None and not links.session:
            return event
        user = None if links.user is None else self.person(links.user)
        session = self.session(links.session) if links.session else links.session
        return _linked(event, user, session)

    def text(self, text: str, within: _Spent | None = None) -> str:
        """Return free text with what was found masked; empty where it cannot be searched.

        What goes beyond `REDACTED_TEXT_CHARS_MAX` characters is cut off.

        Args:
            text: as somebody wrote it.
            within: what was searched of the same event before.
        """
        shared = self._shared
        if not shared.unchecked((text,)):
            return text
        try:
            found = self._masked(text, REDACTED_TEXT_CHARS_MAX, within)
        except Exception:  # noqa: BLE001 - whatever fails, nothing unchecked is stored
            shared.failures += 1
            return ""
        if found == text and len(text) <= _COARSE_CHARS:
            shared.remember((text,))
        return found

    def name(self, name: str, within: _Spent | None = None) -> str:
        """Return an identifier with what was found masked.

        Where it cannot be searched, or is longer than `REDACTED_NAME_CHARS_MAX` characters, it
        becomes a hash: equal ones stay equal.

        Args:
            name: as somebody chose it.
            within: what was searched of the same event before.
        """
        shared = self._shared
        if not shared.unchecked((name,)) or self._clean((name,)):
            return name
        if len(name) > REDACTED_NAME_CHARS_MAX:
            return self._mask(_LONG, name)
        try:
            found = self._masked(name, REDACTED_NAME_CHARS_MAX, within)
        except Exception:  # noqa: BLE001 - see text
            shared.failures += 1
            return self._mask(_UNCHECKED, name)
        if found == name:
            shared.remember((name,))
        return found

    def person(self, who: str) -> str:
        """Return the pseudonym of a person: ``u_`` and 20 hexadecimal digits.

        A pseudonym that this redactor made stays as it is; one that another key made is hashed
        again, like any other name.

        Example:
            >>> of = Redaction(None, b"k" * 32).tenant("shop")
            >>> of.person("ann") == of.person(of.person("ann"))
            True
        """
        made = self._people.get(who)
        if made is None:
            if len(self._people) >= REDACTED_PEOPLE_MAX:
                self._people.clear()
            made = self._people[who] = self._pseudonym(who)
        return made

    def session(self, name: str) -> str:
        """Return the pseudonym of a session: ``s_`` and 20 hexadecimal digits.

        The same for the same id, on whichever way it came; one that this redactor made stays.

        Example:
            >>> of = Redaction(None, b"k" * 32).tenant("shop")
            >>> of.session("talk") == of.session(of.session("talk")) != of.person("talk")
            True
        """
        made = self._sessions.get(name)
        if made is None:
            if len(self._sessions) >= REDACTED_PEOPLE_MAX:
                self._sessions.clear()
            ours = self._is_ours("s_", name)
            made = self._sessions[name] = name if ours else self._keyed("s_", b"session\0", name)
        return made

    def nobody(self, call: str) -> str:
        """Return the subject of raw content of which nobody is known: one for each call.

        Like a pseudonym, but with ``c_``; `person` leaves it as it is.
        """
        return self._keyed("c_", b"call\0", call)

    def prompt(self, asked: str) -> str:
        """Return the fingerprint of what was asked: ``p_`` and 20 hexadecimal digits.

        The same for the same words, however they are spaced and in capitals or not; of a long one,
        the first `REDACTED_PROMPT_CHARS_MAX` characters count. A fingerprint that this redactor
        made stays as it is.

        Example:
            >>> of = Redaction(None, b"k" * 32).tenant("shop")
            >>> of.prompt("Open the gates!") == of.prompt(" open  the GATES!")
            True
            >>> of.prompt(of.prompt("Open!")) == of.prompt("Open!") != of.prompt("Close!")
            True
        """
        if self._is_print(asked):
            return asked
        words = " ".join(asked[:REDACTED_PROMPT_CHARS_MAX].casefold().split())
        return self._keyed("p_", b"prompt\0", words)

    def _is_print(self, asked: str | None) -> bool:
        return not asked or self._is_ours("p_", asked)

    def _pseudonym(self, who: str) -> str:
        ours = self._is_ours("u_", who) or self._is_ours("c_", who)
        return who if ours else self._keyed("u_", b"person\0", who)

    def _keyed(self, prefix: str, purpose: bytes, text: str) -> str:
        digest = hmac.digest(self._key, purpose + _bytes(text), "sha256").hex()
        stem = prefix + digest[:_STEM_CHARS]
        return stem + self._check(stem)

    def _is_ours(self, prefix: str, text: str) -> bool:
        """Say whether this redactor made it: its last digits follow from those before."""
        if len(text) != _PSEUDONYM_CHARS or not text.startswith(prefix):
            return False
        stem = text[: 2 + _STEM_CHARS]
        return hmac.compare_digest(_bytes(text), _bytes(stem + self._check(stem)))

    def _check(self, stem: str) -> str:
        digest = hmac.digest(self._key, b"pseudonym\0" + _bytes(stem), "sha256")
        return digest.hex()[:_CHECK_CHARS]

    def _clean(self, names: Sequence[str]) -> bool:
        try:
            return self._shared.clean(names)
        except Exception:  # noqa: BLE001 - each is looked at by itself next, and counted there
            return False

    def _mask(self, category: str, value: str) -> str:
        """Write what stands for a value: letters alone, which no pattern takes for a number."""
        self._shared.masked += 1
        digest = hmac.digest(self._key, b"value\0" + _bytes(value), "sha256")[:_HASH_BYTES]
        return f"[{category}:{b32encode(digest).decode().lower().translate(_LETTERS)}]"

    def _masked(self, text: str, chars_max: int, within: _Spent | None) -> str:
        finder = self._shared.finder
        if finder is None:
            msg = "there is nothing to search with"
            raise LookupError(msg)
        # What is cut off may be needed to see that a value begins before the cut.
        seen = text[: chars_max + finder.ahead_chars]
        if within is not None:
            within.chars += len(seen)
            if within.chars > REDACTED_EVENT_CHARS_MAX:
                msg = "there is more to search in this event than there is time for"
                raise LookupError(msg)
        made: list[str] = []
        done = 0
        for start, end, category in _widened(seen, _merged(finder.find(seen))):
            if start >= chars_max:
                break
            made += (seen[done:start], self._mask(category, seen[start:end]))
            done = end
        made.append(seen[done:chars_max])
        # A lone surrogate cannot be stored.
        return _bytes("".join(made)).decode("utf-8", "replace")


_LETTERS: Final = str.maketrans("234567", "gjkxyz")
"""Digits of base 32 as letters: a few values fewer, and never a number."""


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _stands_free(text: str, start: int, end: int) -> bool:
    """Say whether a place is no part of a longer id, path, version or time."""
    before, after = text[:start][-1:], text[end : end + 2]
    if before.isalnum() or before in tuple(_JOINS):
        return False
    return not (after[:1].isalnum() or (after[:1] in tuple(_JOINS) and after[1:].isalnum()))


def _merged(findings: Iterable[Finding]) -> list[tuple[int, int, str]]:
    """Return the ranges that findings cover, in order; what touches is one."""
    made: list[tuple[int, int, str]] = []
    for found in sorted(findings, key=lambda f: (f.start, -f.end)):
        if made and found.start <= made[-1][1]:
            start, end, category = made[-1]
            made[-1] = (start, max(end, found.end), category)
        elif found.end > found.start:
            made.append((found.start, found.end, found.category))
    return made


def _widened(text: str, ranges: list[tuple[int, int, str]]) -> list[tuple[int, int, str]]:
    """Let ranges that begin or end at an invisible character go on to the end of the word.

    One within an address splits it: what is found is the part that is an address by itself.
    """
    if text.isascii():
        return ranges
    made: list[tuple[int, int, str]] = []
    for start, end, category in ranges:
        if start and unicodedata.category(text[start - 1]) == "Cf":
            least = made[-1][1] if made else 0
            while start > least and not text[start - 1].isspace():
                start -= 1  # noqa: PLW2901 - wider than it was found
        if end < len(text) and unicodedata.category(text[end]) == "Cf":
            while end < len(text) and not text[end].isspace():
                end += 1  # noqa: PLW2901 - see above
        if made and start < made[-1][1]:
            start = made[-1][1]  # noqa: PLW2901 - see above
        if end > start:
            made.append((start, end, category))
    return made


# ------------------------------------------------------------------------------- events made anew


_BySort = dict[Sort, Callable[[str], str]]
"""What becomes of a text of each sort."""


def _linked(event: Event, user: str | None, session: str | None) -> Event:
    """Return the event with other pseudonyms. By name: `replace` takes longer."""
    links = event.links
    if user == links.user and session == links.session:
        return event
    changed = Links(
        user=user,
        session=session,
        request=links.request,
        call=links.call,
        retrieval=links.retrieval,
        tool_call=links.tool_call,
    )
    return Event(
        id=event.id,
        time_us=event.time_us,
        source=event.source,
        body=event.body,
        links=changed,
        segment=event.segment,
        schema=event.schema,
    )


def _rebuilt(event: Event, by: Redactor) -> Event:
    sorts, spent = PLANS[type(event.body)].sorts, _Spent()
    by_sort: _BySort = {
        "name": partial(by.name, within=spent),
        "free": partial(by.text, within=spent),
        "person": by.person,
        "session": by.session,
        "prompt": by.prompt,
    }
    return msgspec.structs.replace(
        event,
        links=_section(event.links, sorts["links."], by_sort),
        segment=_section(event.segment, sorts["segment."], by_sort),
        body=_section(event.body, sorts["body."], by_sort),
        **_changes(event, sorts[""], by_sort),
    )


def _section(of: Any, sorts: Mapping[str, Sort], one: _BySort) -> Any:
    changes = _changes(of, sorts, one)
    return msgspec.structs.replace(of, **changes) if changes else of


def _changes(of: msgspec.Struct, sorts: Mapping[str, Sort], one: _BySort) -> dict[str, Any]:
    return {
        field: _each(getattr(of, field), one[sort])
        for field, sort in sorts.items()
        if getattr(of, field)
    }


def _each(value: Any, redact: Callable[[str], str]) -> Any:
    """Redact a text, or each text of several; of a mapping, the keys and what else is text."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        items = list(value.items())[:REDACTED_ITEMS_MAX]
        return {redact(k): redact(v) if isinstance(v, str) else v for k, v in items}
    return tuple(redact(v) for v in value[:REDACTED_ITEMS_MAX])
