"""Twelve secrets to plant, and what proves that none of them got out.

Plant one wherever something comes in: a prompt, an answer, a header, a comment, a tool's arguments.
Then give everything that was made of it to `assert_clean`: logs, events, metrics, receipts, pages,
the files of a store. `SHAPED` ones have a form that redaction masks wherever it meets them;
`SHAPELESS` ones are content, which derived signals do not hold in any form.

`tests/conftest.py` also looks at what each test of the whole suite printed and logged.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

SHAPED: dict[str, str] = {
    "email": "canary.robin@example.com",
    "phone": "+44 20 7946 0217",
    "card": "4532 0151 1283 0366",
    "iban": "DE44 5001 0517 5407 3249 31",
    "ssn": "536-22-8174",
    "github": "ghp_" + "kQ7wZ2xV9bN4mT6rY1uI8oP3aS5dF0gH2jK4",
    "openai": "sk-proj-" + "Zq8Wm3Xv7Bn2Kt5Rj9Lp4Hs6Dg1Fc0Ya",
    "password": "password=" + "wren-7Tq-hollow-29",
}
"""By the kind of value; one of the built-in patterns finds each."""

SHAPELESS: dict[str, str] = {
    "prompt": "where did the nineteenth plover of Castlebar hide its brass thimble",
    "answer": "beneath the vermilion harmonium, beside four pickled lanterns",
    "arguments": "send forty-one quince trees to the lighthouse keeper of Inishturk",
    "user": "Philomena Quagmire-Thistlewood",
}
"""By where to plant it: the prompt, the answer, the arguments of a tool, the name of a user."""

CANARIES = {**SHAPED, **SHAPELESS}


def _needles(secret: str) -> Iterator[bytes]:
    """Every way in which a secret would be recognised: as it is, escaped, encoded."""
    raw = secret.encode()
    yield raw
    yield secret.casefold().encode()
    yield quote(secret, safe="").encode()
    yield quote(secret).encode()
    yield secret.replace(" ", "+").encode()
    yield json.dumps(secret)[1:-1].encode()
    yield secret.encode("utf-16-le")
    yield raw.hex().encode()
    yield raw.hex().upper().encode()
    yield raw[::-1]
    for shift in range(3):
        # What is sure of the base64, wherever in a longer text the secret begins.
        encoded = base64.b64encode(b"\0" * shift + raw)
        sure = encoded[(0, 2, 3)[shift] + 2 : -4]
        yield sure
        yield sure.replace(b"+", b"-").replace(b"/", b"_")


_NEEDLES = {name: frozenset(_needles(secret)) for name, secret in CANARIES.items()}


def _half(secret: str) -> bytes:
    """The middle of a secret: a cut, or a mask in the wrong place, would leave it."""
    quarter = len(secret) // 4
    return secret[quarter : len(secret) - quarter].encode()


_HALVES = {name: _half(secret) for name, secret in CANARIES.items()}


def found_in(data: bytes) -> list[str]:
    """Name the canaries that can be recognised in some bytes."""
    lower = data.lower()
    return [
        name
        for name in CANARIES
        if any(needle in data for needle in _NEEDLES[name])
        or CANARIES[name].lower().encode() in lower
        or _HALVES[name] in data
    ]


def assert_clean(*things: Any) -> None:
    """Fail where a canary can be recognised in anything that is given.

    Args:
        things: bytes, texts, paths of files, paths of folders with all that is in them, or
            anything else by its `repr`; also lists, tuples and dicts of these.

    Raises:
        AssertionError: names the canary and where it was; never its neighbourhood.
    """
    for where, data in _opened(things, ""):
        names = found_in(data)
        assert not names, f"canaries got out: {', '.join(names)} in {where}"


def _opened(things: Iterable[Any], at: str) -> Iterator[tuple[str, bytes]]:
    for number, thing in enumerate(things):
        where = f"{at}[{number}]"
        if isinstance(thing, bytes | bytearray | memoryview):
            yield where, bytes(thing)
        elif isinstance(thing, str):
            yield where, thing.encode("utf-8", "surrogatepass")
        elif isinstance(thing, Path):
            for file in sorted(thing.rglob("*")) if thing.is_dir() else [thing]:
                yield str(file), str(file).encode("utf-8", "surrogatepass")
                if file.is_file():
                    yield str(file), file.read_bytes()
        elif isinstance(thing, dict):
            yield from _opened([x for item in thing.items() for x in item], where)
        elif isinstance(thing, list | tuple | set | frozenset):
            yield from _opened(list(thing), where)
        else:
            yield where, repr(thing).encode("utf-8", "surrogatepass")


# --------------------------------------------------------------------- what the whole suite printed

_said: list[str] = []


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Look at what a test that passed printed and logged. One that failed may quote its source."""
    if not report.passed:
        return
    for title, text in report.sections:
        names = found_in(text.encode("utf-8", "surrogatepass"))
        if names:
            _said.append(f"{report.nodeid}: {', '.join(names)} in {title}")


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say which test let which canary out."""
    for line in sorted(set(_said)):
        terminalreporter.write_line(f"CANARY {line}", red=True)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail the run where a canary got out, though every test passed."""
    if _said and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
