"""Configurations that tests share, and a short way to change them."""

from __future__ import annotations

import copy
import json
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tocsin.errors import InputError
from tocsin.gateway.building import Built, built
from tocsin.gateway.config_file import read

SHORT = textwrap.dedent(
    """\
    upstreams:
      main: {url: "https://models.example/v1", key: "${MODEL_KEY}"}
    open_to_all: true
    routes:
      - {name: all}
    policies:
      default:
        checks:
          - {verifier: "linear:harmful_answer", calibration: demonstration, epsilon: 0.1}
    """
)
"""A whole, useful file."""

SECRET = "sk-very-secret-0123456789"  # noqa: S105 - of nobody
ENVIRONMENT = {"MODEL_KEY": SECRET}
HASH = "sha256:" + "ab" * 32

LINEAR: dict[str, Any] = {"verifier": "linear:harmful_answer", "alarm_below": 0.2}
RULES: dict[str, Any] = {"verifier": "patterns", "findings": {"email": "mask", "*": "halt"}}

BASE: dict[str, Any] = {
    "upstreams": {"main": {"url": "https://models.example/v1", "key": "${MODEL_KEY}"}},
    "open_to_all": True,
    "routes": [{"name": "all"}],
    "policies": {"default": {"checks": [LINEAR]}},
}
"""The same with a threshold set by hand, as data: JSON is YAML."""

Change = Callable[[dict[str, Any]], object]


def make(
    folder: Path, change: Change | None = None, environment: Mapping[str, str] = ENVIRONMENT
) -> Built:
    """Write the base with a change to it, read it and build it."""
    data = copy.deepcopy(BASE)
    if change is not None:
        change(data)
    path = folder / "gateway.yaml"
    path.write_text(json.dumps(data, indent=1), encoding="utf-8")
    return built(*read(path, environment))


def refused(
    folder: Path, change: Change | None = None, environment: Mapping[str, str] = ENVIRONMENT
) -> str:
    """Make sure that it is refused; give what is said, from the place on."""
    with pytest.raises(InputError) as caught:
        make(folder, change, environment)
    said = str(caught.value)
    assert said.startswith(str(folder / "gateway.yaml"))
    return said.removeprefix(str(folder / "gateway.yaml")).partition(": ")[2]
