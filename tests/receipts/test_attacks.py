"""Files that somebody could bring along, each named by what was tried."""

from __future__ import annotations

import pytest
from receipts.attack_making import FOLDER, growths, proofs, world
from receipts.small_log import filled

from tocsin.errors import ProofInvalid
from tocsin.receipts import read_keys, verify, verify_growth

KEYS = read_keys((FOLDER / "keys.txt").read_text())
NOT_THERE = "is not at"
PROOFS = {
    "entry_alarm_taken_out": NOT_THERE,
    "entry_of_another_receipt": NOT_THERE,
    "entry_given_to_another_tenant": NOT_THERE,
    "entry_left_out": "does not carry its entry",
    "entry_with_a_doubled_field": "stands there twice",
    "entry_of_another_tenant_in_this_log": "no log of it",
    "entry_of_another_schema": "schema",
    "entry_that_is_a_node_of_the_tree": NOT_THERE,
    "index_of_the_neighbour": NOT_THERE,
    "index_beyond_the_log": NOT_THERE,
    "index_with_a_zero_before_it": "whole number",
    "path_without_its_end": NOT_THERE,
    "path_without_its_beginning": NOT_THERE,
    "path_too_long": NOT_THERE,
    "path_in_another_order": NOT_THERE,
    "path_with_loose_bits": "base64",
    "checkpoint_with_another_root": "does not hold",
    "checkpoint_with_another_size": "does not hold",
    "checkpoint_of_another_log": "no given key",
    "checkpoint_renamed": "does not hold",
    "checkpoint_of_another_size_of_this_log": NOT_THERE,
    "checkpoint_unsigned": "no signatures",
    "signature_by_a_stranger": "no given key",
    "signature_by_a_stranger_under_the_known_id": "does not hold",
    "signature_of_another_checkpoint": "does not hold",
    "signature_in_its_other_form": "does not hold",
    "signature_beside_one_that_does_not_hold": "does not hold",
    "signature_by_another_tenants_key": "no given key",
    "lines_of_windows": "begins with",
    "line_added_at_the_end": "no signatures",
    "mark_of_byte_order": "begins with",
}
GROWTHS = {
    "log_that_forked": "forked",
    "log_that_was_shortened": "entries, the checkpoints about",
    "log_of_the_same_size_that_differs": "forked",
    "log_of_another_tenant": "no given key",
    "path_without_its_end": "begin with",
    "path_in_another_order": "begin with",
    "path_of_other_sizes": "entries, the checkpoints about",
    "sizes_renamed": "begin with",
    "checkpoint_by_a_stranger": "no given key",
}


def growth(name: str) -> tuple[bytes, bytes, bytes]:
    old, new, proof = ((FOLDER / f"growth_{name}.{part}").read_bytes() for part in PARTS)
    return old, new, proof


PARTS = ("old", "new", "proof")


def test_the_files_are_those_that_are_made() -> None:
    assert (*PROOFS, "good") == (*[name for name in proofs() if name != "good"], "good")
    assert sorted(growths()) == sorted([*GROWTHS, "good"])
    made = {f"{name}.tlog-proof": text for name, text in proofs().items()}
    for name, texts in growths().items():
        made |= {f"growth_{name}.{part}": t for part, t in zip(PARTS, texts, strict=True)}
    found = {p.name: p.read_bytes().decode() for p in FOLDER.iterdir() if p.name != "keys.txt"}
    assert found == made
    assert [world().key] == list(KEYS)


def test_what_nobody_touched_holds() -> None:
    assert verify((FOLDER / "good.tlog-proof").read_bytes(), KEYS).entry.id == "r_6"
    assert verify_growth(*growth("good"), KEYS).new.size == 13


@pytest.mark.parametrize("name", PROOFS)
def test_no_attack_on_a_proof_is_accepted(name: str) -> None:
    raw = (FOLDER / f"{name}.tlog-proof").read_bytes()
    with pytest.raises(ProofInvalid, match=PROOFS[name]):
        verify(raw, KEYS)


@pytest.mark.parametrize("name", GROWTHS)
def test_no_attack_on_the_growth_of_a_log_is_accepted(name: str) -> None:
    with pytest.raises(ProofInvalid, match=GROWTHS[name]):
        verify_growth(*growth(name), KEYS)


def test_not_even_one_who_trusts_two_logs_takes_one_for_the_other() -> None:
    both = (*KEYS, filled(1, "other").key)
    with pytest.raises(ProofInvalid, match="two logs"):
        verify_growth(*growth("log_of_another_tenant"), both)
    for name in ("checkpoint_of_another_log", "signature_by_another_tenants_key"):
        with pytest.raises(ProofInvalid):
            verify((FOLDER / f"{name}.tlog-proof").read_bytes(), both)
