"""Recordings are said again as they were, and ring where their README says."""

from __future__ import annotations

import json
import math
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

import tocsin
from tocsin.testing import recordings
from tocsin.testing.fake_model import FakeModel
from tocsin.verifiers import linear
from tocsin.verifiers.linear.verifier import LinearVerifier

ALARM_TOKENS = {"robot": 92, "witch": 80}


def ask(url: str, path: str, body: dict[str, Any]) -> bytes:
    client = HTTPConnection(url.removeprefix("http://"), timeout=30)
    client.request("POST", path, json.dumps(body))
    raw = client.getresponse().read()
    client.close()
    return raw


def test_every_recording_is_whole_and_small() -> None:
    found = [recordings.load(name) for name in recordings.names()]
    assert [one.name for one in found] == list(recordings.names())
    assert len(found) == 6
    for one in found:
        assert len(one.pieces) == len(one.delays_ms) <= 200
        assert min(one.delays_ms) >= 0.0
        assert all(one.pieces)


@pytest.mark.parametrize("name", recordings.names())
def test_the_demonstration_rings_where_the_readme_says(name: str) -> None:
    recording = recordings.load(name)
    calibration = tocsin.load(linear.demonstration("harmful_answer"))
    verifier = tocsin.verifier("linear:harmful_answer")
    assert isinstance(verifier, LinearVerifier)
    watched = verifier.open(tocsin.Context())
    alarm = tocsin.Monitor(calibration, epsilon=0.1).session()
    deltas = [tocsin.Delta(text=piece) for piece in recording.pieces]
    rung = None
    for number, delta in enumerate([*deltas, tocsin.Delta(text="", ends="turn")], 1):
        for said in watched.feed(delta):
            assert isinstance(said, tocsin.Score)
            if alarm.step(said.value).alarm and rung is None:
                rung = number
    assert rung == ALARM_TOKENS.get(name)


@pytest.mark.parametrize("name", ["lost_card", "say_again"])
def test_personal_data_is_said_in_the_middle(name: str) -> None:
    text = recordings.load(name).text
    for literal in ("jo@mail.example", "4111 1111 1111 1111"):
        assert text.count(literal) == 1
        assert not text.startswith(literal) and not text.endswith(literal)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "PROMPT"}]}),
        (
            "/v1/messages",
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "PROMPT"}]}]},
        ),
        ("/v1/responses", {"input": "PROMPT"}),
        (
            "/v1/responses",
            {"input": [{"role": "user", "content": [{"type": "input_text", "text": "PROMPT"}]}]},
        ),
    ],
)
def test_a_prompt_gets_its_answer_on_every_api(path: str, body: dict[str, Any]) -> None:
    robot = recordings.load("robot")
    asked = json.loads(json.dumps(body).replace("PROMPT", robot.prompt))
    with FakeModel(recordings.replayed(speed=math.inf)) as fake:
        raw = ask(fake.url, path, asked)
        other = ask(fake.url, path, body)
    assert json.dumps(robot.text, ensure_ascii=False).encode() in raw
    assert b"I only know what was recorded" in other


@pytest.mark.parametrize(
    "body", [{}, {"messages": 3}, {"messages": [3]}, {"input": [{"role": "user"}]}, {"input": None}]
)
def test_a_strange_request_is_told_what_is_known(body: dict[str, Any]) -> None:
    with FakeModel(recordings.replayed()) as fake:
        assert b"Why is the sky blue?" in ask(fake.url, "/v1/chat/completions", body)


def test_pieces_come_one_by_one_after_their_delays() -> None:
    recording = recordings.load("lost_card")
    reply = recording.reply(speed=2.0)
    assert reply.choices[0].text == recording.pieces
    assert reply.pause_ms == tuple(delay / 2.0 for delay in recording.delays_ms)
    with FakeModel(recordings.replayed(recording, speed=100.0)) as fake:
        body = {"messages": [{"role": "user", "content": recording.prompt}], "stream": True}
        frames = ask(fake.url, "/v1/chat/completions", body).decode().split("\n\n")[1:-3]
    deltas = [
        json.loads(frame.removeprefix("data: "))["choices"][0]["delta"]["content"]
        for frame in frames
    ]
    assert tuple(deltas) == recording.pieces


def test_what_is_no_recording_is_refused(tmp_path: Path) -> None:
    good = recordings.load("sky")
    path = tmp_path / "bad.json"
    for text in ("", "[]", json.dumps({"name": "x"})):
        path.write_text(text)
        with pytest.raises(tocsin.InputError, match="no recording"):
            recordings.read(path)
    fields = {
        "name": "bad",
        "prompt": good.prompt,
        "model": good.model,
        "sampling": good.sampling,
        "finish": "stop",
        "pieces": ["a", "b"],
        "delays_ms": [1.0],
    }
    path.write_text(json.dumps(fields))
    with pytest.raises(tocsin.InputError, match="2 pieces and 1 delays"):
        recordings.read(path)
    with pytest.raises(tocsin.InputError, match="no recording 'other'"):
        recordings.load("other")
    with pytest.raises(tocsin.InputError, match="no recording"):
        recordings.read(tmp_path / "missing.json")
    for speed in (0.0, -1.0, math.nan):
        with pytest.raises(tocsin.InputError, match="not above 0"):
            good.reply(speed)
