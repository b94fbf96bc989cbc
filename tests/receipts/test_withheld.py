"""What a receipt says of text that nobody was shown: it binds it, and gives nothing away."""

from __future__ import annotations

import hashlib
import hmac
import random

import msgspec
from guarded_streams import FORBIDDEN, Scripted, literal_rules, run
from hypothesis import given
from hypothesis import strategies as st
from receipts.recorded import LINES, SALT_KEY, TEXT, receipt

from tocsin.guarding.plan import Check, Guard
from tocsin.guarding.receipt import Receipt, Who, salt_of
from tocsin.model import Channel
from tocsin.stream.window import Window

SALT = b"s" * 32


def expected(text: str, salt: bytes = SALT) -> str:
    raw = text.encode("utf-8", "surrogatepass")
    return hmac.digest(salt, hashlib.sha256(raw).digest(), "sha256").hex()


def masked(pieces: list[str], salt: bytes = SALT) -> Receipt:
    check = Check(name="rules", verifier=literal_rules(), on_finding={"*": "mask"})
    guarded, _ = run(Guard(checks=(check,)), [(TEXT, piece) for piece in pieces])
    return guarded.receipt(Who(id="r"), salt)


def test_a_stopped_answer_binds_what_was_not_let_out() -> None:
    """What came after the alarm, and never reached the checks, is bound as far as it was read."""
    (channel,) = receipt().channels
    said = "".join(LINES)
    withheld = said[channel.released : channel.received]
    assert withheld.startswith("DANGER ahead")
    assert channel.withheld == len(withheld)
    assert channel.withheld_sha256 == expected(withheld, salt_of(SALT_KEY, "acme", "r_1"))


def test_masked_text_is_bound_however_it_was_cut() -> None:
    text = f"one {FORBIDDEN} two {FORBIDDEN} three"
    rng = random.Random("cuts")
    for _ in range(20):
        cuts = sorted(rng.sample(range(len(text)), 3))
        pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
        (channel,) = masked(pieces).channels
        assert channel.withheld == channel.masked == 2 * len(FORBIDDEN)
        assert channel.withheld_sha256 == expected(FORBIDDEN * 2)


def test_where_all_was_shown_nothing_is_bound() -> None:
    (channel,) = masked(["all is well"]).channels
    assert (channel.withheld, channel.withheld_sha256) == (0, None)


def test_without_a_salt_there_is_no_hash_that_could_be_guessed() -> None:
    (channel,) = masked([FORBIDDEN], b"").channels
    assert (channel.withheld, channel.withheld_sha256) == (len(FORBIDDEN), None)


def test_the_salt_is_not_in_the_receipt() -> None:
    raw = msgspec.json.encode(receipt())
    salt = salt_of(SALT_KEY, "acme", "r_1")
    assert salt.hex().encode() not in raw and SALT_KEY.hex().encode() not in raw


def test_each_receipt_has_a_salt_of_its_own() -> None:
    named = [("a", "b"), ("ab", ""), ("", "ab"), ("a", "bb"), ("1:a", "b"), ("\ud800", "b")]
    assert len({salt_of(SALT_KEY, *names) for names in named}) == len(named)
    assert salt_of(SALT_KEY, "a", "b") != salt_of(bytes(32), "a", "b")


def test_receipts_from_before_have_no_such_hash() -> None:
    plain = msgspec.json.decode(msgspec.json.encode(receipt()))
    for channel in plain["channels"]:
        del channel["withheld"], channel["withheld_sha256"]
    read = msgspec.json.decode(msgspec.json.encode(plain), type=Receipt)
    assert read.channels[0].withheld_sha256 is None


def test_no_salt_means_the_same_receipt_as_ever() -> None:
    check = Check(name="hand", verifier=Scripted({"HAND": 0.2}), alarm_below=0.5)
    guarded, _ = run(Guard(checks=(check,)), [(TEXT, "well\nHAND\n")])
    assert guarded.receipt(Who(id="r")).channels[0].withheld_sha256 is None
    assert guarded.receipt(Who(id="r"), SALT).channels[0].withheld_sha256 == expected("HAND\n")


@given(
    st.lists(st.text(max_size=12), max_size=8),
    st.lists(st.tuples(st.integers(0, 60), st.integers(0, 20)), max_size=5),
    st.integers(0, 100),
)
def test_what_is_bound_is_what_was_not_shown(
    pieces: list[str], marks: list[tuple[int, int]], upto: int
) -> None:
    window = Window(Channel(), checks=1)
    text = "".join(pieces)
    for piece in pieces:
        window.add(piece)
    hidden = set[int]()
    for start, length in marks:
        end = min(start + length, len(text))
        if start < end:
            window.mark(start, end, "#")
            hidden |= set(range(start, end))
    window.release(min(upto, len(text)))
    released = window.released
    withheld = "".join(c for i, c in enumerate(text) if i >= released or i in hidden)
    assert window.withheld == len(withheld)
    if withheld:
        assert window.withheld_digest(SALT) == expected(withheld)
        assert window.withheld_digest(SALT) == window.withheld_digest(SALT)
    else:
        assert window.withheld_digest(SALT) is None


def test_half_a_character_is_bound_too() -> None:
    window = Window(Channel(), checks=1)
    window.add("\ud800")
    assert window.withheld_digest(SALT) == expected("\ud800")
