"""Raw content opens for its tenant, unchanged, until it expires or is erased; then for nobody."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from store.postgres import server

from tocsin.errors import ContentGone, InputError, StoreDamaged
from tocsin.receipts import Signer
from tocsin.store import Append, Committed, Content, Keys, Rejected, Store, vault
from tocsin.store import tables as t

TEXT = "the plain text of an answer, æøå \N{BELL}"
LATE = 10**18
LONG_AGO = 1


def content(name: str = "c1", subject: str = "u_1", text: str = TEXT, **more: Any) -> Content:
    fields = {"request": "r_1", "what": "output", "why": "sample", "expires_us": LATE, **more}
    return Content(id=name, subject=subject, text=text, **fields)


def keep(store: Store, *contents: Content, tenant: str = "acme") -> None:
    (done,) = store.commit([Append(tenant=tenant, contents=contents)])
    assert isinstance(done, Committed), done


def opened(store: Store, name: str = "c1", tenant: str = "acme", now_us: int = 0) -> vault.Opened:
    assert store.keys is not None
    with store.reading() as connection:
        return vault.read(connection, store.keys, tenant, name, now_us)


def wrapped(store: Store) -> list[bytes]:
    """Every key that is in the store, as it lies there, without what is not secret of it."""
    with store.reading() as connection:
        inner = connection.execute(sa.select(t.subject_keys.c.wrapped)).scalars()
        outer = connection.execute(sa.select(t.tenant_keys.c.wrapped)).scalars()
        return [bytes(w)[20:] for w in (*inner, *outer) if w is not None]


def files(store: Store) -> bytes:
    """Everything that lies on disk beside a SQLite store, its log included."""
    path = Path(str(store.url.database))
    return b"".join(f.read_bytes() for f in sorted(path.parent.glob(path.name + "*")))


@pytest.fixture
def sqlite(sqlite_path: Path, keys: Keys) -> Iterator[Store]:
    with Store.open(str(sqlite_path), keys=keys) as made:
        yield made


# ------------------------------------------------------------------------------------ seal and read


def test_content_opens_as_it_was_given(store: Store) -> None:
    keep(store, content(), content("c2", text=""), content("c3", text="\ud800", request=""))
    read = opened(store)
    assert (read.text, read.subject, read.request) == (TEXT, "u_1", "r_1")
    assert (read.what, read.why, read.expires_us) == ("output", "sample", LATE)
    assert opened(store, "c2").text == ""
    assert opened(store, "c3").request == ""


def test_no_plain_text_and_no_key_lies_on_disk(sqlite: Store, keys: Keys) -> None:
    keep(sqlite, *(content(f"c{i}", f"u_{i % 3}") for i in range(50)))
    lying = files(sqlite)
    assert b"plain text" not in lying
    assert keys.masters[0] not in lying
    assert b"u_1" in lying


def test_one_key_a_subject_and_one_a_tenant(store: Store) -> None:
    keep(store, content("c1", "u_1"), content("c2", "u_1"), content("c3", "r_9"))
    keep(store, content("c4", "u_1"))
    keep(store, content("c1", "u_1"), tenant="other")
    with store.reading() as connection:
        inner = connection.execute(sa.select(t.subject_keys.c.tenant, t.subject_keys.c.subject))
        assert sorted(tuple(r) for r in inner) == [
            ("acme", "r_9"),
            ("acme", "u_1"),
            ("other", "u_1"),
        ]
        assert (
            connection.execute(sa.select(sa.func.count()).select_from(t.tenant_keys)).scalar() == 2
        )


def test_nonces_never_repeat(sqlite: Store, keys: Keys) -> None:
    seen = set()
    with sqlite.transaction("seal") as connection:
        for i in range(300):
            row = vault.seal(connection, keys, "acme", content(f"c{i}", text=""), 0)
            assert len(row["nonce"]) == 12
            seen.add(row["nonce"])
    assert len(seen) == 300


def test_content_of_another_tenant_is_not_there(store: Store) -> None:
    keep(store, content())
    with pytest.raises(ContentGone, match="unknown, expired or erased"):
        opened(store, tenant="other")


def test_what_has_expired_is_not_read(store: Store) -> None:
    keep(store, content(expires_us=1_000))
    assert opened(store, now_us=999).text == TEXT
    with pytest.raises(ContentGone):
        opened(store, now_us=1_000)


def test_without_a_master_key_nothing_is_kept(sqlite_path: Path) -> None:
    bare = Keys(Signer.from_seed("example.com/log", bytes(32)))
    with Store.open(str(sqlite_path), keys=bare) as store:
        (done,) = store.commit([Append(tenant="acme", contents=(content(),))])
    assert isinstance(done, Rejected)
    assert "master key" in done.reason


# ---------------------------------------------------------------------------------------- tampering


@pytest.mark.parametrize(
    "changes",
    [
        {"subject": "u_2"},
        {"request": "r_2"},
        {"what": "input"},
        {"why": "evidence"},
        {"made_us": 5},
        {"id": "c9"},
        {"nonce": bytes(12)},
        {"sealed": b""},
        {"sealed": bytes(40)},
    ],
    ids=lambda c: next(iter(c)),
)
def test_a_row_that_was_changed_does_not_open(sqlite: Store, changes: dict[str, Any]) -> None:
    keep(sqlite, content(), content("c2", "u_2"))
    with sqlite.transaction("tamper") as connection:
        connection.execute(sa.update(t.contents).where(t.contents.c.id == "c1").values(**changes))
    with pytest.raises(StoreDamaged, match="does not open"):
        opened(sqlite, changes.get("id", "c1"))


def test_no_single_bit_of_a_sealed_row_can_be_flipped(sqlite: Store, keys: Keys) -> None:
    keep(sqlite, content(text="short"))
    with sqlite.reading() as connection:
        row = connection.execute(sa.select(t.contents)).one()
        key = vault._kept_subject_key(connection, vault._master(keys), "acme", "u_1")
    assert key is not None
    whole = bytes(row.nonce) + bytes(row.sealed)
    bound = vault._bound_content("acme", "u_1", "c1", "r_1", "output", "sample", row.made_us)
    assert vault._opened(key, whole, bound, "it") == b"short"
    for place in range(len(whole) * 8):
        flipped = bytearray(whole)
        flipped[place // 8] ^= 1 << place % 8
        with pytest.raises(StoreDamaged):
            vault._opened(key, bytes(flipped), bound, "it")


@pytest.mark.parametrize("table", [t.subject_keys, t.tenant_keys], ids=["subject", "tenant"])
def test_a_key_of_another_tenant_does_not_open(sqlite: Store, table: sa.Table) -> None:
    keep(sqlite, content())
    keep(sqlite, content(text="theirs"), tenant="other")
    with sqlite.transaction("tamper") as connection:
        asked = sa.select(table.c.wrapped).where(table.c.tenant == "other")
        theirs = connection.execute(asked).scalar()
        connection.execute(sa.update(table).where(table.c.tenant == "acme").values(wrapped=theirs))
    with pytest.raises(StoreDamaged, match="does not open"):
        opened(sqlite)


def test_a_whole_row_moved_to_another_tenant_does_not_open(sqlite: Store) -> None:
    keep(sqlite, content())
    keep(sqlite, content("c2"), tenant="other")
    with sqlite.transaction("tamper") as connection:
        row = connection.execute(sa.select(t.contents).where(t.contents.c.id == "c1")).one()
        connection.execute(sa.insert(t.contents), [{**row._asdict(), "tenant": "other"}])
    with pytest.raises(StoreDamaged, match="does not open"):
        opened(sqlite, tenant="other")


# ------------------------------------------------------------------------------------------ erasing


def test_what_is_erased_opens_no_more_and_the_rest_does(store: Store) -> None:
    keep(store, content("c1", "u_1"), content("c2", "u_1"), content("c3", "u_2"))
    keep(store, content("c1", "u_1"), tenant="other")
    with store.transaction("erase") as connection:
        done = vault.erase_subject(connection, "acme", "u_1", 5)
    assert done == vault.Erased(subjects=1, contents=2)
    for name in ("c1", "c2"):
        with pytest.raises(ContentGone):
            opened(store, name)
    assert opened(store, "c3").text == TEXT
    assert opened(store, "c1", tenant="other").text == TEXT
    with store.transaction("again") as connection:
        again = vault.erase_subject(connection, "acme", "u_1", 6)
    assert again == vault.Erased(subjects=0, contents=0)


def test_a_tenant_is_erased_whole_and_alone(store: Store) -> None:
    keep(store, content("c1", "u_1"), content("c2", "u_2"))
    keep(store, content(), tenant="other")
    with store.transaction("erase") as connection:
        assert vault.erase_tenant(connection, "acme", 5) == vault.Erased(subjects=2, contents=2)
    for name in ("c1", "c2"):
        with pytest.raises(ContentGone):
            opened(store, name)
    assert opened(store, tenant="other").text == TEXT


def test_a_row_that_comes_back_from_a_backup_does_not_open(sqlite: Store) -> None:
    keep(sqlite, content())
    with sqlite.reading() as connection:
        row = connection.execute(sa.select(t.contents)).one()._asdict()
    with sqlite.transaction("erase") as connection:
        vault.erase_subject(connection, "acme", "u_1", 5)
    with sqlite.transaction("restore") as connection:
        connection.execute(sa.insert(t.contents), [row])
    with pytest.raises(ContentGone, match="its key was destroyed"):
        opened(sqlite)


def test_after_an_erasure_the_same_person_gets_another_key(store: Store) -> None:
    keep(store, content())
    before = wrapped(store)
    with store.transaction("erase") as connection:
        vault.erase_tenant(connection, "acme", 5)
    keep(store, content("c2", text="later"))
    assert opened(store, "c2").text == "later"
    assert not set(before) & set(wrapped(store))
    with store.reading() as connection:
        assert connection.execute(sa.select(t.subject_keys.c.destroyed_us)).scalar() == 5


@pytest.mark.parametrize("whole", [False, True], ids=["subject", "tenant"])
def test_no_wrapped_key_is_left_on_disk_after_an_erasure(sqlite: Store, whole: bool) -> None:
    keep(sqlite, *(content(f"c{i}", f"u_{i}") for i in range(40)))
    sqlite.truncate_log()  # some pages in the file itself, some in its log
    keep(sqlite, *(content(f"d{i}", f"u_{i}") for i in range(40)))
    with sqlite.reading() as connection:
        sealed = [bytes(s) for s in connection.execute(sa.select(t.contents.c.sealed)).scalars()]
    secrets = wrapped(sqlite) if whole else wrapped(sqlite)[:-1]
    lying = files(sqlite)
    assert all(secret in lying for secret in (*secrets, *sealed))
    with sqlite.transaction("erase") as connection:
        if whole:
            vault.erase_tenant(connection, "acme", 5)
        else:
            for i in range(40):
                vault.erase_subject(connection, "acme", f"u_{i}", 5)
    assert vault.purge(sqlite)
    lying = files(sqlite)
    assert not any(secret in lying for secret in (*secrets, *sealed))


def test_on_a_server_the_tables_files_are_written_anew(keys: Keys) -> None:
    url = server().url()
    with Store.open(url, keys=keys) as store:
        keep(store, *(content(f"c{i}", f"u_{i}") for i in range(20)))
        with store.transaction("erase") as connection:
            vault.erase_tenant(connection, "acme", 5)
        assert vault.purge(store)
        with store.reading() as connection:
            size = connection.execute(sa.text("SELECT pg_relation_size('contents')")).scalar()
        assert size == 0
    server().drop(url)


def test_a_reader_that_hinders_the_purge_is_told_of(sqlite: Store) -> None:
    keep(sqlite, content())
    began, done = threading.Event(), threading.Event()

    def reader() -> None:
        with sqlite.reading() as connection:
            connection.execute(sa.select(t.contents)).all()
            began.set()
            done.wait(60)

    thread = threading.Thread(target=reader)
    thread.start()
    try:
        assert began.wait(60)
        with sqlite.transaction("erase") as connection:
            vault.erase_subject(connection, "acme", "u_1", 5)
        assert not vault.purge(sqlite)
    finally:
        done.set()
        thread.join()
    assert vault.purge(sqlite)


# ----------------------------------------------------------------------------------------- expiring


def test_what_has_expired_is_deleted_with_keys_that_lock_nothing_more(store: Store) -> None:
    keep(
        store,
        content("c1", "u_1", expires_us=10),
        content("c2", "u_1", expires_us=20),
        content("c3", "r_1", expires_us=10),
    )
    keep(store, content("c1", "u_1", expires_us=10), tenant="other")
    with store.transaction("expire") as connection:
        assert vault.expire(connection, "acme", 9) == 0
        assert vault.expire(connection, "acme", 10) == 2
        assert vault.expire(connection, "acme", 10) == 0
    with store.reading() as connection:
        left = connection.execute(sa.select(t.contents.c.tenant, t.contents.c.id)).all()
        subjects = connection.execute(
            sa.select(t.subject_keys.c.tenant, t.subject_keys.c.subject)
        ).all()
    assert sorted(map(tuple, left)) == [("acme", "c2"), ("other", "c1")]
    assert sorted(map(tuple, subjects)) == [("acme", "u_1"), ("other", "u_1")]
    assert opened(store, "c2").text == TEXT


def test_that_somebody_was_erased_is_remembered_beyond_expiry(store: Store) -> None:
    keep(store, content("c1"))
    with store.transaction("erase") as connection:
        vault.erase_subject(connection, "acme", "u_1", 5)
    keep(store, content("c2", expires_us=10))
    with store.transaction("expire") as connection:
        assert vault.expire(connection, "acme", 10) == 1
    with store.reading() as connection:
        (row,) = connection.execute(sa.select(t.subject_keys)).all()
    assert (row.destroyed_us, row.wrapped) == (5, None)


# ----------------------------------------------------------------------------------------- rotation


def with_masters(url: str, *masters: bytes) -> Store:
    return Store.open(url, keys=Keys(Signer.from_seed("example.com/log", bytes(32)), masters))


def test_a_master_key_is_changed_and_the_old_one_forgotten(url: str) -> None:
    old, new = b"o" * 32, b"n" * 32
    with with_masters(url, old) as store:
        keep(store, content())
        keep(store, content(), tenant="other")
        before = wrapped(store)
    with with_masters(url, new, old) as store:
        assert store.keys is not None
        assert opened(store).text == TEXT
        keep(store, content("c2", "u_2"))
        with store.transaction("rotate") as connection:
            assert vault.rotate_master(connection, store.keys) == 2
            assert vault.rotate_master(connection, store.keys) == 0
        assert len(set(before) & set(wrapped(store))) == 2  # those of subjects are as they were
    with with_masters(url, new) as store:
        assert opened(store).text == opened(store, tenant="other").text == TEXT
        assert opened(store, "c2").text == TEXT
    with with_masters(url, old) as store, pytest.raises(InputError, match="is not given"):
        opened(store)


def test_a_rotation_without_the_old_key_changes_nothing(url: str) -> None:
    with with_masters(url, b"o" * 32) as store:
        keep(store, content())
        before = wrapped(store)
    with with_masters(url, b"n" * 32) as store:
        assert store.keys is not None
        with pytest.raises(InputError, match="is not given"), store.transaction("r") as connection:
            vault.rotate_master(connection, store.keys)
        assert wrapped(store) == before


def test_a_tenants_key_is_changed_and_the_old_one_destroyed(store: Store, keys: Keys) -> None:
    keep(store, content("c1", "u_1"), content("c2", "u_2"))
    with store.transaction("erase") as connection:
        vault.erase_subject(connection, "acme", "u_2", 4)
    before = wrapped(store)
    with store.transaction("rotate") as connection:
        assert vault.rotate_tenant(connection, keys, "acme", 5) == 1
    assert opened(store, "c1").text == TEXT
    assert not set(before) & set(wrapped(store))
    keep(store, content("c3", "u_3"))
    assert opened(store, "c3").text == TEXT


def test_an_error_shows_no_key(url: str) -> None:
    master = os.urandom(32)
    with with_masters(url, master) as store:
        keep(store, content())
    with with_masters(url, os.urandom(32)) as store, pytest.raises(InputError) as caught:
        opened(store)
    assert master.hex()[:8] not in str(caught.value)
