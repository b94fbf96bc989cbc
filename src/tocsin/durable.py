"""Files written whole or not at all, and durably: temporary file, sync, rename."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

from tocsin.errors import InputError


def write_whole(path: str | os.PathLike[str], content: bytes, *, private: bool = False) -> None:
    """Write a file whole or not at all; whoever reads it sees the old content or the new.

    A link is followed. A new file has the permissions that the umask leaves, one that is replaced
    keeps its own.

    Args:
        path: where; an existing regular file is replaced.
        content: all of it.
        private: its owner alone may read it afterwards, also where it replaces another.

    Raises:
        InputError: the place cannot be written, or is something else than a file.
    """
    try:
        target = Path(os.path.realpath(path))
        mode = _mode(target)
        temporary = target.with_name(f".{target.name}.{secrets.token_hex(8)}")
        handle = os.open(
            temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if private else 0o666
        )
    except (OSError, ValueError) as e:
        raise InputError(f"cannot write {str(path)!r}: {_reason(e)}") from None
    try:
        with os.fdopen(handle, "wb") as f:
            f.write(content)
            f.flush()
            os.fsync(f.fileno())
        if mode is not None and not private:
            temporary.chmod(mode)
        temporary.replace(target)
        sync_folder(target.parent)
    except OSError as e:
        raise InputError(f"cannot write {str(path)!r}: {e.strerror}") from None
    finally:
        with contextlib.suppress(OSError):  # it is gone, or it is in nobody's way
            temporary.unlink()


def _mode(target: Path) -> int | None:
    """Return the permissions of the file that will be replaced; None where there is none."""
    if not target.exists():
        return None
    if not target.is_file():
        raise IsADirectoryError(0, "it is no regular file")
    return target.stat().st_mode & 0o777


def _reason(e: Exception) -> str:
    return (e.strerror if isinstance(e, OSError) else None) or str(e)


def sync_folder(folder: Path) -> None:
    """Make names durable that were made, changed or taken away in a folder."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
