"""What a match must pass besides its shape: checksums, and rules that no pattern can say.

A check is given the match and returns how many of its first characters it accepts, 0 for none. The
checksums of national identifiers are those of python-stdnum; none of them here reads the clock.
"""

from __future__ import annotations

import importlib
import ipaddress
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping

from tocsin.errors import MissingExtra

Check = Callable[[str], int]

_STDNUM: Mapping[str, str] = {
    "abn": "au.abn",
    "aadhaar": "in_.aadhaar",
    "bitcoin": "bitcoin",
    "bsn": "nl.bsn",
    "cnpj": "br.cnpj",
    "codice_fiscale": "it.codicefiscale",
    "cpf": "br.cpf",
    "dni": "es.dni",
    "iban": "iban",
    "idnr": "de.idnr",
    "imei": "imei",
    "itin": "us.itin",
    "luhn": "luhn",
    "nhs": "gb.nhs",
    "nie": "es.nie",
    "nir": "fr.nir",
    "pan": "in_.pan",
    "pesel": "pl.pesel",
    "rtn": "us.rtn",
    "sin": "ca.sin",
    "ssn": "us.ssn",
    "tfn": "au.tfn",
}
"""Checks that a module of python-stdnum makes, by our name."""

_DATE = re.compile(r"(?:19|20)[0-9]{2}[-./ ](?:0[1-9]|1[0-2])[-./ ]")
_NOT_DIGITS = re.compile(r"[^0-9]")


def _card(text: str) -> int:
    """Payment card: the lengths of its issuer (ISO/IEC 7812 ranges), then Luhn."""
    digits = _NOT_DIGITS.sub("", text)
    for length in _card_lengths(digits):
        if len(digits) >= length and _luhn(digits[:length]) and len(set(digits[:length])) > 1:
            return _chars_of(text, length)
    return 0


_ISSUERS: tuple[tuple[int, int, tuple[int, ...]], ...] = (
    (3400, 3499, (15,)),  # American Express
    (3700, 3799, (15,)),
    (3000, 3059, (14, 16)),  # Diners Club
    (3600, 3699, (14, 16)),
    (3800, 3999, (14, 16)),
    (4000, 4999, (16, 19, 13)),  # Visa
    (5100, 5599, (16,)),  # Mastercard
    (2221, 2720, (16,)),
    (5000, 5099, (16, 19, 18, 17, 15, 14, 13, 12)),  # Maestro
    (5600, 5999, (16, 19, 18, 17, 15, 14, 13, 12)),
    (6300, 6399, (16, 19, 18, 17, 15, 14, 13, 12)),
    (6700, 6799, (16, 19, 18, 17, 15, 14, 13, 12)),
    (6000, 6099, (16, 19)),  # Discover, UnionPay, RuPay
    (6200, 6299, (16, 19, 18, 17)),
    (6400, 6599, (16, 19)),
    (8100, 8199, (16, 19, 18, 17)),
    (3528, 3589, (16,)),  # JCB
    (1800, 1800, (15, 16)),
    (2131, 2131, (15, 16)),
)
"""First four digits, from and to, and the lengths in use, likeliest first."""


def _card_lengths(digits: str) -> tuple[int, ...]:
    four = int(digits[:4])
    return next((lengths for low, high, lengths in _ISSUERS if low <= four <= high), ())


def _chars_of(text: str, digits: int) -> int:
    """Characters up to and with the digit of this number."""
    seen = 0
    for place, c in enumerate(text, 1):
        seen += c.isdigit()
        if seen == digits:
            return place
    return 0


def _luhn(digits: str) -> bool:
    odd = sum(map(int, digits[-1::-2]))
    even = sum(sum(divmod(2 * int(d), 10)) for d in digits[-2::-2])
    return (odd + even) % 10 == 0


def _ipv4(text: str) -> int:
    """Four octets; not one that means no machine: 0.0.0.0 to 0.255.255.255, or all ones."""
    octets = text.split(".")
    real = all(int(o) < 256 and (o == "0" or o[0] != "0") for o in octets)
    return len(text) if real and octets[0] != "0" and set(octets) != {"255"} else 0


def _ipv6(text: str) -> int:
    """An address as RFC 4291 writes it; neither ``::`` nor ``::1``, nor a time such as 10:20::."""
    try:
        address = ipaddress.IPv6Address(text)
    except ValueError:
        return 0
    return 0 if int(address) < 2 or text.count(":") < 3 else len(text)


def _phone(text: str) -> int:
    """Seven to fifteen digits (E.164) before an extension, not all the same, and no date."""
    digits = _NOT_DIGITS.sub("", text.partition("x")[0])
    if _DATE.match(text):
        return 0
    return len(text) if 7 <= len(digits) <= 15 and len(set(digits)) > 2 else 0


def _nanp(text: str) -> int:
    """North American number: area and exchange begin with 2 to 9 and are not N11."""
    digits = _NOT_DIGITS.sub("", text)[-10:]
    area, exchange = digits[:3], digits[3:6]
    real = min(area[0], exchange[0]) > "1" and not area.endswith("11") and area != "555"
    return len(text) if real and not exchange.endswith("11") else 0


def _belgian(text: str) -> int:
    """Belgian national number: mod 97, with a 2 before it from the year 2000 on."""
    digits = _NOT_DIGITS.sub("", text)
    month, body, last = int(digits[2:4]) % 20, digits[:9], int(digits[9:])
    sound = last in {97 - int(body) % 97, 97 - int("2" + body) % 97}
    return len(text) if sound and month <= 12 else 0


def _swedish(text: str) -> int:
    """Swedish personal number: a date (days over 60 for co-ordination numbers), then Luhn."""
    digits = _NOT_DIGITS.sub("", text)[-10:]
    day = int(digits[4:6]) % 60
    return len(text) if 1 <= int(digits[2:4]) <= 12 and 1 <= day <= 31 and _luhn(digits) else 0


def _nric(text: str) -> int:
    """Singapore NRIC and FIN: weights 2 7 6 5 4 3 2, offset 4 for T and G, 3 for M."""
    first, digits, last = text[0].upper(), text[1:8], text[8].upper()
    total = sum(w * int(d) for w, d in zip((2, 7, 6, 5, 4, 3, 2), digits, strict=True))
    total += {"T": 4, "G": 4, "M": 3}.get(first, 0)
    if first == "M":
        return len(text) if "KLJNPQRTUWX"[10 - total % 11] == last else 0
    letters = "JZIHGFEDCBA" if first in "ST" else "XWUTRQPNMLK"
    return len(text) if letters[total % 11] == last else 0


def _vin(text: str) -> int:
    """Vehicle identification number: check digit in place 9 (49 CFR 565.15)."""
    text = text.upper()
    value = dict(zip("ABCDEFGHJKLMNPRSTUVWXYZ", map(int, "12345678123457923456789"), strict=True))
    weights = (8, 7, 6, 5, 4, 3, 2, 10, 0, 9, 8, 7, 6, 5, 4, 3, 2)
    total = sum(
        w * (int(c) if c.isdigit() else value[c]) for w, c in zip(weights, text, strict=True)
    )
    mixed = any(c.isdigit() for c in text) and any(c.isalpha() for c in text)
    return len(text) if mixed and "0123456789X"[total % 11] == text[8] else 0


def entropy(text: str) -> float:
    """Shannon entropy of the characters, in bits a character.

    Example:
        >>> entropy("abab")
        1.0
    """
    counts = Counter(text)
    return -sum(n / len(text) * math.log2(n / len(text)) for n in counts.values())


_VALUE = re.compile(r"[^\s\"'`=:,>]+$")
_PLACEHOLDER = re.compile(
    r"^(?:[<{$%\[(*]|//|x{3}|your|example|changeme|redacted|none|null|true|false|todo|process\.env|"
    r"os\.|env)",
    re.IGNORECASE,
)


def _secret(text: str) -> int:
    """A name and a value: the value is random enough, holds a digit and is no placeholder."""
    found = _VALUE.search(text)
    value = found[0] if found else ""
    random = len(value) >= 8 and entropy(value) >= 2.75 and any(c.isdigit() for c in value)
    return len(text) if random and not _PLACEHOLDER.match(value) else 0


def _password(text: str) -> int:
    """A name and a value of 6 characters or more that is no placeholder."""
    found = _VALUE.search(text)
    value = found[0] if found else ""
    plain = value.isalpha() and (value.islower() or value.istitle())
    shown = len(value) >= 6 and not plain and len(set(value)) > 3
    return len(text) if shown and not _PLACEHOLDER.match(value) else 0


_GIVEN = re.compile(r"""(["']?(?:\s*(?:=>|:=|=|:)\s*|\s+\w+:?\s+)["']?)([^\s"']+)$""")
_WORDS = re.compile(r"[^\W\d_]+(?:[-/.][^\W\d_]+)*")
_SAID_OF_PASSWORDS = re.compile(
    r"required|wrong|incorrect|invalid|correct|missing|expired|changed|reset|forgotten|forgot|"
    r"empty|unknown|protected|hidden|blocked|accepted|rejected|policy|field|form|prompt|string|"
    r"hash|must|should|will|with|from|that|this|they|user|never|always|only|"
    r"falsch|richtig|ungültig|fehlt|abgelaufen|geändert|vergessen|leer|unbekannt|gesperrt|"
    r"erforderlich|zurückgesetzt|muss|soll|wird|bitte|nicht|wurde"
)


def _password_given(text: str) -> int:
    """A name and a value of 4 characters or more: any word behind a sign, no plain one else."""
    found = _GIVEN.search(text)
    if found is None:
        return 0
    sign, value = found[1], found[2].strip(".!?()")
    if len(value) < 4 or len(set(value)) < 2 or _PLACEHOLDER.match(value):
        return 0
    if not (_WORDS.fullmatch(value) and (value.islower() or value.istitle())):
        return len(text)
    sure = "=" in sign or sign.endswith((": ", '"', "'"))
    return len(text) if sure and not _SAID_OF_PASSWORDS.fullmatch(value.lower()) else 0


def _secret_given(text: str) -> int:
    """A name and a value with letters and digits that is no placeholder."""
    found = _GIVEN.search(text)
    value = found[2] if found else ""
    both = any(map(str.isdigit, value)) and any(map(str.isalpha, value))
    return len(text) if both and len(value) >= 6 and not _PLACEHOLDER.match(value) else 0


def _in_url(text: str) -> int:
    """A password within a URL that is no placeholder."""
    value = text[:-1].rpartition(":")[2]
    return 0 if _PLACEHOLDER.match(value) or len(set(value)) < 2 else len(text)


def _mixed(text: str) -> int:
    """Letters and digits, and not the same few over and over."""
    value = text.rpartition("_")[2] if len(text.rpartition("_")[2]) >= 16 else text
    both = any(c.isdigit() for c in value) and any(c.isalpha() for c in value)
    return len(text) if both and entropy(value) >= 2.75 else 0


def _guarded(own: Check) -> Check:
    """Return a check that does not accept what it cannot read: a rule of a user may match it."""

    def guarded(text: str) -> int:
        try:
            return own(text)
        except (IndexError, KeyError, ValueError):
            return 0

    return guarded


_OWN: Mapping[str, Check] = {
    "be_nn": _belgian,
    "card": _card,
    "ipv4": _ipv4,
    "ipv6": _ipv6,
    "mixed": _mixed,
    "nanp": _nanp,
    "nric": _nric,
    "password": _password,
    "password_given": _password_given,
    "phone": _phone,
    "secret": _secret,
    "secret_given": _secret_given,
    "se_pnr": _swedish,
    "url_password": _in_url,
    "vin": _vin,
}

NAMES: tuple[str, ...] = tuple(sorted((*_OWN, *_STDNUM)))
"""Every check that a rule may name."""


def check(name: str) -> Check:
    """Return the check of this name.

    Raises:
        MissingExtra: it needs python-stdnum.
    """
    if name in _OWN:
        return _guarded(_OWN[name])
    try:
        is_valid = importlib.import_module(f"stdnum.{_STDNUM[name]}").is_valid
    except ImportError as e:
        raise MissingExtra(
            f"the check {name} needs python-stdnum: pip install 'tocsin[patterns]'"
        ) from e
    if name == "luhn":
        return lambda text: len(text) if is_valid(_NOT_DIGITS.sub("", text)) else 0
    return lambda text: len(text) if is_valid(text) else 0
