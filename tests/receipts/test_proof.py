from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from receipts.small_log import SEED, SmallLog, filled

from tocsin.errors import InputError, ProofInvalid
from tocsin.limits import ENTRY_BYTES_MAX, PROOF_BYTES_MAX
from tocsin.receipts import (
    Checkpoint,
    ConsistencyProof,
    LogEntry,
    Signer,
    TlogProof,
    sign_checkpoint,
    verify,
    verify_growth,
)
from tocsin.receipts.entry import read_entry
from tocsin.receipts.merkle import leaf_hash
from tocsin.receipts.proof import read_consistency, read_proof
from tocsin.receipts.strict import text_of

LOG = filled(11)
ENTRY = LogEntry(tenant="acme", kind="receipt", id="r", sequence=3, body=b'{"a":[1,"x"]}')


def test_a_proof_of_the_specifications_shape_reads_and_writes_back() -> None:
    proof = LOG.proof(5)
    text = proof.write()
    lines = text.split("\n")
    assert lines[0] == "c2sp.org/tlog-proof@v1"
    assert lines[1].startswith("extra ") and lines[2] == "index 5" and lines[7] == ""
    assert lines[8:10] == ["example.com/log/acme", "11"]
    assert read_proof(text) == read_proof(text.encode()) == proof


def test_a_proof_tells_what_was_recorded_where() -> None:
    for size in (1, 2, 7, 8, 11):
        for index in range(size):
            found = verify(LOG.proof(index, size).write(), [LOG.key])
            assert (found.index, found.size, found.origin) == (index, size, "example.com/log/acme")
            assert found.raw == LOG.entries[index]
            assert (found.entry.tenant, found.entry.kind) == ("acme", "receipt")
            assert (found.entry.id, found.entry.sequence) == (f"r_{index}", index)
            assert found.entry.content() == {"schema": "tocsin.receipt/1"}


def test_a_rotated_key_leaves_old_receipts_good() -> None:
    old = LOG.proof(3).write()
    log = filled(11)
    log.signer = Signer.from_seed("example.com/log", SEED[::-1])
    new = log.proof(3).write()
    keys = [LOG.key, log.key]
    assert LOG.key.key_id != log.key.key_id
    assert verify(old, keys).raw == verify(new, keys).raw
    assert verify(old, keys[:1]).raw == verify(new, keys[1:]).raw
    for text, key in ((old, keys[1]), (new, keys[0])):
        with pytest.raises(ProofInvalid, match="no given key"):
            verify(text, [key])
    growth = log.growth(4, 11).write()
    verify_growth(LOG.checkpoint(4), log.checkpoint(11), growth, keys)
    with pytest.raises(ProofInvalid, match="no given key"):
        verify_growth(LOG.checkpoint(4), log.checkpoint(11), growth, keys[:1])


def test_a_log_only_grew() -> None:
    for old in range(12):
        for new in range(old, 12):
            found = verify_growth(
                LOG.checkpoint(old), LOG.checkpoint(new), LOG.growth(old, new).write(), [LOG.key]
            )
            assert (found.old.size, found.new.size) == (old, new)


def test_a_fork_is_found() -> None:
    other = filled(6)
    for i in range(5):
        other.receipt(f"other_{i}")
    for old in range(1, 12):
        growth = other.growth(old, 11).write()
        if old <= 6:
            verify_growth(LOG.checkpoint(old), other.checkpoint(), growth, [LOG.key])
            continue
        with pytest.raises(ProofInvalid, match="forked"):
            verify_growth(LOG.checkpoint(old), other.checkpoint(), growth, [LOG.key])
    with pytest.raises(ProofInvalid, match="two logs"):
        verify_growth(LOG.checkpoint(), filled(11, "b").checkpoint(),
                      LOG.growth(11, 11).write(), [LOG.key, filled(1, "b").key])  # fmt: skip
    with pytest.raises(ProofInvalid, match="about 4 and 11 entries"):
        verify_growth(LOG.checkpoint(5), LOG.checkpoint(), LOG.growth(4, 11).write(), [LOG.key])


def test_a_proof_without_its_entry_proves_nothing_to_us() -> None:
    proof = LOG.proof(5)
    bare = TlogProof(index=5, path=proof.path, checkpoint=proof.checkpoint)
    assert read_proof(bare.write()) == bare
    with pytest.raises(ProofInvalid, match="does not carry its entry"):
        verify(bare.write(), [LOG.key])


def test_the_tenant_of_the_entry_is_that_of_the_log() -> None:
    """Not even the log itself can pass off an entry of one tenant as another's."""
    log = SmallLog("acme")
    log.append(LogEntry(tenant="other", kind="receipt", id="r", sequence=1, body=b"{}").write())
    with pytest.raises(ProofInvalid, match=r"'other', and .* is no log of it"):
        verify(log.proof(0).write(), [log.key])


def test_a_logged_thing_that_is_no_entry_is_refused() -> None:
    log = SmallLog("acme")
    log.append(b'{"schema":"tocsin.entry/2"}')
    with pytest.raises(ProofInvalid, match=r"tocsin\.entry/1"):
        verify(log.proof(0).write(), [log.key])


PROOF = LOG.proof(5).write()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        PROOF.replace("@v1", "@v2"),
        PROOF.replace("c2sp.org/tlog-proof@v1\n", ""),
        " " + PROOF,
        "\ufeff" + PROOF,
        PROOF + "\n",
        PROOF[:-1],
        PROOF.replace("\n", "\r\n"),
        PROOF.replace("index 5", "index 05"),
        PROOF.replace("index 5", "index  5"),
        PROOF.replace("index 5", "index +5"),
        PROOF.replace("index 5", "index 5 "),
        PROOF.replace("index 5", "index 18446744073709551621"),
        PROOF.replace("index 5", "Index 5"),
        PROOF.replace("index 5\n", ""),
        PROOF.replace("index 5\n", "index 5\nindex 5\n"),
        PROOF.replace("extra ", "extra  "),
        PROOF.replace("extra ", "Extra "),
        PROOF.replace("\nindex", "=\nindex"),
        PROOF.replace("\nindex", "\nextra QUJD\nindex"),
        PROOF.replace("\nindex", "\n\nindex"),
        PROOF.replace("=\n\n", "=\n\n\n"),
        PROOF.replace("=\n\n", "=\n"),
        PROOF.replace("=\n\n", "=\nQUJD\n\n"),
        PROOF.replace("=\n\n", "=\n" + "A" * 43 + "=\n\n"),
        PROOF.replace("=\n\n", "=\n" + ("A" * 43 + "=\n") * 60 + "\n"),
        "x" * (PROOF_BYTES_MAX + 1),
    ],
)
def test_what_is_no_proof_is_refused(text: str) -> None:
    assert text != PROOF
    with pytest.raises(ProofInvalid):
        verify(text, [LOG.key])


def test_an_empty_extra_line_is_refused() -> None:
    proof = LOG.proof(5)
    head = f"c2sp.org/tlog-proof@v1\nextra \nindex 5\n\n{proof.checkpoint}"
    with pytest.raises(ProofInvalid, match="left out"):
        read_proof(head)


@pytest.mark.parametrize(
    "proof",
    [
        TlogProof(index=-1, path=(), checkpoint="x\n"),
        TlogProof(index=2**63, path=(), checkpoint="x\n"),
        TlogProof(index=0, path=(b"short",), checkpoint="x\n"),
        TlogProof(index=0, path=(bytes(32),) * 64, checkpoint="x\n"),
        TlogProof(index=0, path=(), checkpoint="x\n", extra=b""),
    ],
)
def test_what_could_not_be_read_back_is_not_written(proof: TlogProof) -> None:
    with pytest.raises(InputError, match="no proof"):
        proof.write()


GROWTH = LOG.growth(5, 11).write()


@pytest.mark.parametrize(
    "text",
    [
        "",
        GROWTH[:-1],
        GROWTH + "\n",
        GROWTH.replace("@v1", "@v2"),
        GROWTH.replace("old 5", "old 05"),
        GROWTH.replace("old 5\nnew 11", "new 11\nold 5"),
        GROWTH.replace("old 5\n", ""),
        GROWTH.replace("=\n", "\n"),
        GROWTH + "A" * 43 + "=\n",
        GROWTH + ("A" * 43 + "=\n") * 127,
        GROWTH.rsplit("\n", 2)[0] + "\n",
        "\n".join([*GROWTH.split("\n")[:3], *reversed(GROWTH.split("\n")[3:-1])]) + "\n",
    ],
)
def test_what_is_no_proof_of_growth_is_refused(text: str) -> None:
    assert text != GROWTH
    with pytest.raises(ProofInvalid):
        verify_growth(LOG.checkpoint(5), LOG.checkpoint(), text, [LOG.key])


@given(
    st.integers(0, 2**63 - 1),
    st.lists(st.binary(min_size=32, max_size=32), max_size=63),
    st.none() | st.binary(min_size=1),
    st.text(st.characters(codec="utf-8")),
)
def test_any_proof_is_written_and_read_back(
    index: int, path: list[bytes], extra: bytes | None, checkpoint: str
) -> None:
    proof = TlogProof(index=index, path=tuple(path), checkpoint=checkpoint, extra=extra)
    assert read_proof(proof.write()) == proof
    growth = ConsistencyProof(old=index, new=index, path=tuple(path))
    assert read_consistency(growth.write()) == growth


@given(st.binary(max_size=300))
def test_no_bytes_raise_anything_else(noise: bytes) -> None:
    for raw in (noise, b"c2sp.org/tlog-proof@v1\n" + noise, b"tocsin/consistency@v1\n" + noise):
        for read in (read_proof, read_consistency, read_entry):
            try:
                found = read(raw)
            except ProofInvalid:
                continue
            assert isinstance(found, ConsistencyProof | LogEntry | TlogProof)
            text = found.write()
            assert (text if isinstance(text, bytes) else text.encode()) == raw


# ------------------------------------------------------------------------------------ entries


def test_an_entry_is_one_document_in_a_fixed_order() -> None:
    raw = ENTRY.write()
    assert raw == (
        b'{"schema":"tocsin.entry/1","tenant":"acme","kind":"receipt","id":"r","sequence":3,'
        b'"body":{"a":[1,"x"]}}'
    )
    assert read_entry(raw) == ENTRY
    assert leaf_hash(raw) == hashlib.sha256(b"\0" + raw).digest()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("entry/1", "entry/2"),
        ('"receipt"', '"rumour"'),
        ('"sequence":3', '"sequence":-1'),
        ('"sequence":3', '"sequence":3.0'),
        ('"sequence":3', '"sequence":"3"'),
        ('"sequence":3', '"sequence":03'),
        ('"tenant":"acme"', '"tenant":""'),
        ('"tenant":"acme"', '"tenant":null'),
        ('"tenant":"acme"', '"tenant":"other","tenant":"acme"'),
        ('"tenant":"acme"', r'"tenant":"acm\u0065"'),
        ('"id":"r"', '"id":""'),
        ('"id":"r"', '"id":"r","more":1'),
        ('"id":"r",', ""),
        ('"tenant":"acme","kind":"receipt"', '"kind":"receipt","tenant":"acme"'),
        ('{"a":[1,"x"]}', "[]"),
        ('{"a":[1,"x"]}', "null"),
        ('{"a":[1,"x"]}', ""),
        ('{"a":[1,"x"]}', '{"a":1,"a":2}'),
        ('{"a":[1,"x"]}', '{"b":{"a":1,"a":1}}'),
        ('{"a":[1,"x"]}', '{"a":NaN}'),
        ('{"a":[1,"x"]}', r'{"a":"\ud800"}'),
        ('{"a":[1,"x"]}', '{"a":Infinity}'),
        ('{"a":[1,"x"]}', '{"a":1'),
        ('{"a":[1,"x"]}', '{"a":' + "[" * 5_000 + "]" * 5_000 + "}"),
        ('{"a":[1,"x"]}', '{"a":' + "1" * 5_000 + "}"),
        ('{"a":[1,"x"]}', '{"a":"' + "x" * ENTRY_BYTES_MAX + '"}'),
        (':{"a"', ': {"a"'),
        ("}}", "}}\n"),
        ("}}", "}} {}"),
        ('{"schema"', ' {"schema"'),
    ],
)
def test_what_is_no_entry_is_refused(old: str, new: str) -> None:
    text = ENTRY.write().decode()
    assert old in text
    with pytest.raises(ProofInvalid, match="entry"):
        read_entry(text.replace(old, new).encode())
    with pytest.raises(ProofInvalid, match="entry"):
        read_entry(b"\xff" + ENTRY.write())


@pytest.mark.parametrize(
    "change",
    [
        {"tenant": ""},
        {"tenant": "\ud800"},
        {"id": ""},
        {"kind": "rumour"},
        {"sequence": -1},
        {"body": b""},
        {"body": b"[]"},
        {"body": b"{"},
        {"body": b'{},"more":{}'},
        {"body": b'{"a":NaN}'},
    ],
)
def test_what_is_no_entry_is_not_written(change: dict[str, Any]) -> None:
    fields = {f: getattr(ENTRY, f) for f in ENTRY.__struct_fields__} | change
    with pytest.raises(InputError, match="cannot be an entry"):
        LogEntry(**fields).write()


@given(
    st.text(st.characters(codec="utf-8"), min_size=1),
    st.text(st.characters(codec="utf-8"), min_size=1),
    st.integers(0, 2**63 - 1),
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(
            st.characters(codec="utf-8")) | st.floats(allow_nan=False, allow_infinity=False),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(
            st.characters(codec="utf-8")), inner),
        max_leaves=8,
    ),
)  # fmt: skip
def test_any_entry_is_written_read_and_proven(
    tenant: str, name: str, sequence: int, value: object
) -> None:
    body = json.dumps({"value": value}).encode()
    entry = LogEntry(tenant=tenant, kind="period", id=name, sequence=sequence, body=body)
    assert read_entry(entry.write()) == entry
    assert entry.content() == {"value": value}
    log = SmallLog(tenant[:40])
    log.append(LogEntry(tenant=tenant[:40], kind="period", id=name, sequence=0, body=body).write())
    assert verify(log.proof(0).write(), [log.key]).entry.body == body


def test_text_is_no_longer_than_it_may_be() -> None:
    assert text_of("é", "letter", 2) == "é"
    with pytest.raises(ProofInvalid, match="longer than 1 bytes"):
        text_of("é", "letter", 1)


def test_a_checkpoint_of_nothing_is_signed() -> None:
    empty = SmallLog("acme")
    assert sign_checkpoint(Checkpoint(empty.origin, 0, empty.frontier.root()), empty.signer)
