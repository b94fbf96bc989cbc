"""A store of each kind, empty, for every test that asks for one."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from store.postgres import server

from tocsin.receipts import Signer
from tocsin.store import Keys, Store

BACKENDS = ("sqlite", "postgresql")
LOG = "example.com/log"


@pytest.fixture(scope="session")
def keys() -> Keys:
    return Keys(Signer.from_seed(LOG, bytes(32)), (bytes(range(32)),))


@pytest.fixture
def sqlite_path(tmp_path: Path) -> Path:
    return tmp_path / "record.db"


@pytest.fixture(params=BACKENDS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty place for a store: a file, and a database of a real server."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/record.db"
        return
    made = server().url()
    yield made
    server().drop(made)


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite store without anything in it, to be copied: faster than making one."""
    path = tmp_path_factory.mktemp("template") / "record.db"
    Store.open(str(path)).close()
    return path


@pytest.fixture(params=BACKENDS)
def prepared(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A place for a store that has its tables already."""
    if request.param == "sqlite":
        shutil.copy(request.getfixturevalue("template"), tmp_path / "record.db")
        yield f"sqlite:///{tmp_path}/record.db"
        return
    made = server().prepared()
    yield made
    server().give_back(made)


@pytest.fixture
def store(prepared: str, keys: Keys) -> Iterator[Store]:
    with Store.open(prepared, keys=keys) as opened:
        yield opened
