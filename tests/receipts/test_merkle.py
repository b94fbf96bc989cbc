from __future__ import annotations

import random

import pymerkle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import merkle as reference

from tocsin.errors import InputError
from tocsin.limits import TREE_SIZE_MAX
from tocsin.receipts.merkle import (
    EMPTY_ROOT,
    Frontier,
    consistency_path,
    inclusion_path,
    leaf_hash,
    node_hash,
    root,
    root_at,
    subtrees,
    verify_consistency,
    verify_inclusion,
)

ENTRIES = [f"entry {i}".encode() for i in range(301)]
LEAVES = [leaf_hash(entry) for entry in ENTRIES]
NODES: dict[tuple[int, int], bytes] = {}
ROOTS = [EMPTY_ROOT]


def _grow() -> None:
    frontier = Frontier()
    for leaf in LEAVES:
        for stored in frontier.append(leaf):
            NODES[stored.level, stored.index] = stored.hash
        ROOTS.append(frontier.root())


_grow()


def node(level: int, index: int) -> bytes:
    return NODES[level, index]


def test_the_roots_of_known_logs() -> None:
    """Test vectors that Certificate Transparency logs were built with."""
    entries = [bytes.fromhex(x) for x in (
        "", "00", "10", "2021", "3031", "40414243", "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )]  # fmt: skip
    known = [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ]
    for size, wanted in enumerate(known, 1):
        assert root(leaf_hash(e) for e in entries[:size]).hex() == wanted
    assert root([]).hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_roots_are_those_of_the_definition() -> None:
    for size in range(len(ENTRIES) + 1):
        assert ROOTS[size] == reference.mth(ENTRIES[:size]) == root_at(size, node), size


def test_every_entry_of_every_log_up_to_300_is_proven() -> None:
    for size in range(1, 301):
        for index in range(size):
            path = inclusion_path(index, size, node)
            assert verify_inclusion(LEAVES[index], index, size, path, ROOTS[size]), (index, size)


def test_paths_are_those_of_the_definition() -> None:
    for size in range(1, 68):
        for index in range(size):
            assert inclusion_path(index, size, node) == reference.path(index, ENTRIES[:size])
        for old in range(1, size + 1):
            assert consistency_path(old, size, node) == reference.proof(old, ENTRIES[:size])


def test_every_pair_of_sizes_up_to_130_is_consistent() -> None:
    for new in range(131):
        for old in range(new + 1):
            path = consistency_path(old, new, node)
            assert verify_consistency(old, new, ROOTS[old], ROOTS[new], path), (old, new)


def test_another_implementation_agrees() -> None:
    tree = pymerkle.InmemoryTree(algorithm="sha256")
    for size, entry in enumerate(ENTRIES[:70], 1):
        tree.append_entry(entry)
        assert tree.get_root() == ROOTS[size]
        for index in range(size):
            theirs = tree.prove_inclusion(index + 1, size)
            theirs.path = [LEAVES[index], *inclusion_path(index, size, node)]
            pymerkle.verify_inclusion(LEAVES[index], ROOTS[size], theirs, index + 1, size)
    for new in range(1, 71):
        for old in range(1, new + 1):
            found = tree.prove_consistency(old, new)  # of another shape than the RFC's
            pymerkle.verify_consistency(ROOTS[old], ROOTS[new], found, old, new)


def test_a_proof_is_good_for_one_place_alone() -> None:
    for size in range(1, 34):
        for index in range(size):
            path = inclusion_path(index, size, node)
            for other in range(-1, 40):
                for length in range(34):
                    good = verify_inclusion(LEAVES[index], other, length, path, ROOTS[size])
                    same = _same_way(index, size, other, length)
                    assert good == same, (index, size, other, length)
                    assert not same or length != size or other == index


def _same_way(index: int, size: int, other: int, length: int) -> bool:
    """The size is not hashed: it is the checkpoint's signature that says it."""
    return 0 <= other < length and _turns(index, size) == _turns(other, length)


def _turns(index: int, size: int) -> str:
    if size == 1:
        return ""
    k = reference.half(size)
    return "L" + _turns(index, k) if index < k else "R" + _turns(index - k, size - k)


def test_changed_paths_prove_nothing() -> None:
    rng = random.Random("changed paths")
    for _ in range(2_000):
        size = rng.randrange(3, 301)
        index = rng.randrange(size)
        path = inclusion_path(index, size, node)
        for bad in _spoilt(rng, path):
            assert not verify_inclusion(LEAVES[index], index, size, bad, ROOTS[size])
        old = rng.randrange(1, size)
        path = consistency_path(old, size, node)
        for bad in _spoilt(rng, path):
            assert not verify_consistency(old, size, ROOTS[old], ROOTS[size], bad)
        assert not verify_consistency(old, size, ROOTS[old - 1], ROOTS[size], path)
        assert not verify_consistency(old, size, ROOTS[old], ROOTS[size - 1], path)


def _spoilt(rng: random.Random, path: list[bytes]) -> list[list[bytes]]:
    at = rng.randrange(len(path))
    flipped = bytearray(path[at])
    flipped[rng.randrange(32)] ^= 1 << rng.randrange(8)
    found = [
        [*path[:at], bytes(flipped), *path[at + 1 :]],
        path[:-1],
        path[1:],
        [*path, path[-1]],
        [path[0], *path],
        [*path[:at], *path[at + 1 :]],
    ]
    if len(path) > 1:
        found += [path[::-1], [*path[1:], path[0]]]
    return [bad for bad in found if bad != path]


def test_a_fork_is_no_growth() -> None:
    for fork_at in range(20):
        other = [*LEAVES[:fork_at], leaf_hash(b"another"), *LEAVES[fork_at + 1 : 20]]
        forked = Frontier()
        nodes: dict[tuple[int, int], bytes] = {}
        for leaf in other:
            for stored in forked.append(leaf):
                nodes[stored.level, stored.index] = stored.hash
        for old in range(1, 20):
            path = consistency_path(old, 20, lambda *at, nodes=nodes: nodes[at])
            good = verify_consistency(old, 20, ROOTS[old], forked.root(), path)
            assert good == (old <= fork_at)


def test_the_empty_log_is_the_beginning_of_each_and_proven_by_nothing() -> None:
    assert verify_consistency(0, 5, EMPTY_ROOT, ROOTS[5], [])
    assert not verify_consistency(0, 5, EMPTY_ROOT, ROOTS[5], [ROOTS[5]])
    assert not verify_consistency(0, 5, ROOTS[5], ROOTS[5], [])
    assert verify_consistency(0, 0, EMPTY_ROOT, EMPTY_ROOT, [])
    assert not verify_consistency(0, 0, ROOTS[1], ROOTS[1], [])
    assert not verify_consistency(3, 3, ROOTS[3], ROOTS[4], [])
    assert not verify_consistency(3, 2, ROOTS[3], ROOTS[2], [])
    assert not verify_consistency(3, 5, ROOTS[3], ROOTS[5], [])


def test_a_log_is_taken_up_where_it_was_left() -> None:
    for size in range(70):
        frontier = Frontier.of(size, node)
        assert frontier.size == size
        assert frontier.hashes == tuple(node(level, index) for level, index in subtrees(size))
        frontier.append(LEAVES[size])
        assert frontier.root() == ROOTS[size + 1]


def test_what_no_log_can_be_is_refused() -> None:
    with pytest.raises(InputError, match="2 complete subtrees"):
        Frontier(3, [EMPTY_ROOT])
    with pytest.raises(InputError, match="cannot be"):
        subtrees(-1)
    with pytest.raises(InputError, match="cannot be"):
        Frontier(TREE_SIZE_MAX, [EMPTY_ROOT] * 63).append(EMPTY_ROOT)
    with pytest.raises(InputError, match="no leaf 3"):
        inclusion_path(3, 3, node)
    with pytest.raises(InputError, match="no leaf -1"):
        inclusion_path(-1, 3, node)
    with pytest.raises(InputError, match="extension"):
        consistency_path(4, 3, node)


@given(st.integers(1, TREE_SIZE_MAX), st.data())
@settings(max_examples=200, deadline=None)
def test_proofs_of_huge_logs_are_short_and_hold(size: int, data: st.DataObject) -> None:
    """All leaves of such a log are the same, so that each level has one hash."""
    levels = [leaf_hash(b"same")]
    for _ in range(63):
        levels.append(node_hash(levels[-1], levels[-1]))
    index = data.draw(st.integers(0, size - 1))
    old = data.draw(st.integers(1, size))

    def same(level: int, _index: int) -> bytes:
        return levels[level]

    top = root_at(size, same)
    path = inclusion_path(index, size, same)
    assert len(path) <= 63
    assert verify_inclusion(levels[0], index, size, path, top)
    assert not verify_inclusion(levels[1], index, size, path, top)
    growth = consistency_path(old, size, same)
    assert len(growth) <= 64
    assert verify_consistency(old, size, root_at(old, same), top, growth)
