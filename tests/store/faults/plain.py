"""A program that uses SQLite alone, for the test of the simulator: `plain.py FILE SYNCHRONOUS`.

It says each number once it is committed.
"""

from __future__ import annotations

import os
import sqlite3
import sys

COMMITS = 60


def main(path: str, synchronous: str) -> None:
    """Commit numbers, with checkpoints in between, and once from the start again."""
    for half in range(2):
        connection = sqlite3.connect(path, isolation_level=None)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute(f"PRAGMA synchronous={synchronous}")
        connection.execute("PRAGMA wal_autocheckpoint=20")
        connection.execute("CREATE TABLE IF NOT EXISTS t(id INTEGER PRIMARY KEY, x TEXT)")
        for number in range(half * COMMITS, (half + 1) * COMMITS):
            connection.execute("INSERT INTO t VALUES (?, ?)", (number, f"{number} " * 200))
            os.write(1, b"%d\n" % number)
        connection.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
