"""Namespaces: those that have flows, and what their flows see of the namespaces around them."""

from __future__ import annotations

from typing import Any, Final

from runner.access import Permission
from runner.errors import InvalidError, NotFoundError
from runner.secrets.file import around
from webhooks.answers.instance import NAMESPACE, SECRET
from webhooks.call import Call, page_of
from webhooks.filters import holds, in_order
from webhooks.parameters import filters, flag, paging, text
from webhooks.routes import Endpoint
from webhooks.schemas import FLAG, MAP, TEXT, WHOLE, listed, mapped, optional, page, record
from webhooks.search import NAMESPACE_FIELDS, SECRET_FIELDS

_BASE: Final = "/api/v1/{tenant}/namespaces"


def search(call: Call) -> dict[str, Any]:
    """Answer with a page of the namespaces that have flows."""
    pages, q, conditions = call.paging(), (call.query("q") or "").lower(), call.conditions()
    now = call.services.host.clock()

    def is_wanted(name: str) -> bool:
        values = {"q": name, "namespace": name}
        return q in name.lower() and holds(conditions, values.get, now)

    wanted = [name for name in _names(call) if is_wanted(name)]
    some = in_order(wanted, pages.sort, {"id": lambda name: name})[pages.offset : pages.offset + pages.size]
    return page_of((_namespace_json(name) for name in some), len(wanted))


def autocomplete(call: Call) -> list[str]:
    """Answer with the namespaces whose name holds `q`; those of `ids` are left out."""
    body = call.json() or {}
    if not isinstance(body, dict):
        raise InvalidError("request.json.invalid", "the body must be a JSON object")
    q, left_out = str(body.get("q") or "").lower(), body.get("ids") or []
    return [name for name in _names(call) if q in name.lower() and name not in left_out]


def get(call: Call) -> dict[str, Any]:
    """Answer with one namespace: one that has flows, or that has some below it."""
    name = call.path("namespace")
    if not any(each == name or each.startswith(f"{name}.") for each in _names(call)):
        raise NotFoundError("namespace.missing", f"no flow is in the namespace {name!r} or below it")
    return _namespace_json(name)


def _names(call: Call) -> list[str]:
    found = call.services.store.read(lambda db: db.flows.namespaces())
    return sorted(name for name in found if call.sees(name))


def _namespace_json(name: str) -> dict[str, Any]:
    return {"id": name, "deleted": False, "description": None, "variables": {}, "pluginDefaults": []}


def inherited_secrets(call: Call) -> dict[str, list[str]]:
    """Answer with the names of the secrets that a namespace sees, by the namespace they are first seen in."""
    secrets, seen, found = call.services.host.secrets, set[str](), {}
    for name in _chain(call):
        found[name] = [key for key in secrets.keys(name) if key not in seen]
        seen.update(found[name])
    return {name: keys for name, keys in found.items() if keys and call.sees(name)}


def inherited_variables(call: Call) -> dict[str, dict[str, Any]]:
    """Answer with the variables of the namespaces around one: none, because variables belong to flows and settings."""
    return {name: {} for name in _chain(call) if call.sees(name)}


def _chain(call: Call) -> list[str]:
    """Return the namespaces around that of the path and itself, the outermost first."""
    return list(around(call.path("namespace")))[::-1]


def secrets(call: Call) -> dict[str, Any]:
    """Answer with a page of the names of secrets that the namespaces with flows see; never with a value."""
    pages, conditions, now = call.paging(), call.conditions(), call.services.host.clock()
    rows = [(name, key) for name in _names(call) for key in call.services.host.secrets.keys(name)]

    def is_wanted(row: tuple[str, str]) -> bool:
        return holds(conditions, {"q": row[1], "namespace": row[0]}.get, now)

    wanted = [row for row in rows if is_wanted(row)]
    keys = {"key": lambda row: row[1], "namespace": lambda row: row[0]}
    some = in_order(wanted, pages.sort, keys)[pages.offset : pages.offset + pages.size]
    shown = [{"key": key, "namespace": name, "description": None, "tags": []} for name, key in some]
    return {"readOnly": True, **page_of(shown, len(wanted))}


def endpoints() -> list[Endpoint]:
    """Return the routes of this file."""
    read, tag = Permission.FLOW_READ, "namespaces"
    one = _BASE + "/{namespace}"
    some = (
        filters(NAMESPACE_FIELDS),
        text("q", "Only those with this in their name."),
        flag("existing", "Not looked at: all namespaces that have flows exist."),
        *paging(),
    )
    named = record(q=optional(TEXT), ids=optional(listed(TEXT)), existingOnly=optional(FLAG))
    names = record(readOnly=FLAG, results=listed(SECRET), total=WHOLE)
    seen, around_it = "Secrets that a namespace sees, by name", "Variables of the namespaces around"
    every = (filters(SECRET_FIELDS), *paging())
    return [
        Endpoint(
            "GET",
            _BASE + "/search",
            read,
            search,
            "A page of namespaces",
            tag,
            query=some,
            answer=page(NAMESPACE),
        ),
        Endpoint(
            "POST",
            _BASE + "/autocomplete",
            read,
            autocomplete,
            "Names of namespaces",
            tag,
            takes="application/json",
            body=named,
            answer=listed(TEXT),
        ),
        Endpoint("GET", one, read, get, "One namespace", tag, answer=NAMESPACE),
        Endpoint("GET", one + "/inherited-secrets", read, inherited_secrets, seen, tag, answer=mapped(listed(TEXT))),
        Endpoint("GET", one + "/inherited-variables", read, inherited_variables, around_it, tag, answer=mapped(MAP)),
        Endpoint("GET", "/api/v1/{tenant}/secrets", read, secrets, "Names of secrets", tag, query=every, answer=names),
    ]
