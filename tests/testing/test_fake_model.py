"""The fake model says what it was told, as its API says it, and fails where it was told to."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import socket
import time
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPException, HTTPResponse
from typing import Any

import pytest

from tocsin.testing.fake_model import Call, Choice, FakeModel, Fault, Reply

PATHS = ["/v1/chat/completions", "/v1/responses", "/v1/messages"]
CHAT = PATHS[0]
SPOKEN = Choice(
    text="All is well; no more than that.",
    reasoning="Let me look.",
    calls=(Call(name="look", arguments='{"at": "the sea"}'),),
)


@contextlib.contextmanager
def answer(fake: FakeModel, path: str = CHAT, **body: Any) -> Iterator[HTTPResponse]:
    client = HTTPConnection(fake.url.removeprefix("http://"), timeout=30)
    try:
        client.request("POST", path, json.dumps({"model": "m"} | body))
        with client.getresponse() as response:
            yield response
    finally:
        client.close()


def whole(reply: Reply, path: str = CHAT, **body: Any) -> bytes:
    with FakeModel(reply) as fake, answer(fake, path, **body) as response:
        return response.read()


def frames(raw: bytes) -> list[Any]:
    parts = raw.decode().split("\n\n")
    assert parts.pop() == ""
    datas = [part.rpartition("data: ")[2] for part in parts]
    return [data if data == "[DONE]" else json.loads(data) for data in datas]


def written(path: str, told: list[Any]) -> dict[str, str]:
    """Join the texts of a stream, by the name of their channel; read by each API's own rules."""
    texts = {"reasoning": "", "text": "", "refusal": "", "arguments": ""}
    for frame in told:
        for channel, text in _texts(path, frame):
            texts[channel] += text
    return texts


def _texts(path: str, frame: Any) -> Iterator[tuple[str, str]]:
    if frame == "[DONE]":
        return
    if path == CHAT:
        for choice in frame["choices"]:
            delta = choice["delta"]
            yield "reasoning", delta.get("reasoning_content") or ""
            yield "text", delta.get("content") or ""
            yield "refusal", delta.get("refusal") or ""
            for call in delta.get("tool_calls", []):
                yield "arguments", call["function"]["arguments"]
        return
    if frame["type"] == "content_block_delta":
        kinds = {"thinking": "reasoning", "text": "text", "partial_json": "arguments"}
        for name, channel in kinds.items():
            yield channel, frame["delta"].get(name, "")
    kinds = {
        "response.reasoning_summary_text.delta": "reasoning",
        "response.output_text.delta": "text",
        "response.refusal.delta": "refusal",
        "response.function_call_arguments.delta": "arguments",
    }
    if frame["type"] in kinds:
        yield kinds[frame["type"]], frame["delta"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("cut", [0, 1, 4, (2, 3, 9)])
def test_every_channel_arrives_in_full_however_it_is_cut(
    path: str, cut: int | tuple[int, ...]
) -> None:
    told = frames(whole(Reply(choices=(SPOKEN,), cut=cut), path, stream=True))
    assert written(path, told) == {
        "reasoning": "Let me look.",
        "text": "All is well; no more than that.",
        "refusal": "",
        "arguments": '{"at": "the sea"}',
    }


@pytest.mark.parametrize("path", PATHS)
def test_pieces_come_as_they_were_given(path: str) -> None:
    reply = Reply(choices=(Choice(text=("one ", "", "two")),))
    raw = whole(reply, path, stream=True)
    texts = [t for f in frames(raw) for c, t in _texts(path, f) if c == "text"]
    assert texts in (["one ", "", "two"], ["", "one ", "", "two", ""])


def test_choices_take_turns_and_each_ends_with_its_own_reason() -> None:
    reply = Reply(choices=(Choice(text="ab", finish="length"), Choice(refusal="no")), cut=1)
    told = frames(whole(reply, stream=True, n=3))
    order = [c["index"] for f in told[:-1] for c in f["choices"]]
    ends = [
        (c["index"], c["finish_reason"])
        for f in told[:-1]
        for c in f["choices"]
        if c["finish_reason"]
    ]
    assert order == [0, 1, 2] * 4
    assert ends == [(0, "length"), (1, "stop"), (2, "length")]
    assert told[-1] == "[DONE]"


def test_usage_is_told_in_a_stream_only_if_asked() -> None:
    reply = Reply(usage=(3, 4))
    plain = frames(whole(reply, stream=True))
    asked = frames(whole(reply, stream=True, stream_options={"include_usage": True}))
    assert not any("usage" in f for f in plain[:-1])
    assert asked[-2]["usage"] == {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
    assert asked[-2]["choices"] == []


def test_logprobs_come_where_they_are_asked_for_or_forced() -> None:
    reply = Reply(choices=(Choice(text="abcd"),), cut=2, logprob=-0.5)
    asked = json.loads(whole(reply, logprobs=True, top_logprobs=2))
    tokens = asked["choices"][0]["logprobs"]["content"]
    assert [(t["token"], t["logprob"], len(t["top_logprobs"])) for t in tokens] == [
        ("ab", -0.5, 2),
        ("cd", -0.5, 2),
    ]
    forced = json.loads(whole(Reply(logprobs=True)))
    assert forced["choices"][0]["logprobs"]["content"] != []
    assert json.loads(whole(reply))["choices"][0]["logprobs"] is None


def test_a_whole_chat_answer_has_every_channel() -> None:
    message = json.loads(whole(Reply(choices=(SPOKEN,))))["choices"][0]["message"]
    assert message["content"] == "All is well; no more than that."
    assert message["reasoning_content"] == "Let me look."
    assert message["tool_calls"][0]["function"] == {
        "name": "look",
        "arguments": '{"at": "the sea"}',
    }


def test_a_whole_responses_answer_equals_what_its_stream_completes_with() -> None:
    reply = Reply(choices=(SPOKEN,))
    last = frames(whole(reply, PATHS[1], stream=True))[-1]
    assert last["type"] == "response.completed"
    assert last["response"] == json.loads(whole(reply, PATHS[1]))
    assert [item["type"] for item in last["response"]["output"]] == [
        "reasoning",
        "message",
        "function_call",
    ]


def test_a_whole_messages_answer_has_its_blocks_in_order() -> None:
    body = json.loads(whole(Reply(choices=(SPOKEN,)), PATHS[2]))
    assert [block["type"] for block in body["content"]] == ["thinking", "text", "tool_use"]
    assert body["content"][2]["input"] == {"at": "the sea"}
    assert body["stop_reason"] == "tool_use"


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (PATHS[1], ("response.incomplete", "content_filter")),
        (PATHS[2], ("message_delta", "refusal")),
    ],
)
def test_a_filtered_answer_ends_in_the_words_of_its_api(path: str, found: tuple[str, str]) -> None:
    reply = Reply(choices=(Choice(text="well", finish="content_filter"),))
    told = frames(whole(reply, path, stream=True))
    if path == PATHS[1]:
        last = told[-1]
        assert (last["type"], last["response"]["incomplete_details"]["reason"]) == found
    else:
        last = told[-2]
        assert (last["type"], last["delta"]["stop_reason"]) == found


def test_half_a_surrogate_pair_is_an_escape() -> None:
    told = whole(Reply(choices=(Choice(text=("\ud83d", "\ude00")),)), stream=True)
    assert rb"\ud83d" in told and rb"\ude00" in told
    assert '"😀"'.encode() in whole(Reply(choices=(Choice(text="😀"),)), stream=True)


@pytest.mark.parametrize("path", PATHS)
def test_extra_fields_are_in_every_frame(path: str) -> None:
    told = frames(whole(Reply(extra={"aside": "psst"}), path, stream=True))
    assert [f["aside"] for f in told if f != "[DONE]"] == ["psst"] * len(
        [f for f in told if f != "[DONE]"]
    )


@pytest.mark.parametrize("path", PATHS)
def test_a_status_brings_the_error_of_the_api(path: str) -> None:
    headers = {"Retry-After": "7"}
    with (
        FakeModel(Reply(status=429, headers=headers)) as fake,
        answer(fake, path, stream=True) as response,
    ):
        assert (response.status, response.headers["Retry-After"]) == (429, "7")
        assert json.loads(response.read())["error"]["message"] == "fake error 429"


def test_raw_frames_come_as_they_are() -> None:
    assert whole(Reply(raw=(b": ping\n\n", b"data: x"), status=200), stream=True) == (
        b": ping\n\ndata: x"
    )


def test_the_model_is_listed_in_the_form_of_who_asks() -> None:
    with FakeModel(models=("one", "two")) as fake:
        found = []
        for headers in ({}, {"anthropic-version": "2023-06-01"}):
            client = HTTPConnection(fake.url.removeprefix("http://"))
            client.request("GET", "/v1/models", headers=headers)
            found.append(json.loads(client.getresponse().read()))
            client.close()
        assert fake.requests == []
    assert [[item["id"] for item in listed["data"]] for listed in found] == [["one", "two"]] * 2
    assert found[0]["data"][0]["object"] == found[1]["data"][0]["type"] == "model"


def test_an_unknown_path_is_not_found() -> None:
    with FakeModel() as fake, answer(fake, "/v1/other") as response:
        assert response.status == 404


def test_requests_are_recorded_decoded() -> None:
    with FakeModel() as fake:
        with answer(fake, "/chat/completions", messages=["hm"]) as response:
            response.read()
        fake.wait(requests=1, ended=1, open=0)
        request = fake.requests[0]
    assert (request.path, request.body) == ("/chat/completions", {"model": "m", "messages": ["hm"]})
    assert request.headers["accept-encoding"] == "identity"
    assert request.came_s <= (request.ended_s or 0.0)


def test_a_script_is_followed_then_the_rule() -> None:
    def rule(exchange: Any) -> Reply:
        return Reply(choices=(Choice(text=exchange.body["say"]),))

    with FakeModel(rule) as fake:
        fake.script(Reply(status=500), Reply(status=503))
        found = []
        for _ in range(3):
            with answer(fake, say="as asked") as response:
                body = json.loads(response.read())
                found.append((response.status, body.get("choices", [{}])[0]))
    assert [status for status, _ in found] == [500, 503, 200]
    assert found[2][1]["message"]["content"] == "as asked"


def test_a_rule_that_fails_fails_the_test() -> None:
    def rule(_: Any) -> Reply:
        raise LookupError("nothing to say")

    with (
        pytest.raises(LookupError, match="nothing to say"),
        FakeModel(rule) as fake,
        pytest.raises(HTTPException),
        answer(fake),
    ):
        pass


def test_one_connection_serves_several_requests() -> None:
    with FakeModel() as fake:
        client = HTTPConnection(fake.url.removeprefix("http://"))
        for stream in (True, False, True):
            client.request("POST", CHAT, json.dumps({"stream": stream}))
            assert client.getresponse().read() != b""
        client.close()
        fake.wait(ended=3, closed=1)
        assert len(fake.connections) == 1


def test_a_request_in_chunks_is_read() -> None:
    with FakeModel() as fake:
        client = HTTPConnection(fake.url.removeprefix("http://"))
        client.request("POST", CHAT, iter([b'{"mod', b'el": "x"}']), encode_chunked=True)
        client.getresponse().read()
        client.close()
        assert fake.requests[0].body == {"model": "x"}


def test_what_is_no_request_is_refused() -> None:
    with FakeModel() as fake, socket.create_connection(("127.0.0.1", _port(fake))) as client:
        client.sendall(b"nonsense\r\n\r\n")
        assert client.recv(100).startswith(b"HTTP/1.1 400 ")


def _port(fake: FakeModel) -> int:
    return int(fake.url.rpartition(":")[2])


# -------------------------------------------------------------------------------------- on the wire


def writes(fake: FakeModel, count: int, **body: Any) -> list[bytes]:
    """Read what comes for each step, on a socket of our own."""
    data = json.dumps(body).encode()
    with socket.create_connection(("127.0.0.1", _port(fake))) as client:
        client.settimeout(30)
        client.sendall(
            b"POST %b HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % (CHAT.encode(), len(data))
        )
        client.sendall(data)
        read = []
        for _ in range(count):
            read.append(client.recv(65_536))
            fake.wait(held=1)
            fake.step()
    return read


def test_each_frame_is_one_write() -> None:
    reply = Reply(choices=(Choice(text="abcd"),), cut=1, stepwise=True)
    expected = frames(whole(Reply(choices=reply.choices, cut=1), stream=True))
    with FakeModel(reply) as fake:
        head, *chunks = writes(fake, 7, model="m", stream=True)
    assert head.endswith(b"Transfer-Encoding: chunked\r\n\r\n")
    assert len(chunks) == 6
    for chunk, frame in zip(chunks, expected, strict=False):
        size, _, data = chunk.partition(b"\r\n")
        assert len(data) == int(size, 16) + 2
        assert frames(data[:-2]) == [frame]


def test_write_bytes_changes_the_chunks_and_not_the_body() -> None:
    text = Choice(text="Grüße, 😀")
    bytewise = Reply(choices=(text,), write_bytes=1)
    with FakeModel(bytewise) as fake:
        with answer(fake, stream=True) as response:
            raw = response.read()
        assert fake.requests[0].written_bytes > 6 * len(raw)
        assert fake.frames == len(frames(raw))
    assert raw == whole(Reply(choices=(text,)), stream=True)


def test_a_timed_reply_records_every_write_and_keeps_its_pauses() -> None:
    reply = Reply(choices=(Choice(text="abc"),), cut=1, pause_ms=(0.0, 40.0), timed=True)
    with FakeModel(reply) as fake:
        with answer(fake, stream=True) as response:
            count = len(frames(response.read()))
        sent_s = fake.requests[0].sent_s
    assert len(sent_s) == count
    assert sent_s == sorted(sent_s)
    assert sent_s[2] - sent_s[1] >= 0.039


def test_gzip_comes_though_identity_was_asked() -> None:
    plain = whole(Reply(), stream=True)
    with FakeModel(Reply(gzip=True)) as fake, answer(fake, stream=True) as response:
        assert response.headers["Content-Encoding"] == "gzip"
        assert gzip.decompress(response.read()) == plain
        assert fake.requests[0].headers["accept-encoding"] == "identity"


# ------------------------------------------------------------------------------------------- faults

PLACES: list[dict[str, Any]] = [{}, {"after_frames": 0}, {"after_frames": 3}, {"after_bytes": 300}]


def received(response: HTTPResponse) -> bytes:
    """Read until the body ends in whatever way."""
    read = b""
    with contextlib.suppress(HTTPException, ConnectionResetError):
        while data := response.read1(65_536):
            read += data
    return read


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", ["cut", "half_close", "reset"])
def test_a_broken_connection_breaks_where_it_was_told(
    kind: Any, place: dict[str, Any], stream: bool
) -> None:
    with FakeModel() as fake:
        with answer(fake, stream=stream) as response:
            good = response.read()
        fake.script(Reply(faults=(Fault(kind="hang", **place), Fault(kind=kind, **place))))
        if not place:
            with pytest.raises((HTTPException, ConnectionResetError)), _stepped(fake, stream):
                pass
        else:
            count = len(b"".join(_parts(good, stream)[: place.get("after_frames", 0)]))
            size = count if "after_frames" in place else min(300, len(good))
            with _stepped(fake, stream, size) as read:
                assert read == good[:size]
        fake.wait(open=0)
        assert fake.ended == 1


def _parts(raw: bytes, stream: bool) -> list[bytes]:
    return [part + b"\n\n" for part in raw.split(b"\n\n")[:-1]] if stream else [raw]


@contextlib.contextmanager
def _stepped(fake: FakeModel, stream: bool, size: int = 0) -> Iterator[bytes]:
    """Read so many bytes, then let the fault that follows strike."""
    client = HTTPConnection(fake.url.removeprefix("http://"), timeout=30)
    try:
        client.request("POST", CHAT, json.dumps({"model": "m", "stream": stream}))
        response = None
        if size:
            response = client.getresponse()
            read = b""
            while len(read) < size:
                read += response.read1(size - len(read))
        fake.wait(held=1)
        fake.step()
        response = response or client.getresponse()
        with response:
            yield (read if size else b"") + received(response)
    finally:
        client.close()


def test_a_reset_is_a_reset() -> None:
    faults = (Fault(kind="hang", after_frames=2), Fault(kind="reset", after_frames=2))
    with FakeModel(Reply(faults=faults)) as fake, answer(fake, stream=True) as response:
        fake.wait(held=1)
        assert response.readline().startswith(b"data: ")
        fake.step()
        fake.wait(open=0)
        with pytest.raises(ConnectionResetError):
            response.read()
    assert fake.gone == 0


def test_a_half_closed_connection_is_still_read() -> None:
    with FakeModel(Reply(faults=(Fault(kind="half_close", after_frames=1),))) as fake:
        with answer(fake, stream=True) as response:
            assert len(frames(received(response))) == 1
            assert (fake.open, fake.gone) == (1, 0)
        fake.wait(open=0, gone=1)


@pytest.mark.parametrize("place", PLACES[1:])
def test_an_unfinished_stream_ends_as_http_wants_it(place: dict[str, Any]) -> None:
    reply = Reply(faults=(Fault(kind="unfinished", **place),))
    good, cut = whole(Reply(), stream=True), whole(reply, stream=True)
    assert good.startswith(cut)
    assert len(cut) == place.get(
        "after_bytes", len(b"".join(_parts(good, True)[: place.get("after_frames", 0)]))
    )


@pytest.mark.parametrize("place", PLACES[1:])
def test_garbage_comes_inside_the_body(place: dict[str, Any]) -> None:
    good = whole(Reply(), stream=True)
    bad = whole(Reply(faults=(Fault(kind="garbage", data=b"\xff\x00", **place),)), stream=True)
    assert bad.count(b"\xff\x00") == 1
    assert bad.replace(b"\xff\x00", b"") == good


def test_babble_is_no_http() -> None:
    with FakeModel(Reply(faults=(Fault(kind="babble", after_frames=1),))) as fake:
        with answer(fake, stream=True) as response, pytest.raises(HTTPException):
            response.read()
        fake.script(Reply(faults=(Fault(kind="babble"),)))
        with pytest.raises(HTTPException), answer(fake, stream=True):
            pass


def test_a_line_has_no_end_for_as_long_as_it_was_told() -> None:
    size = 3 * 65_536 + 5
    reply = Reply(faults=(Fault(kind="line", after_frames=1, size_bytes=size),))
    raw = whole(reply, stream=True)
    assert max(map(len, raw.split(b"\n"))) >= size
    assert len(raw) == size + len(whole(Reply(), stream=True))


def test_an_endless_stream_stops_for_a_client_that_does_not_read() -> None:
    reply = Reply(faults=(Fault(kind="endless", after_frames=3),))
    with FakeModel(reply, send_buffer_bytes=65_536) as fake:
        with answer(fake, stream=True) as response:
            fake.wait(stalled=1)
            stuck = fake.requests[0].accepted_bytes
            response.read(stuck)
            fake.wait(lambda: fake.requests[0].accepted_bytes > stuck)
            left_s = time.monotonic()
        fake.wait(gone=1, open=0)
        assert 0.0 <= (fake.requests[0].gone_s or 0.0) - left_s < 30.0
        assert fake.requests[0].ended_s is None


def test_what_hangs_goes_on_when_released() -> None:
    hang = Reply(faults=(Fault(kind="hang"), Fault(kind="hang", after_frames=2)))
    with FakeModel(hang) as fake:
        fake.release()
        with answer(fake, stream=True) as response:
            assert response.read() == whole(Reply(), stream=True)


@pytest.mark.parametrize("place", PLACES)
def test_a_client_that_leaves_is_seen(place: dict[str, Any]) -> None:
    with FakeModel(Reply(faults=(Fault(kind="hang", **place),))) as fake:
        client = HTTPConnection(fake.url.removeprefix("http://"))
        client.request("POST", CHAT, b'{"stream": true}')
        fake.wait(held=1)
        client.close()
        if place:  # the response holds the socket, too
            del client
        fake.wait(gone=1, open=0, held=0)
        assert fake.requests[0].gone_s == fake.connections[0].gone_s


def test_a_wait_for_what_does_not_happen_ends() -> None:
    with FakeModel() as fake, pytest.raises(TimeoutError, match="requests 0, not 1"):
        fake.wait(requests=1, wait_s=0.01)


# ------------------------------------------------------------------------------- in a loop, at size


def test_many_slow_streams_run_in_one_loop() -> None:
    async def one(fake: FakeModel) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", _port(fake))
        writer.write(b"POST /chat/completions HTTP/1.1\r\nContent-Length: 16\r\n")
        writer.write(b'Connection: close\r\n\r\n{"stream": true}')
        try:
            return await reader.read()
        finally:
            writer.close()
            await writer.wait_closed()

    async def run() -> tuple[set[bytes], int]:
        async with FakeModel(Reply(stepwise=True)) as fake:
            streams = [asyncio.create_task(one(fake)) for _ in range(100)]
            await fake.until(held=100)
            fake.release()
            read = set(await asyncio.gather(*streams))
            await fake.until(ended=100, open=0)
            return read, fake.frames

    read, count = asyncio.run(run())
    assert len(read) == 1
    assert count == 100 * read.pop().count(b"data: ")


def test_a_fake_is_told_over_http_what_to_say() -> None:
    with FakeModel() as fake:
        client = HTTPConnection(fake.url.removeprefix("http://"))
        for path, body in [
            ("/fake/always", b'{"choices": [{"text": ["a", "b"]}], "timed": true}'),
            (CHAT, b'{"stream": true}'),
            ("/fake/script", b'[{"status": 500}]'),
            (CHAT, b"{}"),
            ("/fake/always", b'{"choices": 3}'),
        ]:
            client.request("POST", path, body)
            last = client.getresponse()
            last.read()
        client.request("GET", "/fake/seen")
        seen = json.loads(client.getresponse().read())
        client.close()
    assert last.status == 400
    assert (seen["ended"], seen["open"], len(seen["requests"])) == (2, 1, 2)
    assert len(seen["requests"][0]["sent_s"]) == seen["requests"][0]["frames"] == 5
