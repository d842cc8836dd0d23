"""Namespaces: those that have flows, what files of defaults say about them, and writes of these files."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from starlette.responses import Response

from runner.access import Permission
from runner.errors import ConflictError, InvalidError, NotFoundError
from runner.flows.namespace_defaults import DefaultsFile
from runner.secrets.file import around
from sync.namespaces import KEPT, ObjectMode
from webhooks.answers.instance import NAMESPACE
from webhooks.api.flows import sync_of
from webhooks.call import Call, page_of
from webhooks.filters import holds, in_order
from webhooks.parameters import filters, flag, paging, text
from webhooks.routes import Endpoint
from webhooks.schemas import FLAG, MAP, TEXT, listed, mapped, nullable, optional, page, record
from webhooks.search import NAMESPACE_FIELDS

BASE: Final = "/api/v1/{tenant}/namespaces"
NAMESPACE_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,149}")
_UNDERSTOOD: Final = frozenset({"id", "deleted", "file", *KEPT})
_NOTHING: Final[tuple[Any, ...]] = (None, False, "", [], {})


def search(call: Call) -> dict[str, Any]:
    """Answer with a page of namespaces: those that a file describes, and unless `existing` those that have flows."""
    pages, q, conditions = call.paging(), (call.query("q") or "").lower(), call.conditions()
    now, known = call.services.host.clock(), _known(call)

    def is_wanted(name: str) -> bool:
        values = {"q": name, "namespace": name}
        return q in name.lower() and holds(conditions, values.get, now)

    wanted = [name for name in names_of(call, known, existing=call.flag("existing")) if is_wanted(name)]
    some = in_order(wanted, pages.sort, {"id": lambda name: name})[pages.offset : pages.offset + pages.size]
    return page_of((_shown(name, known.get(name)) for name in some), len(wanted))


def autocomplete(call: Call) -> list[str]:
    """Answer with the namespaces whose name holds `q`; those of `ids` are left out."""
    body = call.json() or {}
    if not isinstance(body, dict):
        raise InvalidError("request.json.invalid", "the body must be a JSON object")
    q, left_out = str(body.get("q") or "").lower(), body.get("ids") or []
    names = names_of(call, _known(call), existing=body.get("existingOnly") is True)
    return [name for name in names if q in name.lower() and name not in left_out]


def get(call: Call) -> dict[str, Any]:
    """Answer with one namespace: one that a file describes, that has flows, or that has some below it."""
    name, known = call.path("namespace"), _known(call)
    if not _is_there(call, name, known):
        raise _missing(name)
    return _shown(name, known.get(name))


def create(call: Call) -> dict[str, Any]:
    """Commit a file for a namespace that has none."""
    body = call.json_map()
    name = body.get("id")
    if not isinstance(name, str) or not NAMESPACE_NAME.fullmatch(name):
        raise InvalidError("namespace.invalid", f"{str(name)[:200]!r} cannot be a namespace")
    call.require(name)
    return _written(call, name, body, "create")


def update(call: Call) -> dict[str, Any]:
    """Commit what is said about a namespace; what the body lacks is said no longer."""
    name, body = call.path("namespace"), call.json_map()
    if body.get("id", name) != name:
        raise InvalidError("namespace.invalid", f"the body is about {str(body['id'])[:200]!r}, the path about {name!r}")
    if not _is_there(call, name, _known(call)):
        raise _missing(name)
    return _written(call, name, body, "any")


def delete(call: Call) -> Response:
    """Commit the removal of a namespace's file; flows stay."""
    name = call.path("namespace")
    if name not in _known(call) and _is_there(call, name, {}):
        message = f"the namespace {name!r} is there because of its flows, and no file says anything about it"
        raise ConflictError("namespace.implied", message, hint="delete its flows")
    sync_of(call).namespaces.delete(name, actor=call.actor, proposed=call.proposals.append)
    call.services.catalogue.invalidate()
    call.note(name, verb="delete")
    return Response(status_code=204)


def names_of(call: Call, known: Iterable[str] = (), *, existing: bool = False) -> list[str]:
    """Return the namespaces with flows, or only the `known` ones, that the caller may see, sorted."""
    found = [] if existing else call.services.store.read(lambda db: db.flows.namespaces())
    return sorted(name for name in {*found, *known} if call.sees(name))


def inherited_variables(call: Call) -> dict[str, dict[str, Any]]:
    """Answer with the variables of a namespace and of each around it that the caller may see."""
    known = _known(call)
    return {name: dict(known[name].variables) if name in known else {} for name in _chain(call) if call.sees(name)}


def inherited_defaults(call: Call) -> dict[str, list[dict[str, Any]]]:
    """Answer with the plugin defaults of a namespace and of each around it that the caller may see."""
    known = _known(call)
    return {name: _defaults(known.get(name)) for name in _chain(call) if call.sees(name)}


def _written(call: Call, name: str, body: Mapping[str, Any], mode: ObjectMode) -> dict[str, Any]:
    said = _said(body)
    sync_of(call).namespaces.write(name, said, actor=call.actor, mode=mode, proposed=call.proposals.append)
    call.services.catalogue.invalidate()
    call.note(name, verb="write")
    shown = _shown(name, _known(call).get(name))
    return shown | said if call.proposals else shown


def _said(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a body says about a namespace. What nobody would act on is refused, unless it says nothing."""
    more = sorted(key for key, value in body.items() if key not in _UNDERSTOOD and value not in _NOTHING)
    if more:
        message = f"nothing here acts on {', '.join(f'`{key}`' for key in more)[:300]} of a namespace"
        raise InvalidError("namespace.property.unknown", message, hint=f"leave it out; kept are {', '.join(KEPT)}")
    return {name: body[name] for name in KEPT if name in body}


def _known(call: Call) -> dict[str, DefaultsFile]:
    return call.services.sync.namespaces.known() if call.services.sync is not None else {}


def _is_there(call: Call, name: str, known: Iterable[str]) -> bool:
    return any(each == name or each.startswith(f"{name}.") for each in names_of(call, known))


def _missing(name: str) -> NotFoundError:
    return NotFoundError(
        "namespace.missing", f"no flow is in the namespace {name!r} or below it, and no file describes it"
    )


def _shown(name: str, file: DefaultsFile | None) -> dict[str, Any]:
    return {
        "id": name,
        "deleted": False,
        "description": file.description if file else None,
        "variables": dict(file.variables) if file else {},
        "pluginDefaults": _defaults(file),
        "file": file.file if file else None,
    }


def _defaults(file: DefaultsFile | None) -> list[dict[str, Any]]:
    listed = file.defaults if file else ()
    return [{"type": each.type, "values": each.values, "forced": each.forced} for each in listed]


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
        flag("existing", "Only those that a file of defaults describes."),
        *paging(),
    )
    named = record(q=optional(TEXT), ids=optional(listed(TEXT)), existingOnly=optional(FLAG))
    around_it, given = "Variables of the namespaces around", "Plugin defaults of the namespaces around"
    said = {
        "description": optional(nullable(TEXT)),
        "variables": optional(MAP),
        "pluginDefaults": optional(listed(MAP)),
    }
    body = {"id": TEXT, "deleted": optional(FLAG), **said}
    write, json = Permission.FLOW_WRITE, "application/json"
    defaults = mapped(listed(MAP))
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
        Endpoint(
            "POST",
            BASE,
            write,
            create,
            "Describe a new namespace",
            tag,
            proposes=True,
            takes=json,
            body=record(**body),
            answer=NAMESPACE,
        ),
        Endpoint("GET", one, read, get, "One namespace", tag, answer=NAMESPACE),
        Endpoint(
            "PUT",
            one,
            write,
            update,
            "Describe a namespace",
            tag,
            proposes=True,
            takes=json,
            body=record(**body | {"id": optional(TEXT)}),
            answer=NAMESPACE,
        ),
        Endpoint("DELETE", one, write, delete, "Say nothing about a namespace", tag, status=204, proposes=True),
        Endpoint("GET", one + "/inherited-variables", read, inherited_variables, around_it, tag, answer=mapped(MAP)),
        Endpoint("GET", one + "/inherited-plugindefaults", read, inherited_defaults, given, tag, answer=defaults),
    ]
