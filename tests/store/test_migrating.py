"""Old stores open, those of the future are refused, and the steps lead to the tables we know."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from store.making import append

from tocsin.errors import InputError, StoreFromTheFuture
from tocsin.receipts import verify
from tocsin.store import Committed, Keys, Scope, Store
from tocsin.store.fsck import fsck
from tocsin.store.migrating import REVISIONS
from tocsin.store.tables import metadata

GOLDEN = Path(__file__).parent / "golden"
ACME = Scope("acme")


def test_the_steps_lead_to_the_tables_that_the_program_knows(store: Store) -> None:
    with store.transaction("look") as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        found = compare_metadata(context, metadata)
    assert found == []


def test_every_step_has_its_file() -> None:
    folder = Path(sys.modules["tocsin.store.migrating"].__file__ or "").parent / "migrations"
    files = sorted(p.name for p in (folder / "versions").glob("v*.py"))
    assert [name[1:5] for name in files] == list(REVISIONS)


def test_there_is_a_golden_store_for_every_form() -> None:
    assert sorted(path.name for path in GOLDEN.glob("*.db")) == [f"{r}.db" for r in REVISIONS]


@pytest.mark.parametrize("name", REVISIONS)
def test_an_old_store_opens_and_goes_on(name: str, tmp_path: Path, keys: Keys) -> None:
    shutil.copyfile(GOLDEN / f"{name}.db", tmp_path / "old.db")
    key = keys.signer.public.named("example.com/log/acme")
    with Store.open(str(tmp_path / "old.db"), keys=keys) as store:
        assert [s.event.id for s in store.events(ACME)] == [f"e{n}" for n in range(12)]
        assert verify(store.proof(ACME, "r1"), [key]).entry.sequence == 4
        assert fsck(store, keys=[keys.signer.public]).findings == ()
        (done,) = store.commit([append("acme", 11, 12, receipts=("r9",))])
        assert isinstance(done, Committed)
        assert (done.first, done.last, done.duplicates) == (13, 13, ("e11",))
        assert store.close_period(ACME) is not None
        assert fsck(store, keys=[keys.signer.public]).findings == ()


def test_a_store_of_the_future_is_refused_and_left_alone(url: str) -> None:
    Store.open(url).close()
    with Store.open(url) as store, store.transaction("go to the future") as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    for create in (True, False):
        with pytest.raises(StoreFromTheFuture, match="'9999'"):
            Store.open(url, create=create)


def test_an_old_form_is_not_brought_forward_where_nobody_wants_it(
    prepared: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tocsin.store.migrating.REVISIONS", (*REVISIONS, "0002"))
    with pytest.raises(InputError, match="earlier version"):
        Store.open(prepared, forward=False)


def test_alembic_is_imported_only_to_go_forward(template: Path, tmp_path: Path) -> None:
    shutil.copy(template, tmp_path / "record.db")
    script = (
        "import sys; from tocsin.store import Store; Store.open(sys.argv[1]);"
        "print([n for n in ('alembic', 'duckdb', 'pyarrow', 'psycopg') if n in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "record.db")],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": ":".join(sys.path)},
    )
    assert done.stdout == "[]\n"
