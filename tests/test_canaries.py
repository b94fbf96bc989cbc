"""The checker finds a canary however it is written; redaction leaves none that has a shape."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import pytest
from canaries import CANARIES, SHAPED, SHAPELESS, assert_clean, found_in

from tocsin.record.redaction import PatternFinder, Redaction

FINDER = PatternFinder()


def test_there_are_twelve_and_none_is_part_of_another() -> None:
    assert len(CANARIES) == 12
    for name, secret in CANARIES.items():
        assert found_in(secret.encode()) == [name]


@pytest.mark.parametrize("name", CANARIES)
def test_a_canary_is_found_however_it_is_written(name: str) -> None:
    secret = CANARIES[name]
    raw = secret.encode()
    forms = [
        f"before {secret} after".encode(),
        secret.upper().encode(),
        quote(secret).encode(),
        json.dumps({"x": secret}).encode(),
        raw.hex().encode(),
        f"before {secret}".encode("utf-16"),
        *(base64.b64encode(b"x" * shift + raw + b"after") for shift in range(7)),
        *(base64.urlsafe_b64encode(b"x" * shift + raw + b"after") for shift in range(7)),
        raw[: len(raw) - len(raw) // 5],
        raw[len(raw) // 5 :],
    ]
    for form in forms:
        assert name in found_in(form), form


def test_files_folders_and_whatever_else_are_looked_at(tmp_path: Path) -> None:
    assert_clean(tmp_path, b"", "", None, [1, {"a": (2,)}])
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "file.bin").write_bytes(b"\xff" + SHAPED["email"].encode() + b"\0")
    with pytest.raises(AssertionError, match=r"email in .*file\.bin") as caught:
        assert_clean(tmp_path)
    assert SHAPED["email"] not in str(caught.value)
    for thing in ({"a": [SHAPED["card"]]}, ValueError(SHAPED["card"]), SHAPED["card"].encode()):
        with pytest.raises(AssertionError, match="card"):
            assert_clean(thing)


def test_an_ordinary_text_holds_none() -> None:
    assert_clean(Path(__file__).with_name("guarded_streams.py"))


@pytest.mark.parametrize("name", SHAPED)
@pytest.mark.parametrize(
    "around", ["{}", "say {} now", "({})", "a\n{}\nb", "x={};", '"{}"', "<{}>", "{}, {}"]
)
def test_redaction_masks_each_that_has_a_shape(name: str, around: str) -> None:
    of = Redaction(FINDER, b"k" * 32).tenant("shop")
    text = around.replace("{}", SHAPED[name])
    assert_clean(of.text(text), of.name(text))


@pytest.mark.parametrize("name", SHAPELESS)
def test_a_failing_redaction_leaves_none_at_all(name: str) -> None:
    of = Redaction(None, b"k" * 32).tenant("shop")
    assert_clean(of.text(SHAPELESS[name]), of.name(SHAPELESS[name]), of.person(SHAPELESS[name]))


def test_a_test_that_prints_a_canary_fails_the_run(tmp_path: Path) -> None:
    here = Path(__file__).parent
    (tmp_path / "conftest.py").write_text(
        f"import sys\nsys.path.insert(0, {str(here)!r})\n"
        "from canaries import (  # noqa: F401\n"
        "    pytest_runtest_logreport, pytest_sessionfinish, pytest_terminal_summary,\n)\n"
    )
    (tmp_path / "test_prints.py").write_text(
        "import sys\nsys.path.insert(0, '.')\n"
        "from canaries import SHAPED\n\n"
        "def test_prints():\n    print(SHAPED['iban'])\n"
    )
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "."],
        cwd=tmp_path,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 1, ran.stdout
    assert "1 passed" in ran.stdout
    assert "CANARY test_prints.py::test_prints: iban in Captured stdout call" in ran.stdout
    assert SHAPED["iban"] not in ran.stdout
