"""Ways to write a text so that a rule for it does not match, each a pure function of text and seed.

Each takes the text and a random generator, and gives it written otherwise. What a person or a
program would read in it stays the same, or can be had back with a known decoder.
"""

from __future__ import annotations

import base64
import codecs
import html
import random
from collections.abc import Callable, Mapping
from urllib.parse import quote

Obfuscator = Callable[[str, random.Random], str]

_ZERO_WIDTH = "\u200b\u200c\u200d\u2060\ufeff"
_BIDI = "\u200e\u200f\u202a\u202b\u202c\u2066\u2067\u2069"
_LATIN = "aceijopsxyhkABCEHIKMOPSTXYZ"
_LOOKALIKE = (
    "\u0430\u0441\u0435\u0456\u0458\u043e\u0440\u0455\u0445\u0443\u04bb\u043a"
    "\u0410\u0412\u0421\u0395\u0397\u0406\u039a\u041c"
    "\u039f\u0420\u0405\u0422\u03a7\u03a5\u0396"
)
_LOOKALIKES = dict(zip(_LATIN, _LOOKALIKE, strict=True))
_LEET = str.maketrans("aeiost", "431057")


def _between(text: str, rng: random.Random, extra: str, count: int = 1) -> str:
    """Put a few of the extra characters between any two characters."""
    end = len(text) - 1
    return "".join(
        char + ("" if i == end else "".join(rng.choice(extra) for _ in range(count)))
        for i, char in enumerate(text)
    )


def zero_width(text: str, rng: random.Random) -> str:
    """Zero-width characters between the others."""
    return _between(text, rng, _ZERO_WIDTH)


def soft_hyphen(text: str, rng: random.Random) -> str:
    """Soft hyphens between the others."""
    return _between(text, rng, "\u00ad")


def bidi(text: str, rng: random.Random) -> str:
    """Controls of the direction of writing between the others."""
    return _between(text, rng, _BIDI)


def combining(text: str, rng: random.Random) -> str:
    """Stacks of combining marks on all but the last."""
    return _between(text, rng, "".join(map(chr, range(0x300, 0x340))), 4)


def tags(text: str, rng: random.Random) -> str:  # noqa: ARG001 - one signature
    """Tag characters, which no one sees, in place of ASCII."""
    return "".join(chr(0xE0000 + ord(c)) if " " <= c <= "~" else c for c in text)


def emoji_smuggling(text: str, rng: random.Random) -> str:  # noqa: ARG001
    """Variation selectors behind an emoji, each of which is a byte."""
    selectors = (chr(0xFE00 + b) if b < 16 else chr(0xE0100 + b - 16) for b in text.encode())
    return "\U0001f600" + "".join(selectors)


def homoglyphs(text: str, rng: random.Random) -> str:
    """Lookalikes from Greek and Cyrillic in place of two letters in three."""
    return "".join(_LOOKALIKES.get(c, c) if rng.random() < 0.67 else c for c in text)


def fullwidth(text: str, rng: random.Random) -> str:  # noqa: ARG001
    """The wide forms of ASCII."""
    return "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text)


def mathematical(text: str, rng: random.Random) -> str:  # noqa: ARG001
    """Bold letters and digits of mathematics."""
    bases = (("A", "Z", 0x1D400), ("a", "z", 0x1D41A), ("0", "9", 0x1D7CE))
    return "".join(
        next((chr(base + ord(c) - ord(low)) for low, high, base in bases if low <= c <= high), c)
        for c in text
    )


def upper(text: str, rng: random.Random) -> str:  # noqa: ARG001
    """Capitals."""
    return text.upper()


def base64_(text: str, rng: random.Random) -> str:  # noqa: ARG001
    """Base64."""
    return base64.b64encode(text.encode()).decode()


def base64_twice(text: str, rng: random.Random) -> str:
    """Base64 of base64."""
    return base64_(base64_(text, rng), rng)


def hexadecimal(text: str, rng: random.Random) -> str:  # noqa: ARG001
    """Hexadecimal digits."""
    return text.encode().hex()


def url(text: str, rng: random.Random) -> str:  # noqa: ARG001
    """URL escapes for all characters."""
    return "".join(f"%{byte:02X}" for byte in text.encode())


def url_twice(text: str, rng: random.Random) -> str:
    """URL escapes whose signs are escaped again."""
    return quote(url(text, rng))


def html_(text: str, rng: random.Random) -> str:
    """HTML entities of several kinds for all characters."""
    forms = ("&#{};", "&#x{:x};", "&#x{:06X};")
    return "".join(
        named if (named := html.escape(c)) != c else rng.choice(forms).format(ord(c)) for c in text
    )


def backslash(text: str, rng: random.Random) -> str:
    r"""Backslash escapes, as in ``\x41`` and ``\u0041``."""
    return "".join(rng.choice(("\\x{:02x}", "\\u{:04x}")).format(ord(c)) for c in text)


def leet(text: str, rng: random.Random) -> str:  # noqa: ARG001
    """Digits for letters."""
    return text.translate(_LEET)


def split_words(text: str, rng: random.Random) -> str:  # noqa: ARG001
    """Spaces between all characters."""
    return " ".join(text)


def rot13(text: str, rng: random.Random) -> str:  # noqa: ARG001
    """Letters moved by thirteen."""
    return codecs.encode(text, "rot13")


OBFUSCATORS: Mapping[str, tuple[Obfuscator, str]] = {
    "zero_width": (zero_width, "folded"),
    "soft_hyphen": (soft_hyphen, "folded"),
    "bidi": (bidi, "folded"),
    "combining": (combining, "folded"),
    "tags": (tags, "folded"),
    "emoji_smuggling": (emoji_smuggling, "folded"),
    "homoglyphs": (homoglyphs, "folded"),
    "fullwidth": (fullwidth, "folded"),
    "mathematical": (mathematical, "folded"),
    "upper": (upper, "folded"),
    "base64": (base64_, "decoded"),
    "base64_twice": (base64_twice, "decoded"),
    "hex": (hexadecimal, "decoded"),
    "url": (url, "decoded"),
    "url_twice": (url_twice, "decoded"),
    "html": (html_, "decoded"),
    "backslash": (backslash, "decoded"),
    "leet": (leet, "squeezed"),
    "split_words": (split_words, "squeezed"),
    "rot13": (rot13, ""),
}
"""For each name the function, and the form that is claimed to undo it; none for a known miss."""
