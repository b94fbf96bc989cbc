"""The models list: those that a tenant's routes name outright. No upstream is asked."""

from __future__ import annotations

from typing import Any

from tocsin.gateway.site import Site, Tenant

_PATTERN = frozenset("*?[")
_EPOCH = "1970-01-01T00:00:00Z"


def names(site: Site, tenant: Tenant) -> list[str]:
    """Give the models that can be asked for by these names, each once, in the routes' order."""
    found: dict[str, None] = {}
    for route in site.routes:
        if tenant.routes and route.name not in tenant.routes:
            continue
        for model in route.models:
            if not _PATTERN.intersection(model):
                found[model] = None
    return list(found)


def listed(site: Site, tenant: Tenant, *, anthropic: bool) -> dict[str, Any]:
    """Give the list in the form of the API that asks.

    When a model was made is not known here; the field is required, and holds 1970.

    Example:
        >>> listed(Site(routes=()), Tenant(name="t", keys=()), anthropic=False)
        {'object': 'list', 'data': []}
    """
    found = names(site, tenant)
    if not anthropic:
        data = [{"id": m, "object": "model", "created": 0, "owned_by": "tocsin"} for m in found]
        return {"object": "list", "data": data}
    data = [{"type": "model", "id": m, "display_name": m, "created_at": _EPOCH} for m in found]
    ends = {"first_id": found[0], "last_id": found[-1]} if found else {}
    return {"data": data, "has_more": False, "first_id": None, "last_id": None, **ends}
