"""A response under guard: nothing forbidden is shown, and the cut decides nothing.

A scene is a policy and texts on channels, one after the other; they are cut in two ways. What is
shown, what is recorded and how it ends are the same, and it ends exactly once.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from guarded_streams import FORBIDDEN, Doors, Scripted, literal_rules, now

from fuzz.dice import Dice
from fuzz.laws import merged
from tocsin.guarding.plan import Check, Guard, Verdict
from tocsin.guarding.receipt import Who
from tocsin.guarding.response import Guarded
from tocsin.limits import FEED_CHARS
from tocsin.model import Channel, Context, Intervention, Token
from tocsin.stream.events import (
    Began,
    Blocked,
    Broken,
    Done,
    Event,
    Opened,
    Sealed,
    Spent,
    Stopped,
    Wrote,
)

_TEXTS = (
    FORBIDDEN, FORBIDDEN[:6], FORBIDDEN[6:], FORBIDDEN[:-1], FORBIDDEN[-1], "S" * 40, "é😀",
    "The gates were seven, and none was ever shut. ", "x", "xyz", " ", "x" * (FEED_CHARS - 1),
    "x" * FEED_CHARS, "\n", "x" * (FEED_CHARS + 1), "bad", "-7-", '{"a": "', '"}', "\x00",
    "Where were you? ", FORBIDDEN * 2,
)  # fmt: skip
_CHANNELS = (
    Channel(), Channel("refusal"), Channel("reasoning"), Channel("reasoning", 0, 1),
    Channel("tool_arguments"), Channel("tool_arguments", 0, 1), Channel("text", 1),
    Channel("tool_arguments", 1),
)  # fmt: skip
_BLOCKS = frozenset({"reasoning", "tool_arguments"})
_DOES: tuple[Intervention, ...] = (
    "halt", "mask", "replace", "fallback", "escalate", "require_approval", "shadow", "allow",
)  # fmt: skip
_STEPS = ("chars:32", "chars:5", "sentence", "line", "tokens:3")
_ENDS_IT = frozenset({"halt", "replace", "fallback"})
_ASKS = frozenset({"escalate", "require_approval"})


@cache
def _rules(steps: str) -> Any:
    return literal_rules(steps=steps)


def _guard(dice: Dice) -> Guard:
    does = dice.one(_DOES)
    checks = [Check(name="rules", verifier=_rules(dice.one(_STEPS)), on_finding={"*": does})]
    if dice.flag():
        words = Scripted({"bad": 0.2, "xyz": 0.6}, dice.one(_STEPS))
        low = Check(name="words", verifier=words, alarm_below=0.5, on_alarm=dice.one(_DOES))
        checks.insert(dice.below(2), low)
    return Guard(
        checks=tuple(checks),
        hold=dice.one(("window", "end_of_stream")),
        hold_chars=dice.one((0, 1, 64)),
        marker=dice.one(("[{category}]", "", "*")),
        replacement=dice.one(("", "No.")),
        otherwise=dice.one(("halt", "replace")),
    )


def _scene(dice: Dice) -> list[Event]:
    """What the generator says, in order, with its texts whole."""
    events: list[Event] = [Opened()] if dice.flag() else []
    seen: set[Channel] = set()
    for _ in dice.some(6):
        channel = dice.one(_CHANNELS)
        if channel in seen and channel.kind in _BLOCKS:
            continue
        text = "".join(dice.one(_TEXTS) for _ in dice.some(5))
        tokens = tuple(Token(text[a : a + 7], -0.5) for a in range(0, len(text), 7))
        tokens = tokens if dice.below(4) == 1 else ()
        seen.add(channel)
        wrote = [Wrote(channel=channel, text=text, tokens=tokens)] if text else []
        if channel.kind in _BLOCKS:
            events += [Began(channel=channel, fields={"name": "open"}), *wrote]
            events += [Sealed(channel=channel)] if dice.below(4) else []
        else:
            events += wrote
    end: Event = Done() if dice.below(8) else Broken(reason="cut_off")
    return [*events, Stopped(choice=0), Stopped(choice=1), Spent(), end]


def _cut(events: list[Event], sizes: list[int]) -> list[Event]:
    out: list[Event] = []
    for event in events:
        if not isinstance(event, Wrote) or event.tokens:
            out.append(event)
            continue
        at, turn = 0, 0
        while at < len(event.text):
            size = sizes[turn % len(sizes)]
            out.append(Wrote(channel=event.channel, text=event.text[at : at + size]))
            at, turn = at + size, turn + 1
    return out


def _run(guard: Guard, events: list[Event], doors: Doors, *, in_order: bool, group: int) -> Any:
    guarded = Guarded(guard, Context(), doors, in_order=in_order)
    shown: list[Event] = []
    for at in range(0, len(events), group):
        shown += now(guarded.take(events[at : at + group]))
    assert guarded.over
    ends = [e for e in shown if isinstance(e, Done | Blocked | Broken)]
    if guarded.refused is None and not guarded.falls_back:
        assert ends == shown[-1:]
    else:
        assert ends == []
    assert now(guarded.take([Wrote(channel=Channel(), text="more")])) == []
    receipt = guarded.receipt(Who(id="r"))
    return guarded, shown, receipt


def one(data: bytes) -> None:
    """Check one input."""
    dice = Dice(data)
    in_order = dice.flag()
    verdict = dice.one((Verdict(safe=None), Verdict(safe=True, by="a"), Verdict(safe=False)))
    guard = _guard(dice)
    sizes = [1 + dice.below(40), 1 + dice.below(4), 1 + dice.below(40)]
    group = 1 + dice.below(3)
    events = _scene(dice)

    whole = _run(guard, events, Doors(verdict=verdict), in_order=in_order, group=len(events))
    other = _run(guard, _cut(events, sizes), Doors(verdict=verdict), in_order=in_order, group=group)
    assert _outcome(whole) == _outcome(other)
    _check_shown(guard, events, whole[1], verdict)


def _outcome(ran: Any) -> Any:
    guarded, shown, receipt = ran
    account = guarded.account()
    ended = (guarded.refused, guarded.falls_back, account.status, account.done, account.alarms)
    return _texts(shown), _told(shown), ended, receipt.alarms


def _told(shown: list[Event]) -> list[Any]:
    """Everything but the texts of channels, which the cut may put in another order."""
    return [e for e in merged(shown) if not isinstance(e, Wrote)]


def _texts(events: list[Event]) -> dict[Channel, str]:
    texts: dict[Channel, str] = {}
    for event in events:
        if isinstance(event, Wrote):
            texts[event.channel] = texts.get(event.channel, "") + event.text
    return {channel: text for channel, text in texts.items() if text}


def _check_shown(guard: Guard, said: list[Event], shown: list[Event], verdict: Verdict) -> None:
    texts, spoken = _texts(shown), _texts(said)
    does = {d for check in guard.checks for d in (check.on_alarm, *check.on_finding.values())}
    rules = next(check for check in guard.checks if check.name == "rules").on_finding["*"]
    for channel, text in texts.items():
        if "mask" not in does:
            assert spoken[channel].startswith(text)
            if rules in _ENDS_IT or (rules in _ASKS and not verdict.safe):
                at = spoken[channel].find(FORBIDDEN)
                assert at < 0 or len(text) <= at
        elif rules == "mask" and guard.marker:
            assert FORBIDDEN not in text
    if not isinstance(shown[-1] if shown else None, Done):
        return
    if does <= {"shadow", "allow"}:
        assert texts == spoken
    elif rules == "mask" and len(guard.checks) == 1:
        marker = guard.marker.replace("{category}", "custom")
        masked = {c: re.sub(f"({FORBIDDEN})+", marker, text) for c, text in spoken.items()}
        assert texts == {channel: text for channel, text in masked.items() if text}
