"""A server that answers as models do, on three APIs, word by word as scripted, and fails when told.

It serves ``/v1/chat/completions`` and ``/v1/responses`` as OpenAI does, ``/v1/messages`` as
Anthropic does, and ``/v1/models``, all without the ``/v1`` too. It speaks HTTP/1.1 on plain sockets
of asyncio: what is written is exactly what a test wants to see cut, reset or held back, one write
for each frame.

Example:
    >>> import json, urllib.request
    >>> from tocsin.testing.fake_model import Choice, FakeModel, Reply
    >>> with FakeModel(Reply(choices=(Choice(text="Good day."),))) as fake:
    ...     asked = json.dumps({"model": "m", "messages": []}).encode()
    ...     with urllib.request.urlopen(f"{fake.url}/v1/chat/completions", asked) as answer:
    ...         json.load(answer)["choices"][0]["message"]["content"]
    'Good day.'
"""

from tocsin.testing.fake_model.replies import Call, Choice, Fault, Reply, pieces
from tocsin.testing.fake_model.server import FakeModel
from tocsin.testing.fake_model.wire import Connection, Exchange

__all__ = ["Call", "Choice", "Connection", "Exchange", "FakeModel", "Fault", "Reply", "pieces"]
