"""The program at work before a fake model, once for all tests that ask it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:  # the clients take a while to be imported
    from gateway.clients import World


@pytest.fixture(scope="session")
def _program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    from gateway.clients import running

    with running(tmp_path_factory.mktemp("clients")) as made:
        yield made


@pytest.fixture
def world(_program: World) -> World:
    """The same for each test, and what another one scripted is not said."""
    from tocsin.testing.fake_model import Reply

    _program.fake.always(Reply())
    return _program


@pytest.fixture(scope="session", autouse=True)
def _patient() -> Iterator[None]:
    """A disk is slow where a test says so, and not where the machine has other things to do."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("tocsin.gateway.books.RECORD_WAIT_MS", 30_000)
        patched.setattr("tocsin.gateway.keeper.RECORD_SLOW_MS", 30_000)
        yield
