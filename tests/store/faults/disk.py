"""What may be on the disk after a power cut, given the file operations of a program.

The model is as hostile as POSIX: what a completed sync covers is there. Of everything since, any
part may be there, in any order, torn at sectors, with any of the sizes that the file had, or with
rubbish where a sector was being written. A name is there for certain only once its folder has been
synced; until then each of its former states is possible. Sectors keep what was not written to
(SQLite calls that *powersafe overwrite*, and relies on it). What a sync was to cover that failed
may never come, though later syncs succeed: systems forget that such pages were still to be written.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from store.faults.traced import Call, UnmodelledError

SECTOR = 512
PAGE = 4096

FOLDER = -1
"""What the name of a folder means."""

SYNCS = {"fsync", "fdatasync"}
WRITES = {"write", "pwrite64", "writev", "pwritev", "pwritev2"}


@dataclass(frozen=True)
class Change:
    """A change of a file's content.

    Attributes:
        begun, ended: positions in the trace.
        at: offset in bytes; None where the file was cut, or made longer, to `size`.
        data: what was written there.
    """

    begun: int
    ended: int
    at: int | None
    data: bytes = b""
    size: int = 0


@dataclass(frozen=True)
class Renaming:
    """A change of one or two names in a folder; `node` is what the name means from now on."""

    begun: int
    ended: int
    name: str
    node: int | None
    old: str | None = None


@dataclass
class Node:
    """A file: what is certain of it, what is not yet, and what no later sync will make certain."""

    certain: bytearray = field(default_factory=bytearray)
    pending: list[Change] = field(default_factory=list)
    doomed: list[Change] = field(default_factory=list)


@dataclass(frozen=True)
class Sync:
    """A sync of a file or of a folder, which may have failed."""

    begun: int
    ended: int
    node: int | None
    folder: str | None
    failed: bool


@dataclass(frozen=True)
class Said:
    """What the program wrote to its standard output, at a position of the trace."""

    begun: int
    data: bytes


Event = tuple[int, "Change | Renaming | Sync", int]


class Timeline:
    """The operations of one program on the files below one folder, which was empty at first.

    Args:
        calls: of the program.
        root: the folder.
        deaf: syncs of the disk do nothing: a disk that lies. The simulator's own test.

    Attributes:
        said: what it wrote to its standard output, cut up as it was written.
        positions: where the trace may be cut so that something differs.
    """

    def __init__(self, calls: Sequence[Call], root: Path, *, deaf: bool = False) -> None:
        self.root = str(root)
        self.said: list[Said] = []
        self.events: list[Event] = []
        self._names: dict[str, int] = {}
        self._nodes = 0
        self._where: dict[int, int] = defaultdict(int)
        self._sizes: dict[int, int] = defaultdict(int)
        self._deaf = deaf
        for call in calls:
            self._take(call)
        self.positions = sorted(
            {one.begun for _, one, _ in self.events}
            | {one.ended for _, one, _ in self.events}
            | {one.begun + 1 for one in self.said}
        )

    def _inside(self, path: str | None) -> bool:
        return path is not None and path.startswith(self.root + "/")

    def _take(self, call: Call) -> None:
        if call.name == "write" and call.arguments.startswith("1<"):
            self.said.append(Said(call.begun, call.strings[-1]))
        elif call.result is None or call.result < 0:
            if call.result is None and call.name in WRITES and self._inside(call.path):
                raise UnmodelledError(f"{call.name} was never answered")
            if call.name in SYNCS:
                self._sync(call)
        elif call.name in self._model:
            self._model[call.name](call)
        elif self._touches(call):
            raise UnmodelledError(f"{call.name}({call.arguments[:200]})")

    @property
    def _model(self) -> dict[str, Callable[[Call], None]]:
        """What is done about each call."""
        return {
            **dict.fromkeys(("open", "openat", "creat"), self._open),
            **dict.fromkeys(SYNCS, self._sync),
            **dict.fromkeys(WRITES, self._write),
            **dict.fromkeys(("ftruncate", "fallocate"), self._resize),
            **dict.fromkeys(
                ("unlink", "unlinkat", "rename", "renameat", "renameat2"), self._rename
            ),
            **dict.fromkeys(("link", "linkat"), self._link),
            **dict.fromkeys(("mkdir", "mkdirat"), self._make_folder),
            "mmap": self._map,
        }

    def _touches(self, call: Call) -> bool:
        paths = [call.path, *(one.decode(errors="replace") for one in call.strings)]
        return call.name in {"sync", "syncfs"} or any(map(self._inside, paths))

    def _open(self, call: Call) -> None:
        path = call.opened
        if not self._inside(path) or path is None or "O_DIRECTORY" in call.arguments:
            return
        writing = any(one in call.arguments for one in ("O_CREAT", "O_RDWR", "O_WRONLY"))
        if path not in self._names and writing:
            self._nodes += 1
            self._names[path] = self._nodes
            self._named(call, path)
        if writing and path in self._names:
            node = self._names[path]
            self._where[node] = 0
            if "O_TRUNC" in call.arguments:
                self._change(node, Change(call.begun, call.ended, None))

    def _change(self, node: int, change: Change) -> None:
        size = change.size if change.at is None else change.at + len(change.data)
        self._sizes[node] = size if change.at is None else max(size, self._sizes[node])
        self.events.append((change.begun, change, node))

    def _sync(self, call: Call) -> None:
        path = call.path
        if self._deaf or path is None or not (path + "/").startswith(self.root + "/"):
            return
        node = self._names.get(path)
        folder = node in {None, FOLDER}
        failed = call.result != 0
        sync = Sync(
            call.begun, call.ended, None if folder else node, path if folder else None, failed
        )
        self.events.append((call.ended, sync, node or 0))

    def _write(self, call: Call) -> None:
        path = call.path
        if not self._inside(path) or path is None or _shared(path):
            return
        node, done = self._names[path], call.result or 0
        data = b"".join(call.strings)[:done]
        positioned = call.name.startswith("p")
        at = call.numbers[-1] if positioned else self._where[node]
        if not positioned:
            self._where[node] = at + done
        self._change(node, Change(call.begun, call.ended, at, data))

    def _resize(self, call: Call) -> None:
        path = call.path
        if not self._inside(path) or path is None or _shared(path):
            return
        node, numbers = self._names[path], call.numbers
        size = numbers[-1]
        if call.name == "fallocate":
            if numbers[0] != 0:
                raise UnmodelledError(call.arguments[:200])
            size = max(self._sizes[node], sum(numbers[-2:]))
        self._change(node, Change(call.begun, call.ended, None, size=size))

    def _rename(self, call: Call) -> None:
        paths = [one.decode() for one in call.strings]
        inside = [self._inside(one) for one in paths]
        if not any(inside):
            return
        if not all(inside):
            raise UnmodelledError(f"{call.name} over the border of the folder")
        node = self._names.pop(paths[0], None)
        if call.name.startswith("unlink"):
            change = Renaming(call.begun, call.ended, paths[0], None)
        else:
            if node is None or Path(paths[0]).parent != Path(paths[1]).parent:
                raise UnmodelledError(f"{call.name}{paths}")
            self._names[paths[1]] = node
            change = Renaming(call.begun, call.ended, paths[1], node, old=paths[0])
        self.events.append((call.begun, change, 0))

    def _link(self, call: Call) -> None:
        old, new = (one.decode() for one in call.strings)
        if self._inside(new) and old in self._names:
            self._names[new] = self._names[old]
            self._named(call, new)
        elif self._inside(old) or self._inside(new):
            raise UnmodelledError(f"{call.name} over the border of the folder")

    def _make_folder(self, call: Call) -> None:
        (path,) = (one.decode() for one in call.strings)
        if self._inside(path):
            self._names[path] = FOLDER
            self._named(call, path)

    def _named(self, call: Call, path: str) -> None:
        change = Renaming(call.begun, call.ended, path, self._names[path])
        self.events.append((call.begun, change, 0))

    def _map(self, call: Call) -> None:
        written = "MAP_SHARED" in call.arguments and "PROT_WRITE" in call.arguments
        if written and self._inside(call.path) and not _shared(str(call.path)):
            raise UnmodelledError(f"written through memory: {call.path}")


def _shared(path: str) -> bool:
    """Say whether it is SQLite's index of the log, which is made anew after every cut."""
    return path.endswith("-shm")


class Disk:
    """The disk at one position of a timeline, which only goes on.

    Example::

        disk = Disk(timeline)
        for position in timeline.positions:
            disk.go(position)
            disk.write(disk.image(random.Random(position)), folder)
    """

    def __init__(self, timeline: Timeline) -> None:
        self._root = timeline.root
        starts = [(at, one, node) for at, one, node in timeline.events]
        self._coming = sorted(starts, key=lambda event: event[0])
        self._next = 0
        self._nodes: dict[int, Node] = defaultdict(Node)
        self._certain: dict[str, int] = {}
        self._pending: list[Renaming] = []

    def go(self, position: int) -> None:
        """Go to the moment just before a position of the trace.

        What was begun by then may have happened; what a sync covers that was answered has.
        """
        while self._next < len(self._coming) and self._coming[self._next][0] < position:
            _, event, node = self._coming[self._next]
            self._next += 1
            if isinstance(event, Change):
                self._nodes[node].pending.append(event)
            elif isinstance(event, Renaming):
                self._pending.append(event)
            elif event.folder is not None:
                self._settle_names(event)
            elif event.node is not None:
                self._settle(self._nodes[event.node], event)

    @staticmethod
    def _settle(node: Node, sync: Sync) -> None:
        covered = [one for one in node.pending if one.ended < sync.begun]
        kept = [one for one in node.pending if one.ended >= sync.begun]
        if sync.failed:
            kept = [one for one in covered if one.at is None] + kept
            node.doomed += [one for one in covered if one.at is not None]
        else:
            for change in covered:
                apply(node.certain, change)
                node.doomed = [left for one in node.doomed for left in without(one, change)]
        node.pending = kept

    def _settle_names(self, sync: Sync) -> None:
        if sync.failed:
            return
        kept = []
        for change in self._pending:
            if change.ended < sync.begun and str(Path(change.name).parent) == sync.folder:
                rename(self._certain, change)
            else:
                kept.append(change)
        self._pending = kept

    @property
    def unsure(self) -> int:
        """Number of changes that may have happened or not."""
        return len(self._pending) + sum(
            len(one.pending) + len(one.doomed) for one in self._nodes.values()
        )

    def image(self, chance: random.Random, *, rubbish: bool = True) -> dict[str, bytes]:
        """Draw one of the possible contents of the disk: path below the root to bytes.

        Args:
            chance: to draw with. rubbish: whether a sector may hold some that was being written.
        """
        names = dict(self._certain)
        how = chance.choice(("none", "all", "prefix", "any", "any"))
        upto = chance.randint(0, len(self._pending))
        for index, change in enumerate(self._pending):
            share = {"none": 0.0, "all": 1.0, "prefix": float(index < upto), "any": 0.5}[how]
            if chance.random() < share:
                rename(names, change)
        return {
            name.removeprefix(self._root + "/"): bytes(
                content(self._nodes[node], chance, rubbish=rubbish)
            )
            for name, node in names.items()
            if node != FOLDER and not _shared(name) and self._reached(name, names)
        }

    def _reached(self, name: str, names: dict[str, int]) -> bool:
        """Say whether every folder above a file is there."""
        above = (str(one) for one in Path(name).parents)
        return all(one in names for one in above if one.startswith(self._root + "/"))

    @staticmethod
    def write(image: dict[str, bytes], folder: Path) -> None:
        """Write an image into an empty folder."""
        for name, data in image.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)


def rename(names: dict[str, int], change: Renaming) -> None:
    """Let a change of names happen."""
    if change.old is not None:
        names.pop(change.old, None)
    if change.node is None:
        names.pop(change.name, None)
    else:
        names[change.name] = change.node


def apply(content: bytearray, change: Change) -> None:
    """Let a change of content happen."""
    if change.at is None:
        resize(content, change.size)
    else:
        put(content, change.at, change.data)


def without(change: Change, later: Change) -> Iterator[Change]:
    """Give what is left of a change where a later one was not made as well."""
    assert change.at is not None
    start, end = change.at, change.at + len(change.data)
    if later.at is None:
        ranges = [(start, min(end, later.size))]
    else:
        ranges = [(start, min(end, later.at)), (max(start, later.at + len(later.data)), end)]
    for a, b in ranges:
        if a < b:
            yield replace(change, at=a, data=change.data[a - start : b - start])


def resize(content: bytearray, size: int) -> None:
    """Cut content, or fill it up with zeros."""
    if size < len(content):
        del content[size:]
    else:
        content.extend(bytes(size - len(content)))


def put(content: bytearray, at: int, data: bytes) -> None:
    """Write into content, behind its end too."""
    if at > len(content):
        content.extend(bytes(at - len(content)))
    content[at : at + len(data)] = data


def content(node: Node, chance: random.Random, *, rubbish: bool) -> bytearray:
    """Draw one of the possible contents of a file."""
    drawn = bytearray(node.certain)
    pending = [*node.doomed, *node.pending]
    if not pending:
        return drawn
    how = chance.choice(("none", "all", "prefix", "subset", "torn", "torn", "sectors"))
    if how == "none":
        return drawn
    if how == "prefix":
        pending = pending[: chance.randint(0, len(pending))]
    if how in {"subset", "torn"}:
        pending = [one for one in pending if chance.random() < 0.7]
        chance.shuffle(pending)
    sizes = _sizes(node)
    for change in pending:
        if how in {"all", "prefix", "subset"} or change.at is None:
            apply(drawn, change)
        else:
            for at, data in pieces(change, chance, rubbish=rubbish and how == "torn"):
                put(drawn, at, data)
    if chance.random() < 0.3:
        resize(drawn, chance.choice(sizes))
    return drawn


def _sizes(node: Node) -> list[int]:
    """Give every size that the file had since it was certain."""
    size = len(node.certain)
    sizes = [size]
    for change in node.pending:
        size = change.size if change.at is None else max(size, change.at + len(change.data))
        sizes.append(size)
    return sizes


def pieces(change: Change, chance: random.Random, *, rubbish: bool) -> Iterator[tuple[int, bytes]]:
    """Tear a write at sectors or pages: some of it comes, some of it does not, some is rubbish."""
    unit = chance.choice((SECTOR, PAGE))
    share = chance.choice((0.1, 0.5, 0.9))
    at, data = change.at or 0, change.data
    start = at
    while start < at + len(data):
        end = min((start // unit + 1) * unit, at + len(data))
        roll = chance.random()
        if roll < share:
            yield start, data[start - at : end - at]
        elif rubbish and roll > 0.95:
            yield start, chance.randbytes(end - start)
        start = end
