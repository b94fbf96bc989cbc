"""`tocsin serve --demo`: what people see first."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from click.testing import CliRunner

from tocsin.cli.main import cli
from tocsin.cli.serve_demo import alarm_lines


def test_the_demonstration_masks_rings_and_tells_the_promise() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tocsin", "serve", "--demo", "--once", "--speed", "50"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "COLUMNS": "100"},
    )
    assert done.returncode == 0, done.stderr
    shown = " ".join(done.stdout.split())
    assert "Jo ([email]) lost her card with the number [payment_card] on the train" in shown
    assert "jo@mail.example) lost her card with the number 4111 1111 1111 1111 on" in shown
    assert shown.count("4111") == 1  # in the question alone
    assert "The sweetest witch ever." in shown
    assert "■ stopped" in shown
    assert "ALARM harm in step 6, character 299: halt." in shown
    assert "at most 10 % of safe outputs are ever interrupted" in shown
    assert "Why is the sky blue?" in shown
    assert done.stderr == ""


@pytest.mark.parametrize("args", [[], ["gateway.yaml", "--demo"]])
def test_it_is_either_a_configuration_or_the_demonstration(args: list[str]) -> None:
    done = CliRunner().invoke(cli, ["serve", *args])
    assert done.exit_code == 2
    assert "give either a configuration or --demo" in done.output


def test_names_in_a_receipt_cannot_drive_the_terminal() -> None:
    alarm = {"rule": "a\x1b[31m", "start": 0, "end": 5, "done": "mask", "check": "c"}
    lines = alarm_lines({"checks": [], "alarms": [alarm], "who": {"id": "r_1"}})
    assert "\x1b" not in "".join(line.plain for line in lines)
