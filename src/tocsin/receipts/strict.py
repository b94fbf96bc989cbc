"""Reading what others wrote without leniency: one way to write a thing, and no second.

Whoever accepts two spellings of one statement lets a change of bytes pass unseen.
"""

from __future__ import annotations

import base64
import binascii
import re

from tocsin.errors import ProofInvalid

_DECIMAL = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)


def text_of(data: str | bytes, what: str, bytes_max: int) -> str:
    """Give UTF-8 as text; at most `bytes_max` bytes of it.

    Raises:
        ProofInvalid: too long, or no UTF-8.
    """
    if len(data) > bytes_max:
        raise ProofInvalid(f"the {what} is longer than {bytes_max} bytes")
    try:
        raw = data.encode() if isinstance(data, str) else data
        text = raw.decode()
    except UnicodeError:
        raise ProofInvalid(f"the {what} is no UTF-8 text") from None
    if len(raw) > bytes_max:
        raise ProofInvalid(f"the {what} is longer than {bytes_max} bytes")
    return text


def number(text: str, what: str, most: int) -> int:
    """Read a decimal without sign, spaces or leading zeroes, from 0 to `most`.

    Raises:
        ProofInvalid: anything else.
    """
    if not _DECIMAL.fullmatch(text) or int(text) > most:
        raise ProofInvalid(f"the {what} {text[:40]!r} is no whole number from 0 to {most}")
    return int(text)


def unbase64(text: str, what: str) -> bytes:
    """Read base64 (RFC 4648, section 4) that writes back as the same text.

    Raises:
        ProofInvalid: other letters, missing padding, or bits that say nothing.

    Example:
        >>> unbase64("QQ==", "letter")
        b'A'
        >>> unbase64("QR==", "letter")
        Traceback (most recent call last):
        ...
        tocsin.errors.ProofInvalid: the letter 'QR==' is not base64 as it has to be written
    """
    try:
        raw = base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        raw = None
    if raw is None or tobase64(raw) != text:
        raise ProofInvalid(f"the {what} {text[:40]!r} is not base64 as it has to be written")
    return raw


def hash_of(text: str, what: str) -> bytes:
    """Read the base64 of 32 bytes.

    Raises:
        ProofInvalid: it is something else.
    """
    raw = unbase64(text, what)
    if len(raw) != 32:
        raise ProofInvalid(f"the {what} has {len(raw)} bytes; SHA-256 gives 32")
    return raw


def tobase64(raw: bytes) -> str:
    """Write base64, RFC 4648, section 4."""
    return base64.b64encode(raw).decode("ascii")
