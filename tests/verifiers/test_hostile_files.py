"""A file that cannot be used is an error of the user's, with its name, never a fault of ours."""

from __future__ import annotations

from pathlib import Path

import pytest

from tocsin.errors import InputError
from tocsin.verifiers.reading import is_there, read_whole
from tocsin.verifiers.registry import verifier

KINDS = ("patterns", "linear", "remote", "onnx", "combined", "cascade")
CONTENTS = {
    "empty object": b"{}",
    "not utf-8": b"\xff\xfe",
    "a huge number": b"a = " + b"9" * 5_000,
    "a huge number in JSON": b'{"schema": ' + b"9" * 5_000 + b"}",
    "infinity": b'{"schema": 1e999}',
    "nested": b"a = " + b"[" * 20_000,
    "nested JSON": b'{"members":' * 20_000,
    "a key twice": b'{"schema": "x", "schema": "y"}',
    "zero bytes": bytes(100),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
def test_content_that_is_none_is_refused(tmp_path: Path, kind: str, content: bytes) -> None:
    place = tmp_path / ("tocsin.toml" if kind == "onnx" else "file")
    place.write_bytes(content)
    with pytest.raises(InputError, match=r"tocsin\.toml|file"):
        verifier(f"{kind}:{tmp_path if kind == 'onnx' else place}")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["a\0b", "a/\0", "x" * 5_000, "/" + "x" * 5_000, "\udcff", "~"])
def test_a_name_of_no_file_is_refused(kind: str, name: str) -> None:
    with pytest.raises(InputError):
        verifier(f"{kind}:{name}")


def test_no_more_is_read_than_is_allowed() -> None:
    with pytest.raises(InputError, match=r"cannot be it '/dev/zero' has more than 1,000 bytes"):
        read_whole("/dev/zero", 1_000, "cannot be it")


def test_a_name_that_can_be_none_is_not_there() -> None:
    assert not is_there("x" * 5_000)
    assert not is_there("a\0b")
    assert is_there(__file__)
