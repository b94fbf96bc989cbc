"""The other guards of benchmarks/leaks.py: their versions, environments, settings and processes.

Each is installed into an environment of its own, set up as its documentation says, both as it comes
and at its most protective, and started as a process of its own. Nothing is changed in them.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
import venv
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

KEY = "sk-not-a-secret-000000"
START_S = 120.0
INSTALL_S = 1_200
HOLD_BACK_CHARS = 200
"""For the guard written for LiteLLM: more than the longest of the forbidden words."""

PINS: dict[str, tuple[str, ...]] = {
    "litellm": ("litellm[proxy]==1.109.1",),
    "nemoguardrails": ("nemoguardrails[server]==0.24.1",),
    "openai-guardrails": ("openai-guardrails==0.3.6",),
}

RELAXED: dict[str, tuple[str, ...]] = {
    "litellm": ("certifi>=2026.7", "litellm-proxy-extras>=0.4"),
}
"""Where a package index lags behind, these requirements of a peer are loosened, and the notes say
so: the bundle of root certificates, and LiteLLM's database migrations; neither is used here."""

QUIET = {
    "ANONYMIZED_TELEMETRY": "false",
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_TELEMETRY": "False",
    "LITELLM_LOG": "ERROR",
    "NEMO_GUARDRAILS_NO_USAGE_STATS": "1",
    "NO_PROXY": "127.0.0.1,localhost",
    "OPENAI_AGENTS_DISABLE_TRACING": "1",
    "OPENAI_API_KEY": KEY,
    "OTEL_SDK_DISABLED": "true",
    "TRANSFORMERS_OFFLINE": "1",
}
"""Nothing calls home, and nothing is fetched."""


ALL = ("chat", "responses", "messages")


class CannotStartError(Exception):
    """A guard could not be installed or started; the message says why."""


@dataclass(frozen=True)
class Guard:
    """A guard that answers.

    Args:
        url: without the ``/v1``; empty where it is no server.
        pid: of its process.
        python: of its environment.
    """

    url: str
    pid: int
    python: str


Start = Callable[[Path, str, tuple[str, ...]], contextlib.AbstractContextManager[Guard]]
"""Starts a guard, given a folder for its files, the URL of the model, the forbidden words."""


@dataclass(frozen=True)
class Setting:
    """One way to set up one guard.

    Args:
        who: its name and version.
        how: the setting in words.
        action: what it does on a hit: ``block`` or ``mask``.
        apis: those that it offers.
        start: starts it.
        library: it guards a client, in a process of the reader.
    """

    who: str
    how: str
    action: str
    apis: tuple[str, ...]
    start: Start
    library: bool = False


# ------------------------------------------------------------------------------------ environments

_made: dict[str, Path] = {}


def environment(peer: str, root: Path) -> Path:
    """Install a peer once; return its folder of programs.

    Raises:
        CannotStartError: it cannot be installed.
    """
    if peer not in _made:
        home = root / peer
        python = str(home / "bin" / "python")
        try:
            if not home.is_dir():
                venv.create(home, with_pip=True)
                _install(python, peer, home)
        except (OSError, subprocess.SubprocessError) as e:
            shutil.rmtree(home, ignore_errors=True)
            last = (getattr(e, "stderr", "") or str(e)).strip().splitlines()[-1:]
            raise CannotStartError(f"{peer} was not installed: {' '.join(last)[:300]}") from None
        _made[peer] = home / "bin"
    return _made[peer]


def _install(python: str, peer: str, home: Path) -> None:
    pip = [python, "-m", "pip", "install", "--quiet"]
    try:
        _command([*pip, *PINS[peer]])
    except subprocess.CalledProcessError:
        if peer not in RELAXED:
            raise
        _command([*pip, "uv"])
        relaxed = home / "relaxed.txt"
        relaxed.write_text("\n".join(RELAXED[peer]), encoding="utf-8")
        uv = str(home / "bin" / "uv")
        _command([uv, "pip", "install", "--quiet", "--python", python,
                  "--override", str(relaxed), *PINS[peer]])  # fmt: skip


def relaxed(peer: str) -> bool:
    """Tell whether requirements of a peer had to be loosened."""
    return peer in _made and (_made[peer].parent / "relaxed.txt").is_file()


def _command(words: list[str]) -> None:
    subprocess.run(words, capture_output=True, text=True, check=True, timeout=INSTALL_S)


# -------------------------------------------------------------------------------------- processes


@contextlib.contextmanager
def process(
    words: list[str], folder: Path, port: int, ready: str, more: dict[str, str] | None = None
) -> Iterator[Guard]:
    """Start a server, wait until it answers, and stop it afterwards.

    Raises:
        CannotStartError: it ended, or does not answer in time; with the end of what it wrote.
    """
    log = folder / "log.txt"
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV"))}
    with log.open("wb") as out:
        started = subprocess.Popen(
            words,
            cwd=folder,
            env=clean | QUIET | (more or {}),
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        url = f"http://127.0.0.1:{port}"
        _wait(started, url + ready, log)
        yield Guard(url=url, pid=started.pid, python=words[0])
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(started.pid, signal.SIGTERM)
        try:
            started.wait(10)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(started.pid, signal.SIGKILL)
            started.wait(10)


def _wait(started: subprocess.Popen[bytes], url: str, log: Path) -> None:
    until = time.monotonic() + START_S
    while time.monotonic() < until:
        if started.poll() is not None:
            break
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=2):  # noqa: S310
            return
        time.sleep(0.2)
    told = " ".join(log.read_text(errors="replace").split()[-60:])
    raise CannotStartError(f"{started.args!r:.80} did not start: {told[-600:]}")


def free_port() -> int:
    """Find a port that is free now."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


# ------------------------------------------------------------------------------------------ raw


@contextlib.contextmanager
def start_raw(folder: Path, upstream: str, words: tuple[str, ...]) -> Iterator[Guard]:
    """Start the pass-through of aiohttp."""
    del words
    port = free_port()
    script = str(Path(__file__).with_name("passthrough.py"))
    command = [sys.executable, script, upstream, str(port)]
    with process(command, folder, port, "/ready") as guard:
        yield guard


# --------------------------------------------------------------------------------------- tocsin


_TOCSIN_RULES = """
[[rule]]
id = "forbidden"
words = {words}
"""


def start_tocsin(action: str, *more: dict[str, Any]) -> Start:
    """Give what starts our own gateway, the built-in rules and the forbidden words in it.

    Args:
        action: what follows from a finding: ``halt`` or ``mask``.
        more: further checks.
    """

    @contextlib.contextmanager
    def start(folder: Path, upstream: str, words: tuple[str, ...]) -> Iterator[Guard]:
        program = [sys.executable, "-m", "tocsin", "serve"]
        known = subprocess.run([*program, "--help"], capture_output=True, check=False)
        if known.returncode:
            raise CannotStartError("this version of tocsin has no `serve`")
        rules = _TOCSIN_RULES.format(words=json.dumps(words))
        (folder / "rules.toml").write_text(rules, encoding="utf-8")
        port = free_port()
        check = {"verifier": "patterns:rules.toml", "findings": {"*": action}}
        config = {
            "listen": {"port": port},
            "open_to_all": True,
            "upstreams": {"fake": {"url": f"{upstream}/v1", "speaks": list(ALL), "key": KEY}},
            "routes": [{"name": "all"}],
            "policies": {"default": {"checks": [check, *more]}},
        }
        # JSON is YAML.
        (folder / "tocsin.yaml").write_text(json.dumps(config), encoding="utf-8")
        command = [*program, "tocsin.yaml", "--metrics", "off"]
        mine = {k: v for k, v in os.environ.items() if k == "PYTHONPATH"}
        with process(command, folder, port, "/readyz", mine) as guard:
            yield guard

    return start


# -------------------------------------------------------------------------------------- litellm

_LITELLM_GUARD = '''
"""A guard of our own for LiteLLM, written as its documentation of custom guardrails says."""
from fastapi import HTTPException
from litellm.integrations.custom_guardrail import CustomGuardrail

WORDS = {words!r}
HOLD_BACK_CHARS = {hold}


def _arguments(call):
    function = call.get("function") if isinstance(call, dict) else getattr(call, "function", None)
    if function is None:
        return ""
    told = function.get("arguments") if isinstance(function, dict) else function.arguments
    return told or ""


def _forbidden(inputs):
    texts = list(inputs.get("texts") or [])
    texts += [_arguments(call) for call in inputs.get("tool_calls") or []]
    return any(word in text for word in WORDS for text in texts)


class Blocks(CustomGuardrail):
    async def apply_guardrail(self, inputs, request_data, input_type, logging_obj=None):
        if _forbidden(inputs):
            raise HTTPException(status_code=400, detail="a forbidden word")
        return inputs


class Holds(CustomGuardrail):
    streaming_buffer_until_moderated = True

    # Not inherited: LiteLLM looks for it in the class itself.
    async def apply_guardrail(self, inputs, request_data, input_type, logging_obj=None):
        if _forbidden(inputs):
            self.raise_passthrough_exception("a forbidden word", request_data)
        return inputs


class Masks(CustomGuardrail):
    streaming_transform_mode = "incremental_diff"

    async def apply_guardrail(self, inputs, request_data, input_type, logging_obj=None):
        masked = []
        for text in inputs.get("texts") or []:
            for word in WORDS:
                text = text.replace(word, "[masked]")
            masked.append(text)
        for call in inputs.get("tool_calls") or []:
            told = _arguments(call)
            for word in WORDS:
                told = told.replace(word, "[masked]")
            if isinstance(call, dict):
                call["function"]["arguments"] = told
            elif call.function is not None:
                call.function.arguments = told
        inputs["texts"] = masked
        inputs["stream_holdback_chars"] = [HOLD_BACK_CHARS] * len(masked)
        return inputs
'''


def _litellm(root: Path, guardrail: Callable[[tuple[str, ...]], dict[str, Any]]) -> Start:
    @contextlib.contextmanager
    def start(folder: Path, upstream: str, words: tuple[str, ...]) -> Iterator[Guard]:
        programs = environment("litellm", root)
        guard = _LITELLM_GUARD.format(words=words, hold=HOLD_BACK_CHARS)
        (folder / "own_guard.py").write_text(guard, encoding="utf-8")
        openai = {"model": "openai/fake-model", "api_base": f"{upstream}/v1", "api_key": KEY}
        anthropic = {"model": "anthropic/fake-claude", "api_base": upstream, "api_key": KEY}
        config = {
            "model_list": [
                {"model_name": "fake-model", "litellm_params": openai},
                {"model_name": "fake-claude", "litellm_params": anthropic},
            ],
            "litellm_settings": {"telemetry": False, "num_retries": 0},
            "general_settings": {"master_key": KEY},
            "guardrails": [
                {
                    "guardrail_name": "forbidden",
                    "litellm_params": {"default_on": True, **guardrail(words)},
                }
            ],
        }
        # JSON is YAML.
        (folder / "config.yaml").write_text(json.dumps(config), encoding="utf-8")
        port = free_port()
        command = [str(programs / "litellm"), "--config", "config.yaml", "--host", "127.0.0.1",
                   "--port", str(port), "--telemetry", "False"]  # fmt: skip
        with process(command, folder, port, "/health/liveliness") as started:
            yield started

    return start


def _content_filter(action: str) -> Callable[[tuple[str, ...]], dict[str, Any]]:
    def made(words: tuple[str, ...]) -> dict[str, Any]:
        return {
            "guardrail": "litellm_content_filter",
            "mode": ["pre_call", "during_call", "post_call"],
            "blocked_words": [{"keyword": word, "action": action} for word in words],
        }

    return made


def _own_guard(name: str) -> Callable[[tuple[str, ...]], dict[str, Any]]:
    return lambda _: {"guardrail": f"own_guard.{name}", "mode": "post_call"}


# ----------------------------------------------------------------------------------------- nemo


def _nemo(root: Path, streaming: dict[str, Any], more: dict[str, str]) -> Start:
    @contextlib.contextmanager
    def start(folder: Path, upstream: str, words: tuple[str, ...]) -> Iterator[Guard]:
        programs = environment("nemoguardrails", root)
        config = {
            "models": [
                {
                    "type": "main",
                    "engine": "openai",
                    "model": "fake-model",
                    "parameters": {"base_url": f"{upstream}/v1", "api_key": KEY},
                }
            ],
            # Without it the server takes no tools, and rewrites the prompt for a dialogue.
            "passthrough": True,
            "rails": {
                "config": {"regex_detection": {"output": {"patterns": list(words)}}},
                "output": {
                    "flows": ["regex check output"],
                    "streaming": {"enabled": True, **streaming},
                },
            },
        }
        home = folder / "configs" / "forbidden"
        home.mkdir(parents=True)
        (home / "config.yml").write_text(json.dumps(config), encoding="utf-8")
        port = free_port()
        command = [str(programs / "nemoguardrails"), "server", "--config", str(home.parent),
                   "--port", str(port), "--default-config-id", "forbidden",
                   "--disable-chat-ui"]  # fmt: skip
        with process(command, folder, port, "/healthz", more) as started:
            yield started

    return start


# ---------------------------------------------------------------------------- openai-guardrails


def _openai_guardrails(
    root: Path,
) -> Start:
    @contextlib.contextmanager
    def start(folder: Path, upstream: str, words: tuple[str, ...]) -> Iterator[Guard]:
        programs = environment("openai-guardrails", root)
        stage = {
            "version": 1,
            "guardrails": [{"name": "Keyword Filter", "config": {"keywords": list(words)}}],
        }
        config = json.dumps({"version": 1, "output": stage})
        (folder / "config.json").write_text(config, encoding="utf-8")
        yield Guard(url=upstream, pid=0, python=str(programs / "python"))

    return start


# -------------------------------------------------------------------------------------- settings


def settings(root: Path) -> list[Setting]:
    """List the settings, those of a guard beside each other.

    Args:
        root: where the environments are made.
    """
    litellm, nemo = "LiteLLM 1.109.1", "NeMo Guardrails 0.24.1"
    held = {"stream_first": False}
    new = {"NEMO_GUARDRAILS_IORAILS_ENGINE": "1"}
    linear = {
        "verifier": "linear:harmful_answer",
        "calibration": "demonstration",
        "epsilon": 0.05,
        "on_alarm": "shadow",
    }
    return [
        Setting("Tocsin", "patterns", "block", ALL, start_tocsin("halt")),
        Setting("Tocsin", "patterns", "mask", ALL, start_tocsin("mask")),
        Setting("Tocsin", "patterns and linear", "block", ALL, start_tocsin("halt", linear)),
        Setting(litellm, "content filter", "block", ALL, _litellm(root, _content_filter("BLOCK"))),
        Setting(litellm, "content filter", "mask", ALL, _litellm(root, _content_filter("MASK"))),
        Setting(litellm, "custom, as it comes", "block", ALL, _litellm(root, _own_guard("Blocks"))),
        Setting(litellm, "custom, held to the end", "block", ALL,
                _litellm(root, _own_guard("Holds"))),
        Setting(litellm, "custom, incremental_diff", "mask", ALL,
                _litellm(root, _own_guard("Masks"))),
        Setting(nemo, "regex rail, as it comes", "block", ("chat",), _nemo(root, {}, {})),
        Setting(nemo, "regex rail, stream_first off", "block", ("chat",), _nemo(root, held, {})),
        Setting(nemo, "the same, IORails engine", "block", ("chat",), _nemo(root, held, new)),
        Setting("openai-guardrails 0.3.6", "keyword filter", "block", ("chat", "responses"),
                _openai_guardrails(root), library=True),
    ]  # fmt: skip


def scratch() -> tempfile.TemporaryDirectory[str]:
    """Make a folder that goes away, environments and all."""
    return tempfile.TemporaryDirectory(prefix="tocsin-leaks-")
