"""A store of each kind, empty, for every test that asks for one."""

from __future__ import annotations

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


@pytest.fixture
def store(url: str, keys: Keys) -> Iterator[Store]:
    with Store.open(url, keys=keys) as opened:
        yield opened
