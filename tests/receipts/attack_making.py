"""Makes the files in `attacks/`, each named by what somebody tried: run it to write them anew."""

from __future__ import annotations

import base64
from pathlib import Path

from receipts.small_log import SEED, SmallLog, filled

from tocsin.receipts import Signer, TlogProof
from tocsin.receipts import note as notes
from tocsin.receipts.merkle import leaf_hash, node_hash

FOLDER = Path(__file__).parent / "attacks"
ED25519_ORDER = 2**252 + 27742317777372353535851937790883648493
BODY = b'{"schema":"tocsin.receipt/1","account":{"alarms":1,"done":"halt"}}'
STRANGER = Signer.from_seed("example.com/log/acme", SEED[::-1])


def world() -> SmallLog:
    log = SmallLog("acme")
    for i in range(13):
        log.receipt(f"r_{i}", BODY)
    return log


def proofs() -> dict[str, str]:
    """Give each attack on a proof of inclusion; `good` is none."""
    log = world()
    proof = log.proof(6)
    good = proof.write()
    lines = good.split("\n")
    entry = log.entries[6]

    def entry_as(raw: bytes) -> str:
        return good.replace(lines[1], "extra " + base64.b64encode(raw).decode())

    def path_as(*hashes: str) -> str:
        return "\n".join([*lines[:3], *hashes, *lines[7:]])

    def checkpoint_as(checkpoint: str) -> str:
        return good.partition("\n\n")[0] + "\n\n" + checkpoint

    path = lines[3:7]
    note = notes.read(proof.checkpoint)
    by_stranger = notes.sign(note.text, [STRANGER])
    other = filled(13, "other")
    found = {
        "good": good,
        "entry_alarm_taken_out": entry_as(entry.replace(b'"alarms":1', b'"alarms":0')),
        "entry_of_another_receipt": entry_as(log.entries[7]),
        "entry_given_to_another_tenant": entry_as(entry.replace(b"acme", b"evil")),
        "entry_left_out": good.replace(lines[1] + "\n", ""),
        "entry_with_a_doubled_field": _logged(entry.replace(b'"id"', b'"id":"r_0","id"', 1)),
        "entry_of_another_tenant_in_this_log": _logged(other.entries[6]),
        "entry_of_another_schema": _logged(entry.replace(b"entry/1", b"entry/9")),
        "entry_that_is_a_node_of_the_tree": _second_preimage(log),
        "index_of_the_neighbour": good.replace("index 6", "index 7"),
        "index_beyond_the_log": good.replace("index 6", "index 13"),
        "index_with_a_zero_before_it": good.replace("index 6", "index 06"),
        "path_without_its_end": path_as(*path[:-1]),
        "path_without_its_beginning": path_as(*path[1:]),
        "path_too_long": path_as(*path, path[-1]),
        "path_in_another_order": path_as(path[1], path[0], *path[2:]),
        "path_with_loose_bits": good.replace(path[0], _loosened(path[0])),
        "checkpoint_with_another_root": good.replace(lines[10], base64.b64encode(
            leaf_hash(entry)).decode()),
        "checkpoint_with_another_size": good.replace("acme\n13\n", "acme\n14\n"),
        "checkpoint_of_another_log": checkpoint_as(other.checkpoint()),
        "checkpoint_renamed": good.replace("example.com/log/acme\n13", "example.com/log/evil\n13"),
        "checkpoint_of_another_size_of_this_log": checkpoint_as(log.checkpoint(12)),
        "checkpoint_unsigned": good[: good.index("—")],
        "signature_by_a_stranger": checkpoint_as(by_stranger),
        "signature_by_a_stranger_under_the_known_id": checkpoint_as(_under_known_id(log)),
        "signature_of_another_checkpoint": checkpoint_as(
            note.text + "\n" + log.checkpoint(12).split("\n\n")[1]),
        "signature_in_its_other_form": checkpoint_as(_malleated(note)),
        "signature_beside_one_that_does_not_hold": checkpoint_as(
            proof.checkpoint + _broken(note)),
        "signature_by_another_tenants_key": checkpoint_as(
            notes.sign(note.text, [log.signer.named(other.origin)])),
        "lines_of_windows": good.replace("\n", "\r\n"),
        "line_added_at_the_end": good + "\n",
        "mark_of_byte_order": "\ufeff" + good,
    }  # fmt: skip
    assert len(set(found.values())) == len(found)
    return found


def growths() -> dict[str, tuple[str, str, str]]:
    """Give each attack on a proof of consistency: old checkpoint, new one, proof."""
    log = world()
    old, new = log.checkpoint(7), log.checkpoint()
    good = log.growth(7, 13).write()
    fork = filled(13)
    lines = good.split("\n")
    return {
        "good": (old, new, good),
        "log_that_forked": (old, fork.checkpoint(), fork.growth(7, 13).write()),
        "log_that_was_shortened": (new, old, log.growth(7, 13).write()),
        "log_of_the_same_size_that_differs": (
            new, fork.checkpoint(), log.growth(13, 13).write()),
        "log_of_another_tenant": (
            old, filled(13, "other").checkpoint(), filled(13, "other").growth(7, 13).write()),
        "path_without_its_end": (old, new, "\n".join([*lines[:-2], ""])),
        "path_in_another_order": (
            old, new, "\n".join([*lines[:3], lines[4], lines[3], *lines[5:]])),
        "path_of_other_sizes": (old, new, log.growth(8, 13).write()),
        "sizes_renamed": (old, new, log.growth(8, 13).write().replace("old 8", "old 7")),
        "checkpoint_by_a_stranger": (
            notes.sign(notes.read(old).text, [STRANGER]), new, good),
    }  # fmt: skip


def _logged(raw: bytes) -> str:
    """A log that did record this: its own key signs, and still nobody should believe it."""
    log = SmallLog("acme")
    log.append(raw)
    return log.proof(0).write()


def _second_preimage(log: SmallLog) -> str:
    """Pass two leaves off as an entry: the reason why leaves and nodes are hashed differently."""
    left, right = log.node(0, 6), log.node(0, 7)
    proof = log.proof(6)
    assert node_hash(left, right) == log.node(1, 3)
    return TlogProof(
        index=3, path=proof.path[1:], checkpoint=proof.checkpoint, extra=b"\x01" + left + right
    ).write()


def _loosened(text: str) -> str:
    """Write the same 32 bytes in a second way."""
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    changed = text[:-2] + letters[letters.index(text[-2]) ^ 1] + "="
    assert base64.b64decode(changed) == base64.b64decode(text)
    return changed


def _under_known_id(log: SmallLog) -> str:
    note = notes.read(log.checkpoint())
    forged = notes.Signature(log.origin, log.key.key_id, STRANGER.sign(note.text.encode()))
    return notes.Note(note.text, (forged,)).write()


def _malleated(note: notes.Note) -> str:
    """Add the order of the group to S: it solves the equation too, and RFC 8032 forbids it."""
    (one,) = note.signatures
    r, s = one.signature[:32], int.from_bytes(one.signature[32:], "little") + ED25519_ORDER
    other = notes.Signature(one.name, one.key_id, r + s.to_bytes(32, "little"))
    return notes.Note(note.text, (other,)).write()


def _broken(note: notes.Note) -> str:
    (one,) = note.signatures
    return notes.Signature(one.name, one.key_id, bytes(64)).line


def write() -> None:
    FOLDER.mkdir(exist_ok=True)
    for path in FOLDER.iterdir():
        path.unlink()
    (FOLDER / "keys.txt").write_text(f"# of the log under attack\n{world().key.line}\n")
    for name, text in proofs().items():
        (FOLDER / f"{name}.tlog-proof").write_bytes(text.encode())
    for name, (old, new, proof) in growths().items():
        for part, text in (("old", old), ("new", new), ("proof", proof)):
            (FOLDER / f"growth_{name}.{part}").write_bytes(text.encode())


if __name__ == "__main__":
    write()
