"""The tree of RFC 6962 (and 9162): one hash that names a whole log, and short proofs about it.

A tree is stored as the hashes of its complete subtrees, addressed as (level, index): level 0 holds
the leaves, and the node (l, i) covers the 2^l leaves from i * 2^l on. Such a hash never changes
once its subtree is complete, so a log appends hashes and never rewrites one. Pure.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence

import msgspec

from tocsin.errors import InputError
from tocsin.limits import TREE_SIZE_MAX

HASH_BYTES = 32

EMPTY_ROOT = hashlib.sha256(b"").digest()
"""The root of a log without entries."""

Node = Callable[[int, int], bytes]
"""Gives the stored hash of the complete subtree (level, index)."""


class Stored(msgspec.Struct, frozen=True):
    """The hash of a complete subtree: `level` from 0 for leaves, `index` from 0 within it."""

    level: int
    index: int
    hash: bytes


def leaf_hash(entry: bytes) -> bytes:
    """Hash an entry of the log: SHA-256 of a zero byte and the entry, 32 bytes."""
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash two subtrees into the one above them, 32 bytes."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def subtrees(size: int) -> list[tuple[int, int]]:
    """Address the complete subtrees that a log of `size` leaves consists of, largest first.

    Example:
        >>> subtrees(6)
        [(2, 0), (1, 2)]
    """
    _check_size(size)
    found = []
    at = 0
    for level in range(size.bit_length() - 1, -1, -1):
        if size >> level & 1:
            found.append((level, at >> level))
            at += 1 << level
    return found


class Frontier:
    """The right edge of a growing log: enough to append to it, and to name it by its root.

    Takes memory for one hash a bit of the size. Not shared between threads.

    Args:
        size: how many leaves there are already.
        hashes: of their complete subtrees, in the order of `subtrees`.

    Example:
        >>> log = Frontier()
        >>> [(n.level, n.index) for n in log.append(leaf_hash(b"one"))]
        [(0, 0)]
        >>> [(n.level, n.index) for n in log.append(leaf_hash(b"two"))]
        [(0, 1), (1, 0)]
        >>> log.root() == node_hash(leaf_hash(b"one"), leaf_hash(b"two"))
        True
    """

    __slots__ = ("_hashes", "_size")

    def __init__(self, size: int = 0, hashes: Iterable[bytes] = ()) -> None:
        self._size = _check_size(size)
        self._hashes = list(hashes)
        if len(self._hashes) != size.bit_count():
            raise InputError(
                f"a log of {size} leaves has {size.bit_count()} complete subtrees, "
                f"and {len(self._hashes)} hashes were given"
            )

    @classmethod
    def of(cls, size: int, node: Node) -> Frontier:
        """Take up a log of `size` leaves from its stored hashes."""
        return cls(size, [node(level, index) for level, index in subtrees(size)])

    @property
    def size(self) -> int:
        """How many leaves there are."""
        return self._size

    @property
    def hashes(self) -> tuple[bytes, ...]:
        """Of the complete subtrees, largest first."""
        return tuple(self._hashes)

    def append(self, leaf: bytes) -> list[Stored]:
        """Append the hash of a leaf; give the subtrees that it completes, itself first."""
        _check_size(self._size + 1)
        level, index, digest = 0, self._size, leaf
        completed = [Stored(level, index, digest)]
        while index & 1:
            digest = node_hash(self._hashes.pop(), digest)
            level, index = level + 1, index >> 1
            completed.append(Stored(level, index, digest))
        self._hashes.append(digest)
        self._size += 1
        return completed

    def root(self) -> bytes:
        """Name the whole log, 32 bytes."""
        return _fold(self._hashes)


def root(leaves: Iterable[bytes]) -> bytes:
    """Give the root over the hashes of leaves, 32 bytes; `EMPTY_ROOT` where there is none."""
    frontier = Frontier()
    for leaf in leaves:
        frontier.append(leaf)
    return frontier.root()


def root_at(size: int, node: Node) -> bytes:
    """Give the root that a log had when it held `size` leaves."""
    return Frontier.of(size, node).root()


def inclusion_path(index: int, size: int, node: Node) -> list[bytes]:
    r"""Prove that a leaf stands at `index` in a log of `size` leaves.

    Args:
        index: from 0; less than `size`.
        size: of the log that the proof is about, which may have grown since.
        node: gives stored hashes.

    Returns:
        Hashes from the leaf's sibling up to the root's child, at most one a bit of the size.

    Raises:
        InputError: there is no such leaf.

    Example:
        >>> inclusion_path(1, 2, lambda level, index: bytes([level, index]))
        [b'\x00\x00']
    """
    _check_size(size)
    if not 0 <= index < size:
        raise InputError(f"there is no leaf {index} in a log of {size}")
    path = []
    start, end = 0, size
    while end - start > 1:
        middle = start + _half(end - start)
        if index < middle:
            path.append(_range(middle, end, node))
            end = middle
        else:
            path.append(_range(start, middle, node))
            start = middle
    return path[::-1]


def consistency_path(old: int, new: int, node: Node) -> list[bytes]:
    """Prove that a log of `new` leaves begins with the log of `old` leaves.

    Args:
        old, new: sizes; 0 <= old <= new. Nothing has to be proven where `old` is 0 or equals `new`.
        node: gives stored hashes.

    Raises:
        InputError: no such sizes.
    """
    _check_size(new)
    if not 0 <= old <= new:
        raise InputError(f"a log of {new} leaves cannot be an extension of one of {old}")
    if old in {0, new}:
        return []
    path = []
    start, end = 0, new
    whole = True  # whether the old tree is a prefix of what is left, and so known to the reader
    while old != end:
        middle = start + _half(end - start)
        if old <= middle:
            path.append(_range(middle, end, node))
            end = middle
        else:
            path.append(_range(start, middle, node))
            start, whole = middle, False
    if not whole:
        path.append(_range(start, end, node))
    return path[::-1]


def verify_inclusion(leaf: bytes, index: int, size: int, path: Sequence[bytes], top: bytes) -> bool:
    """Say whether the path leads from a leaf's hash at `index` to the root of `size` leaves.

    Example:
        >>> one, two = leaf_hash(b"one"), leaf_hash(b"two")
        >>> verify_inclusion(two, 1, 2, [one], node_hash(one, two))
        True
        >>> verify_inclusion(two, 0, 2, [one], node_hash(one, two))
        False
    """
    if not 0 <= index < size <= TREE_SIZE_MAX:
        return False
    turns = _turns(index, size - 1, len(path))
    if turns is None:
        return False
    digest = leaf
    for sibling, is_left in zip(path, turns, strict=True):
        digest = node_hash(sibling, digest) if is_left else node_hash(digest, sibling)
    return digest == top


def verify_consistency(
    old: int, new: int, old_root: bytes, new_root: bytes, path: Sequence[bytes]
) -> bool:
    """Say whether the log of `new` leaves begins with the log of `old` leaves, by their roots."""
    if not 0 <= old <= new <= TREE_SIZE_MAX:
        return False
    if old == new:
        return not path and old_root == new_root and (old > 0 or old_root == EMPTY_ROOT)
    if old == 0:
        return not path and old_root == EMPTY_ROOT
    known = [old_root] if not old & (old - 1) else []  # a whole subtree of the new log
    seed, *siblings = [*known, *path] or [b""]
    at, last = old - 1, new - 1
    while at & 1:
        at, last = at >> 1, last >> 1
    turns = _turns(at, last, len(siblings))
    if turns is None:
        return False
    before = after = seed
    for sibling, is_left in zip(siblings, turns, strict=True):
        if is_left:
            before, after = node_hash(sibling, before), node_hash(sibling, after)
        else:
            after = node_hash(after, sibling)
    return before == old_root and after == new_root


def _turns(at: int, last: int, steps: int) -> list[bool] | None:
    """Say of each sibling on the way up whether it stands to the left.

    Args:
        at: where the way begins in its level, from 0.
        last: index of the last node of that level.
        steps: how many siblings are given.

    Returns:
        None where the way has another length (RFC 9162, 2.1.3.2 and 2.1.4.2).
    """
    turns = []
    for _ in range(steps):
        if last == 0:
            return None
        is_left = bool(at & 1) or at == last
        if is_left:
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        turns.append(is_left)
        at, last = at >> 1, last >> 1
    return turns if last == 0 else None


def _range(start: int, end: int, node: Node) -> bytes:
    """Give the root over the leaves from `start` to `end`; `start` is aligned to what follows."""
    found = [node(level, (start >> level) + index) for level, index in subtrees(end - start)]
    return _fold(found)


def _fold(hashes: Sequence[bytes]) -> bytes:
    """Hash complete subtrees, largest first, into one root."""
    if not hashes:
        return EMPTY_ROOT
    digest = hashes[-1]
    for left in hashes[-2::-1]:
        digest = node_hash(left, digest)
    return digest


def _half(width: int) -> int:
    """Give the largest power of two below a width of at least 2."""
    return 1 << (width - 1).bit_length() - 1


def _check_size(size: int) -> int:
    if not 0 <= size <= TREE_SIZE_MAX:
        raise InputError(f"a log of {size} leaves cannot be: from 0 to {TREE_SIZE_MAX}")
    return size
