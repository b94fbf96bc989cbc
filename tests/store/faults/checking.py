"""What has to be true of a store after whatever happened, seen with SQLite and SHA-256 alone.

`check` uses nothing of the product, so that a mistake of its own checks does not hide another.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import msgspec
from store.faults.workload import Ack


@lru_cache(maxsize=100_000)
def ack(line: bytes) -> Ack | None:
    """Read a line of the workload; None where it acknowledges nothing."""
    if not line.startswith(b"ACK "):
        return None
    return msgspec.json.decode(line[4:], type=Ack)


def acks(said: Iterable[bytes]) -> list[Ack]:
    """Read every acknowledgement among lines."""
    return [one for one in map(ack, said) if one is not None]


def roots(leaves: Sequence[bytes]) -> list[bytes]:
    """Give the root of every prefix of a log, by the recursion of RFC 6962, 2.1."""

    def tree(start: int, end: int) -> bytes:
        if end - start == 1:
            return leaves[start]
        if (start, end) not in known:
            half = 1 << (end - start - 1).bit_length() - 1
            left, right = tree(start, start + half), tree(start + half, end)
            known[start, end] = hashlib.sha256(b"\x01" + left + right).digest()
        return known[start, end]

    known: dict[tuple[int, int], bytes] = {}
    empty = hashlib.sha256(b"").digest()
    return [empty, *(tree(0, size) for size in range(1, len(leaves) + 1))]


class Wrong(Exception):  # noqa: N818 - the name of what it says
    """Something is not as it has to be."""


def check(database: Path, promised: Sequence[Ack]) -> str | None:
    """Look at a SQLite file; give what is wrong, or None.

    Args:
        database: the file, with what lies beside it.
        promised: every acknowledgement that was given.
    """
    if not database.exists():
        return f"lost: no file, and {len(promised)} acknowledgements" if promised else None
    connection = sqlite3.connect(database)
    try:
        _check(connection, promised)
    except sqlite3.DatabaseError as e:
        return f"damaged: {e}"
    except Wrong as e:
        return str(e)
    finally:
        connection.close()
    return None


def _check(connection: sqlite3.Connection, promised: Sequence[Ack]) -> None:
    sound = connection.execute("PRAGMA integrity_check").fetchall()
    if sound != [("ok",)]:
        raise Wrong(f"unsound: {sound}")
    if connection.execute("PRAGMA foreign_key_check").fetchall():
        raise Wrong("unsound: a foreign key leads nowhere")
    tables = {one for (one,) in connection.execute("SELECT name FROM sqlite_master")}
    if "heads" not in tables:
        if promised:
            raise Wrong("lost: the tables")
        return
    heads = dict(connection.execute("SELECT tenant, seq FROM heads").fetchall())
    tenants = {one.tenant for one in promised} | set(heads)
    for tenant in sorted(tenants):
        mine = [one for one in promised if one.tenant == tenant]
        _check_events(connection, tenant, heads.get(tenant, 0), mine)
        _check_log(connection, tenant, mine)
    _check_contents(connection, promised)


def _check_events(
    connection: sqlite3.Connection, tenant: str, head: int, promised: Sequence[Ack]
) -> None:
    rows = connection.execute(
        "SELECT seq, id, hash, body FROM events WHERE tenant = ? ORDER BY seq", (tenant,)
    ).fetchall()
    if [row[0] for row in rows] != list(range(1, head + 1)):
        raise Wrong(f"gaps: {tenant} has {[row[0] for row in rows]}, its head says {head}")
    there = {id_: seq for seq, id_, _, _ in rows}
    if len(there) != len(rows):
        raise Wrong(f"doubled: an event of {tenant}")
    for seq, id_, hash_, body in rows:
        if hashlib.sha256(b"\x00" + body).digest() != hash_:
            raise Wrong(f"changed: event {seq} of {tenant}")
        if msgspec.json.decode(body)["id"] != id_:
            raise Wrong(f"crossed: event {seq} of {tenant}")
    for one in promised:
        _check_promise(one, there)
    _check_whole(connection, tenant, there)


def _check_promise(one: Ack, there: Mapping[str, int]) -> None:
    span = range(one.first, one.last + 1) if one.first else range(0)
    if len(span) != len(one.events):
        raise Wrong(f"promised: {one.first} to {one.last} for {len(one.events)} events")
    for seq, id_ in zip(span, one.events, strict=True):
        if there.get(id_) != seq:
            raise Wrong(f"lost: {id_} of {one.tenant}, promised as {seq}, is {there.get(id_)}")
    for id_ in one.known:
        if id_ not in there:
            raise Wrong(f"lost: {id_} of {one.tenant}, which was said to be there")


def _check_whole(connection: sqlite3.Connection, tenant: str, there: Iterable[str]) -> None:
    """See that of each append of the workload everything is there."""
    receipts = {
        id_
        for (id_,) in connection.execute(
            "SELECT id FROM entries WHERE tenant = ? AND kind = 'receipt'", (tenant,)
        )
    }
    parts = [one.split(".") for one in there if one.count(".") == 4]
    counts = Counter((name, number) for name, number, _, _, _ in parts)
    for name, number, _, of, receipt in parts:
        if counts[name, number] != int(of):
            raise Wrong(f"torn: {counts[name, number]} of {of} events of {name}.{number}")
        if receipt == "r" and f"r_{name}.{number}" not in receipts:
            raise Wrong(f"torn: {name}.{number} without its receipt")


def _check_log(connection: sqlite3.Connection, tenant: str, promised: Sequence[Ack]) -> None:
    rows = connection.execute(
        'SELECT "index", id, entry FROM entries WHERE tenant = ? ORDER BY "index"', (tenant,)
    ).fetchall()
    if [row[0] for row in rows] != list(range(len(rows))):
        raise Wrong(f"gaps: entries {[row[0] for row in rows]} of {tenant}")
    ids = [row[1] for row in rows]
    if len(set(ids)) != len(ids):
        raise Wrong(f"doubled: an entry of {tenant}")
    head = connection.execute("SELECT size FROM heads WHERE tenant = ?", (tenant,)).fetchone()
    if (0 if head is None else head[0]) != len(rows):
        raise Wrong(f"gaps: {len(rows)} entries of {tenant}, its head says {head}")
    notes = _check_checkpoints(connection, tenant, [row[2] for row in rows])
    for one in promised:
        if missing := set(one.entries) - set(ids):
            raise Wrong(f"lost: entries {missing} of {tenant}")
        if one.checkpoint is not None and one.checkpoint not in notes:
            raise Wrong(f"lost: a checkpoint of {tenant} that was given out")


def _check_checkpoints(
    connection: sqlite3.Connection, tenant: str, entries: Sequence[bytes]
) -> set[str]:
    every = roots([hashlib.sha256(b"\x00" + one).digest() for one in entries])
    stored = connection.execute(
        "SELECT size, root, note FROM checkpoints WHERE tenant = ? ORDER BY size", (tenant,)
    ).fetchall()
    for size, root, note in stored:
        said = note.split("\n")[1:3]
        if size >= len(every) or said != [str(size), base64.b64encode(every[size]).decode()]:
            raise Wrong(f"forked: checkpoint {size} of {tenant}")
        if root != every[size]:
            raise Wrong(f"forked: root of checkpoint {size} of {tenant}")
    if entries and (not stored or stored[-1][0] != len(entries)):
        raise Wrong(f"lost: the checkpoint of {len(entries)} entries of {tenant}")
    return {note for _, _, note in stored}


def _check_contents(connection: sqlite3.Connection, promised: Sequence[Ack]) -> None:
    wanted = {(one.tenant, id_) for one in promised for id_ in one.contents}
    if wanted:
        there = set(connection.execute("SELECT tenant, id FROM contents").fetchall())
        if wanted - there:
            raise Wrong(f"lost: contents {wanted - there}")


def in_order(promised: Sequence[Ack]) -> bool:
    """Say whether sequence numbers were given out once, and in each append without a gap."""
    spans: dict[str, list[tuple[int, int]]] = {}
    for one in promised:
        if one.first:
            spans.setdefault(one.tenant, []).append((one.first, one.last))
    return all(a[1] < b[0] for own in spans.values() for a, b in pairwise(sorted(own)))


TABLES = {
    "heads": "tenant, seq, size",
    "events": "tenant, seq, id, hash, body",
    "entries": 'tenant, "index", kind, id, entry',
    "checkpoints": "tenant, size, root, note",
    "contents": "tenant, id",
}
"""What `check` looks at."""


def copy(dsn: str, database: Path) -> None:
    """Copy what `check` looks at from PostgreSQL into a new SQLite file."""
    import psycopg

    with (
        psycopg.connect(dsn) as source,
        contextlib.closing(sqlite3.connect(database)) as target,
    ):
        for table, columns in TABLES.items():
            target.execute(f"CREATE TABLE {table} ({columns})")
            asked = f"SELECT {columns} FROM {table}"  # noqa: S608 - of the table above
            rows = source.execute(asked.encode()).fetchall()
            places = ", ".join("?" * len(columns.split(",")))
            target.executemany(f"INSERT INTO {table} VALUES ({places})", rows)  # noqa: S608
        target.commit()


def begun(database: Path) -> bool:
    """Say whether a SQLite file holds the tables of a store already."""
    if not database.exists():
        return False
    with contextlib.closing(sqlite3.connect(database)) as connection:
        found = connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'heads'")
        return bool(found.fetchone()[0])


def fsck(url: str, keys: Path) -> str | None:
    """Have the product's own check look at a store; give what it finds, or None."""
    from tocsin.receipts.keys import read_keys
    from tocsin.store import Store
    from tocsin.store.fsck import fsck as look

    public = read_keys((keys / "log.vkey").read_text(encoding="ascii"))
    with Store.open(url, create=False, forward=False) as store:
        found = look(store, keys=public)
    return None if found.sound and found.signatures else f"fsck: {found}"
