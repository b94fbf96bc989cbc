"""The configuration file: a configuration or `InputError`, nothing else; no secret in an error."""

from __future__ import annotations

import copy
import json
from typing import Any

from fuzz.dice import Dice
from fuzz.spoiling import SECRET, spoil
from tocsin.errors import InputError
from tocsin.gateway.config_file import parse
from tocsin.limits import GATEWAY_COMPLAINTS_MAX

_ENVIRONMENT = {"KEY": SECRET, "EMPTY": ""}
_SPOILED = (
    "${KEY}",
    "${KEY:-x}",
    "${NONE}",
    "${NONE:-x}",
    "$$",
    "${",
    "${EMPTY:-}",
    "012",
    "12:30",
)
_RIGHT: dict[str, Any] = {
    "listen": {"host": "${HOST:-127.0.0.1}", "port": 80},
    "upstreams": {"a": {"url": "https://a.example", "speaks": ["chat"], "key": "${KEY}"}},
    "routes": [{"name": "r", "models": ["*"], "fallback": {"upstream": "a", "model": "m"}}],
    "policies": {
        "p": {
            "checks": [{"verifier": "patterns", "findings": {"*": "halt"}, "alarm_below": 0.5}],
            "pass": ["verifier_failed"],
            "hold": "window",
        }
    },
    "tenants": {"t": {"keys": ["sha256:00"], "routes": ["r"], "streams_max": 1}},
    "record": {"store": "${KEY}", "keys": "keys", "log": "gateway.example/log", "period_s": 60},
}


def one(data: bytes) -> None:
    """Check one input."""
    dice = Dice(data)
    file = dice.one(("a.yaml", "a.toml"))
    if dice.flag():
        made = [copy.deepcopy(_RIGHT)]
        spoil(dice, made, most=3)
        text = json.dumps(made[0] if made else None, indent=dice.one((None, 1)))
        for _ in dice.some(3):
            at = (dice.below(256) * 256 + dice.below(256)) % len(text)
            text = text[:at] + dice.one(_SPOILED) + text[at + dice.below(3) :]
        file = "a.yaml"
    else:
        text = dice.rest().decode("utf-8", "replace")
    try:
        parse(text, file, _ENVIRONMENT)
    except InputError as error:
        message = str(error)
        assert message.startswith(file)
        assert message.count("\n") <= GATEWAY_COMPLAINTS_MAX + 2 + message.count("\\n")
        if SECRET not in text:
            assert SECRET not in message
