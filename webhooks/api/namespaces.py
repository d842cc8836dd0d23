"""Namespaces: those that have flows, and what their flows see of the namespaces around them."""

from __future__ import annotations

from typing import Any, Final

from runner.access import Permission
from runner.errors import InvalidError, NotFoundError
from runner.secrets.file import around
from webhooks.answers.instance import NAMESPACE
from webhooks.call import Call, page_of
from webhooks.filters import holds, in_order
from webhooks.parameters import filters, flag, paging, text
from webhooks.routes import Endpoint
from webhooks.schemas import FLAG, MAP, TEXT, listed, mapped, optional, page, record
from webhooks.search import NAMESPACE_FIELDS

BASE: Final = "/api/v1/{tenant}/namespaces"


def search(call: Call) -> dict[str, Any]:
    """Answer with a page of the namespaces that have flows."""
    pages, q, conditions = call.paging(), (call.query("q") or "").lower(), call.conditions()
    now = call.services.host.clock()

    def is_wanted(name: str) -> bool:
        values = {"q": name, "namespace": name}
        return q in name.lower() and holds(conditions, values.get, now)

    wanted = [name for name in names_of(call) if is_wanted(name)]
    some = in_order(wanted, pages.sort, {"id": lambda name: name})[pages.offset : pages.offset + pages.size]
    return page_of((_namespace_json(name) for name in some), len(wanted))


def autocomplete(call: Call) -> list[str]:
    """Answer with the namespaces whose name holds `q`; those of `ids` are left out."""
    body = call.json() or {}
    if not isinstance(body, dict):
        raise InvalidError("request.json.invalid", "the body must be a JSON object")
    q, left_out = str(body.get("q") or "").lower(), body.get("ids") or []
    return [name for name in names_of(call) if q in name.lower() and name not in left_out]


def get(call: Call) -> dict[str, Any]:
    """Answer with one namespace: one that has flows, or that has some below it."""
    name = call.path("namespace")
    if not any(each == name or each.startswith(f"{name}.") for each in names_of(call)):
        raise NotFoundError("namespace.missing", f"no flow is in the namespace {name!r} or below it")
    return _namespace_json(name)


def names_of(call: Call) -> list[str]:
    """Return the namespaces with flows that the caller may see, sorted."""
    found = call.services.store.read(lambda db: db.flows.namespaces())
    return sorted(name for name in found if call.sees(name))


def _namespace_json(name: str) -> dict[str, Any]:
    return {"id": name, "deleted": False, "description": None, "variables": {}, "pluginDefaults": []}


def inherited_variables(call: Call) -> dict[str, dict[str, Any]]:
    """Answer with the variables of the namespaces around one: none, because variables belong to flows and settings."""
    return {name: {} for name in _chain(call) if call.sees(name)}


def _chain(call: Call) -> list[str]:
    """Return the namespaces around that of the path and itself, the outermost first."""
    return list(around(call.path("namespace")))[::-1]


def endpoints() -> list[Endpoint]:
    """Return the routes of this file."""
    read, tag = Permission.FLOW_READ, "namespaces"
    one = BASE + "/{namespace}"
    some = (
        filters(NAMESPACE_FIELDS),
        text("q", "Only those with this in their name."),
        flag("existing", "Not looked at: all namespaces that have flows exist."),
        *paging(),
    )
    named = record(q=optional(TEXT), ids=optional(listed(TEXT)), existingOnly=optional(FLAG))
    around_it = "Variables of the namespaces around"
    return [
        Endpoint(
            "GET",
            BASE + "/search",
            read,
            search,
            "A page of namespaces",
            tag,
            query=some,
            answer=page(NAMESPACE),
        ),
        Endpoint(
            "POST",
            BASE + "/autocomplete",
            read,
            autocomplete,
            "Names of namespaces",
            tag,
            takes="application/json",
            body=named,
            answer=listed(TEXT),
        ),
        Endpoint("GET", one, read, get, "One namespace", tag, answer=NAMESPACE),
        Endpoint("GET", one + "/inherited-variables", read, inherited_variables, around_it, tag, answer=mapped(MAP)),
    ]
