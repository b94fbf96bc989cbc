"""Every question walks along an index that holds little more than its answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
from store.making import append

from tocsin.store import Content, Keys, Scope, Store
from tocsin.store import reading as asked

ACME = Scope("acme")


@pytest.mark.parametrize(
    ("which", "index"),
    [
        ({}, "sqlite_autoindex_events_1 (tenant=?)"),
        ({"after_seq": 5}, "sqlite_autoindex_events_1 (tenant=? AND seq>?)"),
        ({"id": "e1"}, "sqlite_autoindex_events_2 (tenant=? AND id=?)"),
        ({"request": "q"}, "events_request (tenant=? AND request=?)"),
        ({"call": "q"}, "events_call (tenant=? AND call=?)"),
        ({"session": "q"}, "events_session (tenant=? AND session=?)"),
        ({"user": "q"}, "events_user (tenant=? AND user=?)"),
        ({"session": "q", "kind": "alarm"}, "events_session (tenant=? AND session=?)"),
        ({"session": "q", "since_us": 1}, "events_session (tenant=? AND session=?)"),
        ({"kind": "alarm"}, "events_kind (tenant=? AND kind=?)"),
        ({"kind": ("alarm", "feedback")}, "events_kind (tenant=? AND kind=?)"),
        ({"kind": "alarm", "since_us": 1}, "events_kind (tenant=? AND kind=? AND time_us>?)"),
        ({"since_us": 1, "until_us": 2}, "events_kind (tenant=? AND kind=? AND time_us>? AND"),
        ({"since_us": 1, "after_seq": 2}, "events_kind (tenant=? AND kind=? AND time_us>?)"),
        ({"route": "r", "since_us": 1, "until_us": 2}, "events_route (tenant=? AND route=? AND"),
    ],
)
def test_events_are_found_by_an_index(sqlite_path: Path, which: Any, index: str) -> None:
    with Store.open(str(sqlite_path)) as store:
        store.commit([append("acme", *range(50))])
        told = plans(store, lambda connection: asked.events(connection, ACME, which, 10))
    assert any(f"USING INDEX {index}" in line for line in told[0]), told


def test_a_trace_walks_over_nothing_else(sqlite_path: Path) -> None:
    with Store.open(str(sqlite_path)) as store:
        store.commit([append("acme", *range(50))])
        told = plans(store, lambda connection: asked.trace(connection, ACME, "q"))
    for line in (line for plan in told for line in plan):
        assert not line.startswith("SCAN events")
        assert not line.endswith("(tenant=?)"), line


def test_a_commit_looks_its_ids_up_and_nothing_else(sqlite_path: Path, keys: Keys) -> None:
    content = Content(
        id="x", subject="u", request="q", what="output", text="a", why="sample", expires_us=2**60
    )
    given = msgspec.structs.replace(append("acme", 1, receipts=("r1",)), contents=(content,))
    with Store.open(str(sqlite_path), keys=keys) as store:
        told = plans(store, lambda _: store.commit([given]), store._engines.writing)
    lines = [
        line for plan in told for line in plan if not {"heads", "tenant_keys"} & set(line.split())
    ]
    assert sum("id=?" in line for line in lines) >= 3
    for line in lines:
        assert not line.startswith(("SCAN e", "SCAN c")), line
        assert not line.endswith("(tenant=?)"), line


def plans(store: Store, ask: Any, engine: sa.Engine | None = None) -> list[list[str]]:
    """Have SQLite tell how it would answer each question that is asked."""
    found: list[tuple[str, Any]] = []

    def note(_c: Any, _cursor: Any, statement: str, values: Any, _x: Any, _m: bool) -> None:
        if statement.startswith("SELECT"):
            found.append((statement, values))

    engine = engine or store._engines.reading
    sa.event.listen(engine, "before_cursor_execute", note)
    with store.reading() as connection:
        ask(connection)
    sa.event.remove(engine, "before_cursor_execute", note)
    with store.reading() as connection:
        return [
            [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {s}", values)]
            for s, values in found
        ]
