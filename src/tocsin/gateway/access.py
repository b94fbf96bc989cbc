"""What the access log says about one request: numbers and names, never text, keys or queries.

The server puts an `Access` into each request before the application sees it, and writes one line
from it when the request is over, however it ended. The application fills in what it learns.
"""

from __future__ import annotations

from dataclasses import dataclass

from aiohttp import web

Outcome = str


@dataclass(slots=True)
class Access:
    """One request.

    Args:
        tenant, route, api: by their names in the configuration; empty while unknown.
        outcome: how it ended, a word from a closed list; empty where only the status says it.
        chars: characters released to the client.
        receipt: id of the response, as the header carries it.
        path: of the record's own routes, without the ids in it.
    """

    tenant: str = ""
    route: str = ""
    api: str = ""
    outcome: str = ""
    chars: int = 0
    receipt: str = ""
    path: str = ""


ACCESS: web.RequestKey[Access] = web.RequestKey("tocsin.access", Access)
"""Where a request carries it: ``request[ACCESS].tenant = tenant.name``."""
