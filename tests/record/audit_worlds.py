"""Records with known effects, or with none, for the audits to find."""

from __future__ import annotations

from typing import Any

import numpy as np

from tocsin.events.envelope import Event, Links, Segment
from tocsin.events.kinds import (
    Alarmed,
    Body,
    Feedback,
    FeedbackVerdict,
    Reviewed,
    StreamEnded,
)

DAY = 86_400_000_000
START = 1_700_006_400_000_000  # 2023-11-15 00:00 UTC
DIGEST = "sha256:" + "ab" * 32


def at(
    body: Body,
    call: str,
    time_us: int = START,
    *,
    route: str = "chat",
    session: str | None = None,
    user: str | None = None,
    **segment: Any,
) -> Event:
    """One event."""
    return Event(
        id=f"{call}-{type(body).__name__}-{time_us}",
        time_us=time_us,
        source="test",
        body=body,
        links=Links(call=call, request=f"q-{call}", session=session, user=user),
        segment=Segment(route=route, model="m", calibrations=(DIGEST,), **segment),
    )


def alarm(check: str = "linear", **fields: Any) -> Alarmed:
    """An alarm of a calibrated check."""
    given: dict[str, Any] = {"wanted": "halt", "done": "halt", "calibration": DIGEST}
    return Alarmed(check=check, verifier="v", verifier_version="7", **(given | fields))


def ended(score: float | None = 0.5, **fields: Any) -> StreamEnded:
    """The end of a response that one check read."""
    return StreamEnded(outcome="ok", steps={"linear": 3}, lowest={"linear": score}, **fields)


def review(label: Any, probability: float | None = None) -> Reviewed:
    return Reviewed(label=label, selection_probability=probability, reviewer="r_1")


def feedback(verdict: FeedbackVerdict) -> Feedback:
    return Feedback(verdict=verdict)


def traffic(
    rng: np.random.Generator,
    n: int,
    *,
    rates: dict[str, float],
    users: int = 50,
    days: int = 1,
) -> list[Event]:
    """Responses of several routes that ring at given rates, each in a session of its own."""
    routes = sorted(rates)
    events = []
    for i in range(n):
        route = routes[int(rng.integers(len(routes)))]
        where: dict[str, Any] = {
            "route": route,
            "session": f"s{i}",
            "user": f"u{int(rng.integers(users))}",
            "time_us": START + int(rng.integers(days * DAY)),
        }
        if rng.random() < rates[route]:
            events.append(at(alarm(), f"c{i}", **where))
        events.append(at(ended(float(rng.beta(5, 2))), f"c{i}", **where))
    return events
