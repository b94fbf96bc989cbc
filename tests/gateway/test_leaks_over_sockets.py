"""Nothing forbidden is in any byte that a client gets, over real sockets, whatever is combined.

The full matrix runs on the pure codecs (`tests/guarding/test_leaks.py`); here every pair of values
meets in one gateway, and every triple in the slow run. What came is read by `json` alone, counted
anew, and held against what the gateway says of itself: its note, its headers, its receipt.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gateway.kept import Kept, everything, kept, plan, whole
from gateway.live import LOOPS, Stage, stage
from gateway.pairs import Case, covering
from gateway.raw_client import FILTERED, Answer, Shown, ask, asking, ending, joined, read
from guarded_streams import FORBIDDEN, literal_rules

from tocsin.gateway.keeper import RecordKeeper
from tocsin.gateway.site import Fallback, Route, Site, Upstream
from tocsin.guarding.plan import Check, Guard
from tocsin.limits import FEED_CHARS
from tocsin.stream.events import APIS
from tocsin.testing.fake_model import Call, Choice, Exchange, FakeModel, Reply

RULES = literal_rules(steps="chars:16")
HOLD_BACK = RULES.declares.hold_back_chars
SAYS = "The gates were seven, and not one of them was ever shut by night. "
REPLACEMENT = "I had better not say that."
OTHER = "Of gates I know nothing at all, but the sea is calm today."
MARKER = "[forbidden]"

OFFSETS = {
    "first": 0,
    "second": 1,
    "ends_on_the_grid": FEED_CHARS - len(FORBIDDEN),
    "across_the_grid": FEED_CHARS - 9,
    "on_the_grid": FEED_CHARS,
    "at_the_hold_back": FEED_CHARS + HOLD_BACK,
    "late": 3 * FEED_CHARS + 7,
}
FACTORS: dict[str, tuple[Any, ...]] = {
    "api": APIS,
    "channel": ("text", "tool", "reasoning", "refusal"),
    "n": (1, 2),
    "offset": (*OFFSETS, "last"),
    "cut": ("whole", "two", "three", "characters", "bytes"),
    "does": ("halt", "mask", "replace", "escalate", "fallback", "shadow", "observe"),
    "stream": (True, False),
    "hold": ("window", "end_of_stream"),
    "version": ("/v1", ""),
    "logprobs": (False, True),
}
BLOCKS = {"halt", "replace", "escalate", "fallback"}
SHOWS = {"shadow", "observe"}


def allowed(case: Case) -> bool:
    """What an API does not have cannot be combined."""
    if case["n"] == 2 and case["api"] != "chat":
        return False
    if case["channel"] == "refusal" and case["api"] == "messages":
        return False
    return not (case["logprobs"] and case["api"] == "messages")


def named(case: Case) -> str:
    return "-".join(str(value).strip("/") for value in case.values())


PAIRS = covering(FACTORS, allowed)


# ---------------------------------------------------------------------------- what the model says


def said(case: Case) -> str:
    """Give the text of the channel in question."""
    if case["offset"] == "last":
        text = SAYS + FORBIDDEN
    else:
        text = f"{(SAYS * 3)[: OFFSETS[case['offset']]]}{FORBIDDEN} 😀é {SAYS}"
    return json.dumps({"a": text}, ensure_ascii=False) if case["channel"] == "tool" else text


def scripted(case: Case) -> Reply:
    text = said(case)
    at = text.index(FORBIDDEN)
    cuts: dict[str, int | tuple[int, ...]] = {
        "whole": 0, "two": (at + 6,), "three": (at + 4, at + 9), "characters": 1, "bytes": 3,
    }  # fmt: skip
    if case["channel"] == "tool":
        speaks = Choice(text="So be it.", calls=(Call(name="open", arguments=text),))
    elif case["channel"] == "reasoning":
        speaks = Choice(text="So be it.", reasoning=text)
    else:
        fields: dict[str, Any] = {case["channel"]: text}
        speaks = Choice(**fields)
    choices = (speaks,) if case["n"] == 1 else (Choice(text=SAYS), speaks)
    writes = 1 if case["cut"] == "bytes" else 0
    return Reply(choices=choices, cut=cuts[case["cut"]], write_bytes=writes)


class Script:
    """Replies by the name of the model that is asked for."""

    def __init__(self) -> None:
        self.replies: dict[str, Reply] = {"other": Reply(choices=(Choice(text=OTHER),))}

    def __call__(self, exchange: Exchange) -> Reply:
        return self.replies[exchange.body["model"]]


def site(fake: FakeModel, folder: Path) -> Site:
    upstream = Upstream(name="fake", url=f"{fake.url}/v1", speaks=frozenset(APIS))
    routes = []
    for does in FACTORS["does"]:
        for hold in FACTORS["hold"]:
            name = f"{does}-{hold}"
            follows: Any = "halt" if does == "observe" else does
            guard = Guard(
                name=f"policy {name}",
                digest=hashlib.sha256(name.encode()).hexdigest(),
                checks=(Check(name="rules", verifier=RULES, on_finding={"*": follows}),),
                mode="observe" if does == "observe" else "enforce",
                hold=hold,
                replacement=REPLACEMENT,
            )
            route = Route(
                name=name, models=(f"{name}-*",), upstream=upstream, model=None, guard=guard,
                stronger=Check(name="strong", verifier=RULES),
                fallback=Fallback(upstream=upstream, model="other"),
            )  # fmt: skip
            routes.append(route)
    return Site(routes=tuple(routes), open_to_all=True, record=plan(folder))


class World:
    """One gateway and one model for all cases."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.script = Script()
        self.runner = asyncio.Runner(loop_factory=LOOPS["served"])
        self._stage = stage(lambda fake: site(fake, folder), self.script)
        self.stage: Stage = self.runner.run(self._stage.__aenter__())

    def ask(self, case: Case) -> Answer:
        model = f"{case['does']}-{case['hold']}-{named(case)}"
        self.script.replies[model] = scripted(case)
        body = asking(
            case["api"], model, stream=case["stream"], n=case["n"], logprobs=case["logprobs"]
        )
        where = self.stage.live.where
        return self.runner.run(ask(where, case["api"], body, case["version"]))

    def line(self, receipt: str) -> dict[str, Any]:
        """The one line of the access log."""
        return self.runner.run(self.stage.live.line_of(receipt.removesuffix("-fallback")))

    def receipt(self, name: str) -> dict[str, Any]:
        """Read a receipt once it is recorded."""
        live = self.stage.live
        assert name in [line["id"] for line in live.lines.named("receipt")]
        self.runner.run(
            live.until(lambda: len(live.witness.of("receipt")) == len(live.lines.named("receipt")))
        )
        keeper = live.plane.books.keeper
        assert isinstance(keeper, RecordKeeper)
        return Kept(keeper.store, self.folder, "local").receipt(name)

    def close(self) -> None:
        self.runner.run(self._stage.__aexit__(None, None, None))
        self.runner.close()
        with kept(self.folder) as record:
            whole(record)
            assert FORBIDDEN.encode() not in everything(self.folder)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = World(tmp_path_factory.mktemp("record"))
    yield made
    made.close()


# ------------------------------------------------------------------------------------ the claims


@pytest.mark.parametrize("case", PAIRS, ids=named)
def test_no_byte_of_an_answer_holds_what_is_forbidden(world: World, case: Case) -> None:
    check(world, case)


@pytest.mark.slow
def test_no_triple_of_circumstances_lets_anything_forbidden_out(world: World) -> None:
    cases = covering(FACTORS, allowed, strength=3)
    assert len(cases) > len(PAIRS)
    for case in cases:
        check(world, case)


def check(world: World, case: Case) -> None:
    answer = world.ask(case)
    api, does = case["api"], case["does"]
    assert answer.status == 200
    assert answer.streamed == case["stream"]
    texts = joined(answer.frames)
    if does not in SHOWS:
        assert FORBIDDEN.encode() not in answer.raw
        for where, text in texts.items():
            assert FORBIDDEN[:6] not in text, where
            assert FORBIDDEN[-6:] not in text, where
    shown = read(api, answer)
    fell = answer.headers["x-tocsin-receipt"].endswith("-fallback")
    assert not fell or does == "fallback"
    _ends_validly(case, answer, fell)
    _says_who_it_is(case, answer)
    record = world.receipt(answer.headers["x-tocsin-receipt"].removesuffix("-fallback"))
    _shown_as_it_should_be(case, shown, fell)
    _the_note_is_true(case, answer, shown, fell)
    _the_receipt_is_true(case, record, shown, answer, fell)
    line = world.line(answer.headers["x-tocsin-receipt"])
    blocked = does in BLOCKS and not fell
    assert (line["status"], line["outcome"]) == (200, "blocked" if blocked else "ok")


def _ends_validly(case: Case, answer: Answer, fell: bool) -> None:
    api = case["api"]
    ends = ending(api, answer)
    if case["does"] in BLOCKS and not fell:
        assert ends == [FILTERED[api]] * case["n"]
        return
    tool = case["channel"] == "tool" and not fell
    usual = {
        "chat": "tool_calls" if tool else "stop",
        "responses": "completed",
        "messages": "tool_use" if tool else "end_turn",
    }
    expected = [usual[api]]
    if case["n"] == 2:
        expected = ["stop", "stop" if fell else usual["chat"]]
    assert ends == expected


def _says_who_it_is(case: Case, answer: Answer) -> None:
    name = f"{case['does']}-{case['hold']}"
    digest = hashlib.sha256(name.encode()).hexdigest()
    mode = "observe" if case["does"] == "observe" else "enforce"
    assert answer.headers["x-tocsin-policy"] == f"policy_{name}@{digest[:12]}"
    assert answer.headers["x-tocsin-mode"] == mode
    assert answer.headers.get("x-tocsin-guard") == (None if case["stream"] else "ok")
    note = answer.note
    assert note["receipt"] == answer.headers["x-tocsin-receipt"]
    assert note["policy"] == answer.headers["x-tocsin-policy"]
    assert (note["status"], note["mode"], note["failure"]) == ("ok", mode, None)


def _place(case: Case) -> tuple[str, int, int]:
    kind = "tool_arguments" if case["channel"] == "tool" else case["channel"]
    return kind, case["n"] - 1, 0


def _shown_as_it_should_be(case: Case, shown: Shown, fell: bool) -> None:
    """What the reader has is the policy's image of what the model said, or of a beginning of it."""
    place, text = _place(case), said(case)
    got = shown.get(place, "")
    before = text[: text.index(FORBIDDEN)]
    if fell:
        assert shown == {("text", choice, 0): OTHER for choice in range(case["n"])}
    elif case["does"] in SHOWS or case["does"] == "mask":
        expected = text if case["does"] in SHOWS else text.replace(FORBIDDEN, MARKER)
        if case["api"] == "messages" and case["channel"] == "tool":
            got, expected = json.loads(got), json.loads(expected)
        assert got == expected
    else:
        replaced = case["does"] == "replace" and place[0] == "text"
        assert before.startswith(got.removesuffix(REPLACEMENT) if replaced else got)
        if case["channel"] == "tool":
            assert not got
    if case["does"] == "replace":
        for choice in range(case["n"]):
            assert shown["text", choice, 0].endswith(REPLACEMENT)


def _raw_of(case: Case, place: tuple[str, int, int], text: str) -> str:
    """What the generator wrote of a channel, given what was shown of it."""
    if case["does"] == "replace" and place[0] == "text":
        text = text.removesuffix(REPLACEMENT)
    return text.replace(MARKER, FORBIDDEN) if case["does"] == "mask" else text


def _whole_body_of_a_tool(case: Case) -> bool:
    """Whether arguments came as an object, whose text cannot be had back to the character."""
    return bool(case["api"] == "messages" and case["channel"] == "tool" and not case["stream"])


def _the_note_is_true(case: Case, answer: Answer, shown: Shown, fell: bool) -> None:
    note = answer.note
    released = sum(len(_raw_of(case, place, text)) for place, text in shown.items())
    if not _whole_body_of_a_tool(case):
        assert note["released"] == released
    assert note["scanned"] >= note["released"]
    if fell:
        assert (note["alarms"], note["done"], note["held"]) == (0, None, 0)
    else:
        done = {"observe": "shadow", "escalate": "halt"}.get(case["does"], case["does"])
        assert note["alarms"] >= 1
        assert note["done"] == ("halt" if done == "fallback" else done)
    if case["does"] == "mask" or case["does"] in SHOWS:
        assert note["held"] == 0
    whole_hold = case["hold"] == "end_of_stream" or (not case["stream"] and not fell)
    fallback_waits = not fell and not case["stream"]
    assert note["hold"] in {"end_of_stream", "window"}
    if whole_hold and fallback_waits:
        assert note["hold"] == "end_of_stream"


PARTS = {
    "": "who policy policy_digest account checks alarms alarms_more failures channels schema",
    "who": "id tenant route api model upstream conversation asked_at ended_at asked unread made_by",
    "account": "status mode hold scanned held released alarms done failure",
    "checks": "name verifier verifier_version step_definition signal promise alarm_below path "
    "steps unknown lowest overruled",
    "alarms": "check step channel choice index upto closing score statistic rule category start "
    "end wanted done why appeal late",
    "channels": "kind choice index received scanned released masked shown shown_sha256 withheld "
    "withheld_sha256",
}
"""Every field of a receipt, by part."""


def _the_receipt_is_true(
    case: Case, record: dict[str, Any], shown: Shown, answer: Answer, fell: bool
) -> None:
    assert set(record) == set(PARTS[""].split())
    for part in ("who", "account"):
        assert set(record[part]) == set(PARTS[part].split())
    for part in ("checks", "alarms", "channels"):
        for one in record[part]:
            assert set(one) == set(PARTS[part].split())
    who = record["who"]
    assert who["id"] == answer.headers["x-tocsin-receipt"].removesuffix("-fallback")
    assert (who["api"], who["route"]) == (case["api"], f"{case['does']}-{case['hold']}")
    assert record["failures"] == []
    assert record["schema"] == "tocsin.receipt/1"
    assert record["alarms"][0]["rule"] == "forbidden"
    assert FORBIDDEN not in json.dumps(record)
    kind, choice, _ = _place(case)
    assert (record["alarms"][0]["channel"], record["alarms"][0]["choice"]) == (kind, choice)
    start = said(case).index(FORBIDDEN)
    if not _whole_body_of_a_tool(case):
        assert record["alarms"][0]["start"] == start
        assert record["alarms"][0]["end"] == start + len(FORBIDDEN)
    if fell:
        assert record["account"]["released"] == record["account"]["held"] * 0
        assert all(one["shown"] == 0 for one in record["channels"])
        return
    told = {(c["kind"], c["choice"], c["index"]): c for c in record["channels"] if c["shown"]}
    client = dict(shown)
    if case["does"] == "replace":
        client = {
            place: text.removesuffix(REPLACEMENT) if place[0] == "text" else text
            for place, text in shown.items()
        }
        client = {place: text for place, text in client.items() if text}
    assert sorted(told) == sorted(client)
    for place, text in client.items():
        if _whole_body_of_a_tool(case) and place[0] == "tool_arguments":
            continue
        digest = hashlib.sha256(text.encode()).hexdigest()
        assert (told[place]["shown"], told[place]["shown_sha256"]) == (len(text), digest), place
