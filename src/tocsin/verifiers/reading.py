"""Files that verifiers are made of: read once, and no more of them than is allowed."""

from __future__ import annotations

from pathlib import Path

from tocsin.errors import InputError


def read_whole(path: str | Path, bytes_max: int, what: str = "") -> bytes:
    """Return the content of a file.

    Args:
        path: of the file.
        bytes_max: a larger one is refused; more is never read, whatever kind of file it is.
        what: what it is to the reader, to stand before its name.

    Raises:
        InputError: it cannot be read, or is larger.

    Example:
        >>> len(read_whole(__file__, 1_000_000)) > 100
        True
    """
    shown = f"{what} {str(path)!r}".lstrip()
    try:
        with Path(path).open("rb") as file:
            content = file.read(bytes_max + 1)
    except (OSError, ValueError) as e:  # ValueError: a name with a zero byte
        raise InputError(f"cannot read {shown}: {getattr(e, 'strerror', None) or e}") from None
    if len(content) > bytes_max:
        raise InputError(f"{shown} has more than {bytes_max:,} bytes")
    return content


def is_there(path: str | Path) -> bool:
    """Whether there is such a file or folder; False where the name can be none."""
    try:
        return Path(path).exists()
    except (OSError, ValueError):
        return False
