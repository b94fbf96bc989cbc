"""`tocsin fsck`: sound where nothing was touched, and every kind of damage is found and named."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from click.testing import CliRunner
from store.making import append, event
from store.postgres import server

from tocsin.cli.main import cli
from tocsin.errors import StoreDamaged
from tocsin.events.envelope import encode, event_hash
from tocsin.receipts import Signer
from tocsin.store import Append, Content, Keys, Scope, Store
from tocsin.store import tables as t
from tocsin.store.fsck import fsck
from tocsin.store.history import History

ACME = Scope("acme")
e, n, p, h, c = t.events.c, t.entries.c, t.nodes.c, t.heads.c, t.checkpoints.c


def filled(store: Store) -> None:
    for round_ in range(6):
        first = round_ * 4
        store.commit(
            [
                append("acme", *range(first, first + 4), receipts=(f"r{first}", f"r{first + 1}")),
                append("other", first, receipts=(f"r{first}",) * (round_ % 2)),
            ]
        )
        if round_ % 2:
            store.close_period(ACME)


def about(store: Store, keys: Keys | None = None) -> set[str]:
    report = fsck(store, keys=[] if keys is None else [keys.signer.public])
    assert report.sound == (not report.findings)
    return {finding.about for finding in report.findings}


def test_what_nobody_touched_is_sound(store: Store, keys: Keys) -> None:
    assert fsck(store).sound
    filled(store)
    told: list[tuple[int, int]] = []
    report = fsck(store, keys=[keys.signer.public], progress=lambda *at: told.append(at))
    assert report.findings == ()
    assert (report.tenants, report.events, report.entries) == (2, 30, 18)
    assert report.checkpoints == 6 + 3 + 3
    assert told[0] == (0, 48)


def spoil(store: Store, statement: sa.Executable) -> None:
    with store.transaction("spoil") as connection:
        assert connection.execute(statement).rowcount


DAMAGE: dict[str, tuple[Callable[[], sa.Executable], set[str]]] = {
    "event changed": (
        lambda: sa.update(t.events).where(e.tenant == "acme", e.seq == 3).values(body=b"{}"),
        {"event"},
    ),
    "event taken out": (
        lambda: sa.delete(t.events).where(e.tenant == "acme", e.seq == 3),
        {"sequence", "period"},
    ),
    "last events taken out": (
        lambda: sa.delete(t.events).where(e.tenant == "acme", e.seq > 20),
        {"sequence", "period"},
    ),
    "event found by another id": (
        lambda: sa.update(t.events).where(e.tenant == "acme", e.seq == 3).values(id="e99"),
        {"event"},
    ),
    "hash and body changed together": (
        lambda: (
            sa.update(t.events)
            .where(e.tenant == "acme", e.seq == 3)
            .values(body=None, hash=bytes(32))
        ),
        {"period"},
    ),
    "kind changed": (
        lambda: (
            sa.update(t.events).where(e.tenant == "acme", e.seq == 3).values(kind="feedback")
        ),
        {"event", "period"},
    ),
    "entry changed": (
        lambda: sa.update(t.entries).where(n.tenant == "acme", n.index == 2).values(entry=b"{}"),
        {"entry", "tree", "checkpoint", "head"},
    ),
    "entry taken out": (
        lambda: sa.delete(t.entries).where(n.tenant == "acme", n.index == 2),
        {"entry", "period"},
    ),
    "entry under another id": (
        lambda: sa.update(t.entries).where(n.tenant == "acme", n.index == 2).values(id="r99"),
        {"entry"},
    ),
    "hash changed": (
        lambda: (
            sa.update(t.nodes)
            .where(p.tenant == "acme", p.level == 1, p.index == 0)
            .values(hash=bytes(32))
        ),
        {"tree"},
    ),
    "hash taken out": (
        lambda: sa.delete(t.nodes).where(p.tenant == "acme", p.level == 0, p.index == 14),
        {"tree"},
    ),
    "hash too many": (
        lambda: sa.insert(t.nodes).values(tenant="acme", level=0, index=15, hash=bytes(32)),
        {"tree"},
    ),
    "checkpoint of another root": (
        lambda: (
            sa.update(t.checkpoints)
            .where(c.tenant == "acme", c.size == 2)
            .values(root=bytes(32))
        ),
        {"checkpoint"},
    ),
    "last checkpoint taken out": (
        lambda: sa.delete(t.checkpoints).where(c.tenant == "acme", c.size == 15),
        {"checkpoint"},
    ),
    "checkpoint that is none": (
        lambda: sa.update(t.checkpoints).where(c.tenant == "acme", c.size == 2).values(note="x"),
        {"checkpoint"},
    ),
    "head behind": (
        lambda: sa.update(t.heads).where(h.tenant == "acme").values(seq=23, size=14),
        {"sequence", "head", "checkpoint", "entry"},
    ),
    "head with other hashes": (
        lambda: sa.update(t.heads).where(h.tenant == "acme").values(frontier=bytes(128)),
        {"head"},
    ),
    "head with another period": (
        lambda: sa.update(t.heads).where(h.tenant == "acme").values(period=20),
        {"period"},
    ),
    "head taken out": (lambda: sa.delete(t.heads).where(h.tenant == "acme"), {"head"}),
    "cursor ahead": (
        lambda: sa.insert(t.cursors).values(name="x", tenant="acme", seq=25, updated_us=0),
        {"cursor"},
    ),
    "segment that is not there": (
        lambda: sa.insert(t.segments).values(
            tenant="acme", first=1, last=4, from_us=0, until_us=0, path="x", sha256="", rows=4,
            made_us=0,
        ),
        {"segment"},
    ),
}  # fmt: skip


TYPES = {
    "text": "'halt'",
    "the same as text": "CAST({column} AS TEXT)",
    "text that is none": "CAST(x'ff00fe' AS TEXT)",
    "a number": "7",
    "a great number": "9223372036854775807",
    "another kind of number": "0.5",
    "null": "NULL",
    "bytes": "x'616263'",
}
PLACES = {
    ("events", "hash", "seq = 3"): "event",
    ("events", "body", "seq = 3"): "event",
    ("entries", "entry", '"index" = 2'): "entry",
    ("nodes", "hash", 'level = 0 AND "index" = 2'): "tree",
    ("checkpoints", "root", "size = 2"): "checkpoint",
    ("checkpoints", "note", "size = 2"): "checkpoint",
    ("heads", "frontier", "true"): "head",
    ("events", "id", "seq = 3"): "event",
    ("events", "kind", "seq = 3"): "event",
}
NUMBERS = {
    ("events", "time_us", "seq = 3"): "event",
    ("events", "seq", "seq = 3"): "event",
    ("entries", "seq", '"index" = 2'): "entry",
    ("entries", "index", '"index" = 2'): "entry",
    ("checkpoints", "size", "size = 2"): "entry",
    ("heads", "size", "true"): "head",
}
TEXTS = {"note", "id", "kind"}


def retype(path: Path, place: tuple[str, str, str], kind: str) -> bool:
    """Write a value of another type, and damage what comes after; whether SQLite took it."""
    table, column, where = place
    value = TYPES[kind].format(column=column)
    with sqlite3.connect(path) as db:
        try:
            db.execute(
                f'UPDATE {table} SET "{column}" = {value} '  # noqa: S608 - of these tables
                f"WHERE tenant = 'acme' AND {where}"
            )
        except sqlite3.IntegrityError:
            return False
        db.execute("UPDATE events SET body = x'7b7d' WHERE tenant = 'other' AND seq = 2")
        db.execute("UPDATE nodes SET hash = x'00' WHERE tenant = 'acme' AND level = 3")
    db.close()
    return True


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("place", PLACES, ids=".".join)
def test_a_value_of_another_type_is_found_like_any_other(
    sound: Path, keys: Keys, place: tuple[str, str, str], kind: str
) -> None:
    """SQLite takes them all; what comes after is looked at as well."""
    if not retype(sound, place, kind):
        assert kind == "null"
        return
    asked = ["fsck", str(sound), "--key", keys.signer.public.line, "--json"]
    done = CliRunner().invoke(cli, asked)
    assert done.exit_code == 1, (done.output, done.exception)
    told = json.loads(done.stdout)["findings"]
    found = {(finding["about"], finding["tenant"]) for finding in told}
    assert {("event", "other"), ("tree", "acme")} <= found, told
    column = place[1]
    taken_by_retention = (column, kind) == ("body", "null")
    if not taken_by_retention and not (column in TEXTS and kind == "the same as text"):
        assert (PLACES[place], "acme") in found, told


@pytest.mark.parametrize("kind", ["text", "text that is none", "another kind of number", "bytes"])
@pytest.mark.parametrize("place", NUMBERS, ids=".".join)
def test_a_number_that_is_none_ends_the_check_of_one_log_alone(
    sound: Path, place: tuple[str, str, str], kind: str
) -> None:
    assert retype(sound, place, kind)
    done = CliRunner().invoke(cli, ["fsck", str(sound), "--json"])
    assert done.exit_code == 1, (done.output, done.exception)
    told = json.loads(done.stdout)["findings"]
    found = {(finding["about"], finding["tenant"]) for finding in told}
    assert {("event", "other"), (NUMBERS[place], "acme")} <= found, told


@pytest.mark.parametrize("kind", ["the same as text", "text that is none", "a great number"])
@pytest.mark.parametrize("column", ["hash", "body"])
def test_an_event_of_another_type_is_one_line_for_who_reads(
    sound: Path, column: str, kind: str
) -> None:
    assert retype(sound, ("events", column, "seq = 3"), kind)
    for command in (["trace", sound, "e2"], ["export", sound], ["audit", "clusters", sound]):
        done = CliRunner().invoke(cli, [*map(str, command), "--tenant", "acme"])
        assert isinstance(done.exception, StoreDamaged), (command, done.output, done.exception)
        assert "event 3 of 'acme' is not what was written: run `tocsin fsck`" in str(done.exception)


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_found(sqlite_path: Path, keys: Keys, damage: str) -> None:
    statement, expected = DAMAGE[damage]
    with Store.open(str(sqlite_path), keys=keys) as store:
        filled(store)
        spoil(store, statement())
        assert about(store, keys) == expected


def test_damage_is_found_on_a_server(keys: Keys) -> None:
    url = server().url()
    try:
        with Store.open(url, keys=keys) as store:
            filled(store)
            spoil(store, DAMAGE["event taken out"][0]())
            spoil(store, DAMAGE["hash changed"][0]())
            assert about(store, keys) == {"sequence", "period", "tree"}
    finally:
        server().drop(url)


def test_what_retention_took_away_is_no_damage(store: Store, keys: Keys) -> None:
    filled(store)
    spoil(store, sa.update(t.events).where(e.tenant == "acme", e.seq < 9).values(body=None))
    assert about(store, keys) == set()


def test_a_checkpoint_by_another_key_is_found(store: Store, keys: Keys) -> None:
    filled(store)
    other = Signer.from_seed("example.com/log", bytes([9]) * 32)
    assert about(store) == set()
    assert {f.about for f in fsck(store, keys=[other.public]).findings} == {"checkpoint"}


def test_findings_are_counted_beyond_a_thousand(sqlite_path: Path) -> None:
    with Store.open(str(sqlite_path)) as store:
        store.commit([append("acme", *range(1_100))])
        spoil(store, sa.update(t.events).values(body=b"{}"))
        report = fsck(store)
        assert (len(report.findings), report.more) == (1_000, 100)


def test_pages_that_were_written_over_are_found(sqlite_path: Path, keys: Keys) -> None:
    with Store.open(str(sqlite_path), keys=keys) as store:
        store.commit([append("acme", *range(2_000))])
    raw = bytearray(sqlite_path.read_bytes())
    raw[40 * 4096 : 41 * 4096] = bytes(4096)
    sqlite_path.write_bytes(raw)
    with Store.open(str(sqlite_path), keys=keys) as store:
        assert "file" in about(store)


@pytest.fixture
def sound(sqlite_path: Path, keys: Keys) -> Path:
    with Store.open(str(sqlite_path), keys=keys) as store:
        filled(store)
    return sqlite_path


def test_the_command_says_that_all_is_sound(sound: Path, keys: Keys) -> None:
    before = sound.read_bytes()
    done = CliRunner().invoke(cli, ["fsck", str(sound), "--key", keys.signer.public.line])
    assert done.exit_code == 0, done.output
    assert done.output == "sound: 2 tenants, 30 events, 18 entries, 12 checkpoints\n"
    assert sound.read_bytes() == before


def test_the_command_says_what_is_wrong(sound: Path, tmp_path: Path) -> None:
    with sqlite3.connect(sound) as db:
        db.execute("UPDATE events SET body = x'7b7d' WHERE tenant = 'acme' AND seq = 3")
    db.close()
    done = CliRunner().invoke(cli, ["fsck", str(sound)])
    assert done.exit_code == 1
    assert "event 3 is not what was written" in done.output
    assert "NOT SOUND" in done.output
    told = json.loads(CliRunner().invoke(cli, ["fsck", str(sound), "--json"]).stdout)
    assert [finding["about"] for finding in told["findings"]] == ["event"]


def test_the_command_reads_keys_from_a_file(sound: Path, keys: Keys, tmp_path: Path) -> None:
    file = tmp_path / "log.vkey"
    file.write_text(keys.signer.public.line + "\n")
    done = CliRunner().invoke(cli, ["fsck", str(sound), "--key", str(file), "--json"])
    assert done.exit_code == 0
    assert json.loads(done.output)["signatures"] is True


def test_the_exit_status_says_what_is_the_matter(sound: Path, tmp_path: Path) -> None:
    other = Signer.from_seed("example.com/log", bytes([7]) * 32).public
    done = CliRunner().invoke(cli, ["fsck", str(sound), "--key", other.line])
    assert (done.exit_code, done.output.count("\n")) == (2, 1)
    assert "this key is not of this log" in done.output
    assert CliRunner().invoke(cli, ["fsck", str(sound), "--key", "nonsense"]).exit_code == 2
    assert CliRunner().invoke(cli, ["fsck", "mysql://x/y"]).exit_code == 2
    text = tmp_path / "text"
    text.write_text("no database\n" * 1000)
    away = "postgresql://nobody@127.0.0.1:1/none"
    for place in (str(tmp_path / "none.db"), str(text), away):
        done = CliRunner().invoke(cli, ["fsck", place])
        assert (done.exit_code, done.output.count("\n")) == (3, 1), done.output


@pytest.mark.parametrize("command", ["fsck", "receipt"])
def test_what_is_given_as_a_key_is_never_shown(
    command: str, sound: Path, keys: Keys, tmp_path: Path
) -> None:
    """The file of a secret is easily taken for that of the public key, and logs are kept."""
    Keys.open(tmp_path / "keys", name="example.com/log")
    begins = ["fsck", str(sound)] if command == "fsck" else ["receipt", "key", "acme"]
    for name in ("master.key", "redaction.key", "log.pem"):
        file = tmp_path / "keys" / name
        done = CliRunner().invoke(cli, [*begins, "--key", str(file)])
        assert done.exit_code == 2, done.output
        assert name in done.output
        assert not [line for line in file.read_text().split() if line in done.output]
    for secret in ("QkIyZ0NFTVNQOEtYczEyMzQ1Njc4OTAxMjM0NTY3ODk=", "a+b+cQkIyZ0NFTVNQOEtYczEyMzQ1"):
        done = CliRunner().invoke(cli, [*begins, "--key", secret])
        assert done.exit_code == 2, done.output
        assert secret[5:] not in done.output


def test_a_file_that_was_cut_off_is_not_sound(sound: Path) -> None:
    sound.write_bytes(sound.read_bytes()[:50_000])
    for name in ("-wal", "-shm"):
        sound.with_name(sound.name + name).unlink(missing_ok=True)
    done = CliRunner().invoke(cli, ["fsck", str(sound)])
    assert done.exit_code == 1, done.output
    assert "NOT SOUND" in done.output
    assert "tocsin fsck" not in done.output
    told = json.loads(CliRunner().invoke(cli, ["fsck", str(sound), "--json"]).stdout)
    assert {finding["about"] for finding in told["findings"]} == {"file"}


def test_a_copy_is_as_sound_as_its_original(sound: Path, tmp_path: Path) -> None:
    shutil.copy(sound, tmp_path / "copy.db")
    with Store.open(str(tmp_path / "copy.db"), create=False) as store:
        assert fsck(store).sound


@pytest.fixture
def moved(sqlite_path: Path, keys: Keys) -> Iterator[Store]:
    """A store whose first sixteen events are in files."""
    with Store.open(str(sqlite_path), keys=keys) as store, History(store) as history:
        filled(store)
        store.close_period(ACME)
        history.close(ACME, before_us=event(16).time_us)
        assert store.events(ACME)[0].seq == 17
        yield store


def test_events_in_files_are_as_sound_as_rows(moved: Store, keys: Keys) -> None:
    report = fsck(moved, keys=[keys.signer.public])
    assert report.findings == ()
    assert report.events == 30


def test_a_file_of_history_that_is_not_there_is_found(moved: Store) -> None:
    (file,) = Path(f"{moved.url.database}.history").rglob("*.parquet")
    file.unlink()
    assert about(moved) == {"segment", "sequence", "period"}


def test_a_file_of_history_that_was_changed_is_found(moved: Store) -> None:
    (file,) = Path(f"{moved.url.database}.history").rglob("*.parquet")
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 2] ^= 1
    file.write_bytes(raw)
    assert about(moved) == {"segment", "sequence", "period"}


def test_rows_that_a_crash_left_beside_their_file_are_no_damage(moved: Store) -> None:
    with moved.transaction("put a row back") as connection:
        connection.execute(
            sa.insert(t.events).values(
                tenant="acme", seq=16, id="e15", time_us=event(15).time_us, kind="stream.ended",
                route="chat", model="m", hash=event_hash(encode(event(15))),
                body=encode(event(15)),
            )
        )  # fmt: skip
    assert about(moved) == set()


def test_a_segment_that_leaves_a_gap_is_found(moved: Store) -> None:
    spoil(moved, sa.update(t.segments).values(first=2))
    assert "segment" in about(moved)


@pytest.mark.parametrize("prepared", ["postgresql"], indirect=True)
def test_content_whose_subject_is_unknown_is_found(store: Store) -> None:
    """In SQLite its own check of foreign keys, which cannot be dropped, says so first."""
    content = Content(
        id="x", subject="u_1", request="q", what="output", text="a", why="sample", expires_us=2**60
    )
    store.commit([Append(tenant="acme", contents=(content,))])
    assert about(store) == set()
    with store.transaction("spoil") as connection:
        connection.exec_driver_sql("ALTER TABLE contents DROP CONSTRAINT contents_subject")
        connection.execute(sa.delete(t.subject_keys))
    try:
        assert about(store) == {"content"}
    finally:
        with store.transaction("mend") as connection:
            connection.execute(sa.delete(t.contents))
            connection.exec_driver_sql(
                "ALTER TABLE contents ADD CONSTRAINT contents_subject FOREIGN KEY "
                "(tenant, subject) REFERENCES subject_keys (tenant, subject)"
            )
