"""Events out, after a cursor, at least once: to a webhook as CloudEvents, or over OTLP.

A batch is sent, then the cursor moves. A crash between the two sends the batch again, under the
same ids: a receiver that keeps them sees each event once.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, Protocol, Unpack

import msgspec
import sqlalchemy as sa

from tocsin.errors import InputError
from tocsin.events.cloudevents import BATCH, encode_batch
from tocsin.events.spans import span_of
from tocsin.limits import EVENTS_CLIENT_TIMEOUT_S, OUTWARD_BATCH
from tocsin.record import otlp
from tocsin.record.addresses import address_of, check_host
from tocsin.record.sending import Answer, Sender, pause_s, place
from tocsin.record.whole import Whole
from tocsin.store import Scope, Store, Stored
from tocsin.store import tables as t
from tocsin.store.reading import Which

Did = Literal["sent", "nothing", "again", "refused"]
"""sent: a batch, and the cursor moved. nothing: all was sent. again: the receiver was not there or
busy; the same batch comes next. refused: the receiver does not take this batch, and will not if
nobody changes something; the same batch comes next."""


class Delivering(Protocol):
    """What brings a batch to its receiver."""

    def deliver(self, tenant: str, batch: Sequence[Stored]) -> Answer:
        """Send a batch once."""


class Reading(Protocol):
    """What gives events: a `Store`, or its `History`, which reads files as well."""

    def events(self, scope: Scope, *, limit: int, **which: Unpack[Which]) -> Sequence[Stored]:
        """Give events in the order of their sequence numbers."""


class Exported(msgspec.Struct, kw_only=True):
    """What an exporter did so far.

    Args:
        events: sent, those sent again counted again.
        tries: that failed in a row.
        status: of the last answer; 0 where there was none.
        said: what came back last, in words.
    """

    events: int = 0
    tries: int = 0
    status: int = 0
    said: str = ""


class Exporter:
    """Brings one tenant's events to one receiver, in order.

    Args:
        store: holds events and cursor.
        scope: whose events.
        name: of the cursor: one for each receiver.
        to: delivers.
        reader: gives events; rows and closed hours of the store where left out.
        kinds: only these; all where empty.
        draw: spreads tries.
    """

    def __init__(
        self,
        store: Store,
        scope: Scope,
        name: str,
        to: Delivering,
        *,
        reader: Reading | None = None,
        kinds: Sequence[str] = (),
        draw: random.Random | None = None,
    ) -> None:
        if not name or len(name) > 64 or not name.isprintable():
            raise InputError("name the cursor with 1 to 64 printable characters")
        self._store = store
        self._scope = scope
        self._name = name
        self._to = to
        self._reader: Reading = reader or Whole(store)
        self._kinds = tuple(kinds)
        self._draw = draw or random.Random(0)  # noqa: S311 - spreads tries, no secret
        self.done = Exported()

    @property
    def cursor(self) -> int:
        """Sequence number of the last event that was taken; 0 before the first."""
        c = t.cursors.c
        with self._store.reading("read a cursor") as connection:
            found = connection.execute(
                sa.select(c.seq).where(c.name == self._name, c.tenant == self._scope.tenant)
            ).scalar()
        return int(found or 0)

    def step(self) -> Did:
        """Send one batch, if there is one.

        Raises:
            StoreError: the store cannot be read, or the cursor not be written.
        """
        after = self.cursor
        head = self._store.head(self._scope).seq
        which: Which = {"after_seq": after}
        if self._kinds:
            which["kind"] = self._kinds
        batch = self._reader.events(self._scope, limit=OUTWARD_BATCH, **which)
        if not batch:
            # Where none of these kinds came, what was read need not be read again.
            if head > after:
                self._move(after, head)
            return "nothing"
        answer = self._to.deliver(self._scope.tenant, batch)
        self.done.status, self.done.said = answer.status, answer.said
        if not answer.good:
            self.done.tries += 1
            return "again" if answer.again else "refused"
        self.done.tries = 0
        self.done.events += len(batch)
        self._move(after, batch[-1].seq)
        return "sent"

    def pause_s(self) -> float:
        """Say how long to wait after a try that failed."""
        return pause_s(max(1, self.done.tries), Answer(self.done.status), self._draw)

    def _move(self, before: int, after: int) -> None:
        """Move the cursor forward, never back: another process may have been faster."""
        c = t.cursors.c
        mine = (c.name == self._name) & (c.tenant == self._scope.tenant)
        values = {"seq": after, "updated_us": self._store.now_us()}
        with self._store.transaction("move a cursor") as connection:
            # The tenant's row is the lock: two that begin a cursor at once do not collide.
            connection.execute(
                sa.select(t.heads.c.seq)
                .where(t.heads.c.tenant == self._scope.tenant)
                .with_for_update()
            )
            moved = connection.execute(
                sa.update(t.cursors).where(mine, c.seq < after).values(values)
            )
            if moved.rowcount or before:
                return
            there = connection.execute(sa.select(c.seq).where(mine)).scalar()
            if there is None:
                connection.execute(
                    sa.insert(t.cursors).values(
                        name=self._name, tenant=self._scope.tenant, **values
                    )
                )


class Webhook:
    """Sends CloudEvents, signed, to a host that is listed. Redirects are not followed.

    The signature is that of Standard Webhooks: header ``webhook-signature`` holds ``v1,`` and the
    base64 of an HMAC-SHA256 over ``webhook-id``, ``webhook-timestamp`` and the body, with a point
    between each two.

    Args:
        url: of the receiver.
        secret: shared with it; at least 16 bytes.
        allowed: hosts that events may be sent to, see `tocsin.record.addresses.check_host`.
        private: whether the host may lie within one's own network.
        clock_s: seconds since 1970.

    Raises:
        InputError: the URL or the secret cannot be used, or the host is not listed.
    """

    def __init__(
        self,
        url: str,
        secret: bytes,
        *,
        allowed: Sequence[str],
        private: bool = False,
        clock_s: Callable[[], float] = time.time,
    ) -> None:
        if len(secret) < 16:
            raise InputError("the secret of a webhook has fewer than 16 bytes: make a random one")
        self._secret = secret
        self._clock_s = clock_s
        self._sender = _sender(url, {}, allowed=allowed, private=private)

    def deliver(self, tenant: str, batch: Sequence[Stored]) -> Answer:
        """Send a batch once."""
        body = encode_batch(one.event for one in batch)
        named = f"{tenant} {batch[0].seq} {batch[-1].seq}"
        message = f"msg_{hashlib.sha256(named.encode()).hexdigest()[:32]}"
        stamp = str(int(self._clock_s()))
        headers = {
            "content-type": BATCH,
            "webhook-id": message,
            "webhook-timestamp": stamp,
            "webhook-signature": signature(self._secret, message, stamp, body),
        }
        return self._sender.send(body, headers)

    def close(self) -> None:
        """Close the connection."""
        self._sender.close()


def signature(secret: bytes, message: str, stamp: str, body: bytes) -> str:
    """Sign a message as Standard Webhooks does, for `Webhook` and for its receivers.

    Example:
        >>> signature(b"0123456789abcdef", "msg_1", "0", b"[]")[:3]
        'v1,'
    """
    signed = hmac.digest(secret, f"{message}.{stamp}.".encode() + body, "sha256")
    return "v1," + base64.b64encode(signed).decode()


class Otlp:
    """Sends spans to a collector, see `tocsin.events.spans`.

    Args:
        url: with its path: ``https://collector.example/v1/traces``.
        headers: such as the one that holds a key.
        allowed, private: as for `Webhook`.
        encoding: ``protobuf``, which needs the extra ``otlp``, or ``json``.

    Raises:
        InputError: the URL cannot be used, or the host is not listed.
    """

    def __init__(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        allowed: Sequence[str],
        private: bool = False,
        encoding: Literal["protobuf", "json"] = "protobuf",
    ) -> None:
        self._sender = _sender(url, headers or {}, allowed=allowed, private=private)
        self._encoding = encoding

    def deliver(self, tenant: str, batch: Sequence[Stored]) -> Answer:
        """Send a batch once; which tenant's it is stands in no span."""
        del tenant
        spans = [span_of(one.event) for one in batch]
        if self._encoding == "json":
            return self._sender.send(otlp.to_json(spans), {"content-type": otlp.JSON})
        return self._sender.send(otlp.to_protobuf(spans), {"content-type": otlp.PROTOBUF})

    def close(self) -> None:
        """Close the connection."""
        self._sender.close()


def _sender(
    url: str, headers: Mapping[str, str], *, allowed: Sequence[str], private: bool
) -> Sender:
    to = place(url)
    check_host(to.host, allowed)
    if not to.secure and not private:
        raise InputError("events leave over https:// only; http:// is for one's own network")
    return Sender(
        to,
        {"user-agent": "tocsin", **headers},
        EVENTS_CLIENT_TIMEOUT_S,
        lambda: address_of(to.host, to.port, private=private),
    )
