"""What is there once a process is ready is not looked at again for cycles."""

from __future__ import annotations

import subprocess
import sys

SETTLED = """
import gc
from tocsin.gateway.garbage import settle
from tocsin.limits import GARBAGE_YOUNG_MAX
kept = [[] for _ in range(1_000)]
settle()
assert gc.get_freeze_count() > 1_000 and len(gc.get_objects()) < 1_000
assert gc.get_threshold()[0] == GARBAGE_YOUNG_MAX
before = gc.get_freeze_count()
more = [[] for _ in range(1_000)]
settle()
assert gc.get_freeze_count() > before
del kept, more
settle()
assert gc.get_freeze_count() < before
"""


def test_what_stays_is_left_out_and_what_goes_is_gone() -> None:
    # In a process of its own: what is left out here would hide what other tests leave behind.
    done = subprocess.run([sys.executable, "-c", SETTLED], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
