"""Events and entries as tests need them."""

from __future__ import annotations

from tocsin.events.envelope import Event, Links, Segment
from tocsin.events.kinds import Alarmed, Feedback, StreamEnded, StreamOpened
from tocsin.store import Append, Entry


def event(
    number: int,
    *,
    request: str | None = None,
    call: str | None = None,
    session: str | None = None,
    route: str = "chat",
    comment: str = "",
) -> Event:
    """An event whose id and time follow from its number; the kinds take turns."""
    bodies = (
        StreamOpened(api="chat"),
        Feedback(verdict="down", comment=comment),
        Alarmed(
            check="c", verifier="v", verifier_version="1", wanted="halt", done="halt", score=0.25
        ),
        StreamEnded(outcome="blocked" if number % 8 == 3 else "ok"),
    )
    return Event(
        id=f"e{number}",
        time_us=1_700_000_000_000_000 + number,
        source="tests",
        body=bodies[number % 4],
        links=Links(request=request, call=call, session=session),
        segment=Segment(route=route, model="m"),
    )


def receipt(name: str) -> Entry:
    return Entry(kind="receipt", id=name, body=b'{"receipt":"%b"}' % name.encode())


def append(tenant: str, *numbers: int, receipts: tuple[str, ...] = ()) -> Append:
    return Append(
        tenant=tenant,
        events=tuple(event(n) for n in numbers),
        entries=tuple(receipt(name) for name in receipts),
    )
