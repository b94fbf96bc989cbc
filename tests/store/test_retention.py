"""What is too old goes, in rows and in files; that it was there stays provable."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import sqlalchemy as sa

pytest.importorskip("duckdb")

from tocsin.errors import AccessDenied, InputError
from tocsin.events.envelope import Event, Links, Segment
from tocsin.events.kinds import Accessed, Alarmed, Feedback, StreamEnded, Used
from tocsin.receipts.merkle import root
from tocsin.store import Append, Content, Entry, Keys, Scope, Store, closing
from tocsin.store import tables as t
from tocsin.store.history import KINDS, History
from tocsin.store.retention import CLASSES, check_rules, retain
from tocsin.store.roles import Principal, local

ACME, OTHER = Scope("acme"), Scope("other")
DAY = 86_400_000_000
NOW = 1_700_000_000_000_000
SECRET = "a-comment-that-nobody-may-find"  # noqa: S105 - it opens nothing


def make(number: int, days_ago: float, body: object) -> Event:
    return Event(
        id=f"e{number}",
        time_us=NOW - int(days_ago * DAY),
        source="t",
        body=body,  # type: ignore[arg-type]
        links=Links(user="u_someone", session="s", request=f"q{number}", call=f"c{number}"),
        segment=Segment(route="chat"),
    )


def bodies(number: int) -> object:
    return (
        Feedback(verdict="down", comment=SECRET),
        Used(tokens_in=1),
        StreamEnded(outcome="ok"),
        Alarmed(check="c", verifier="v", verifier_version="1", wanted="halt", done="halt"),
    )[number % 4]


@pytest.fixture
def store(url: str, keys: Keys) -> Iterator[Store]:
    with Store.open(url, keys=keys, clock=lambda: NOW / 1e6) as opened:
        yield opened


@pytest.fixture
def history(store: Store, tmp_path: Path) -> Iterator[History]:
    """Forty days of events for two tenants; the oldest twenty are in files."""
    for tenant in ("acme", "other"):
        events = tuple(make(n, 40 - n / 4, bodies(n)) for n in range(160))
        entry = Entry(kind="receipt", id="r1", body=b'{"a":1}')
        store.commit([Append(tenant=tenant, events=events, entries=(entry,))])
    with History(store, tmp_path / "files") as opened:
        for scope in (ACME, OTHER):
            opened.close(scope, before_us=NOW - 20 * DAY)
        yield opened


def left(history: History, scope: Scope = ACME) -> dict[str, int]:
    counted: dict[str, int] = {}
    for stored in history.events(scope):
        if not isinstance(stored.event.body, Accessed):
            counted[stored.event.kind] = counted.get(stored.event.kind, 0) + 1
    return counted


def test_every_kind_is_in_one_class() -> None:
    listed = [kind for kinds in CLASSES.values() for kind in kinds]
    assert sorted(listed) == sorted(KINDS)


def test_a_dry_run_counts_and_changes_nothing(store: Store, history: History) -> None:
    before = history.events(ACME)
    told = retain(history, ACME, {"feedback": 10, "usage": 30}, dry_run=True)
    assert told.dry_run
    assert [(k.name, k.rows, k.in_files) for k in told.classes] == [
        ("feedback", 10, 20),
        ("usage", 0, 10),
    ]
    assert history.events(ACME) == before


def test_what_is_too_old_goes_from_rows_and_files(store: Store, history: History) -> None:
    others = history.events(OTHER)
    told = retain(history, ACME, {"feedback": 10, "usage": 30})
    assert [k.all for k in told.classes] == [30, 10]
    assert told.log_cut
    assert left(history) == {"feedback": 10, "usage": 30, "stream.ended": 40, "alarm": 40}
    assert all(s.event.time_us >= NOW - 10 * DAY for s in history.events(ACME, kind="feedback"))
    assert history.events(OTHER) == others
    again = retain(history, ACME, {"feedback": 10, "usage": 30})
    assert [k.all for k in again.classes] == [0, 0]


def test_it_is_recorded(store: Store, history: History) -> None:
    retain(history, ACME, {"feedback": 10, "usage": 39.9})
    (said,) = history.events(ACME, kind="access")
    assert isinstance(said.event.body, Accessed)
    assert said.event.body.action == "retention.apply"
    assert said.event.body.reason == "30 of feedback after 10 days"
    assert said.event.body.by == "retention"
    retain(history, ACME, {"feedback": 10})
    assert len(history.events(ACME, kind="access")) == 1
    assert history.events(OTHER, kind="access") == []


def test_who_had_it_done_is_recorded(store: Store, history: History) -> None:
    retain(history, ACME, {"feedback": 10}, by=local("acme", "ann"))
    (said,) = history.events(ACME, kind="access")
    assert isinstance(said.event.body, Accessed)
    assert said.event.body.by == "local:ann"


def test_who_may_not_takes_nothing_away(store: Store, history: History) -> None:
    by = Principal(tenant="acme", id="k_1", role="operator")
    with pytest.raises(AccessDenied, match="needed: admin"):
        retain(history, ACME, {"feedback": 10}, by=by)
    assert left(history)["feedback"] == 40
    (said,) = history.events(ACME, kind="access")
    assert isinstance(said.event.body, Accessed)
    assert (said.event.body.by, said.event.body.allowed) == ("k_1", False)


def test_without_the_event_nothing_goes(
    store: Store, history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = history.events(ACME)

    def refuse(*_: object) -> None:
        raise InputError("no room")

    monkeypatch.setattr("tocsin.store.oversight.commit", refuse)
    with pytest.raises(InputError, match="no room"):
        retain(history, ACME, {"feedback": 10})
    assert history.events(ACME) == before


def test_what_went_can_still_be_counted_and_proven(store: Store, history: History) -> None:
    counts = history.counts(ACME, since_us=0, until_us=NOW)
    retain(history, ACME, {"feedback": 0, "streams": 0, "alarms": 0, "usage": 0})
    assert history.counts(ACME, since_us=0, until_us=NOW) == counts
    (period,) = store.entries(ACME, kind="period")
    said = msgspec.json.decode(period.entry)["body"]
    hashes = [row[10] for part in history.rows(history.segments(ACME)) for row in part]
    c = t.events.c
    asked = sa.select(c.hash).where(c.tenant == "acme", c.seq <= said["last"]).order_by(c.seq)
    with store.reading() as connection:
        hashes += [bytes(digest) for digest in connection.execute(asked).scalars()]
    assert len(hashes) == said["last"] == 160
    assert base64.b64encode(root(hashes)).decode() == said["events_root"]
    assert store.receipt(ACME, "r1") is not None


def test_nothing_of_it_is_left_in_any_file(keys: Keys, tmp_path: Path) -> None:
    path = tmp_path / "r.db"
    with Store.open(str(path), keys=keys, clock=lambda: NOW / 1e6) as store:
        events = tuple(
            make(n, 5 - n / 4, Feedback(verdict="up", comment=SECRET)) for n in range(20)
        )
        store.commit([Append(tenant="acme", events=events)])
        with History(store) as history:
            history.close(ACME, before_us=NOW - 2 * DAY)
            retain(history, ACME, {"feedback": 0})
            assert history.trace(ACME, "q1") == history.trace(ACME, "s") == []
    whole = b"".join(p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())
    for word in (SECRET, "u_someone", "q1"):
        assert word.encode() not in whole
    import pyarrow.parquet as pq

    for file in tmp_path.rglob("*.parquet"):
        read = pq.read_table(file).to_pydict()
        assert {v for name in ("body", "user", "session") for v in read[name]} == {None}


def test_rows_that_an_interrupted_closing_left_go_too(
    store: Store, history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(closing, "delete_rows", lambda *_: 0)
        history.close(ACME, before_us=NOW - 10 * DAY)
    c = t.events.c
    count = sa.select(sa.func.count()).where(c.tenant == "acme", c.body.is_not(None))
    with store.reading() as connection:
        assert connection.execute(count.where(c.kind == "feedback")).scalar() == 20
    retain(history, ACME, {"feedback": 5})
    with store.reading() as connection:
        assert connection.execute(count.where(c.kind == "feedback")).scalar() == 5
    assert left(history)["feedback"] == 5


def test_raw_content_goes_with_its_keys(store: Store, history: History) -> None:
    kept = Content(
        id="k1", subject="u", request="q", what="input", text=SECRET, why="sample",
        expires_us=NOW + 90 * DAY,
    )  # fmt: skip
    store.commit([Append(tenant="acme", contents=(kept,))])
    assert retain(history, ACME, {"content": 30}).classes[0].contents == 0
    store._clock = lambda: (NOW + 31 * DAY) / 1e6
    assert retain(history, ACME, {"content": 30}, dry_run=True).classes[0].contents == 1
    assert retain(history, ACME, {"content": 30}).classes[0].contents == 1
    with store.reading() as connection:
        for table in (t.contents, t.subject_keys):
            assert connection.execute(sa.select(table)).all() == []


@pytest.mark.parametrize(
    "rules", [{"nonsense": 3}, {"usage": -1}, {"usage": float("nan")}, {"usage": 1e9}]
)
def test_rules_that_make_no_sense_are_refused(rules: dict[str, float]) -> None:
    with pytest.raises(InputError):
        check_rules(rules)
