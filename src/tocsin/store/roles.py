"""Who may do what: five roles and one table. What is not in it is refused."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from typing import Final, Literal, get_args

import msgspec

from tocsin.errors import InputError
from tocsin.events.moments import YEAR_10000_US, rfc3339
from tocsin.limits import STORE_ID_CHARS_MAX
from tocsin.store.scope import Scope

Role = Literal["viewer", "reviewer", "operator", "admin", "auditor"]

Action = Literal[
    "record.read",
    "record.write",
    "audit.ask",
    "events.export",
    "record.check",
    "access.read",
    "review.write",
    "control.change",
    "content.open",
    "content.read",
    "content.erase",
    "grant.give",
    "key.manage",
    "history.close",
    "retention.apply",
]

ROLES: Final[tuple[Role, ...]] = get_args(Role)
ACTIONS: Final[Mapping[Action, str]] = {
    "record.read": "read events, traces and receipts",
    "record.write": "send events",
    "audit.ask": "ask the audit questions",
    "events.export": "write events to a file, or send them elsewhere",
    "record.check": "check that the record still is what was written",
    "access.read": "see who read or changed what",
    "review.write": "judge cases",
    "control.change": "move kill switches and other controls",
    "content.open": "break the glass: grant oneself raw content for a while",
    "content.read": "read raw content, under a grant and with a reason",
    "content.erase": "erase raw content for good",
    "grant.give": "grant raw content to others for a while",
    "key.manage": "make and revoke keys",
    "history.close": "move closed hours of events from the store to files",
    "retention.apply": "take away what is too old, or count it",
}
"""Every action, in words for people."""

ALLOWED: Final[Mapping[Role, frozenset[Action]]] = {
    "viewer": frozenset({"record.read"}),
    "reviewer": frozenset({"record.read", "review.write", "content.read"}),
    "operator": frozenset(
        {
            "record.read",
            "record.write",
            "audit.ask",
            "events.export",
            "record.check",
            "control.change",
            "content.open",
            "content.read",
            "history.close",
        }
    ),
    "admin": frozenset(ACTIONS),
    "auditor": frozenset(
        {"record.read", "audit.ask", "events.export", "record.check", "access.read"}
    ),
}
"""The one table; what is not in it is refused."""

LOCAL: Final = "local:"
"""What ids begin with of those who are on the machine itself and have no key."""

_KEY_BYTES: Final = 32


class Principal(msgspec.Struct, frozen=True, kw_only=True):
    """Whoever asks, within one tenant.

    Args:
        tenant: whose record it is about; there is no principal of several.
        id: of the key, or ``local:`` and a name.
        role: see `ALLOWED`.
        scopes: what the key is narrowed to; everything that the role allows where empty.
        expires_us: when the key ends, microseconds since 1970; never where None.

    Example:
        >>> who = Principal(tenant="acme", id="k_1", role="operator", scopes=("record.write",))
        >>> who.may("record.write"), who.may("record.read"), who.may("key.manage")
        (True, False, False)
    """

    tenant: str
    id: str
    role: Role
    scopes: tuple[Action, ...] = ()
    expires_us: int | None = None

    def may(self, action: Action) -> bool:
        """Whether role and scopes both allow an action."""
        allowed = action in ALLOWED.get(self.role, frozenset())
        return allowed and (not self.scopes or action in self.scopes)


def local(tenant: str, name: str) -> Principal:
    """Return somebody on the machine itself, who holds the file and so is an admin in any case."""
    who = f"{LOCAL}{name}"[:STORE_ID_CHARS_MAX]
    return Principal(tenant=Scope(tenant).tenant, id=who, role="admin")


def new_key() -> str:
    """Make a random API key."""
    return f"tk-{secrets.token_urlsafe(_KEY_BYTES)}"


def key_hash(key: str) -> str:
    """Return what is kept of a key, as the gateway's configuration has it.

    Keys are random, so that a plain hash cannot be guessed.

    Example:
        >>> key_hash("tk-a")[:15]
        'sha256:a931e5ac'
    """
    return f"sha256:{hashlib.sha256(key.encode('utf-8', 'surrogatepass')).hexdigest()}"


def check_key(role: Role, scopes: Sequence[Action], days: float | None) -> None:
    """Refuse what no key can be.

    Raises:
        InputError: no such role or scope, the key could do nothing, or would have expired already.
    """
    if role not in ROLES:
        raise InputError(f"no role {role!r}: {', '.join(ROLES)}")
    unknown = [s for s in scopes if s not in ACTIONS]
    if unknown:
        raise InputError(f"no action {unknown[0]!r}: {', '.join(ACTIONS)}")
    if scopes and not ALLOWED[role].intersection(scopes):
        raise InputError(
            f"a key of a {role} that is narrowed to {', '.join(scopes)} could do nothing: "
            f"a {role} may {', '.join(a for a in ACTIONS if a in ALLOWED[role])}"
        )
    if days is not None and not 0 < days < 36_500:
        raise InputError(f"a key lasts more than 0 and less than 36500 days, not {days}")


def overreach(by: Principal, made: Principal) -> str:
    """Say to a person how a key would be more than the one that makes it; empty where it is not.

    Example:
        >>> by = Principal(tenant="acme", id="k_1", role="admin", scopes=("key.manage",))
        >>> overreach(by, Principal(tenant="acme", id="k_2", role="viewer"))
        'k_1 may not make a key that may what it may not itself: record.read; narrow it by --scope'
    """
    more = [action for action in ACTIONS if made.may(action) and not by.may(action)]
    if more:
        return (
            f"{by.id} may not make a key that may what it may not itself: {', '.join(more)}; "
            "narrow it by --scope"
        )
    return outlives(by, made.expires_us, "make a key", "--days")


def outlives(by: Principal, until_us: int | None, act: str, option: str) -> str:
    """Say to a person that what they give would outlive their own key; empty where it would not.

    Args:
        by: who gives it.
        until_us: when it ends, microseconds since 1970; never where None.
        act: what they do, after "may not".
        option: by which an earlier end is asked for.
    """
    if by.expires_us is None or (until_us is not None and until_us <= by.expires_us):
        return ""
    return (
        f"{by.id} may not {act} that lasts longer than itself, which {ends(by.expires_us)}: "
        f"ask for an earlier end, by {option}"
    )


def ends(expires_us: int | None) -> str:
    """Say when a key ends.

    Example:
        >>> ends(0), ends(None)
        ('expires 1970-01-01T00:00:00Z', 'never expires')
    """
    if expires_us is None:
        return "never expires"
    return f"expires {rfc3339(min(expires_us, YEAR_10000_US - 1))[:19]}Z"


def denied(by: Principal, action: Action) -> str:
    """Say to a person why they may not, and who may."""
    if by.may(action):  # the role would do, so it is the grant that is missing
        return (
            f"{by.id} has no grant to read raw content at this time; an admin can give one, and an "
            "operator to themselves: tocsin access grant"
        )
    able = [role for role in ROLES if action in ALLOWED[role]]
    narrowed = action in ALLOWED.get(by.role, frozenset())
    why = "its key is narrowed to other actions" if narrowed else f"its role is {by.role}"
    return f"{by.id} may not {ACTIONS[action]}: {why}; needed: {' or '.join(able)}"
