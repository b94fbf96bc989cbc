"""What is lost when the power goes, processes are killed, system calls fail and disks are full.

The programs are those of tests/store/faults, in greater numbers. Nothing here is about speed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from common import Found, Options

TESTS = Path(__file__).parents[1] / "tests"

NOTES = [
    "power cuts: images of the disk that differ, and those of them that break a promise",
    "where SQLite syncs less, or the disk lies about syncs, the test has to find losses",
    "system calls: every call of a kind fails once, each in a run of its own",
]


def run(options: Options) -> Found:
    """Let go wrong what can, and count what was lost: nothing should be."""
    asked = json.dumps({"quick": options.quick, "seed": options.seed})
    path = os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), str(TESTS))))
    done = subprocess.run(
        [sys.executable, str(TESTS / "store" / "faults" / "proving.py"), asked],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": path},
        check=True,
    )
    told = json.loads(done.stdout)
    return Found(tables=told["tables"], skipped=told["skipped"], notes=NOTES)
