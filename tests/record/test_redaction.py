"""What people write is masked before it is stored, on every field, and nothing else is changed."""

from __future__ import annotations

import os
import secrets
import string
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from record.filled import filled

from tocsin import limits
from tocsin.errors import InputError
from tocsin.events.envelope import Event, Links, Segment, encode
from tocsin.events.kinds import (
    Accessed,
    Body,
    Classified,
    Decided,
    Feedback,
    Retrieved,
    Reviewed,
    StreamEnded,
    StreamOpened,
    Used,
)
from tocsin.model import Finding
from tocsin.record.fields import FREE, NAMES, PEOPLE, PROMPTS, SESSIONS, fields_of_text
from tocsin.record.redaction import PatternFinder, Redaction, Redactor
from tocsin.verifiers.patterns import Rule, rules

KEY = b"k" * 32
FINDER = PatternFinder()
MAIL = "ann.lee@example.com"
CARD = "4111 1111 1111 1111"
TOKEN = "ghp_" + "aB3dE6gH9jK2mN5pQ8rS1tU4vW7xY0zA3cD6"
VALUES = (MAIL, CARD, TOKEN, "+44 20 7946 0958", "078-05-1121", "GB82 WEST 1234 5698 7654 32")


def redactor(tenant: str = "shop", key: bytes = KEY) -> Redactor:
    return Redaction(FINDER, key).tenant(tenant)


def event(body: Body, **more: Any) -> Event:
    return Event(id="e1", time_us=7, source="tocsin/gateway", body=body, **more)


# ----------------------------------------------------------------------------- every field is known


def test_every_field_that_may_hold_text_is_listed() -> None:
    missing = sorted(path for path, sort in fields_of_text().items() if sort is None)
    assert missing == [], "say in record/fields.py what these hold"


def test_nothing_is_listed_that_is_no_field() -> None:
    lists = (FREE, NAMES, PEOPLE, SESSIONS, PROMPTS)
    assert frozenset().union(*lists) - set(fields_of_text()) == set()
    assert sum(map(len, lists)) == len(frozenset().union(*lists))


@pytest.mark.parametrize("kind", get_args(Body), ids=lambda k: str(k.__struct_config__.tag))
@pytest.mark.parametrize("value", VALUES)
def test_no_field_of_any_event_lets_a_value_through(kind: type[Any], value: str) -> None:
    given_event = filled(f"see {value} there", kind)
    assert encode(given_event).count(value.encode()) >= 18
    stored = encode(redactor().event(given_event))
    assert value.encode() not in stored
    assert b"[sensitive_data:" in stored


@pytest.mark.parametrize("kind", get_args(Body), ids=lambda k: str(k.__struct_config__.tag))
def test_what_is_clean_stays_as_it_is(kind: type[Any]) -> None:
    given_event = filled("checkout-flow", kind)
    before = msgspec.to_builtins(given_event)
    after = msgspec.to_builtins(redactor().event(given_event))
    before["links"]["user"] = after["links"]["user"]
    before["links"]["session"] = after["links"]["session"]
    for field in {"reviewer", "prompt"} & set(before["body"]):
        before["body"][field] = after["body"][field]
    assert after == before


def test_an_event_without_anything_to_change_is_the_same_object() -> None:
    given_event = event(StreamOpened(api="chat"), links=Links(call="r_1"))
    assert redactor().event(given_event) is given_event


def test_redacting_again_changes_nothing() -> None:
    of = redactor()
    for kind in get_args(Body):
        once = of.event(filled(f"{MAIL} and {CARD}, password=hunter2xyz!", kind))
        assert of.event(once) == once


# -------------------------------------------------------------------------------- equal stays equal


def test_equal_values_of_a_tenant_have_equal_hashes_and_those_of_two_tenants_have_not() -> None:
    shared = Redaction(FINDER, KEY)
    shop, bank = shared.tenant("shop"), shared.tenant("bank")
    assert shop.text(f"a {MAIL}").split("[")[1] == shop.text(f"and b {MAIL}").split("[")[1]
    assert shop.text(MAIL) != shop.text("bob@example.com")
    assert shop.text(MAIL) != bank.text(MAIL)
    assert shop.person("ann") != bank.person("ann")
    assert shop.text(MAIL) != redactor(key=b"j" * 32).text(MAIL)


def test_a_session_becomes_a_pseudonym_once() -> None:
    of, other = redactor(), redactor("bank")
    links = Links(session="talk-1")
    one = event(Feedback(verdict="up"), links=links)
    talk = of.event(one).links.session or ""
    assert (talk[:2], len(talk)) == ("s_", 22)
    assert of.event(of.event(one)) == of.event(one)
    assert of.session("talk-1") == talk != of.session("talk-2")
    assert other.event(one).links.session != talk != other.session(talk)
    assert of.person("talk-1")[2:] != talk[2:]
    assert of.person(of.nobody("r_1")) == of.nobody("r_1") != of.nobody("r_2")


@pytest.mark.parametrize("text", [f"see ev\u200b{MAIL} now", f"see {MAIL}\u200bple now"])
def test_an_invisible_character_leaves_no_part_of_an_address(text: str) -> None:
    for cleaned in (redactor().text(text), redactor().name(text)):
        assert cleaned.startswith("see [sensitive_data:")
        assert cleaned.endswith("] now")


def test_a_person_becomes_a_pseudonym_once() -> None:
    of = redactor()
    who = of.person("ann")
    assert len(who) == 22
    assert who.startswith("u_")
    assert set(who[2:]) <= set("0123456789abcdef")
    assert of.person(who) == who
    assert redactor("bank").person(who) not in {who, redactor("bank").person("ann")}


@given(st.text(max_size=60), st.text(max_size=60))
def test_pseudonyms_tell_people_apart(a: str, b: str) -> None:
    of = redactor()
    assert (of.person(a) == of.person(b)) == (a == b)


def test_what_looks_like_a_pseudonym_and_is_none_is_hashed() -> None:
    of = redactor()
    forged = "u_" + "0" * 20
    assert of.person(forged) != forged
    assert of.person("u_" + "é" * 20).isascii()


def test_a_prompt_becomes_a_fingerprint_once() -> None:
    of = redactor()
    once = of.prompt("Open the gates!")
    assert len(once) == 22
    assert once.startswith("p_")
    assert once != of.person("open the gates!").replace("u_", "p_")
    assert once == of.prompt(once) == of.prompt(" OPEN\tthe  gates! ")
    assert once not in {redactor("bank").prompt("Open the gates!"), redactor("bank").prompt(once)}
    forged = "p_" + "0" * 20
    assert of.prompt(forged) != forged
    stored = event(StreamOpened(api="chat", prompt=once))
    assert of.event(stored) is stored
    sent = of.event(event(StreamOpened(api="chat", prompt="open the gates!"))).body
    assert isinstance(sent, StreamOpened)
    assert sent.prompt == once


def test_of_a_long_prompt_the_beginning_counts() -> None:
    of, most = redactor(), limits.REDACTED_PROMPT_CHARS_MAX
    assert of.prompt("x" * most + "y") == of.prompt("x" * most + "z") != of.prompt("x" * (most - 1))


def test_of_a_mapping_to_texts_both_sides_are_searched() -> None:
    given_event = event(StreamEnded(outcome="ok", verifiers={MAIL: "v 1", "b": f"v {CARD}"}))
    body = redactor().event(given_event).body
    assert isinstance(body, StreamEnded)
    (one, two), (three, four) = body.verifiers.items()
    assert one.startswith("[") and four.startswith("v [")
    assert (two, three) == ("v 1", "b")


def test_ids_that_hold_a_value_stay_apart_and_equal() -> None:
    of = redactor()
    one, two = (f"session {mail}" for mail in (MAIL, "bob@example.com"))
    assert of.name(one) == of.name(one) != of.name(two)
    assert of.name(one).startswith("session [sensitive_data:")


@given(st.binary(min_size=10, max_size=10))
def test_a_mask_is_letters_alone(value: bytes) -> None:
    masked = redactor().text(f"mail {value.hex()}@example.com")
    mask = masked.removeprefix("mail [sensitive_data:").removesuffix("]")
    assert len(mask) == 16
    assert set(mask) <= set(string.ascii_lowercase)


# ------------------------------------------------------------------------------------ what is found


@pytest.mark.parametrize(
    "text",
    [
        f"mail {MAIL}.",
        "mail ann.lee%40example.com",
        "mail YW5uLmxlZUBleGFtcGxlLmNvbQ== please",
        "mail \uff41nn.lee@ex\u200bample.com",
        "mail ann.lee&#64;example.com",
    ],
)
def test_disguises_are_seen_through_in_free_text(text: str) -> None:
    masked = redactor().text(text)
    assert "[sensitive_data:" in masked
    assert "ann" not in masked
    assert "YW5u" not in masked


@pytest.mark.parametrize("name", ["ann.lee%40example.com", f"a\u200b{MAIL}", f"a\x00{MAIL}"])
def test_disguises_are_seen_through_in_names(name: str) -> None:
    assert "example" not in redactor().name(name)


def test_text_around_a_value_is_kept() -> None:
    masked = redactor().text(f"a {MAIL} b {CARD} c")
    assert masked.startswith("a [")
    assert "] b [" in masked
    assert masked.endswith("] c")


@given(st.text(alphabet=string.ascii_letters + string.digits + "_-.:/", max_size=40))
@settings(max_examples=300)
def test_what_the_screen_calls_clean_holds_nothing(name: str) -> None:
    if FINDER.clean((name,)):
        folded = [f for f in FINDER.find(name) if f.form in {"raw", "folded"}]
        assert folded == []


@pytest.mark.parametrize("value", VALUES)
def test_the_screen_sees_a_value_among_names(value: str) -> None:
    assert FINDER.clean(("chat", "r_1", "gpt-4o-2024"))
    assert not FINDER.clean(("chat", value, "r_1"))


def test_rules_of_ones_own_are_used_on_names_too() -> None:
    rule = Rule(id="case", pattern=r"\bCASE-[^a-z]{6}", category="custom")
    of = Redaction(PatternFinder((rule,)), KEY).tenant("shop")
    assert of.name("x-CASE-123456").startswith("x-[custom:")
    assert of.text("about CASE-12 456").startswith("about [custom:")
    assert of.name("case-closed") == "case-closed"


GIVEN = [
    ("pw=", "hunter2secret", ""),
    ("pwd: ", "Sommer2024", " thanks"),
    ("pwd: ", "hunter", ""),
    ("passwort=", "geheim", ""),
    ("mein Passwort ist ", "Sommer2024", " oder so"),
    ("my password is ", "hunter2", "."),
    ("Kennwort lautet: ", "blauerElefant", ""),
    ('{"password":"', "letmein", '"}'),
    ("PGPASSWORD=", "abc123", ""),
    ("WLAN-Passwort: ", "88776655", ""),
    ("pin: ", "4711", ""),
    ("?a=b&pw=", "abcd", "&x=1"),
    ("token=", "ab12cd", ""),
    ('"secret": "', "s3cr3ts", '"'),
    ("", "030 1234567", ""),
    ("", "0171/1234567", ""),
    ("", "+49 (0)30 1234567", ""),
    ("", "+49 (0) 30 / 123 45 67", ""),
    ("", "0049 30 123456", ""),
    ("", "0049-30-123456", ""),
    ("", "00491711234567", ""),
    ("", "001-518-640-0854", ""),
    ("", "(030) 1234567", ""),
    ("", "01711234567", ""),
    ("", "0171 123 45 67", ""),
    ("", "030/123456-78", ""),
    ("", "020 7946 0958", ""),
    ("", "03 93 92 16 85", ""),
    ("Telefon ", "1234567", ""),
    ("erreichbar unter ", "12 34 56 78", ""),
    ("Handynummer:", "01711234567", ""),
]


@pytest.mark.parametrize(("before", "value", "after"), GIVEN)
def test_what_is_told_in_any_form_is_masked_in_text_and_in_names(
    before: str, value: str, after: str
) -> None:
    told = f"{before}{value}{after}"
    for text in (told, f"see {told} there", f"({told})", f"so: {told}, and more."):
        for masked in (redactor().text(text), redactor().name(text)):
            assert value not in masked
            assert "[sensitive_data:" in masked


KEPT = [
    "r_01J9ZQ0123456789ABCDEF",
    "550e8400-e29b-41d4-a716-446655440000",
    "e29b0000-0123-4567-9123-a46655440000",
    "sha256:0123456789abcdef0123456789abcdef",
    "0123456789012345678901234567890123456789",
    "2026-01-02T03:04:05Z",
    "2026-01-02 03:04:05.012345",
    "03:04:05.0123456",
    "02.01.2026",
    "01/02/2026",
    "20260102030405",
    "1.0.12",
    "2024.012.34567",
    "v0.123-20260102",
    "gpt-4o-2024-08-06",
    "claude-3-5-sonnet-20241022",
    "1234567",
    "0123456",
    "0012345678",
    "runs/0123/456789",
    "run-0123-456789",
    "doc:0123-456789",
    "step 0012 of 0420",
    "n = 420, epsilon 0.1, lambda=-0.4265350590800739",
    "p50=0.012 p99=0.345",
    "tokens=51200 ms=1234",
    "token: 51200000",
    "max_token=4096",
    "between 56 and 108 of 1,000",
    "10.000.000",
    "pass: 3 of 4, fail: 1",
    "the password is wrong",
    "password: required",
    "Passwort vergessen",
    "das Passwort ist falsch.",
    "password was changed/reset",
    "password = ****",
    "password=${DB_PASSWORD}",
    "vault:password:rotate",
    "tocsin/gateway",
]


@pytest.mark.parametrize("text", KEPT)
def test_ids_times_versions_and_numbers_are_kept(text: str) -> None:
    for whole in (text, f"see {text} there"):
        assert redactor().text(whole) == whole
        assert redactor().name(whole) == whole


def test_rules_of_a_file_come_beside_those_for_redaction_alone(tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    file.write_text(
        "[builtin]\nexclude = ['phone_trunk']\n[[rule]]\nid = 'case'\npattern = 'CASE-[0-9]{4}'\n"
    )
    of = Redaction(PatternFinder(rules(str(file), redacting=True)), KEY).tenant("shop")
    assert "1234" not in of.text("CASE-1234, pw=1234x")
    assert of.text("030 1234567") == "030 1234567"
    with pytest.raises(InputError, match="no built-in rule"):
        rules(str(file))
    known = {rule.id for rule in rules()}
    assert known < {rule.id for rule in rules(redacting=True)}


# ------------------------------------------------------------------------------------------- bounds


def test_text_is_cut_and_no_value_survives_at_the_cut() -> None:
    most = limits.REDACTED_TEXT_CHARS_MAX
    for before in range(most - len(MAIL), most):
        masked = redactor().text("x" * (before - 1) + " " + MAIL + " and more")
        assert "ann" not in masked
        assert "example" not in masked
    assert len(redactor().text("x " * most)) == most


def test_a_long_name_becomes_a_hash() -> None:
    of = redactor()
    name = "n" * (limits.REDACTED_NAME_CHARS_MAX + 1)
    assert of.name(name).startswith("[long:")
    assert of.name(name) == of.name(name) != of.name(name + "n")
    assert of.name(name[:-1]) == name[:-1]


def test_a_list_of_names_is_bounded() -> None:
    many = tuple(f"doc-{i}" for i in range(limits.REDACTED_ITEMS_MAX + 5))
    body = redactor().event(event(Retrieved(sources=many, found=len(many)))).body
    assert isinstance(body, Retrieved)
    assert body.sources == many[: limits.REDACTED_ITEMS_MAX]
    assert body.found == len(many)


def test_what_is_searched_of_one_event_is_bounded() -> None:
    shared = Redaction(FINDER, KEY)
    hostile = tuple(f"1.1.1.{n} ".ljust(250, "7") for n in range(200))
    body = shared.tenant("shop").event(event(Retrieved(sources=hostile, found=200))).body
    assert isinstance(body, Retrieved)
    assert len(set(body.sources)) == 200
    searched = limits.REDACTED_EVENT_CHARS_MAX // 250
    assert all(s.startswith("[unchecked:") for s in body.sources[searched:])
    assert not any(s.startswith("[unchecked:") for s in body.sources[:searched])
    assert shared.failures == 200 - searched
    assert shared.tenant("shop").name(hostile[-1]).startswith("[sensitive_data:")


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tocsin.record.redaction.REDACTED_KNOWN_MAX", 8)
    monkeypatch.setattr("tocsin.record.redaction.REDACTED_PEOPLE_MAX", 8)
    shared = Redaction(FINDER, KEY)
    of = shared.tenant("shop")
    for i in range(100):
        of.name(f"doc-{i}")
        of.person(f"ann-{i}")
    assert len(shared._fresh) + len(shared._old) < 20
    assert len(of._people) <= 8


def test_lone_surrogates_do_not_get_through() -> None:
    of = redactor()
    encode(of.event(event(Feedback(verdict="up", comment="a\ud800b"), links=Links(call="\udfff"))))


# ----------------------------------------------------------------------------------------- failures


class Broken:
    """A finder that fails, always or on some texts."""

    ahead_chars = 10

    def __init__(self, on: str = "") -> None:
        self.on = on

    def clean(self, names: Sequence[str]) -> bool:
        if any(self.on in name for name in names):
            raise MemoryError
        return FINDER.clean(names)

    def find(self, text: str) -> list[Finding]:
        if self.on in text:
            raise ValueError(text)
        return FINDER.find(text)


@pytest.mark.parametrize("finder", [Broken(), None], ids=["broken", "none"])
@pytest.mark.parametrize("kind", get_args(Body), ids=lambda k: str(k.__struct_config__.tag))
def test_a_failing_search_drops_content_and_keeps_the_signal(
    kind: type[Any], finder: Broken | None
) -> None:
    shared = Redaction(finder, KEY)
    given_event = filled("secret words", kind)
    kept = shared.tenant("shop").event(given_event)
    assert shared.failures > 0
    assert b"secret words" not in encode(kept)
    assert (kept.kind, kept.time_us) == (given_event.kind, given_event.time_us)
    closed = {f.name for f in msgspec.structs.fields(kind)} - {
        path.removeprefix(f"{kept.kind}.") for path in fields_of_text()
    }
    for field in closed:
        assert getattr(kept.body, field) == getattr(given_event.body, field)


def test_names_stay_equal_where_the_search_fails() -> None:
    of = Redaction(Broken(), KEY, known=("chat",)).tenant("shop")
    assert of.name("chat") == "chat"
    assert of.name("r_1").startswith("[unchecked:")
    assert of.name("r_1") == of.name("r_1") != of.name("r_2")
    assert of.text("anything") == ""


def test_a_search_that_fails_on_one_text_costs_that_text_alone() -> None:
    shared = Redaction(Broken("boom"), KEY)
    given_event = event(Feedback(verdict="down", comment="boom"), links=Links(call="r_1"))
    kept = shared.tenant("shop").event(given_event)
    assert kept == event(Feedback(verdict="down"), links=Links(call="r_1"))
    assert shared.failures == 1


def test_a_short_key_is_refused() -> None:
    with pytest.raises(InputError, match="31 bytes"):
        Redaction(FINDER, b"k" * 31)


# --------------------------------------------------------------------------------------------- cost


class Counting:
    """Counts what is asked of the patterns."""

    ahead_chars = FINDER.ahead_chars

    def __init__(self) -> None:
        self.screened = self.searched = 0

    def clean(self, names: Sequence[str]) -> bool:
        self.screened += 1
        return FINDER.clean(names)

    def find(self, text: str) -> list[Finding]:
        self.searched += 1
        return FINDER.find(text)


def a_stream() -> list[Event]:
    """What the gateway tells of one response."""
    segment = Segment(route="chat", model="m", policy="p", policy_digest="sha256:" + "ab" * 32)
    links = Links(
        user="ann", call="resp_" + secrets.token_hex(16), request="req_" + secrets.token_hex(16)
    )
    bodies: list[Body] = [
        StreamOpened(api="chat"),
        Decided(about="output", verdict="allow", action="allow", reason="harm"),
        Classified(check="harm", bin=3),
        Used(first_ms=1.0),
        StreamEnded(outcome="ok", steps={"harm": 3}, lowest={"harm": 0.5}),
    ]
    return [
        Event(id=f"{links.call}.{n}", time_us=n, source="gw", body=b, links=links, segment=segment)
        for n, b in enumerate(bodies)
    ]


def test_an_event_without_free_text_is_screened_once_and_never_searched() -> None:
    finder = Counting()
    of = Redaction(finder, KEY).tenant("shop")
    for one in a_stream():
        of.event(one)  # the coarse reason is seen for the first time here
    finder.screened = finder.searched = 0
    events = [one for _ in range(20) for one in a_stream()]
    for one in events:
        of.event(one)
    assert finder.searched == 0
    assert finder.screened <= len(events)


@pytest.mark.skipif(
    os.environ.get("TOCSIN_PROVE") != "1", reason="a measurement, on a quiet machine"
)
def test_an_event_without_free_text_costs_some_microseconds() -> None:
    of = redactor()
    best = 1.0
    for _ in range(15):
        events = [one for _ in range(100) for one in a_stream()]
        began = time.thread_time()
        for one in events:
            of.event(one)
        best = min(best, (time.thread_time() - began) / len(events))
    assert best < 10e-6, best


def test_reviewers_and_reasons_are_redacted() -> None:
    of = redactor()
    review = of.event(event(Reviewed(label="safe", reviewer="Ann Lee", note=f"asked {MAIL}"))).body
    assert isinstance(review, Reviewed)
    assert review.reviewer == of.person("Ann Lee")
    assert review.note.startswith("asked [sensitive_data:")
    access = of.event(event(Accessed(by="k_1", role="admin", action="x", reason=f"for {MAIL}")))
    assert MAIL.encode() not in encode(access)
