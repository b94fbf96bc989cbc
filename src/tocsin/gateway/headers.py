"""Headers: those that answers carry, those that are sent on, and where keys stand in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from tocsin.gateway.addresses import is_loopback
from tocsin.gateway.site import Upstream
from tocsin.guarding.plan import Guard
from tocsin.stream.events import Api

RECEIPT = "x-tocsin-receipt"
POLICY = "x-tocsin-policy"
MODE = "x-tocsin-mode"
GUARD = "x-tocsin-guard"
CONVERSATION = "x-tocsin-conversation"

_PASSED_ON: Mapping[Api, tuple[str, ...]] = {
    "chat": ("openai-beta",),
    "responses": ("openai-beta",),
    "messages": ("anthropic-version", "anthropic-beta"),
}
_PLAIN = re.compile(r"[A-Za-z0-9_.,:=; -]{1,256}")
_HIDDEN = re.compile(r"[^\x21-\x7e]")
_ANTHROPIC_VERSION = "2023-06-01"
_DIGEST_CHARS = 12


def key_of(headers: Mapping[str, str]) -> str | None:
    """Find the API key of a request: a bearer's, or ``x-api-key``.

    Example:
        >>> key_of({"Authorization": "Bearer abc"}), key_of({})
        ('abc', None)
    """
    scheme, _, key = headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer" and key:
        return key.strip()
    return headers.get("x-api-key") or None


def from_elsewhere(headers: Mapping[str, str]) -> bool:
    """Whether a page of a browser may have sent this from another place than this machine.

    Where no key is asked for, any web page that somebody on this machine looks at could ask too:
    with a form, or through a name of its own that leads here.

    Example:
        >>> from_elsewhere({"Host": "localhost:8080"})
        False
        >>> from_elsewhere({"Host": "localhost:8080", "Origin": "https://page.example"})
        True
        >>> from_elsewhere({"Host": "page.example"})
        True
    """
    if not is_loopback(_host("//" + headers.get("Host", ""))):
        return True
    origin = headers.get("Origin")
    return origin is not None and not is_loopback(_host(origin))


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def policy_name(guard: Guard) -> str:
    """Name a policy with the beginning of its digest, in printable ASCII.

    Example:
        >>> policy_name(Guard(name="my policy", digest="0123456789abcdef"))
        'my_policy@0123456789ab'
    """
    return _HIDDEN.sub("_", f"{guard.name}@{guard.digest[:_DIGEST_CHARS]}")


def of_guard(guard: Guard, receipt: str) -> dict[str, str]:
    """Give what every answer under a policy carries."""
    return {RECEIPT: receipt, POLICY: policy_name(guard), MODE: guard.mode}


def for_upstream(
    upstream: Upstream, api: Api, asked: Mapping[str, str], *, stream: bool
) -> dict[str, str]:
    """Give what an upstream is sent: its own credentials, and of the client's headers a few.

    Args:
        upstream: whom to ask.
        api: on which API.
        asked: the client's headers.
        stream: whether the answer is wanted as a stream.
    """
    headers = {
        "content-type": "application/json",
        "accept": "text/event-stream" if stream else "application/json",
        "accept-encoding": "identity",
        "user-agent": "tocsin",
    }
    if api == "messages":
        headers["anthropic-version"] = _ANTHROPIC_VERSION
    for name in _PASSED_ON[api]:
        value = asked.get(name)
        if value is not None and _PLAIN.fullmatch(value):
            headers[name] = value
    if upstream.key is not None:
        if api == "messages":
            headers["x-api-key"] = upstream.key
        else:
            headers["authorization"] = f"Bearer {upstream.key}"
    headers.update(upstream.headers)
    return headers
