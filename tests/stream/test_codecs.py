"""The table of codecs."""

from __future__ import annotations

import subprocess
import sys
from typing import Any, cast

import pytest

from tocsin.stream.codecs import CODECS
from tocsin.stream.events import APIS, Api, Asked, Broken
from tocsin.stream.shapes import count, identifier


def test_each_api_has_its_codec() -> None:
    assert tuple(CODECS) == APIS
    assert len(CODECS) == 3
    assert [CODECS[api].api for api in APIS] == list(APIS)
    assert [CODECS[api].in_order for api in APIS] == [False, True, True]


def test_an_unknown_api_has_none() -> None:
    with pytest.raises(KeyError):
        CODECS[cast("Any", "codecs")]


def test_a_codec_is_loaded_when_it_is_asked_for() -> None:
    code = (
        "import sys; from tocsin.stream.codecs import CODECS; before = set(sys.modules); "
        "CODECS['chat']; print(*sorted(m for m in ('chat', 'responses', 'messages') "
        "if 'tocsin.stream.' + m in set(sys.modules) - before))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "chat\n"


@pytest.mark.parametrize("api", APIS)
def test_half_a_character_for_a_name_in_a_frame_of_an_sdk_raises_nothing(api: Api) -> None:
    events = CODECS[api].decoder(Asked(api=api, model="m")).take({"type": "x", "\ud83d": 1})
    assert [event for event in events if not isinstance(event, Broken)] == []


@pytest.mark.parametrize("value", ["a", "gpt-4o:2024/x@y+z.1_2", "A" * 256])
def test_an_identifier_is_passed_on(value: str) -> None:
    assert value == identifier(value)


@pytest.mark.parametrize(
    "value", ["", "a b", "a\n", "é", "A" * 257, 7, None, ["a"], "<x>", '"', "\ud83d"]
)
def test_what_is_no_identifier_is_not(value: Any) -> None:
    assert identifier(value) == ""


@pytest.mark.parametrize("value", [-1, 2**53, True, 1.0, "1", None, 10**400])
def test_what_is_no_count_is_not(value: Any) -> None:
    assert count(value) is None
    assert (count(0), count(2**53 - 1)) == (0, 2**53 - 1)
