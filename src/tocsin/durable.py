"""Files written whole or not at all, and durably: temporary file, sync, rename."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from tocsin.errors import InputError


def write_whole(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file whole or not at all; whoever reads it sees the old content or the new."""
    target = Path(path)
    try:
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    except OSError as e:
        raise InputError(f"cannot write {str(path)!r}: {e.strerror}") from None
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as f:
            f.write(content)
            f.flush()
            os.fsync(f.fileno())
        temporary.chmod(0o644)
        temporary.replace(target)
        _sync_folder(target.parent)
    except OSError as e:
        raise InputError(f"cannot write {str(path)!r}: {e.strerror}") from None
    finally:
        temporary.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
