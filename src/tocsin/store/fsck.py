"""Whether a store still is what was written: every sequence, hash, log, checkpoint and file.

Only reads. It rebuilds each log from its entries and each period from its events, and compares
what comes out with what is stored and what was signed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sa

from tocsin.errors import InputError, ProofInvalid, StoreDamaged
from tocsin.receipts.checkpoint import Checkpoint, is_log_of, open_checkpoint, read_text
from tocsin.receipts.entry import read_entry
from tocsin.receipts.keys import PublicKey
from tocsin.receipts.merkle import Frontier, leaf_hash
from tocsin.receipts.note import read as read_note
from tocsin.store import tables as t
from tocsin.store.fsck_events import EventsCheck

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from tocsin.store.store import Store

FINDINGS_MAX = 1_000
"""Findings that are kept; all of them are counted."""

_AT_ONCE = 1_000


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is not as it was written.

    Args:
        about: ``file``, ``head``, ``sequence``, ``event``, ``entry``, ``tree``, ``checkpoint``,
            ``period``, ``segment``, ``content`` or ``cursor``.
        tenant: whose; empty where it is of the store.
        said: what, in a sentence.
    """

    about: str
    tenant: str
    said: str


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What was looked at, and what is wrong.

    Args:
        findings: the first thousand; sound where there is none.
        more: how many there are beyond.
        tenants, events, entries, checkpoints: how many were looked at.
        signatures: whether those of the checkpoints were; without keys they cannot be.
    """

    findings: tuple[Finding, ...]
    more: int
    tenants: int
    events: int
    entries: int
    checkpoints: int
    signatures: bool

    @property
    def sound(self) -> bool:
        """Nothing is wrong."""
        return not self.findings


class Notes:
    """Collects findings, of one tenant and of the store where it is asked for one."""

    def __init__(self, tenant: str | None = None) -> None:
        self._tenant = tenant
        self.findings: list[Finding] = []
        self.more = 0

    def add(self, about: str, tenant: str, said: str) -> None:
        """Keep a finding, or count it."""
        if tenant and self._tenant not in {None, tenant}:
            return
        if len(self.findings) < FINDINGS_MAX:
            self.findings.append(Finding(about=about, tenant=tenant, said=said))
        else:
            self.more += 1


def fsck(
    store: Store,
    *,
    keys: Sequence[PublicKey] = (),
    progress: Callable[[int, int], None] | None = None,
    tenant: str | None = None,
) -> Report:
    """Check a store.

    Args:
        store: that may be in use; what is checked is its state at the beginning.
        keys: public keys of the logs, under any name; without them no signature is checked.
        progress: told how many events and entries are done, and how many there are.
        tenant: its record alone, and what is of no tenant; everything where None.

    Returns:
        What was found. The store is sound where there is nothing.

    Raises:
        StoreBusy: the store cannot be read now.

    Example:
        >>> import tempfile
        >>> from tocsin.store import Store
        >>> with tempfile.TemporaryDirectory() as folder, Store.open(f"{folder}/r.db") as store:
        ...     fsck(store).sound
        True
    """
    notes = Notes(tenant)
    seen = [0, 0, 0, 0]
    try:
        with store.reading("check the store") as connection:
            _database(connection, notes)
            heads = list(_heads(connection, notes, tenant))
            total, done = sum(head.seq + head.size for head in heads), 0
            for head in heads:
                check = EventsCheck(store, connection, head, notes)
                log = _LogCheck(connection, head, notes, keys)
                for part in (check, log):
                    try:
                        for _ in part.run():
                            done = _tell(progress, done, total)
                    except StoreDamaged as e:
                        part.broken(e)
                for i, n in enumerate((1, check.seen, log.seen, log.checkpoints)):
                    seen[i] += n
            _orphans(connection, notes)
            _others(connection, notes)
    except StoreDamaged as e:
        notes.add("file", "", str(e))
    return Report(
        findings=tuple(notes.findings),
        more=notes.more,
        tenants=seen[0],
        events=seen[1],
        entries=seen[2],
        checkpoints=seen[3],
        signatures=bool(keys),
    )


def unreadable(error: StoreDamaged) -> Report:
    """Report a store that is so damaged that it cannot even be opened."""
    return Report(
        findings=(Finding(about="file", tenant="", said=str(error)),),
        more=0,
        tenants=0,
        events=0,
        entries=0,
        checkpoints=0,
        signatures=False,
    )


def signed_by(store: Store, keys: Sequence[PublicKey]) -> bool:
    """Whether any checkpoint names one of these keys as its signer, or there is none yet.

    Only the names of keys are compared: whether the signatures hold is for `fsck` to say.

    Args:
        store: to look into.
        keys: under any name.

    Raises:
        StoreBusy: the store cannot be read now.
    """
    c = t.checkpoints.c
    some = False
    with store.reading("read checkpoints") as connection:
        for text in connection.execute(sa.select(c.note).order_by(c.size.desc())).scalars():
            some = True
            try:
                note = read_note(text)
                origin = read_text(note.text).origin
            except (ProofInvalid, InputError):
                return True  # damaged: `fsck` says how
            ids = {key.named(origin).key_id for key in keys}
            if any(signature.key_id in ids for signature in note.signatures):
                return True
    return not some


def _heads(connection: Connection, notes: Notes, tenant: str | None) -> Iterator[Any]:
    """Read where records end, each for itself: one that cannot be read is a finding."""
    c = t.heads.c
    every = sa.select(c.tenant).order_by(c.tenant)
    if tenant is not None:
        every = every.where(c.tenant == tenant)
    for name in connection.execute(every).scalars().all():
        asked = sa.select(c.tenant, c.seq, c.size, c.period).where(c.tenant == name)
        try:
            yield from connection.execute(asked).all()
        except StoreDamaged as e:
            notes.add("head", name, f"the head cannot be read, and nothing was checked by it: {e}")


def _tell(progress: Callable[[int, int], None] | None, done: int, total: int) -> int:
    if progress is not None and done % _AT_ONCE == 0:
        progress(done, total)
    return done + 1


def _database(connection: Connection, notes: Notes) -> None:
    """Have SQLite check its own pages, indexes and references."""
    if connection.dialect.name != "sqlite":
        return
    for (said,) in connection.exec_driver_sql("PRAGMA integrity_check(100)"):
        if said != "ok":
            notes.add("file", "", f"SQLite says: {said}")
    for table, row, parent, _ in connection.exec_driver_sql("PRAGMA foreign_key_check"):
        notes.add("file", "", f"row {row} of {table} refers to nothing in {parent}")


class _LogCheck:
    """One tenant's log: rebuilt from its entries, and compared with everything stored of it."""

    def __init__(
        self, connection: Connection, head: Any, notes: Notes, keys: Sequence[PublicKey]
    ) -> None:
        self._connection, self._head, self._notes, self._keys = connection, head, notes, keys
        self.tenant: str = head.tenant
        self.seen = 0
        self.checkpoints = 0
        self._tree = Frontier()
        self._sequence = 0
        self._nodes: dict[tuple[int, int], bytes] = {}
        self._differs = False
        self._signed = self._ordered_checkpoints()
        self._next: Any = None

    def run(self) -> Iterator[None]:
        """Go through the log; gives one None an entry."""
        self._next = next(self._signed, None)
        for row in self._entries():
            if row.place != self._tree.size:
                self._add("entry", f"after entry {self._tree.size - 1} comes {row.place}")
                return
            self._entry(row)
            self.seen += 1
            yield
        self._end()

    def _entries(self) -> Iterator[Any]:
        c = t.entries.c
        after = -1
        while True:
            asked = (
                sa.select(c.index.label("place"), c.kind, c.id, c.seq, c.entry)
                .where(c.tenant == self.tenant, c.index > after)
                .order_by(c.index)
                .limit(_AT_ONCE)
            )
            rows = self._connection.execute(asked).all()
            if not rows:
                return
            self._load_nodes(self._tree.size + len(rows))
            yield from rows
            after = rows[-1].place

    def _entry(self, row: Any) -> None:
        raw = bytes(row.entry)
        try:
            said = read_entry(raw)
        except ProofInvalid as e:
            self._add("entry", f"entry {row.place} cannot be read: {e}")
        else:
            named = (said.tenant, said.kind, said.id, said.sequence)
            if named != (self.tenant, row.kind, row.id, row.seq):
                self._add("entry", f"entry {row.place} says that it is {named}")
        if not self._sequence <= row.seq <= self._head.seq:
            self._add("entry", f"entry {row.place} has the sequence {row.seq}, out of order")
        self._sequence = row.seq
        for node in self._tree.append(leaf_hash(raw)):
            self._node(node.level, node.index, node.hash)
        while self._next is not None and self._next.size <= self._tree.size:
            self._checkpoint(self._next)
            self._next = next(self._signed, None)

    def _node(self, level: int, index: int, digest: bytes) -> None:
        """Compare one hash with the one that is stored; after the first that differs, no more."""
        stored = self._nodes.pop((level, index), None)
        if stored != digest and not self._differs:
            self._add("tree", f"the stored hash {level}/{index} is not that of its entries")
            self._differs = True

    def _load_nodes(self, end: int) -> None:
        """Read the stored hashes that appending makes from here to `end` entries."""
        c, start = t.nodes.c, self._tree.size
        for level in range(end.bit_length()):
            first, last = start >> level, (end >> level) - 1
            if first > last:
                continue
            asked = sa.select(c.index.label("place"), c.hash).where(
                c.tenant == self.tenant, c.level == level, c.index.between(first, last)
            )
            found = self._connection.execute(asked)
            self._nodes.update({(level, row.place): bytes(row.hash) for row in found})

    def _ordered_checkpoints(self) -> Iterator[Any]:
        c, after = t.checkpoints.c, -1
        while True:
            asked = (
                sa.select(c.size, c.root, c.note)
                .where(c.tenant == self.tenant, c.size > after)
                .order_by(c.size)
                .limit(_AT_ONCE)
            )
            rows = self._connection.execute(asked).all()
            if not rows:
                return
            yield from rows
            after = rows[-1].size

    def _checkpoint(self, row: Any) -> None:
        self.checkpoints += 1
        try:
            said = self._read(row.note)
        except (ProofInvalid, InputError) as e:
            self._add("checkpoint", f"the checkpoint of {row.size} entries does not hold: {e}")
            return
        if not is_log_of(said.origin, self.tenant):
            self._add("checkpoint", f"the checkpoint of {row.size} entries is of {said.origin!r}")
        named = (row.size, bytes(row.root), said.size, said.root)
        if named != (self._tree.size, self._tree.root()) * 2:
            self._add("checkpoint", f"the checkpoint of {row.size} entries names another root")

    def _read(self, note: str) -> Checkpoint:
        said = read_text(read_note(note).text)
        if not self._keys:
            return said
        return open_checkpoint(note, [key.named(said.origin) for key in self._keys])

    def _end(self) -> None:
        head = self._head
        if self._tree.size != head.size:
            self._add(
                "head", f"the log has {self._tree.size} entries, and its head says {head.size}"
            )
        elif b"".join(self._tree.hashes) != self._frontier():
            self._add("head", "the hashes in the head are not those of the entries")
        expected = sum(self._tree.size >> level for level in range(self._tree.size.bit_length()))
        counted = sa.select(sa.func.count()).where(t.nodes.c.tenant == self.tenant)
        if self._connection.execute(counted).scalar() != expected and not self._differs:
            self._add("tree", f"there are other stored hashes than the {expected} of the log")
        if self._next is not None:
            self._add(
                "checkpoint", f"a checkpoint is of {self._next.size} entries, more than exist"
            )
        c = t.checkpoints.c
        latest = sa.select(sa.func.max(c.size)).where(c.tenant == self.tenant)
        if (self._connection.execute(latest).scalar() or 0) != head.size:
            self._add("checkpoint", f"there is no checkpoint of all {head.size} entries")

    def _frontier(self) -> bytes | None:
        """Read the hashes in the head; None where they are none."""
        asked = sa.select(t.heads.c.frontier).where(t.heads.c.tenant == self.tenant)
        try:
            return bytes(self._connection.execute(asked).scalar_one())
        except StoreDamaged:
            return None

    def broken(self, why: StoreDamaged) -> None:
        """Take down that the log could not be read to its end."""
        self._add("entry", f"the log cannot be read after {self.seen} entries: {why}")

    def _add(self, about: str, said: str) -> None:
        self._notes.add(about, self.tenant, said)


def _orphans(connection: Connection, notes: Notes) -> None:
    """Find rows of tenants that have no head."""
    for table in (t.events, t.entries, t.nodes, t.checkpoints, t.segments, t.cursors):
        asked = sa.select(table.c.tenant).distinct()
        known = sa.select(t.heads.c.tenant)
        for tenant in connection.execute(asked.where(table.c.tenant.not_in(known))).scalars():
            notes.add("head", tenant, f"there are rows in {table.name}, and no head")


def _others(connection: Connection, notes: Notes) -> None:
    """Check what stands beside events and logs."""
    cursors, heads = t.cursors.c, t.heads.c
    ahead = sa.select(cursors.name, cursors.tenant, cursors.seq, heads.seq.label("last"))
    ahead = ahead.join(t.heads, cursors.tenant == heads.tenant).where(cursors.seq > heads.seq)
    for row in connection.execute(ahead):
        said = f"cursor {row.name!r} is at {row.seq}, and the last event is {row.last}"
        notes.add("cursor", row.tenant, said)
    contents, subjects = t.contents.c, t.subject_keys.c
    with_key = sa.exists().where(
        subjects.tenant == contents.tenant, subjects.subject == contents.subject
    )
    lost = sa.select(contents.tenant, contents.id).where(~with_key)
    for tenant, name in connection.execute(lost):
        notes.add("content", tenant, f"content {name!r} is of a subject that has no key")
