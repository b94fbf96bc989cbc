"""Roles and keys, and a glass to break: what is not allowed is refused, and seen."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from store.postgres import server

from tocsin import limits
from tocsin.errors import AccessDenied, ContentGone, InputError, StoreError, StoreFull
from tocsin.events.kinds import Accessed, ContentErased
from tocsin.record.redaction import PatternFinder, Redaction
from tocsin.store import Append, Committed, Content, Keys, Scope, Store, oversight
from tocsin.store import tables as t
from tocsin.store.access import (
    ACTIONS,
    ALLOWED,
    ROLES,
    Access,
    Action,
    Principal,
    Role,
    key_hash,
    local,
)
from tocsin.store.history import History

ACME = Scope("acme")
REASON = "an alarm needs to be understood"
TEXT = "what the model said"
START = 1_700_000_000.0
SHARED = Redaction(PatternFinder(), b"k" * 32)


BOTH = pytest.mark.parametrize("url", ["sqlite", "postgresql"], indirect=True)
"""Most of what is tested here is the same code on both; these tests go through all of its SQL."""


def redact(tenant: str, text: str) -> str:
    return SHARED.tenant(tenant).text(text)


class Clock:
    """Seconds since 1970, as a test says."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A SQLite file; a real server for tests that are marked with `BOTH`."""
    if getattr(request, "param", "sqlite") == "sqlite":
        yield f"sqlite:///{tmp_path}/record.db"
        return
    made = server().url()
    yield made
    server().drop(made)


@pytest.fixture
def store(url: str, keys: Keys, clock: Clock) -> Iterator[Store]:
    with Store.open(url, keys=keys, clock=clock) as made:
        yield made


@pytest.fixture
def access(store: Store) -> Access:
    numbers = iter(range(10**6))
    return Access(store, redact=redact, new_id=lambda: f"n{next(numbers)}")


def who(role: Role, *scopes: Action, tenant: str = "acme") -> Principal:
    return Principal(tenant=tenant, id=f"k_{role}", role=role, scopes=scopes)


ADMIN = who("admin")


def keep(store: Store, name: str = "c1", tenant: str = "acme", text: str = TEXT) -> None:
    content = Content(
        id=name,
        subject="u_1",
        request="r_1",
        what="output",
        text=text,
        why="evidence",
        expires_us=10**18,
    )
    (done,) = store.commit([Append(tenant=tenant, contents=(content,))])
    assert isinstance(done, Committed)


def known(store: Store, key_id: str, role: Role = "reviewer", tenant: str = "acme") -> str:
    """Have a tenant know a key of this id; returns it."""
    row = {
        "tenant": tenant, "id": key_id, "hash": f"{tenant} {key_id}", "role": role, "scopes": "[]",
        "made_us": 0, "expires_us": None, "revoked_us": None, "label": "",
    }  # fmt: skip
    with store.transaction("make a key") as connection:
        connection.execute(sa.insert(t.api_keys), [row])
    return key_id


def seen(store: Store, tenant: str = "acme") -> list[Accessed]:
    """What the tenant's record says of who did what, in order."""
    bodies = [s.event.body for s in store.events(Scope(tenant), kind="access")]
    return [body for body in bodies if isinstance(body, Accessed)]


# ------------------------------------------------------------------------------------ the one table

DOES: dict[Action, Callable[[Access, Principal], Any]] = {
    "access.read": lambda a, by: a.log(by),
    "content.open": lambda a, by: a.grant(by, reason=REASON),
    "content.read": lambda a, by: a.read(by, "c1", reason=REASON),
    "content.erase": lambda a, by: a.erase(by, subject="u_1", reason=REASON),
    "grant.give": lambda a, by: a.grant(by, to="k_somebody", reason=REASON),
    "key.manage": lambda a, by: a.add_key(by, "admin", scopes=("key.manage",)),
}
"""The actions that happen here; the others are asked for where they happen."""

EXPECTED = """
                viewer  reviewer  operator  admin  auditor
record.read     x       x         x         x      x
record.write    .       .         x         x      .
audit.ask       .       .         x         x      x
events.export   .       .         x         x      x
record.check    .       .         x         x      x
access.read     .       .         .         x      x
review.write    .       x         .         x      .
control.change  .       .         x         x      .
content.open    .       .         x         x      .
content.read    .       x         x         x      .
content.erase   .       .         .         x      .
grant.give      .       .         .         x      .
key.manage      .       .         .         x      .
history.close   .       .         x         x      .
retention.apply .       .         .         x      .
"""


def expected() -> dict[tuple[str, str], bool]:
    head, *rows = (line.split() for line in EXPECTED.strip().splitlines())
    return {
        (role, row[0]): mark == "x"
        for row in rows
        for role, mark in zip(head, row[1:], strict=True)
    }


def test_the_table_is_the_one_written_out_here() -> None:
    assert {(r, a): a in ALLOWED[r] for r in ROLES for a in ACTIONS} == expected()
    assert all(who(r).may(a) == expected()[r, a] for r in ROLES for a in ACTIONS)


@pytest.mark.parametrize("action", DOES)
@pytest.mark.parametrize("role", ROLES)
def test_every_role_does_what_the_table_says_and_no_more(
    access: Access, store: Store, role: Role, action: Action
) -> None:
    keep(store)
    known(store, "k_somebody")
    access.grant(ADMIN, to=known(store, f"k_{role}", role), reason=REASON)
    before = len(seen(store))
    if expected()[role, action]:
        DOES[action](access, who(role))
        return
    with pytest.raises(AccessDenied, match=f"its role is {role}"):
        DOES[action](access, who(role))
    (refused,) = seen(store)[before:]
    assert (refused.by, refused.role, refused.allowed) == (f"k_{role}", role, False)
    assert refused.action == action


@pytest.mark.parametrize("action", DOES)
def test_scopes_only_narrow(access: Access, store: Store, action: Action) -> None:
    keep(store)
    known(store, "k_somebody")
    access.grant(ADMIN, to="k_admin", reason=REASON)
    other: Action = "record.read"
    with pytest.raises(AccessDenied, match="narrowed"):
        DOES[action](access, who("admin", other))
    DOES[action](access, who("admin", action))
    assert not who("viewer", "key.manage").may("key.manage")


def test_a_role_that_nobody_knows_may_do_nothing() -> None:
    strange = Principal(tenant="acme", id="k", role="root")  # type: ignore[arg-type]
    assert not any(strange.may(action) for action in ACTIONS)


# --------------------------------------------------------------------------------------------- keys


@BOTH
def test_a_key_is_shown_once_and_kept_as_its_hash(access: Access, store: Store) -> None:
    made = access.add_key(ADMIN, "operator", scopes=("record.write",), label="the shop")
    assert made.key not in repr(made)
    with store.reading() as connection:
        (row,) = connection.execute(sa.select(t.api_keys)).all()
    assert made.key not in str(tuple(row))
    assert row.hash == made.hash == key_hash(made.key)
    found = access.principal(made.key)
    assert found == Principal(tenant="acme", id=made.id, role="operator", scopes=("record.write",))
    (info,) = access.keys(ADMIN)
    assert (info.id, info.label, info.expires_us) == (made.id, "the shop", None)
    assert made.hash not in repr(info)


def test_keys_differ(access: Access) -> None:
    made = {access.add_key(ADMIN, "viewer").key for _ in range(50)}
    assert len(made) == 50
    assert all(len(key) > 40 for key in made)


@pytest.mark.parametrize("key", ["", "tk-unknown", "x" * 10_000, "tk-\ud800", "sha256:" + "0" * 64])
def test_an_unknown_key_is_nobody(access: Access, key: str) -> None:
    access.add_key(ADMIN, "viewer")
    assert access.principal(key) is None


def test_the_hash_of_a_key_is_no_key(access: Access) -> None:
    assert access.principal(access.add_key(ADMIN, "viewer").hash) is None


def test_a_key_expires(access: Access, clock: Clock) -> None:
    made = access.add_key(ADMIN, "viewer", days=1)
    clock.now = START + 86_399
    assert access.principal(made.key) is not None
    clock.now = START + 86_400
    assert access.principal(made.key) is None


@BOTH
def test_a_revoked_key_is_nobody_and_stays_so(access: Access, clock: Clock) -> None:
    made = access.add_key(ADMIN, "viewer")
    access.revoke_key(ADMIN, made.id)
    clock.now += 10
    access.revoke_key(ADMIN, made.id)
    assert access.principal(made.key) is None
    assert access.keys(ADMIN)[0].revoked_us == int(START * 1e6)


def test_a_key_of_another_tenant_cannot_be_revoked(access: Access, store: Store) -> None:
    made = access.add_key(ADMIN, "viewer")
    with pytest.raises(InputError, match="no key"):
        access.revoke_key(who("admin", tenant="other"), made.id)
    assert access.principal(made.key) is not None
    assert seen(store, "other") == []


def test_a_scope_that_nobody_knows_allows_nothing(access: Access, store: Store) -> None:
    made = access.add_key(ADMIN, "admin", scopes=("record.read",))
    with store.transaction("an older version") as connection:
        connection.execute(sa.update(t.api_keys).values(scopes='["record.everything"]'))
    found = access.principal(made.key)
    assert found is not None
    assert not any(found.may(action) for action in ACTIONS)


def test_a_key_with_a_role_that_nobody_knows_is_nobody(access: Access, store: Store) -> None:
    made = access.add_key(ADMIN, "admin")
    with store.transaction("an older version") as connection:
        connection.execute(sa.update(t.api_keys).values(role="root"))
    assert access.principal(made.key) is None


@pytest.mark.parametrize(
    ("more", "match"),
    [
        ({"role": "root"}, "no role"),
        ({"role": "viewer", "scopes": ("all",)}, "no action"),
        ({"role": "viewer", "scopes": ("content.erase",)}, "could do nothing: a viewer may record"),
        ({"role": "viewer", "days": 0}, "a key lasts"),
        ({"role": "viewer", "days": float("nan")}, "a key lasts"),
    ],
)
def test_a_key_that_makes_no_sense_is_refused(
    access: Access, more: dict[str, Any], match: str
) -> None:
    with pytest.raises(InputError, match=match):
        access.add_key(ADMIN, **more)
    assert access.keys(ADMIN) == []


def test_making_and_revoking_keys_is_seen(access: Access, store: Store) -> None:
    made = access.add_key(ADMIN, "viewer", label="mail ann@example.com")
    access.revoke_key(ADMIN, made.id)
    access.revoke_key(ADMIN, made.id)
    narrow = access.add_key(ADMIN, "operator", scopes=("record.write", "audit.ask"), days=1)
    ends = "operator, only record.write audit.ask, expires 2023-11-15T22:13:20Z"
    assert [(a.action, a.target, a.allowed, a.reason) for a in seen(store)] == [
        ("key.manage", made.id, True, "made: viewer, never expires"),
        ("key.manage", made.id, True, "revoked: viewer, never expires"),
        ("key.manage", made.id, True, "revoked before: viewer, never expires"),
        ("key.manage", narrow.id, True, f"made: {ends}"),
    ]
    for told in (made, narrow):
        assert told.key not in str(seen(store)) and told.hash not in str(seen(store))
    assert "ann@example.com" not in access.keys(ADMIN)[0].label


def holder(access: Access, by: Principal, role: Role, *scopes: Action, **more: Any) -> Principal:
    """Make a key, and give whoever comes with it."""
    found = access.principal(access.add_key(by, role, scopes=scopes, **more).key)
    assert found is not None
    return found


def actions(of: Principal) -> set[Action]:
    return {action for action in ACTIONS if of.may(action)}


def test_a_key_to_make_keys_makes_only_such_keys(access: Access, store: Store) -> None:
    keep(store)
    by = holder(access, ADMIN, "admin", "key.manage")
    for role in ROLES:
        for scopes in [(), *((action,) for action in ACTIONS if action in ALLOWED[role])]:
            if scopes == ("key.manage",):
                assert actions(holder(access, by, role, *scopes)) == {"key.manage"}
                continue
            before = len(seen(store))
            with pytest.raises(AccessDenied, match=f"{by.id} may not make a key that may what"):
                access.add_key(by, role, scopes=scopes)
            (refused,) = seen(store)[before:]
            assert (refused.by, refused.action, refused.allowed) == (by.id, "key.manage", False)
            assert refused.reason.startswith(f"asked for: {role}")
    for attempt in (
        lambda: access.grant(by, reason=REASON),
        lambda: access.grant(by, to="local:ann", reason=REASON),
        lambda: access.read(by, "c1", reason=REASON),
    ):
        with pytest.raises(AccessDenied, match="narrowed"):
            attempt()


@pytest.mark.parametrize("seed", range(8))
def test_keys_that_keys_make_never_may_more_nor_live_longer(
    access: Access, store: Store, clock: Clock, seed: int
) -> None:
    draw = random.Random(seed)

    def narrowed() -> list[Action]:
        return draw.sample(list(ACTIONS), draw.randint(0, 4))

    days = draw.choice([None, 2.0])
    first = holder(access, ADMIN, "admin", *{"key.manage", *narrowed()}, days=days)
    held, refused = [first], 0
    for _ in range(60):
        clock.now += 60
        by = draw.choice(held)
        scopes = draw.choice([narrowed(), draw.sample(sorted(actions(by)), 1)])
        role, lasts = draw.choice(ROLES), draw.choice([None, 0.1, 1.0, 1.9, 3.0])
        try:
            made = access.add_key(by, role, scopes=scopes, days=lasts)
        except InputError:  # it could do nothing
            continue
        except AccessDenied:
            refused += 1
            continue
        found = access.principal(made.key)
        assert found is not None
        assert actions(found) <= actions(by) <= actions(first)
        for maker in (by, first):
            if maker.expires_us is not None:
                assert found.expires_us is not None
                assert found.expires_us <= maker.expires_us
        held.append(found)
    assert refused
    assert len(held) > 1
    assert len(access.keys(ADMIN)) == len(held)


def test_somebody_on_the_machine_makes_whatever_key(access: Access) -> None:
    for role in ROLES:
        assert actions(holder(access, local("acme", "ann"), role)) == ALLOWED[role]


def test_who_has_all_of_a_role_may_hand_on_as_much(access: Access) -> None:
    by = holder(access, ADMIN, "admin", days=1)
    for role in ROLES:
        assert actions(holder(access, by, role, days=1)) == ALLOWED[role]
    until = "which expires 2023-11-15T22:13:20Z: ask for an earlier end, by --days"
    for days in (None, 1.01):
        with pytest.raises(AccessDenied, match=f"a key that lasts longer than itself, {until}"):
            access.add_key(by, "viewer", days=days)


def test_a_grant_does_not_outlive_the_key_that_gives_it(access: Access, store: Store) -> None:
    keep(store)
    by = holder(access, ADMIN, "admin", days=10 / (24 * 60))
    reviewer = known(store, "k_reviewer")
    for to in (None, reviewer, "local:ann"):
        with pytest.raises(AccessDenied, match="a grant that lasts longer than itself, which"):
            access.grant(by, to=to, reason=REASON, minutes=11)
        assert not seen(store)[-1].allowed
        access.grant(by, to=to, reason=REASON, minutes=9)
    assert access.read(who("reviewer"), "c1", reason=REASON).text == TEXT
    assert len(access.grants(ADMIN)) == 3


def test_a_grant_to_oneself_opens_nothing_for_who_may_not_read(
    access: Access, store: Store
) -> None:
    keep(store)
    by = holder(access, ADMIN, "operator", "content.open")
    access.grant(by, reason=REASON)
    with pytest.raises(AccessDenied, match="narrowed"):
        access.read(by, "c1", reason=REASON)


# ---------------------------------------------------------------------------------- break the glass


@BOTH
def test_content_is_read_under_a_grant_with_a_reason_and_seen(access: Access, store: Store) -> None:
    keep(store)
    reviewer = who("reviewer")
    with pytest.raises(AccessDenied, match="no grant"):
        access.read(reviewer, "c1", reason=REASON)
    grant = access.grant(
        ADMIN, to=known(store, reviewer.id), reason="asked by ann@example.com for a case"
    )
    assert access.read(reviewer, "c1", reason=REASON).text == TEXT
    refused, given, read = seen(store)
    assert (refused.action, refused.allowed, refused.break_glass) == ("content.read", False, None)
    assert (given.action, given.target, given.break_glass) == ("grant.give", "k_reviewer", grant.id)
    assert "ann@example.com" not in given.reason
    assert (read.by, read.action, read.target) == ("k_reviewer", "content.read", "c1")
    assert (read.reason, read.allowed, read.break_glass) == (REASON, True, grant.id)
    assert [s.event.links.request for s in store.events(ACME)][-1] == "r_1"
    assert [s.event.body for s in access.log(who("auditor"))] == seen(store)
    assert access.grants(ADMIN) == [grant]


@BOTH
def test_a_grant_ends(access: Access, store: Store, clock: Clock) -> None:
    keep(store)
    operator = who("operator")
    access.grant(operator, reason=REASON, minutes=10)
    clock.now = START + 599.9
    assert access.read(operator, "c1", reason=REASON).text == TEXT
    clock.now = START + 600
    with pytest.raises(AccessDenied, match="no grant"):
        access.read(operator, "c1", reason=REASON)
    clock.now = START - 1
    with pytest.raises(AccessDenied, match="no grant"):
        access.read(operator, "c1", reason=REASON)


def test_a_grant_is_for_one_principal_of_one_tenant(access: Access, store: Store) -> None:
    keep(store)
    keep(store, tenant="other", text="theirs")
    access.grant(ADMIN, to=known(store, "k_reviewer"), reason=REASON)
    for stranger in (who("operator"), who("reviewer", tenant="other")):
        with pytest.raises(AccessDenied, match="no grant"):
            access.read(stranger, "c1", reason=REASON)
    assert access.read(who("reviewer"), "c1", reason=REASON).text == TEXT


def test_an_admin_needs_a_grant_too(access: Access, store: Store) -> None:
    keep(store)
    for by in (ADMIN, local("acme", "root")):
        with pytest.raises(AccessDenied, match="no grant"):
            access.read(by, "c1", reason=REASON)


@pytest.mark.parametrize("reason", ["", "  \n ", "because", "x" * 2_000])
def test_without_a_reason_nothing_happens(access: Access, store: Store, reason: str) -> None:
    keep(store)
    access.grant(ADMIN, reason=REASON)
    before = store.head(ACME)
    for attempt in (
        lambda: access.grant(ADMIN, reason=reason),
        lambda: access.read(ADMIN, "c1", reason=reason),
        lambda: access.erase(ADMIN, subject="u_1", reason=reason),
    ):
        with pytest.raises(InputError, match="reason of 8 to"):
            attempt()
    assert store.head(ACME) == before
    assert access.read(ADMIN, "c1", reason=REASON).text == TEXT


@pytest.mark.parametrize("to", ["x", "k_gone", "k_other"])
def test_a_grant_to_nobody_is_refused(access: Access, store: Store, to: str) -> None:
    known(store, "k_gone")
    access.revoke_key(ADMIN, "k_gone")
    known(store, "k_other", tenant="other")
    before = seen(store)
    with pytest.raises(InputError, match=f"no key '{to}' in use"):
        access.grant(ADMIN, to=to, reason=REASON)
    assert access.grants(ADMIN) == []
    assert seen(store) == before


def test_a_grant_may_be_to_somebody_on_the_machine(access: Access) -> None:
    assert access.grant(ADMIN, to="local:ann", reason=REASON).principal == "local:ann"


@pytest.mark.parametrize("minutes", [0, -1, limits.BREAK_GLASS_MINUTES_MAX + 1])
def test_a_grant_has_a_sensible_end(access: Access, minutes: int) -> None:
    with pytest.raises(InputError, match="a grant lasts"):
        access.grant(ADMIN, reason=REASON, minutes=minutes)


def test_reading_what_is_not_there_is_seen_too(access: Access, store: Store) -> None:
    access.grant(ADMIN, reason=REASON)
    with pytest.raises(ContentGone):
        access.read(ADMIN, "c9", reason=REASON)
    assert (seen(store)[-1].action, seen(store)[-1].target) == ("content.read", "c9")


# ----------------------------------------------------------------------------- no event, no content


@BOTH
@pytest.mark.parametrize("action", [a for a in DOES if a != "access.read"])
def test_what_cannot_be_recorded_is_not_done(
    access: Access, store: Store, monkeypatch: pytest.MonkeyPatch, action: Action
) -> None:
    keep(store)
    access.grant(ADMIN, reason=REASON)

    def full(*_: object) -> list[Committed]:
        raise StoreFull("no room")

    def state() -> list[list[Any]]:
        tables = (t.grants, t.api_keys, t.contents, t.subject_keys, t.events)
        with store.reading() as connection:
            return [list(connection.execute(sa.select(table)).all()) for table in tables]

    before = state()
    with monkeypatch.context() as patched:
        patched.setattr(oversight, "commit", full)
        with pytest.raises(StoreError, match="no room"):
            DOES[action](access, ADMIN)
    assert state() == before
    assert access.read(ADMIN, "c1", reason=REASON).text == TEXT


@BOTH
def test_an_event_under_a_known_id_does_not_count_as_recorded(store: Store) -> None:
    keep(store)
    access = Access(store, redact=redact, new_id=lambda: "always the same")
    access.grant(ADMIN, reason=REASON)
    with pytest.raises(StoreError, match="not done"):
        access.read(ADMIN, "c1", reason=REASON)


def test_a_reason_that_cannot_be_redacted_stops_it(store: Store) -> None:
    keep(store)
    Access(store, redact=redact).grant(ADMIN, reason=REASON)
    broken = Redaction(None, b"k" * 32)
    access = Access(store, redact=lambda tenant, text: broken.tenant(tenant).text(text))
    with pytest.raises(InputError, match="could not be redacted"):
        access.read(ADMIN, "c1", reason=REASON)


# ------------------------------------------------------------------------------------------ erasing


@BOTH
def test_an_erasure_is_done_purged_and_seen(access: Access, store: Store) -> None:
    keep(store)
    keep(store, tenant="other", text="theirs")
    access.grant(ADMIN, reason=REASON)
    done = access.erase(ADMIN, subject="u_1", reason="asked for by the person")
    assert (done.subjects, done.contents, done.purged) == (1, 1, True)
    with pytest.raises(ContentGone):
        access.read(ADMIN, "c1", reason=REASON)
    (erased,) = [s.event.body for s in store.events(ACME, kind="content.erased")]
    assert erased == ContentErased(
        subjects=1, contents=1, by="k_admin", reason="asked for by the person"
    )
    assert [s.event.kind for s in access.log(ADMIN)].count("content.erased") == 1
    other = who("admin", tenant="other")
    access.grant(other, reason=REASON)
    assert access.read(other, "c1", reason=REASON).text == "theirs"


@BOTH
def test_a_whole_tenant_is_erased(access: Access, store: Store) -> None:
    keep(store)
    keep(store, "c2")
    done = access.erase(ADMIN, subject=None, reason="the contract has ended")
    assert (done.subjects, done.contents) == (1, 2)
    assert seen(store)[-1].target == "all"


def test_the_log_shows_the_newest(access: Access) -> None:
    grants = [access.grant(ADMIN, reason=REASON, minutes=n) for n in range(1, 8)]
    shown = [stored.event.body for stored in access.log(ADMIN, limit=3)]
    assert [body.break_glass for body in shown if isinstance(body, Accessed)] == [
        grant.id for grant in grants[-3:]
    ]


@pytest.mark.parametrize("limit", [3, 100])
def test_the_log_shows_what_has_moved_to_files_too(
    access: Access, store: Store, clock: Clock, limit: int
) -> None:
    grants = []
    for n in range(1, 8):
        grants.append(access.grant(ADMIN, reason=REASON, minutes=n))
        if n in {2, 5}:
            clock.now += 60
            with History(store) as history:
                history.close(ACME, before_us=store.now_us(), uncovered=True)
    assert len(store.events(ACME, kind="access")) == 2
    shown = [stored.event.body for stored in access.log(ADMIN, limit=limit)]
    assert [body.break_glass for body in shown if isinstance(body, Accessed)] == [
        grant.id for grant in grants[-limit:]
    ]
    assert not access.log(who("admin", tenant="other"))


@BOTH
def test_the_log_of_a_server_says_where_its_history_is(
    access: Access, store: Store, clock: Clock, tmp_path: Path
) -> None:
    folder = str(tmp_path / "history")
    granted = access.grant(ADMIN, reason=REASON)
    assert len(access.log(ADMIN)) == 1  # a server has no place for it yet
    clock.now += 60
    with History(store, folder) as history:
        history.close(ACME, before_us=store.now_us(), uncovered=True)
    assert not store.events(ACME, kind="access")
    for given in (None, folder):
        (one,) = access.log(ADMIN, folder=given)
        assert isinstance(one.event.body, Accessed)
        assert one.event.body.break_glass == granted.id
    with pytest.raises(InputError, match="history of this store is in"):
        access.log(ADMIN, folder=str(tmp_path / "elsewhere"))


def test_targets_are_redacted(access: Access, store: Store) -> None:
    access.erase(ADMIN, subject="ann@example.com", reason=REASON)
    assert "ann@example.com" not in seen(store)[-1].target


def test_an_erasure_of_nobody_says_so(access: Access, store: Store) -> None:
    keep(store)
    access.erase(ADMIN, subject="u_2", reason="asked for by the person")
    (erased,) = [s.event.body for s in store.events(ACME, kind="content.erased")]
    assert isinstance(erased, ContentErased)
    assert (erased.subjects, erased.contents) == (0, 0)
