"""What a fake model answers beside the three APIs: its models, and what it has seen.

A fake in a process of its own is told what to say over HTTP too: ``POST /fake/script`` takes a
list of replies, ``POST /fake/always`` one reply, ``POST /fake/step`` and ``POST /fake/release`` let
go of what hangs, and ``GET /fake/seen`` gives counts, and the times of every request.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from tocsin.testing.fake_model.replies import Reply
from tocsin.testing.fake_model.wire import Exchange

if TYPE_CHECKING:
    from tocsin.testing.fake_model.server import FakeModel

_CREATED_S = 1_700_000_000


def _told(payload: Any, status: int = 200) -> Reply:
    return Reply(raw=(msgspec.json.encode(payload),), status=status)


def models_list(models: tuple[str, ...], exchange: Exchange) -> Reply:
    """List the models, in the form of the API that asks."""
    if "anthropic-version" not in exchange.headers:
        data = [
            {"id": name, "object": "model", "created": _CREATED_S, "owned_by": "fake"}
            for name in models
        ]
        return _told({"object": "list", "data": data})
    data = [
        {
            "type": "model",
            "id": name,
            "display_name": name,
            "created_at": "2023-11-14T22:13:20Z",
        }
        for name in models
    ]
    ends = {"first_id": models[0], "last_id": models[-1]} if models else {}
    return _told({"data": data, "has_more": False, **ends})


def control(fake: FakeModel, exchange: Exchange) -> Reply:
    """Do what a request to ``/fake/`` says."""
    try:
        match exchange.path.removeprefix("/fake/"):
            case "script":
                fake.script(*msgspec.json.decode(exchange.raw, type=list[Reply]))
            case "always":
                fake.always(msgspec.json.decode(exchange.raw, type=Reply))
            case "step":
                fake.step()
            case "release":
                fake.release()
            case "seen":
                return _told(_seen(fake))
            case _:
                return _told({"error": "no such path"}, 404)
    except msgspec.DecodeError as error:
        return _told({"error": str(error)}, 400)
    return _told({})


def _seen(fake: FakeModel) -> dict[str, Any]:
    counts = ("open", "closed", "gone", "ended", "held", "frames")
    requests = [
        {
            "path": one.path,
            "came_s": one.came_s,
            "sent_s": one.sent_s,
            "ended_s": one.ended_s,
            "gone_s": one.gone_s,
            "frames": one.frames,
            "accepted_bytes": one.accepted_bytes,
        }
        for one in fake.requests
    ]
    return {name: getattr(fake, name) for name in counts} | {"requests": requests}
