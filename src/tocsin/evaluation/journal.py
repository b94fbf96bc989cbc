"""A journal of finished work, one line each, so that a long run can go on after a crash.

The first line says what the run is; a journal of another run is refused. A last line that was cut
off while it was written is dropped, and its work is done again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Generic, TypeVar

import msgspec

from tocsin.errors import InputError

T = TypeVar("T")


class Journal(Generic[T]):
    """Finished items by number.

    Args:
        path: the file.
        run: what the run is, compared with what the journal says.
        item: type of an item, for reading it back.
    """

    def __init__(self, path: Path, run: str, item: type[T]) -> None:
        self._path = path
        self._run = run
        self._decoder = msgspec.json.Decoder(tuple[int, item])  # type: ignore[valid-type]
        self.done: dict[int, T] = {}
        self._size = 0

    def read(self) -> None:
        """Read what is done.

        Raises:
            InputError: the journal is of another run, or cannot be read.
        """
        try:
            with self._path.open("rb") as file:
                self._read(file)
        except FileNotFoundError:
            return
        except OSError as e:
            raise InputError(f"cannot read {str(self._path)!r}: {e.strerror}") from None

    def _read(self, file: IO[bytes]) -> None:
        first = file.readline()
        if not first.endswith(b"\n"):
            return
        if first != self._head():
            raise InputError(
                f"{str(self._path)!r} is the journal of another run (other data, verifier or "
                "steps); finish that run, or start afresh with --restart"
            )
        self._size = len(first)
        for line in file:
            try:
                number, item = self._decoder.decode(line)
            except msgspec.DecodeError:
                break
            if not line.endswith(b"\n"):
                break
            self.done[number] = item
            self._size += len(line)

    def _head(self) -> bytes:
        return msgspec.json.encode({"run": self._run}) + b"\n"

    @contextmanager
    def writing(self) -> Iterator[Journal[T]]:
        """Open the journal for adding; a torn last line is cut off first."""
        try:
            with self._path.open("ab") as file:
                file.truncate(self._size)
                if self._size == 0:
                    file.write(self._head())
                self._file = file
                yield self
        except OSError as e:
            raise InputError(f"cannot write {str(self._path)!r}: {e.strerror}") from None

    def add(self, number: int, item: T) -> None:
        """Note that an item is done; it survives the end of the process from here on."""
        self.done[number] = item
        self._file.write(msgspec.json.encode((number, item)) + b"\n")
        self._file.flush()

    def remove(self) -> None:
        """Delete the file: the work is done, or shall be done anew.

        Raises:
            InputError: it cannot be deleted.
        """
        try:
            self._path.unlink(missing_ok=True)
        except OSError as e:
            raise InputError(f"cannot delete {str(self._path)!r}: {e.strerror}") from None
        self.done.clear()
        self._size = 0
