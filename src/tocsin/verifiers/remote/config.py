"""The configuration of a remote verifier: a TOML file, checked before anything is asked."""

from __future__ import annotations

import hashlib
import ipaddress
import math
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec

from tocsin import limits
from tocsin.errors import InputError
from tocsin.stream.steps import StepDefinition
from tocsin.verifiers.reading import read_whole
from tocsin.verifiers.remote.breaker import BreakerConfig
from tocsin.verifiers.remote.chat import Judge, LlamaGuard, Qwen3Guard, Safeguard
from tocsin.verifiers.remote.heads import Classify, CrossEncoder, Reward

Guard = LlamaGuard | Qwen3Guard | Safeguard | Judge | Classify | CrossEncoder | Reward
"""Every dialect; which one it is, is said by ``dialect`` in the table ``[guard]``."""

DIALECTS = ("llama_guard", "qwen3guard", "safeguard", "judge", "classify", "score", "pooling")

FORMAT = 1
"""Counted up whenever the same configuration would send or read something else."""

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")

_TEXT_FILES = (("policy_file", "policy"), ("prompt_file", "prompt"))


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long, how much and how many at once.

    Args:
        deadline_ms: longest wait for the score of a step, time in the queue included.
        concurrency: calls under way at once.
        queue: steps that may wait for a call; one more is ``overloaded``.
        batch: texts in one call, where the dialect takes several.
        prefix_chars: how many characters of the response are judged, the last ones.
        conversation_chars: how many characters of the conversation are sent, the last ones.
        too_long: what becomes of a longer text: it is cut on the left, or its score is unknown.
    """

    deadline_ms: int = 5_000
    concurrency: int = 8
    queue: int = 256
    batch: int = 32
    prefix_chars: int = 16_384
    conversation_chars: int = 16_384
    too_long: Literal["truncate", "unknown"] = "truncate"


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A configuration file.

    Args:
        url: the endpoint that is asked, with its path.
        model: the model's name at the server.
        version: of the model's weights; change it when they change.
        guard: the dialect and its options.
        name: name of the verifier in scores and calibrations; the model's where not given.
        steps: what one step is.
        sees: what is judged at a step: the response so far, or the step alone.
        api_key_env: the environment variable that holds the key; sent as a bearer token.
        allow_http: plain HTTP may leave this machine.
        limits, breaker: see there.
    """

    url: str
    model: str
    version: str
    guard: Guard
    name: str = ""
    steps: str = "sentence"
    sees: Literal["prefix", "step"] = "prefix"
    api_key_env: str = ""
    allow_http: bool = False
    limits: Limits = Limits()
    breaker: BreakerConfig = BreakerConfig()

    def identity(self) -> str:
        """Give the version that scores depend on: that of the weights and a digest of the rest."""
        rest = (
            FORMAT,
            self.model,
            self.guard,
            self.sees,
            self.limits.prefix_chars,
            self.limits.conversation_chars,
            self.limits.too_long,
        )
        digest = hashlib.sha256(msgspec.json.encode(rest, order="deterministic")).hexdigest()
        return f"{self.version}+{digest[:12]}"


def load(path: str) -> Config:
    """Read and check a configuration.

    Raises:
        InputError: with the file, the key and what to do.
    """
    if not path:
        raise InputError("verifier 'remote' needs a configuration; write remote:CONFIG.toml")
    text = _text(Path(path), "the configuration of a remote verifier")
    try:
        raw = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError: also a number that is huge
        raise InputError(f"{path}: no TOML: {error}") from None
    return parse(raw, path)


def parse(raw: dict[str, Any], path: str) -> Config:
    """Check a configuration that has been read; files that it names lie beside `path`.

    Raises:
        InputError: with the file, the key and what to do.
    """
    if isinstance(raw.get("guard"), dict):
        raw = raw | {"guard": _with_files(raw["guard"], Path(path))}
        if raw["guard"].get("dialect") not in DIALECTS:
            raise InputError(f"{path}: guard.dialect: use one of {', '.join(DIALECTS)}")
    try:
        config = msgspec.convert(raw, Config)
    except msgspec.ValidationError as error:
        raise InputError(
            f"{path}: {str(error).replace('$.', '')}; the keys and their meanings are in "
            "docs/how-to/remote-verifier.md"
        ) from None
    complaint = (
        _of_texts(config)
        or _of_url(config)
        or _of_numbers(config)
        or (f"guard.{said}" if (said := config.guard.complaint()) else "")
    )
    if complaint:
        raise InputError(f"{path}: {complaint}")
    try:
        StepDefinition.parse(config.steps)
    except InputError as error:
        raise InputError(f"{path}: steps: {error}") from None
    return config


def api_key(config: Config, path: str, environment: Mapping[str, str] | None = None) -> str:
    """Look up the key, without ever naming it.

    Raises:
        InputError: the variable is not set, or holds what no header can.
    """
    if not config.api_key_env:
        return ""
    if not _VARIABLE.fullmatch(config.api_key_env):
        raise InputError(
            f"{path}: api_key_env: this is no name of an environment variable; put the key into "
            "one, and its name here"
        )
    environment = os.environ if environment is None else environment
    key = environment.get(config.api_key_env, "")
    if not key:
        raise InputError(
            f"{path}: api_key_env: the environment variable {config.api_key_env} is not set"
        )
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise InputError(
            f"{path}: api_key_env: the environment variable {config.api_key_env} holds white "
            "space or characters that are not ASCII, which no key has"
        )
    return key


def _text(path: Path, what: str) -> str:
    try:
        return read_whole(path, limits.REMOTE_CONFIG_BYTES_MAX, what).decode()
    except UnicodeDecodeError:
        raise InputError(f"{path}: {what} is not UTF-8") from None


def _with_files(guard: dict[str, Any], path: Path) -> dict[str, Any]:
    """Put the text of a file that is named in the place of its name."""
    made = dict(guard)
    for key, target in _TEXT_FILES:
        if isinstance(made.get(key), str):
            if target in made:
                raise InputError(f"{path}: guard.{key}: give {target} or {key}, not both")
            made[target] = _text(path.parent / made.pop(key), f"guard.{key}")
    return made


def _of_texts(config: Config) -> str:
    for key in ("model", "version"):
        value = getattr(config, key)
        if not value.strip() or not value.isprintable():
            return f"{key}: it is empty or not printable"
    return "" if config.name.isprintable() else "name: it is not printable"


def _of_url(config: Config) -> str:
    try:
        parts = urlsplit(config.url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return "url: it is no URL; write it as https://guard.example.com/v1/chat/completions"
    if parts.scheme not in {"http", "https"} or not host or not config.url.isprintable():
        return "url: begin with https:// (or http://) and a host"
    if parts.username is not None or parts.password is not None:
        return "url: it holds a user or password; name the key's variable in api_key_env instead"
    if parts.fragment or " " in config.url:
        return "url: leave out '#' and spaces"
    if parts.scheme == "http" and not (config.allow_http or _is_loopback(host)):
        return (
            f"url: http to {host} would send what is judged, and the key, unencrypted; use https, "
            "or set allow_http = true where the network is trusted"
        )
    return ""


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _of_numbers(config: Config) -> str:
    for key, most in (
        ("deadline_ms", limits.REMOTE_DEADLINE_MS_MAX),
        ("concurrency", limits.REMOTE_CALLS_MAX),
        ("queue", limits.REMOTE_QUEUE_MAX),
        ("batch", limits.REMOTE_BATCH_MAX),
        ("prefix_chars", limits.REMOTE_CHARS_MAX),
        ("conversation_chars", limits.REMOTE_CHARS_MAX),
    ):
        if not 1 <= getattr(config.limits, key) <= most:
            return f"limits.{key}: {getattr(config.limits, key)} is not within 1 to {most}"
    if not 1 <= config.breaker.failures <= limits.REMOTE_BREAKER_CALLS_MAX:
        return f"breaker.failures: use 1 to {limits.REMOTE_BREAKER_CALLS_MAX}"
    for key in ("window_s", "pause_s"):
        value = getattr(config.breaker, key)
        if not (math.isfinite(value) and 0 < value <= 3_600):
            return f"breaker.{key}: {value!r} is not within 0 to 3600 seconds"
    return ""
