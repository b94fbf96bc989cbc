"""A program under strace: the file operations that it made, with their data and in their order."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

TIMEOUT_S = 240.0
"""Longest time that a traced program may take."""

TRACED = (
    "open",
    "openat",
    "creat",
    "write",
    "writev",
    "pwrite64",
    "pwritev",
    "pwritev2",
    "truncate",
    "ftruncate",
    "fallocate",
    "fsync",
    "fdatasync",
    "sync_file_range",
    "sync",
    "syncfs",
    "unlink",
    "unlinkat",
    "rename",
    "renameat",
    "renameat2",
    "link",
    "linkat",
    "mkdir",
    "mkdirat",
    "rmdir",
    "mmap",
    "copy_file_range",
    "sendfile",
)
"""Every call that changes a file or a folder, or makes a change last."""

_LINE = re.compile(r"(\d+) +(.*)", re.DOTALL)
_CALL = re.compile(r"(\w+)\((.*)\) += (-?\d+|\?|0x[0-9a-f]+)(.*)", re.DOTALL)
_FD = re.compile(r"(?:^|, )(?:AT_FDCWD|-?\d+)<((?:\\x[0-9a-f]{2}|[^>])*)>(\(deleted\))?")


class UnmodelledError(AssertionError):
    """The program did something to a file that the simulator has no model of."""


@dataclass(frozen=True)
class Call:
    """One system call.

    Attributes:
        begun, ended: positions in the trace. What is at `begun` has been asked for, what is at
            `ended` has been answered; a call that never was has the end of the trace.
        thread: that made it. name: of the call. arguments: as strace writes them.
        result: None where there was no answer. rest: what strace says behind it.
    """

    begun: int
    ended: int
    thread: int
    name: str
    arguments: str
    result: int | None
    rest: str

    @property
    def strings(self) -> list[bytes]:
        """Quoted arguments, decoded."""
        return [unhex(one) for one in self.arguments.split('"')[1::2]]

    @property
    def path(self) -> str | None:
        """Path of the first descriptor among the arguments; None where its file has no name."""
        found = _FD.search(self.arguments)
        return None if found is None or found[2] else unhex(found[1]).decode()

    @property
    def opened(self) -> str | None:
        """Path of the descriptor that the call gave."""
        found = re.match(r"<((?:\\x[0-9a-f]{2}|[^>])*)>$", self.rest.strip())
        return None if found is None else unhex(found[1]).decode()

    @property
    def numbers(self) -> list[int]:
        """Plain numbers among the arguments."""
        return [int(one) for one in re.findall(r"(?:^|, )(\d+)(?=,|$)", self.arguments)]


def unhex(text: str) -> bytes:
    r"""Decode what strace -xx writes: ``\x41\x42``, or the text itself."""
    if text.startswith("\\x"):
        return bytes.fromhex(text.replace("\\x", ""))
    return text.encode()


def works() -> bool:
    """Say whether strace is here, and may do its work."""
    found = shutil.which("strace")
    trying = [found or "", "-f", "-qq", "-o", "/dev/null", "true"]
    return found is not None and subprocess.run(trying, check=False).returncode == 0


def run(
    command: Sequence[str | Path],
    trace: Path,
    *,
    environment: Mapping[str, str] | None = None,
    inject: str | None = None,
) -> list[Call]:
    """Run a program to its good end under strace, and give its file operations.

    Args:
        command: the program. trace: file for what strace writes.
        environment: of the program. inject: a fault, as strace takes them.

    Raises:
        AssertionError: it ended otherwise.
    """
    done = subprocess.run(
        [
            "strace",
            *("-f", "-y", "-xx", "-s", "4000000", "--seccomp-bpf", "-e", "signal=none"),
            *("-e", "trace=" + ",".join(TRACED), "-o", trace),
            *(() if inject is None else ("-e", f"inject={inject}")),
            *command,
        ],
        capture_output=True,
        timeout=TIMEOUT_S,
        env=environment,
        check=False,
    )
    said = (done.stdout[-2000:] + done.stderr[-4000:]).decode()
    assert done.returncode == 0, f"ended with {done.returncode}: {said}"
    with trace.open(encoding="ascii") as lines:
        return parse(lines)


def parse(lines: Iterable[str]) -> list[Call]:
    """Read a trace; calls stand in the order in which they began."""
    calls: list[Call] = []
    open_: dict[str, tuple[int, str]] = {}
    position = 0
    for position, line in enumerate(lines):
        found = _LINE.match(line.rstrip("\n"))
        assert found is not None, line[:200]
        thread, text = found[1], found[2]
        if text.startswith(("+++", "---")):
            continue
        begun = position
        if text.startswith("<... "):
            begun, start = open_.pop(thread)
            text = start + text.partition(" resumed>")[2]
        elif text.endswith(" <unfinished ...>"):
            open_[thread] = position, text.removesuffix(" <unfinished ...>")
            continue
        calls.append(_call(begun, position, int(thread), text))
    calls += [
        Call(begun, position + 1, int(thread), *text.partition("(")[::2], None, "")
        for thread, (begun, text) in open_.items()
    ]
    return sorted(calls, key=lambda one: one.begun)


def _call(begun: int, ended: int, thread: int, text: str) -> Call:
    found = _CALL.match(text)
    if found is None:
        raise UnmodelledError(f"cannot read {text[:200]!r}")
    name, arguments, result, rest = found.groups()
    number = None if result == "?" else int(result, 0)
    return Call(begun, ended, thread, name, arguments, number, rest)
