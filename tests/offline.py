"""A command in a process of its own, in which nothing reaches the network."""

from __future__ import annotations

import subprocess
import sys

_WITHOUT = """
import socket, sys

def never(*_args, **_kwargs):
    raise AssertionError("network")

socket.socket = socket.create_connection = never
from tocsin.cli.main import cli

cli(sys.argv[1:], standalone_mode=False)
print([name for name in ("sqlalchemy", "scipy", "aiohttp") if name in sys.modules])
"""


def heavy_parts(*arguments: object) -> str:
    """Run a command, which must succeed; name what it imported of what a verifier needs not."""
    command = [sys.executable, "-c", _WITHOUT, *map(str, arguments)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return done.stdout.splitlines()[-1]
