"""Normal forms of a text beside the raw text, made as it comes, with the way back to its places.

A form is a parallel view for matching: where a rule finds something in it, the ranges of its
characters say which raw characters to mask. Characters that were dropped (zero-width ones, stacked
marks, padding) belong to none; those within a match lie between its first start and its last end.
The form of a text never depends on how the text was cut into chunks.

A dropped character can be repeated without end, so no bound on how long a value may be written
holds for every text: `expansion` is what is looked after, and a value spread wider may be found
only once its begin has been released.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

from tocsin.errors import InputError
from tocsin.limits import DECODE_LEVELS, REVEAL_LAG_CHARS_MAX
from tocsin.stream.decoding import Decode
from tocsin.stream.folding import Fold
from tocsin.stream.pieces import EMPTY, Piece, Stage, raw
from tocsin.stream.reveal import Reveal
from tocsin.stream.squeezing import Squeeze

FORMS: Mapping[str, str] = {
    "folded": "hidden characters shown or dropped; compatibility forms, case, accents and "
    "lookalikes of Latin letters folded",
    "decoded": "escapes, base64 and hexadecimal digits decoded in place, three levels deep; folded",
    "squeezed": "folded; spelled-out words joined, digits that stand for letters put back",
}
"""What each form is, in words for people."""

_EXPANSION = {"folded": 1, "decoded": 10, "squeezed": 3}


class Form(Protocol):
    """One normal form of one channel's text.

    Args:
        name: one of `FORMS`.
        lag_chars: at most so many raw characters have been fed and are not yet reflected in what
            it gave.
        expansion: a value of L characters is looked for in at most L times so many raw characters,
            which says how much text to hold back.
    """

    name: str
    lag_chars: int
    expansion: int

    def feed(self, text: str) -> Piece:
        """Take more raw text; give what is settled of the form."""

    def close(self) -> Piece:
        """Give what is left."""


class _Row:
    """Stages in a row."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.expansion = _EXPANSION[name]
        self._stages = _stages(name)
        self.lag_chars = sum(stage.lag_chars for stage in self._stages)
        self._fed = 0

    def feed(self, text: str) -> Piece:
        """Take more raw text; give what is settled of the form."""
        piece = raw(text, self._fed)
        self._fed += len(text)
        return self._push(piece, final=False) if text else EMPTY

    def close(self) -> Piece:
        """Give what is left."""
        return self._push(EMPTY, final=True)

    def _push(self, piece: Piece, *, final: bool) -> Piece:
        upto = self._fed
        for stage in self._stages:
            piece, upto = stage.push(piece, upto, final=final)
        return piece


def _stages(name: str) -> list[Stage]:
    if name == "folded":
        return [Reveal(), Fold()]
    if name == "decoded":
        levels = [Decode() for _ in range(DECODE_LEVELS)]
        return [Reveal(), *levels, Reveal(REVEAL_LAG_CHARS_MAX), Fold()]
    return [Reveal(), Fold(), Squeeze()]


def forms(names: Iterable[str] = ("folded", "decoded")) -> list[Form]:
    """Return the forms with these names, each at the begin of a text.

    Raises:
        InputError: an unknown name.

    Example:
        >>> form = forms(["decoded"])[0]
        >>> form.feed("a caf%C3%").text, form.feed("A9!")
        ('a ', Piece(text='cafe!', starts=[2, 3, 4, 5, 11], ends=[3, 4, 5, 11, 12]))
    """
    made: list[Form] = []
    for name in names:
        if name not in FORMS:
            raise InputError(f"normal form {name!r} is unknown; use one of {', '.join(FORMS)}")
        made.append(_Row(name))
    return made


def folded(text: str) -> str:
    r"""Return the folded form of a whole text.

    Example:
        >>> folded("Pay\u200bPal, P\u0430yp\u0430l, Zürich")
        'paypal, paypal, zurich'
    """
    return _whole("folded", text)


def decoded(text: str) -> str:
    """Return the decoded form of a whole text.

    Example:
        >>> decoded("UGxlYXNlIHJlYWQgdGhpcw== &amp;lt; %2541")
        'please read this < a'
    """
    return _whole("decoded", text)


def squeezed(text: str) -> str:
    """Return the squeezed form of a whole text.

    Example:
        >>> squeezed("the p4ssw0rd is s.e.c.r.e.t, not 1234")
        'the password is secret, not 1234'
    """
    return _whole("squeezed", text)


def _whole(name: str, text: str) -> str:
    form = _Row(name)
    return form.feed(text).text + form.close().text
