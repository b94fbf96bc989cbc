"""What went to files is read as if it had stayed; whatever happens on the way loses nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("duckdb")

from tocsin.errors import HistoryDamaged, InputError, StoreBusy, StoreDamaged
from tocsin.events.envelope import Event, Links, Segment
from tocsin.events.kinds import Body, Feedback, Used
from tocsin.store import Append, Keys, Scope, Store, closing, segment_file
from tocsin.store import tables as t
from tocsin.store.history import KINDS, Count, History
from tocsin.store.manifest import alone
from tocsin.store.retention import retain

ACME, OTHER = Scope("acme"), Scope("other")
BODIES: list[Body] = [Feedback(verdict="up"), Used()]
EXAMPLES = int(os.environ.get("TOCSIN_HISTORY_EXAMPLES", "10"))
HOUR = 3_600_000_000
NOON = 1_700_049_600_000_000  # 2023-11-15 12:00 UTC


def make(number: int, time_us: int, where: str = "a", kind: int = 0) -> Event:
    body = Feedback(verdict="down", comment=f"{number}") if kind == 0 else Used(tokens_in=number)
    links = Links(
        user=f"u{number % 3}",
        session=f"s{number // 8}",
        request=f"q{number // 4}",
        call=f"c{number // 2}",
    )
    segment = Segment(route=where, model=f"m{number % 2}")
    return Event(
        id=f"e{number}", time_us=time_us, source="t", body=body, links=links, segment=segment
    )


def hours(count: int, each: int = 6) -> list[Event]:
    """Events of so many hours from noon on."""
    return [
        make(n, NOON + n * HOUR // each, where="ab"[n % 2], kind=n % 2) for n in range(count * each)
    ]


def fill(store: Store, events: Sequence[Event], tenant: str = "acme") -> None:
    store.commit([Append(tenant=tenant, events=tuple(events))])


def seen(history: History, scope: Scope = ACME) -> list[Any]:
    """Everything that can be asked about a tenant, as far as a closing must not change it."""
    whole = history.events(scope)
    times = [s.event.time_us for s in whole] or [0]
    since, until = min(times), max(times) + 3
    ids = sorted({x for s in whole for x in (s.event.id, *links(s.event)) if x})
    return [
        whole,
        list(history.stream(scope)),
        list(history.stream(scope, kind="usage", until_us=until - HOUR, after_seq=2)),
        history.events(scope, kind="usage", since_us=since + HOUR, limit=7),
        history.events(scope, route=("a",), until_us=until - HOUR, after_seq=3),
        history.events(scope, session="s1"),
        [history.trace(scope, x) for x in ids[:: 1 + len(ids) // 5]],
        history.counts(scope, since_us=since, until_us=until),
        history.counts(scope, since_us=since + 1, until_us=until - 1, route="b"),
        history.counts(scope, since_us=since, until_us=until, step_us=HOUR // 2),
    ]


def links(event: Event) -> tuple[str | None, ...]:
    return (event.links.request, event.links.call, event.links.session)


def rows(store: Store, scope: Scope = ACME) -> list[int]:
    c = t.events.c
    with store.reading() as connection:
        return list(
            connection.execute(
                sa.select(c.seq).where(c.tenant == scope.tenant).order_by(c.seq)
            ).scalars()
        )


def files(history: History) -> list[Path]:
    return sorted(p for p in history.folder.rglob("*") if p.suffix in {".parquet", ".tmp"})


@pytest.fixture
def history(store: Store, tmp_path: Path) -> Iterator[History]:
    with History(store, tmp_path / "files") as opened:
        yield opened


def test_what_is_closed_is_read_as_before(store: Store, history: History) -> None:
    events = hours(20)
    fill(store, events)
    fill(store, hours(3), "other")
    before, others = seen(history), seen(history, OTHER)
    closed = history.close(ACME, before_us=NOON + 15 * HOUR)
    assert closed.deleted == 15 * 6
    assert [(s.first, s.last) for s in closed.segments] == [(1, 72), (73, 90)]  # midnight between
    assert rows(store) == list(range(91, 121))
    assert seen(history) == before
    assert [s.event for s in history.events(ACME)] == events
    assert seen(history, OTHER) == others
    assert len(rows(store, OTHER)) == 18
    again = history.close(ACME, before_us=NOON + 15 * HOUR)
    assert (again.segments, again.deleted, again.orphans) == ((), 0, 0)
    history.close(ACME, before_us=NOON + 30 * HOUR)
    assert rows(store) == []
    assert seen(history) == before


def test_counts_are_those_of_the_events(store: Store, history: History) -> None:
    fill(store, hours(4))
    expected = [
        Count(start_us=NOON + h * HOUR, route=route, kind=kind, n=3)
        for h in range(4)
        for route, kind in (("a", "feedback"), ("b", "usage"))
    ]
    for before_us in (0, NOON + 2 * HOUR):
        history.close(ACME, before_us=before_us)
        found = history.counts(ACME, since_us=NOON, until_us=NOON + 4 * HOUR, step_us=HOUR)
        assert found == expected


def test_only_what_a_period_covers_moves(url: str, tmp_path: Path) -> None:
    with Store.open(url) as store, History(store, tmp_path / "files") as history:
        fill(store, hours(2))
        closed = history.close(ACME, before_us=NOON + 9 * HOUR)
        assert (closed.segments, closed.deleted, closed.uncovered) == ((), 0, 12)
        closed = history.close(ACME, before_us=NOON + 9 * HOUR, uncovered=True)
        assert (closed.deleted, closed.uncovered) == (12, 0)


def test_a_period_is_made_of_what_is_about_to_move(store: Store, history: History) -> None:
    fill(store, hours(2))
    history.close(ACME, before_us=NOON + HOUR)
    assert store.head(ACME).period == 12
    assert len(rows(store)) == 6


def test_the_first_young_event_ends_the_stretch(store: Store, history: History) -> None:
    """One that comes late moves with its neighbours; one of the future keeps later ones back."""
    late = [make(0, NOON), make(1, NOON + 2 * HOUR), make(2, NOON + 1), make(3, NOON + 9 * HOUR)]
    fill(store, [*late, make(4, NOON + 3)])
    history.close(ACME, before_us=NOON + 5 * HOUR)
    assert rows(store) == [4, 5]
    assert [s.event.id for s in history.events(ACME, until_us=NOON + 4)] == ["e0", "e2", "e4"]


def test_a_file_is_no_larger_than_it_may_be(
    store: Store, history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(closing, "HISTORY_ROWS_MAX", 7)
    monkeypatch.setattr(closing, "HISTORY_GROUP_ROWS", 3)
    monkeypatch.setattr(closing, "HISTORY_DELETE_ROWS", 2)
    fill(store, hours(4))
    before = seen(history)
    closed = history.close(ACME, before_us=NOON + 24 * HOUR)
    assert [s.rows for s in closed.segments] == [7, 7, 7, 3]
    assert seen(history) == before


def test_a_trace_crosses_from_files_to_rows(store: Store, history: History) -> None:
    fill(store, [make(n, NOON + n * HOUR) for n in range(8)])  # one session, two requests
    history.close(ACME, before_us=NOON + 3 * HOUR)
    assert rows(store) == [4, 5, 6, 7, 8]
    assert [s.seq for s in history.trace(ACME, "e0")] == [1, 2, 3, 4]
    assert [s.seq for s in history.trace(ACME, "e3")] == [1, 2, 3, 4]
    assert [s.seq for s in history.trace(ACME, "s0")] == list(range(1, 9))
    assert [s.seq for s in history.trace(ACME, "s0", limit=4)] == [1, 2, 3, 4]
    assert history.trace(OTHER, "s0") == []


@settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_rows_and_files_answer_alike(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    times = data.draw(st.lists(st.integers(0, 80 * HOUR), min_size=1, max_size=30))
    names = st.sampled_from(["x", "x'--", 'y"', "", "é\u202e", "a" * 300])
    events = [
        Event(
            id=f"e{n}",
            time_us=NOON + time_us,
            source="t",
            body=data.draw(st.sampled_from(BODIES)),
            links=Links(session=data.draw(names), request=data.draw(names), call=f"c{n % 5}"),
            segment=Segment(route=data.draw(names)),
        )
        for n, time_us in enumerate(times)
    ]
    cuts = data.draw(st.lists(st.integers(0, 90 * HOUR), max_size=2))
    folder = tmp_path_factory.mktemp("it's")
    with Store.open(f"{folder}/r.db") as store, History(store) as history:
        fill(store, events)
        before = seen(history)
        for cut in cuts:
            history.close(ACME, before_us=NOON + cut, uncovered=True)
            assert seen(history) == before


# ------------------------------------------------------------------------------------- crashes

_CHILD = """
import os, sys
from tocsin.store import Keys, Scope, Store, closing, retention, segment_file
from tocsin.store.history import History
from tocsin.receipts import Signer

path, module, name, when, what = sys.argv[1:]
module = {"segment_file": segment_file, "closing": closing, "retention": retention}[module]
real = getattr(module, name)

def crash(*given, **named):
    if when == "before":
        os._exit(9)
    real(*given, **named)
    os._exit(9)

setattr(module, name, crash)
keys = Keys(Signer.from_seed("example.com/log", bytes(32)), (bytes(range(32)),))
with Store.open(path, keys=keys) as store, History(store) as history:
    if what == "close":
        history.close(Scope("acme"), before_us=1_700_049_600_000_000 + 5 * 3_600_000_000)
    else:
        retention.retain(history, Scope("acme"), {"feedback": 0.0})
"""

_STEPS = [
    ("segment_file", "sync_file", "before"),
    ("segment_file", "sync_file", "after"),
    ("segment_file", "sync_folder", "before"),
    ("closing", "record", "before"),
    ("closing", "record", "after"),
]


def crash(path: Path, *how: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, str(path), *how],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 9, done.stderr.decode()


@pytest.mark.parametrize("step", _STEPS, ids="-".join)
def test_a_crash_at_any_step_of_a_closing_loses_nothing_and_doubles_nothing(
    step: tuple[str, str, str], sqlite_path: Path, keys: Keys
) -> None:
    with Store.open(str(sqlite_path), keys=keys) as store, History(store) as history:
        fill(store, hours(8))
        before = seen(history)
        store.close_period(ACME)
        segment_file.make_folder(history.folder)
    crash(sqlite_path, *step, "close")
    with Store.open(str(sqlite_path), keys=keys) as store, History(store) as history:
        assert seen(history) == before
        closed = history.close(ACME, before_us=NOON + 5 * HOUR)
        assert closed.deleted == 30
        assert seen(history) == before
        assert len(files(history)) == len(history.segments(ACME)) == 1


@pytest.mark.parametrize(
    "step",
    [
        ("segment_file", "sync_file", "before"),
        ("segment_file", "sync_folder", "before"),
        ("retention", "replace", "before"),
        ("retention", "replace", "after"),
    ],
    ids="-".join,
)
def test_a_crash_while_a_file_is_replaced_leaves_one_that_is_whole(
    step: tuple[str, str, str], sqlite_path: Path, keys: Keys
) -> None:
    with Store.open(str(sqlite_path), keys=keys) as store, History(store) as history:
        fill(store, hours(4))
        usage = history.events(ACME, kind="usage")
        history.close(ACME, before_us=NOON + 9 * HOUR)
    crash(sqlite_path, *step, "retain")
    with Store.open(str(sqlite_path), keys=keys) as store, History(store) as history:
        gone = step[2] == "after"
        assert len(history.events(ACME, kind="feedback")) == (0 if gone else 12)
        assert history.events(ACME, kind="usage") == usage
        retain(history, ACME, {"feedback": 0.0})
        history.close(ACME, before_us=NOON)
        assert history.events(ACME, kind="feedback") == []
        assert history.events(ACME, kind="usage") == usage
        assert len(files(history)) == len(history.segments(ACME)) == 1


def test_a_crash_between_two_deletions_is_made_good(
    store: Store, history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(closing, "HISTORY_DELETE_ROWS", 10)
    fill(store, hours(8))
    before = seen(history)
    real, calls = store.tend, iter(range(100))

    def tend(rows: int = 0) -> None:
        real(rows)
        if next(calls) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(store, "tend", tend)
    with pytest.raises(KeyboardInterrupt):
        history.close(ACME, before_us=NOON + 9 * HOUR)
    assert 0 < len(rows(store)) < 48
    assert seen(history) == before
    monkeypatch.undo()
    history.close(ACME, before_us=NOON + 9 * HOUR)
    assert rows(store) == []
    assert seen(history) == before


@pytest.mark.parametrize("broken", ["sync_file", "sync_folder", "make_folder"])
def test_a_disk_that_fails_leaves_everything_where_it_was(
    broken: str, store: Store, history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(store, hours(2))
    before = seen(history)

    def fails(*_: object) -> None:
        raise (InputError("no") if broken == "make_folder" else OSError(5, "Input/output error"))

    with monkeypatch.context() as patched:
        patched.setattr(segment_file, broken, fails)
        with pytest.raises(InputError):
            history.close(ACME, before_us=NOON + 9 * HOUR)
    assert rows(store) == list(range(1, 13))
    assert history.segments(ACME) == []
    assert seen(history) == before
    assert history.close(ACME, before_us=NOON + 9 * HOUR).deleted == 12


# ------------------------------------------------------------------------------------- damage


def closed_file(store: Store, history: History) -> Path:
    fill(store, hours(2))
    history.close(ACME, before_us=NOON + 9 * HOUR)
    (path,) = files(history)
    return path


def test_a_missing_file_is_named(store: Store, history: History) -> None:
    path = closed_file(store, history)
    path.unlink()
    for ask in (
        lambda: history.events(ACME),
        lambda: history.trace(ACME, "e1"),
        lambda: history.counts(ACME, since_us=0, until_us=NOON * 2),
    ):
        with pytest.raises(HistoryDamaged, match=r"is not there: restore it"):
            ask()


def test_a_body_that_was_changed_is_not_believed(store: Store, history: History) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = closed_file(store, history)
    table = pq.read_table(path)
    bodies = [body.replace(b"down", b"up") for body in table["body"].to_pylist()]
    at = table.schema.get_field_index("body")
    pq.write_table(table.set_column(at, "body", pa.array(bodies, pa.binary())), path)
    with pytest.raises(StoreDamaged, match="not what was written"):
        history.events(ACME)


def test_rubbish_in_place_of_a_file_is_an_error_for_people(store: Store, history: History) -> None:
    closed_file(store, history).write_bytes(b"rubbish")
    with pytest.raises(HistoryDamaged, match="history cannot be read"):
        history.events(ACME)
    with pytest.raises(HistoryDamaged):
        retain(history, ACME, {"feedback": 0.0})


@pytest.mark.parametrize("harm", [Path.unlink, lambda p: p.write_bytes(b"x")])
def test_without_its_ids_a_file_is_asked_itself(
    harm: Callable[[Path], object], store: Store, history: History
) -> None:
    path = closed_file(store, history)
    before = seen(history)
    ids = path.with_name(f"{path.name}{segment_file.IDS}")
    assert ids.stat().st_size < 12 * 4 * 4
    harm(ids)
    with History(store) as again:
        assert seen(again) == before


def test_ids_name_every_file_that_holds_them_and_hardly_another(tmp_path: Path) -> None:
    rows = [
        (n, f"e{n}", n, "usage", "a", "m", f"q{n // 4}", None, None, None, bytes(32), b"")
        for n in range(1, 3001)
    ]
    written = segment_file.write(tmp_path, [rows[:1000], rows[1000:]])
    assert written is not None
    ids = segment_file.Ids(tmp_path)
    present = [f"e{n}" for n in range(1, 3001)] + [f"q{n}" for n in range(751)]
    assert all(ids.among([written.name], name) == [written.name] for name in present)
    absent = sum(bool(ids.among([written.name], f"x{n}")) for n in range(3000))
    assert absent <= 1
    assert ids.among(["none.parquet"], "x") == ["none.parquet"]


@pytest.mark.parametrize("path", ["../../etc/passwd", "/etc/passwd", "x/1-2-3.parquet"])
def test_a_manifest_names_only_files_that_a_closing_makes(
    path: str, store: Store, history: History
) -> None:
    closed_file(store, history)
    with store.transaction("tamper") as connection:
        connection.execute(sa.update(t.segments).values(path=path))
    with pytest.raises(HistoryDamaged, match="no closing makes"):
        history.events(ACME)


def test_the_reader_reaches_nothing_but_the_folder(tmp_path: Path) -> None:
    inside, outside = tmp_path / "in'side", tmp_path / "outside"
    inside.mkdir()
    outside.mkdir()
    (outside / "secret.csv").write_text("a\n1\n")
    reader = segment_file.Reader(inside)
    for query in (
        f"FROM '{outside}/secret.csv'",
        f"COPY (SELECT 1) TO '{outside}/x.csv'",
        "INSTALL httpfs",
        "SET enable_external_access=true",
        f"ATTACH '{outside}/x.db'",
    ):
        with pytest.raises(HistoryDamaged):
            reader.rows(["."], query)
    reader.close()
    assert sorted(p.name for p in outside.iterdir()) == ["secret.csv"]


def test_files_are_for_their_owner_alone(store: Store, history: History) -> None:
    path = closed_file(store, history)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert "acme" not in str(path.relative_to(history.folder))


def test_one_closing_at_a_time(store: Store, history: History) -> None:
    fill(store, hours(2))
    with alone(store, history.folder, ACME), pytest.raises(StoreBusy, match="try again later"):
        history.close(ACME, before_us=NOON)
    history.close(OTHER, before_us=NOON)
    assert history.close(ACME, before_us=NOON + 9 * HOUR).deleted == 12


def test_the_place_is_remembered(store: Store, history: History, tmp_path: Path) -> None:
    closed_file(store, history)
    with History(store) as found:
        assert found.folder == history.folder
        assert len(found.events(ACME)) == 12
    with pytest.raises(InputError, match="not in"):
        History(store, tmp_path / "elsewhere")


def test_a_server_needs_a_place(store: Store) -> None:
    if store.url.get_backend_name() == "sqlite":
        assert History(store).folder.name == "record.db.history"
    else:
        with pytest.raises(InputError, match="--folder"):
            _ = History(store).folder


@pytest.mark.parametrize(
    "ask",
    [
        lambda h: h.counts(ACME, since_us=5, until_us=5),
        lambda h: h.counts(ACME, since_us=0, until_us=5, step_us=0),
        lambda h: h.counts(ACME, since_us=0, until_us=10**12, step_us=1),
        lambda h: h.events(ACME, limit=-1),
    ],
)
def test_what_cannot_be_asked_is_refused(ask: Callable[[History], Any], tmp_path: Path) -> None:
    with (
        Store.open(f"{tmp_path}/r.db") as store,
        History(store) as history,
        pytest.raises(InputError),
    ):
        ask(history)


def test_every_kind_is_known() -> None:
    assert len(KINDS) == len(set(KINDS)) >= 23


def test_a_store_without_history_needs_no_folder(prepared: str) -> None:
    """A server's history has no place before its first closing."""
    with Store.open(prepared, clock=lambda: 1e9) as store, History(store) as history:
        event = Event(id="e1", time_us=5, source="t", body=Feedback(verdict="up"))
        store.commit([Append(tenant="acme", events=(event,))])
        scope = Scope("acme")
        assert [s.seq for s in history.events(scope, id="e1")] == [1]
        assert [s.seq for s in history.stream(scope, kind="feedback")] == [1]
        assert [s.seq for s in history.trace(scope, "e1")] == [1]
        assert history.segments(scope) == [] and history.taken(scope) == []
        assert len(history.counts(scope, since_us=0, until_us=9)) == 1
        for dry_run in (True, False):
            assert retain(history, scope, {"feedback": 1}, dry_run=dry_run).classes[0].rows == 1
        assert [(gone.kind, gone.n, gone.last_us) for gone in history.taken(scope)] == [
            ("feedback", 1, 5)
        ]
        if store.url.get_backend_name() != "sqlite":
            with pytest.raises(InputError, match="--folder"):
                history.close(scope, before_us=9, uncovered=True)
