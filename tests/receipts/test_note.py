from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin.errors import InputError, ProofInvalid
from tocsin.limits import KEYS_MAX, NOTE_BYTES_MAX, NOTE_SIGNATURES_MAX
from tocsin.receipts import Checkpoint, Signer, open_checkpoint, origin_of, sign_checkpoint
from tocsin.receipts import note as notes
from tocsin.receipts.checkpoint import is_log_of, read_text
from tocsin.receipts.keys import PublicKey, read_key, read_keys

# The example of golang.org/x/mod/sumdb/note: made by another implementation.
GO_KEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
GO_NOTE = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n"
    "\n"
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb"
    "6KE6RyyBwJnAM=\n"
)

ONE = Signer.from_seed("example.com/one", b"1" * 32)
TWO = Signer.from_seed("example.com/two", b"2" * 32)


def signed(text: str = "Hello\n", *signers: Signer) -> str:
    return notes.sign(text, signers or (ONE,))


def test_a_note_of_another_implementation_holds() -> None:
    note = notes.read(GO_NOTE)
    assert [key.name for key in note.signers([read_key(GO_KEY)])] == ["PeterNeumann"]
    assert note.write() == GO_NOTE
    with pytest.raises(ProofInvalid, match="does not hold"):
        notes.read(GO_NOTE.replace("cryptography", "Cryptography")).signers([read_key(GO_KEY)])


def test_a_key_is_one_line_and_back() -> None:
    for signer in (ONE, TWO):
        assert read_key(signer.public.line) == signer.public
    assert read_key(GO_KEY).line == GO_KEY


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("", "no public key"),
        ("PeterNeumann", "no public key"),
        ("+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW", "no public key"),
        (GO_KEY.replace("c74f", "C74F"), "no public key"),
        (GO_KEY.replace("c74f20a3", "c74f20a"), "no public key"),
        (GO_KEY.replace("c74f20a3", "c74f20a4"), "is c74f20a3"),
        (GO_KEY.replace("Peter", "Pieter"), "the id is not"),
        (GO_KEY.replace("+AR", "+BR"), "no Ed25519 key"),
        (GO_KEY[:-4], "no Ed25519 key"),
        (GO_KEY[:-1], "base64"),
        (GO_KEY + "=", "base64"),
        (GO_KEY + "\u200b", "base64"),
        ("Peter Neumann" + GO_KEY[12:], "no public key"),
        ("Peter\u2003" + GO_KEY[12:], "no public key"),
        ("Peter\x1b" + GO_KEY[12:], "no public key"),
    ],
)
def test_what_is_no_key_is_refused(line: str, why: str) -> None:
    with pytest.raises(InputError, match=why):
        read_key(line)


def test_a_file_of_keys_has_comments_and_several_lines() -> None:
    text = f"# before the rotation\n{ONE.public.line}\n\n  {TWO.public.line}\r\n"
    assert read_keys(text) == (ONE.public, TWO.public)
    for wrong in ("", "# none\n", f"{ONE.public.line}\n" * (KEYS_MAX + 1), "x" * 2**21):
        with pytest.raises(InputError, match=r"keys"):
            read_keys(wrong)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (signed()[:-1], "no signatures|no line"),
        (signed() + "\n", "no signatures|no line"),
        (signed().replace("\n\n", "\n"), "no signatures"),
        (signed().replace("— ", "- "), "no line with a signature"),
        (signed().replace("— ", "—  "), "no line with a signature"),
        (signed().replace("— ", "—\u00a0"), "no line with a signature"),
        (signed().replace("example.com", "example+com"), "no line with a signature"),
        (signed().replace("\n", "\r\n"), "control characters"),
        (signed().replace("Hello", "He\tllo"), "control characters"),
        (signed().replace("Hello", "He\x00llo"), "control characters"),
        (signed().replace("=\n", "\n"), "base64"),
        (signed().replace("=\n", "= \n"), "base64"),
        ("Hello\n\n— a QUJDRA==\n", "too short"),
        ("Hello\n\n— a\n", "no line with a signature"),
        ("Hello\n\n", "no signatures|no line"),
        ("Hello\n\n" + signed().split("\n")[2] + "\n" + "\n", "no signatures|no line"),
        ("", "no signatures"),
        ("x" * (NOTE_BYTES_MAX + 1), "longer"),
        ("é" * (NOTE_BYTES_MAX - 1), "longer"),
        ("Hello\n\n" + "— a QUJDREU=\n" * (NOTE_SIGNATURES_MAX + 1), "more than"),
        (b"\xff" + signed().encode(), "UTF-8"),
        ("\ud800", "UTF-8"),
    ],
)
def test_what_is_no_note_is_refused(text: str | bytes, why: str) -> None:
    with pytest.raises(ProofInvalid, match=why):
        notes.read(text)


def test_unknown_signatures_are_left_aside() -> None:
    text = signed("Hello\n", ONE, TWO)
    note = notes.read(text)
    assert note.signers([ONE.public]) == (ONE.public,)
    assert note.signers([TWO.public, ONE.public]) == (ONE.public, TWO.public)
    with pytest.raises(ProofInvalid, match=r"no given key.*example\.com/one\+"):
        note.signers([Signer.from_seed("example.com/one", b"3" * 32).public])
    with pytest.raises(ProofInvalid, match="no given key"):
        note.signers([])
    many = "— a QUJDREU=\n" * (NOTE_SIGNATURES_MAX - 1)
    assert notes.read(signed() + many).signers([ONE.public]) == (ONE.public,)


def test_a_known_keys_bad_signature_spoils_the_whole_note() -> None:
    good, other = notes.read(signed("Hello\n", ONE, TWO)), notes.read(signed("Other\n", TWO))
    mixed = notes.Note(good.text, (good.signatures[0], other.signatures[0]))
    assert mixed.signers([ONE.public]) == (ONE.public,)
    with pytest.raises(ProofInvalid, match=r"example\.com/two' does not hold"):
        mixed.signers([ONE.public, TWO.public])
    short = notes.Signature(ONE.name, ONE.public.key_id, b"short")
    with pytest.raises(ProofInvalid, match="does not hold"):
        notes.Note(good.text, (good.signatures[0], short)).signers([ONE.public])


def test_a_key_that_shares_an_id_is_another_key() -> None:
    twin = PublicKey("example.com/twin", ONE.public.key)
    assert twin.key_id != ONE.public.key_id
    with pytest.raises(ProofInvalid, match="no given key"):
        notes.read(signed()).signers([twin])


def test_text_may_have_empty_lines_and_signs_as_it_is() -> None:
    text = "one\n\n\ntwo — three\n\nfour\n"
    note = notes.read(signed(text))
    assert note.text == text
    assert note.signers([ONE.public])


@pytest.mark.parametrize("text", ["no end of line", "tab\there\n", "return\r\n", ""])
def test_what_cannot_be_a_note_is_not_signed(text: str) -> None:
    with pytest.raises(InputError, match="cannot be signed"):
        notes.sign(text, [ONE])
    with pytest.raises(InputError, match="cannot be signed"):
        notes.sign("Hello\n", [])


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc"])), st.binary(max_size=200))
def test_any_text_is_signed_and_read_back(text: str, noise: bytes) -> None:
    note = notes.read(signed(text + "\n").encode())
    assert note.text == text + "\n"
    assert note.signers([ONE.public])
    try:
        again = notes.read(noise)
    except ProofInvalid:
        return
    assert again.write().encode() == noise


# -------------------------------------------------------------------------------- checkpoints


def test_a_checkpoint_of_the_specification_reads() -> None:
    text = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
    checkpoint = read_text(text)
    assert (checkpoint.origin, checkpoint.size) == ("example.com/behind-the-sofa", 20852163)
    assert checkpoint.root.hex().startswith("0ac5186a91863e8e1d90c808014aa89bf5da8e3e")
    assert checkpoint.text == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "o\n7\n",
        "o\n7\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=",
        "\n7\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n",
        "o\n07\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n",
        "o\n+7\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n",
        "o\n-7\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n",
        "o\n7 \nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n",
        "o\n7_0\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n",
        "o\n٧\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n",
        "o\n0x7\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n",
        "o\n9223372036854775808\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n",
        "o\n7\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2J=\n",
        "o\n7\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I\n",
        "o\n7\nQUJD\n",
        "o\n7\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\nmore\n",
    ],
)
def test_what_is_no_checkpoint_is_refused(text: str) -> None:
    with pytest.raises(ProofInvalid):
        read_text(text)


def test_further_lines_are_read_and_never_written() -> None:
    text = Checkpoint("example.com/one", 1, bytes(32), ("of others", "more")).text
    read = open_checkpoint(notes.sign(text, [ONE]), [ONE.public])
    assert read.extensions == ("of others", "more")
    with pytest.raises(InputError, match="further lines"):
        sign_checkpoint(read, ONE)


@pytest.mark.parametrize(
    "wrong",
    [
        Checkpoint("example.com/one", -1, bytes(32)),
        Checkpoint("example.com/one", 2**63, bytes(32)),
        Checkpoint("example.com/one", 1, bytes(31)),
        Checkpoint("two words", 1, bytes(32)),
        Checkpoint("two\nlines", 1, bytes(32)),
        Checkpoint("", 1, bytes(32)),
    ],
)
def test_what_is_no_checkpoint_is_not_signed(wrong: Checkpoint) -> None:
    with pytest.raises(InputError):
        sign_checkpoint(wrong, ONE)


def test_a_key_speaks_for_its_own_log_alone() -> None:
    of_two = Checkpoint("example.com/two", 1, bytes(32)).text
    with pytest.raises(ProofInvalid, match="under its own name"):
        open_checkpoint(notes.sign(of_two, [ONE]), [ONE.public, TWO.public])
    assert open_checkpoint(notes.sign(of_two, [ONE, TWO]), [ONE.public, TWO.public]).size == 1


def test_the_key_of_a_place_speaks_for_the_logs_of_its_tenants() -> None:
    place = Signer.from_seed("example.com/log", b"5" * 32)
    for tenant in ("acme", "a/b"):
        of_tenant = sign_checkpoint(
            Checkpoint(origin_of("example.com/log", tenant), 1, bytes(32)), place
        )
        assert open_checkpoint(of_tenant, [place.public]).size == 1
    spaced = notes.sign("example.com/log/a b\n1\n" + "A" * 43 + "=\n", [place])
    with pytest.raises(ProofInvalid, match="under its own name"):
        open_checkpoint(spaced, [place.public])
    for origin in ("example.com/log/a/b", "example.com/other", "example.com/logs/a"):
        elsewhere = sign_checkpoint(Checkpoint(origin, 1, bytes(32)), place)
        with pytest.raises(ProofInvalid, match="no given key"):
            open_checkpoint(elsewhere, [place.public])


def test_each_tenant_has_a_log_of_its_own() -> None:
    names = ["a", "b", "a/b", "a b", "a+b", "a%2Fb", "é", "A", "a.b:c", "..", "a\nb"]
    origins = [origin_of("example.com/log", name) for name in names]
    assert len(set(origins)) == len(names)
    for i, origin in enumerate(origins):
        assert [is_log_of(origin, name) for name in names] == [i == j for j in range(len(names))]
    assert origin_of("example.com/log", "a.b:c_d-e") == "example.com/log/a.b:c_d-e"
    for log, tenant in (("example.com/log", ""), ("two words", "a"), ("a+b", "a")):
        with pytest.raises(InputError):
            origin_of(log, tenant)
    assert not is_log_of("example.com/log/", "")
