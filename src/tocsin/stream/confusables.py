"""Letters of other scripts, and odd Latin ones, that look like an ASCII letter.

Facts from Unicode's `confusables.txt`, version 13.0.0 (UTS 39): the single characters whose
prototype, without marks, is one ASCII letter, in the scripts that are used for spoofing (Latin,
Greek, Cyrillic, Armenian, Cherokee, Lisu). Added by their names in the Unicode character database:
small capitals, and Latin letters with a stroke, hook or tail. Added by hand: beta, epsilon, zeta,
mu, chi, omega, eth. A capital that looks like I is taken for "i", where the file says "l", since
case is folded. What compatibility decomposition or case folding reaches is left out.
"""

from __future__ import annotations

from collections.abc import Mapping

_LOOKALIKES: Mapping[str, str] = {
    "a": "\u0251\u03b1\u0430\u13aa\u1d00\u1d8f\u2c65\ua4ee",
    "b": (
        "\u0180\u0183\u0184\u0253\u0299\u03b2\u042c\u0432\u0463\u048d\u13cf\u13f4\u1d03"
        "\u1d6c\u1d80\ua4d0\ua797\ua7b4"
    ),
    "c": "\u0188\u023c\u0255\u0441\u04ab\u13df\u1d04\ua4da\ua793\ua794\U0001df1d",
    "d": (
        "\u00f0\u0111\u018c\u0221\u0256\u0257\u0501\u13a0\u13e7\u1d05\u1d6d\u1d81\u1d91\ua4d2"
        "\ua4d3\ua7c8"
    ),
    "e": "\u0247\u025b\u03b5\u0435\u04bd\u04bf\u13ac\u1d07\u1d92\u2c78\ua4f0\uab32\uab33\uab34",
    "f": "\u0192\u03dc\u0584\u1d6e\u1d82\u1e9d\ua4dd\ua730\ua799\uab35",
    "g": "\u018d\u01e5\u0260\u0261\u0262\u029b\u050d\u0581\u13c0\u13f3\u1d83\ua4d6\ua7a1",
    "h": (
        "\u0127\u0266\u029c\u0397\u043d\u045b\u04a2\u04bb\u04c7\u04c9\u0570\u13bb\u13c2\u13f2"
        "\u2c68\ua4e7\ua695\ua795"
    ),
    "i": (
        "\u0131\u0268\u0269\u026a\u03b9\u0456\u04cf\u13a5\u1d7b\u1d7c\u1d96\ua4f2\ua647\U0001df1a"
    ),
    "j": "\u0249\u029d\u03f3\u0458\u13ab\u1d0a\ua4d9",
    "k": (
        "\u0138\u0199\u03ba\u043a\u049a\u049e\u13e6\u1d0b\u1d84\u2c6a\u2c95\ua4d7\ua741\ua743"
        "\ua745\ua7a3"
    ),
    "l": (
        "\u0142\u019a\u01c0\u0234\u026b\u026c\u026d\u029f\u13de\u1d0c\u1d85\u2c61\u2cd1\ua4e1"
        "\ua749\ua78e\uab37\uab38\uab39\U00010443\U0001df04\U0001df11\U0001df13"
    ),
    "m": "\u0271\u039c\u03fa\u041c\u04cd\u13b7\u1d0d\u1d6f\u1d86\ua4df\uab3a",
    "n": (
        "\u019e\u0235\u0272\u0273\u0274\u039d\u03b7\u0578\u057c\u1d70\u1d87\ua4e0\ua791\ua7a5\uab3b"
    ),
    "o": (
        "\u00f8\u0275\u03b8\u03bf\u03c3\u043e\u0473\u04e9\u0585\u13be\u13eb\u1d0f\u1d11\u2c7a"
        "\ua4f3\ua74b\ua74d\uab3d\uab3e\uab74\U0001df1b"
    ),
    "p": "\u01a5\u03c1\u0440\u13e2\u1d18\u1d29\u1d71\u1d7d\u1d88\ua4d1\ua751\ua753\ua755",
    "q": "\u024b\u02a0\u051b\u0563\u0566\ua757\ua759\ua7af",
    "r": (
        "\u024d\u027c\u027d\u027e\u0280\u0433\u0493\u13a1\u13d2\u1d26\u1d72\u1d73\u1d89\ua4e3"
        "\ua7a7\uab46\uab47\uab48\uab49\uab4b\uab81\U0001df16"
    ),
    "s": (
        "\u01bd\u023f\u0282\u0455\u054f\u13d5\u13da\u1d74\u1d8a\ua4e2\ua731\ua7a9\ua7ca\U0001df1e"
    ),
    "t": (
        "\u0167\u01ab\u01ad\u0236\u0288\u03c4\u0442\u04ac\u13a2\u1d1b\u1d75\u2c66\ua4d4\U0001df09"
    ),
    "u": "\u0244\u028b\u03bc\u03c5\u057d\u13cc\u1d1c\u1d7e\u1d99\ua4f4\ua79f\ua7b9\uab4e\uab52",
    "v": "\u01b2\u03bd\u0475\u13d9\u1d20\u2c71\u2c74\ua4e6\ua75f",
    "w": "\u026f\u03c9\u0461\u047d\u051d\u0561\u13b3\u13d4\u1d21\u2c73\ua4ea\ua761",
    "x": "\u03c7\u0445\u04b2\u1d8d\ua4eb\ua7b3\uab56\uab57\uab58\uab59",
    "y": (
        "\u01b4\u024f\u0263\u028f\u03a5\u03b3\u0443\u04af\u04b1\u13a9\u13bd\u1d8c\u1eff\ua4ec\uab5a"
    ),
    "z": "\u01b6\u0225\u0240\u0290\u0291\u03b6\u13c3\u1d22\u1d76\u1d8e\u2c6c\ua4dc",
}

SKELETON: Mapping[int, str] = {
    ord(lookalike): letter for letter, many in _LOOKALIKES.items() for lookalike in many
}
"""For the code point of a lookalike, the ASCII letter, lower case."""
