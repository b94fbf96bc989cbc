"""What the store promises, on SQLite and on PostgreSQL alike."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
import sqlalchemy as sa
from store.making import append, event, receipt

from tocsin.errors import AppendRefused, InputError, StoreDamaged, StoreError
from tocsin.events.envelope import Event, Links
from tocsin.events.kinds import Feedback
from tocsin.receipts import PublicKey, Signer, verify, verify_growth
from tocsin.store import Append, Committed, Entry, Keys, Rejected, Scope, Store
from tocsin.store import tables as t

ACME, OTHER = Scope("acme"), Scope("other")


def only(done: list[Committed | Rejected]) -> Committed:
    (one,) = done
    assert isinstance(one, Committed)
    return one


def trusted(keys: Keys, scope: Scope = ACME) -> list[PublicKey]:
    return [keys.signer.public.named(f"{keys.signer.name}/{scope.tenant}")]


def test_events_are_read_as_they_were_given_in_their_order(store: Store) -> None:
    assert only(store.commit([append("acme", 5, 3)])) == Committed(tenant="acme", first=1, last=2)
    assert only(store.commit([append("acme", 9)])).first == 3
    read = store.events(ACME)
    assert [(s.seq, s.event) for s in read] == [(1, event(5)), (2, event(3)), (3, event(9))]


def test_an_append_given_again_changes_nothing(store: Store) -> None:
    given = append("acme", 1, 2, receipts=("r1",))
    first = only(store.commit([given]))
    again = only(store.commit([given]))
    assert (again.first, again.last) == (0, 0)
    assert again.duplicates == ("e1", "e2", "r1")
    assert again.differing == ()
    assert again.checkpoint == first.checkpoint
    assert len(store.events(ACME)) == 2
    assert store.head(ACME).size == 1


def test_an_id_that_comes_back_with_another_content_is_told_and_not_stored(store: Store) -> None:
    store.commit([append("acme", 1, receipts=("r1",))])
    changed = msgspec.structs.replace(event(1), source="somebody else")
    other = Entry(kind="receipt", id="r1", body=b'{"receipt":"another"}')
    done = only(store.commit([Append(tenant="acme", events=(changed,), entries=(other,))]))
    assert done.differing == ("e1", "r1")
    assert store.events(ACME)[0].event == event(1)


def test_the_same_id_twice_in_one_commit_is_stored_once(store: Store) -> None:
    done = store.commit([append("acme", 1, 1, 2), append("acme", 2, 3)])
    assert [(d.first, d.last, d.duplicates) for d in done if isinstance(d, Committed)] == [
        (1, 2, ("e1",)),
        (3, 3, ("e2",)),
    ]


def test_tenants_have_sequences_and_logs_of_their_own(store: Store, keys: Keys) -> None:
    store.commit([append("acme", 1, receipts=("r",)), append("other", 1, 2, receipts=("r",))])
    store.commit([append("acme", 2)])
    assert [s.seq for s in store.events(ACME)] == [1, 2]
    assert [s.seq for s in store.events(OTHER)] == [1, 2]
    assert [(h.tenant, h.seq, h.size) for h in store.heads()] == [
        ("acme", 2, 1),
        ("other", 2, 1),
    ]
    assert verify(store.proof(ACME, "r"), trusted(keys)).entry.tenant == "acme"
    assert verify(store.proof(OTHER, "r"), trusted(keys, OTHER)).entry.tenant == "other"
    assert store.checkpoint(ACME) != store.checkpoint(OTHER)


def test_nothing_of_another_tenant_is_found_by_any_id(store: Store) -> None:
    links = Links(user="u", session="s", request="q", call="c")
    said = Event(id="e", time_us=1, source="x", body=Feedback(verdict="up"), links=links)
    store.commit([Append(tenant="acme", events=(said,), entries=(receipt("r"),))])
    assert store.events(OTHER) == []
    assert [store.trace(OTHER, name) for name in ("e", "s", "q", "c", "r")] == [[]] * 5
    assert store.receipt(OTHER, "r") is None
    assert store.entries(OTHER) == []
    assert store.counts(OTHER, "kind") == {}
    assert store.checkpoint(OTHER) is None
    assert store.checkpoints(OTHER) == []
    assert (store.head(OTHER).seq, store.head(OTHER).size) == (0, 0)
    with pytest.raises(InputError, match="there is no receipt 'r' of 'other'"):
        store.proof(OTHER, "r")
    with pytest.raises(StoreDamaged):
        store.growth(OTHER, 1, 2)


def test_a_bad_append_is_refused_whole_and_the_others_are_kept(store: Store) -> None:
    bad = Append(tenant="acme", events=(event(1), msgspec.structs.replace(event(2), id="")))
    no_json = Append(
        tenant="acme", events=(event(3),), entries=(Entry(kind="receipt", id="r", body=b"{"),)
    )
    done = store.commit(
        [
            bad,
            no_json,
            Append(tenant="", events=(event(4),)),
            Append(tenant="acme"),
            append("acme", 5),
        ]
    )
    assert [isinstance(d, Rejected) for d in done] == [True] * 4 + [False]
    assert [s.event.id for s in store.events(ACME)] == ["e5"]


def test_huge_and_odd_values_are_kept_whole_and_found(store: Store) -> None:
    odd = Event(
        id="e",
        time_us=2**62,
        source="x\0y",
        body=Feedback(verdict="up", comment="\0 \N{SNOWMAN} " * 1_000),
        links=Links(request="q" * 5_000, session="a\0b"),
    )
    store.commit([Append(tenant="a/b c \N{SNOWMAN}", events=(odd,))])
    scope = Scope("a/b c \N{SNOWMAN}")
    assert store.events(scope)[0].event == odd
    assert store.events(scope, request="q" * 5_000)[0].event == odd
    assert store.trace(scope, "a\0b")[0].event == odd


def test_an_event_that_is_too_large_is_refused(store: Store) -> None:
    large = Event(id="e", time_us=0, source="x", body=Feedback(verdict="up", comment="x" * 300_000))
    (done,) = store.commit([Append(tenant="acme", events=(large,))])
    assert isinstance(done, Rejected)
    assert "at most 262144" in done.reason


def test_events_are_found_by_links_kind_route_and_time(store: Store) -> None:
    store.commit(
        [
            Append(
                tenant="acme",
                events=tuple(
                    event(n, request=f"q{n // 4}", call=f"c{n // 2}", session=f"s{n // 8}",
                          route="chat" if n < 8 else "help")
                    for n in range(16)
                ),
            )
        ]
    )  # fmt: skip
    at = event(0).time_us

    def found(**which: object) -> list[int]:
        return [int(s.event.id[1:]) for s in store.events(ACME, **which)]  # type: ignore[arg-type]

    assert found(request="q1") == [4, 5, 6, 7]
    assert found(call="c3") == [6, 7]
    assert found(session="s1") == list(range(8, 16))
    assert found(id="e7") == [7]
    assert found(kind="alarm") == [2, 6, 10, 14]
    assert found(kind=("alarm", "feedback"), route="help") == [9, 10, 13, 14]
    assert found(route=("help", "chat"), since_us=at + 6, until_us=at + 9) == [6, 7, 8]
    assert found(after_seq=14) == [14, 15]
    assert found(model="nobody") == []
    assert len(store.events(ACME, limit=5)) == 5
    assert store.counts(ACME, "kind", session="s0") == {
        "alarm": 2, "feedback": 2, "stream.ended": 2, "stream.opened": 2
    }  # fmt: skip
    assert store.counts(ACME, "route") == {"chat": 8, "help": 8}
    with pytest.raises(InputError):
        store.events(ACME, request=7)  # type: ignore[arg-type]
    with pytest.raises(InputError):
        store.events(ACME, limit=-1)


def test_a_trace_takes_the_requests_and_calls_of_what_it_found(store: Store) -> None:
    store.commit(
        [
            Append(
                tenant="acme",
                events=(
                    event(1, request="q1"),
                    event(2, request="q1", call="c1", session="s"),
                    event(3, call="c1"),
                    event(4, request="q2", session="s"),
                    event(5, request="q3"),
                ),
            )
        ]
    )

    def traced(name: str) -> list[str]:
        return [s.event.id for s in store.trace(ACME, name)]

    assert traced("c1") == ["e1", "e2", "e3"]
    assert traced("q1") == ["e1", "e2", "e3"]
    assert traced("e2") == ["e1", "e2", "e3"]
    assert traced("s") == ["e2", "e4"]
    assert traced("nobody") == []


def test_every_receipt_proves_itself_with_the_public_key_alone(store: Store, keys: Keys) -> None:
    for n in range(1, 12):
        store.commit([append("acme", n, receipts=tuple(f"r{n}.{k}" for k in range(n % 3)))])
    entries = store.entries(ACME, kind="receipt")
    assert [e.index for e in entries] == list(range(12))
    for entry in entries:
        found = verify(store.proof(ACME, entry.id), trusted(keys))
        assert (found.index, found.raw) == (entry.index, entry.entry)
        assert found.entry.sequence == int(entry.id[1:].split(".")[0])


def test_the_log_only_grows(store: Store, keys: Keys) -> None:
    for n in range(1, 10):
        store.commit([append("acme", n, receipts=(f"r{n}",))])
    notes = store.checkpoints(ACME)
    assert len(notes) == 9
    for old in range(1, 9):
        proof = store.growth(ACME, old, 9)
        assert verify_growth(notes[old - 1], notes[8], proof, trusted(keys)).new.size == 9
    assert store.checkpoints(ACME, after=7) == notes[7:]


def test_a_period_states_what_there_was(store: Store, keys: Keys) -> None:
    assert store.close_period(ACME) is None
    store.commit([append("acme", *range(8), receipts=("r1", "r2"))])
    assert store.close_period(ACME) is not None
    assert store.close_period(ACME) is None
    store.commit([append("acme", receipts=("r3",)), append("acme", 8, 9)])
    assert store.close_period(ACME) is not None
    first, second = (
        verify(store.proof(ACME, e.id, kind="period"), trusted(keys)).entry.content()
        for e in store.entries(ACME, kind="period")
    )
    assert (first["first"], first["last"], first["receipts"]) == (1, 8, 2)
    assert first["kinds"] == {
        "alarm": 2, "feedback": 2, "stream.ended": 2, "stream.opened": 2
    }  # fmt: skip
    assert first["ended"] == {"blocked": 1, "ok": 1}
    assert (first["opened"], first["alarms"]) == (2, 2)
    assert (first["from_us"], first["until_us"]) == (event(0).time_us, event(7).time_us)
    assert (second["first"], second["last"], second["receipts"]) == (9, 10, 1)
    assert (second["entries_from"], second["entries_until"]) == (2, 4)


def test_a_period_that_another_process_has_just_made_is_left_to_it(
    prepared: str, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Store.open(prepared, keys=keys) as one, Store.open(prepared, keys=keys) as two:
        one.commit([append("acme", 1, 2)])
        commit = one.commit

        def late(given: Sequence[Append]) -> list[Committed | Rejected]:
            monkeypatch.setattr(one, "commit", commit)
            two.commit([append("acme", 3)])
            assert two.close_period(ACME) is not None
            return commit(given)

        monkeypatch.setattr(one, "commit", late)
        assert one.close_period(ACME) is None
        assert [e.id for e in one.entries(ACME)] == ["1-3"]


@pytest.mark.parametrize(("first", "last"), [(1, 2), (4, 4), (3, 5), (3, 2)])
def test_a_period_that_does_not_follow_the_last_one_is_refused(
    store: Store, first: int, last: int
) -> None:
    store.commit([append("acme", 1, 2)])
    store.close_period(ACME)
    store.commit([append("acme", 3, 4)])
    body = (
        b'{"first":%d,"last":%d,"from_us":0,"until_us":0,"kinds":{},"opened":0,"ended":{},'
        b'"alarms":0,"entries_from":1,"entries_until":1,"receipts":0,"events_root":"","closed_us":0}'
    ) % (first, last)
    entry = Entry(kind="period", id="wrong", body=body)
    (done,) = store.commit([Append(tenant="acme", entries=(entry,))])
    assert isinstance(done, Rejected)
    assert "it has to begin at 3" in done.reason


def test_without_keys_there_are_events_and_no_entries(prepared: str) -> None:
    with Store.open(prepared) as store:
        assert isinstance(store.commit([append("acme", 1)])[0], Committed)
        (refused,) = store.commit([append("acme", 2, receipts=("r",))])
        assert isinstance(refused, Rejected)
        assert "no keys" in refused.reason
        with pytest.raises(AppendRefused, match="no keys"):
            store.close_period(ACME)


def test_a_store_that_was_closed_is_opened_again_with_all_of_it(url: str, keys: Keys) -> None:
    for n in range(5):
        with Store.open(url, keys=keys) as store:
            store.commit([append("acme", n, receipts=(f"r{n}",))])
    with Store.open(url, keys=keys, create=False) as store:
        assert [s.seq for s in store.events(ACME)] == [1, 2, 3, 4, 5]
        assert verify(store.proof(ACME, "r2"), trusted(keys)).size == 5


def test_two_stores_over_one_place_share_sequence_and_log(prepared: str, keys: Keys) -> None:
    with Store.open(prepared, keys=keys) as one, Store.open(prepared, keys=keys) as two:
        for n in range(20):
            (one if n % 3 else two).commit([append("acme", n, receipts=(f"r{n}",))])
        assert [s.event.id for s in one.events(ACME)] == [f"e{n}" for n in range(20)]
        assert one.head(ACME) == two.head(ACME)
        assert verify(two.proof(ACME, "r7"), trusted(keys)).size == 20


def test_a_key_that_is_changed_signs_from_then_on(prepared: str, keys: Keys) -> None:
    other = Keys(Signer.from_seed(keys.signer.name, bytes([7]) * 32))
    with Store.open(prepared, keys=keys) as store:
        store.commit([append("acme", 1, receipts=("r1",))])
    with Store.open(prepared, keys=other) as store:
        store.commit([append("acme", 2, receipts=("r2",))])
        old, new = store.checkpoints(ACME)
        both = [*trusted(keys), *trusted(other)]
        assert verify_growth(old, new, store.growth(ACME, 1, 2), both).new.size == 2


def test_an_event_changed_behind_the_stores_back_is_not_read(store: Store) -> None:
    store.commit([append("acme", 1)])
    with store.transaction("spoil") as connection:
        connection.execute(sa.update(t.events).values(body=b"{}"))
    with pytest.raises(StoreDamaged, match="event 1 of 'acme'"):
        store.events(ACME)


def test_an_entry_changed_behind_the_stores_back_is_not_proven(store: Store) -> None:
    store.commit([append("acme", 1, receipts=("r",))])
    with store.transaction("spoil") as connection:
        connection.execute(sa.update(t.entries).values(entry=b"{}"))
    with pytest.raises(StoreDamaged, match="entry 0 of 'acme'"):
        store.proof(ACME, "r")


def test_what_raises_inside_a_transaction_leaves_nothing(store: Store) -> None:
    row = {"name": "n", "tenant": "acme", "seq": 1, "updated_us": 1}

    def fail() -> None:
        with store.transaction("try") as connection:
            connection.execute(sa.insert(t.cursors), [row])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    with store.reading() as connection:
        assert connection.execute(sa.select(t.cursors)).all() == []


def test_a_reader_cannot_write(store: Store) -> None:
    row = {"name": "n", "tenant": "acme", "seq": 1, "updated_us": 1}
    with pytest.raises(StoreError), store.reading() as connection:
        connection.execute(sa.insert(t.cursors), [row])
    assert store.failed is None


def test_the_files_are_the_owners_alone(sqlite_path: Path) -> None:
    with Store.open(str(sqlite_path)) as store:
        store.commit([append("acme", 1)])
        files = list(sqlite_path.parent.glob("record.db*"))
        assert len(files) == 3
        assert {path.stat().st_mode & 0o777 for path in files} == {0o600}


def test_sqlite_is_set_to_what_durability_rests_on(sqlite_path: Path) -> None:
    with Store.open(str(sqlite_path)) as store, store.transaction("look") as connection:
        said = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "secure_delete")
        }
    assert said == {
        "journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "secure_delete": 1
    }  # fmt: skip


def test_no_store_is_made_where_none_was_asked_for(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no store"):
        Store.open(str(tmp_path / "none.db"), create=False)
    (tmp_path / "empty.db").touch()
    with pytest.raises(InputError, match="there is no store"):
        Store.open(str(tmp_path / "empty.db"), create=False)
    with pytest.raises(InputError, match="cannot make the store"):
        Store.open(str(tmp_path / "no folder" / "record.db"))
    assert [path.name for path in tmp_path.iterdir()] == ["empty.db"]


def test_another_database_is_left_alone(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "other.db") as other:
        other.execute("CREATE TABLE recipes (name TEXT)")
    other.close()
    with pytest.raises(InputError, match="holds other tables"):
        Store.open(str(tmp_path / "other.db"))


@pytest.mark.parametrize(
    "url",
    ["", "mysql://me@db.example/x", "sqlite://", "sqlite:///:memory:", "sqlite:///x?mode=ro",
     "postgresql+asyncpg://db.example/x", "nonsense://", "://", "a\0b"],
)  # fmt: skip
def test_what_is_no_place_for_a_store_is_refused(url: str) -> None:
    with pytest.raises(InputError):
        Store.open(url)


def test_no_password_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError) as told:
        Store.open("mysql://me:secret@db.example/x")
    assert "secret" not in str(told.value)
