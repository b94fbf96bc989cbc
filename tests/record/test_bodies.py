"""A body is read within its size and its time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from tocsin.record.bodies import read_body


class Payload:
    """Gives parts, then what comes after them."""

    def __init__(self, parts: Sequence[bytes], then: BaseException | None = None) -> None:
        self.left = list(parts)
        self._then = then

    async def readany(self) -> bytes:
        if self.left:
            return self.left.pop(0)
        if self._then is not None:
            raise self._then
        return b""


class Silent(Payload):
    """Gives parts, and never an end."""

    async def readany(self) -> bytes:
        return self.left.pop(0) if self.left else await asyncio.Future()


def read(
    payload: Payload, said: int | None = None, bytes_max: int = 6, body_ms: int = 60_000
) -> Any:
    headers = {} if said is None else {"content-length": str(said)}
    content: Any = payload
    request = make_mocked_request("POST", "/", headers=headers, payload=content)
    return asyncio.run(read_body(request, bytes_max, body_ms))


@pytest.mark.parametrize(
    ("parts", "whole"), [([], b""), ([b"abc"], b"abc"), ([b"abc", b"def"], b"abcdef")]
)
def test_a_body_comes_whole(parts: list[bytes], whole: bytes) -> None:
    assert read(Payload(parts)) == whole


def test_a_body_that_says_it_is_too_large_is_not_read() -> None:
    payload = Payload([b"abc"])
    assert read(payload, said=7) == "too_large"
    assert payload.left == [b"abc"]


def test_a_body_that_turns_out_too_large_is_read_no_further() -> None:
    payload = Payload([b"abcd", b"efg", b"h"])
    assert read(payload) == "too_large"
    assert payload.left == [b"h"]


def test_a_body_that_does_not_end_in_time_is_late() -> None:
    assert read(Silent([b"abc"]), body_ms=1) == "late"


def test_a_body_that_breaks_off_is_broken() -> None:
    assert read(Payload([b"abc"], web.RequestPayloadError("cut"))) == "broken"


def test_words_of_ours_in_a_body_are_a_body() -> None:
    assert read(Payload([b"late"])) == b"late"
