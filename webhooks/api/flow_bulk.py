"""Many flows at once: written, deleted, switched off and on, each call one commit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

from runner.access import Permission, covers
from runner.errors import ConflictError, InvalidError
from runner.flows.edits import with_disabled, with_namespace
from runner.store import Session
from runner.store.records import FlowVersion
from sync.plan import FlowKey
from webhooks.answers.executions import COUNT
from webhooks.answers.flows import FLOW, NAME
from webhooks.api.flows import (
    BASE,
    FLOW_SEARCH,
    YAML,
    documents,
    found_flows,
    missing_flow,
    namespace_in,
    parsed_flow,
    shape,
    sync_of,
)
from webhooks.call import Call
from webhooks.parameters import flag, text
from webhooks.problems import RequestError
from webhooks.routes import Endpoint
from webhooks.schemas import TEXT, listed

_MOST: Final = 1_000


def replace_all(call: Call) -> list[dict[str, Any]]:
    """Commit the flows of the body; with `delete`, which is the default, those that it does not name leave.

    `namespace` limits the call to one namespace, with `allowNamespaceChild` to those below it too.
    """
    namespace = call.query("namespace")
    return _replace(call, documents(call.text()), namespace, below=call.flag("allowNamespaceChild"))


def replace_namespace(call: Call) -> list[dict[str, Any]]:
    """Commit the flows of the body as those of one namespace; with `delete`, the default, its others leave."""
    namespace, sources = namespace_in(call), documents(call.text())
    if call.flag("override"):
        sources = [with_namespace(source, namespace) for source in sources]
    return _replace(call, sources, namespace, below=False)


def _replace(call: Call, sources: Sequence[str], namespace: str | None, *, below: bool) -> list[dict[str, Any]]:
    flows = [parsed_flow(call, source) for source in sources]
    given = Counter((flow.namespace, flow.id) for flow in flows)
    twice = [f"{space}.{name}" for (space, name), count in given.items() if count > 1]
    if twice:
        raise InvalidError("flow.documents.repeated", f"{twice[0]} is given more than once")

    def belongs(space: str) -> bool:
        if namespace is None:
            return call.sees(space)
        return covers([namespace], space) if below else space == namespace

    for space, _ in given:
        if not belongs(space):
            call.require(space)
            raise InvalidError("flow.documents.foreign", f"the namespace {space!r} is not {namespace!r}")
        call.require(space)
    stored: list[FlowVersion] = call.services.store.read(lambda db: db.flows.list())
    removing: list[FlowKey] = []
    if call.flag("delete"):
        keys = [(each.namespace, each.flow_id) for each in stored if belongs(each.namespace)]
        removing = [key for key in keys if key not in given and call.sees(key[0])]
    if not sources and not removing:
        return []
    versions = sync_of(call).write_flows(sources, actor=call.actor, removing=removing, proposed=call.proposals.append)
    _done(call, "write", [(each.namespace, each.flow_id) for each in versions], removed=len(removing))
    return [shape(call, version) for version in versions]


# -------------------------------------------------------------------- by ids, by query

Action = Callable[[Call, Sequence[FlowVersion]], list[FlowKey]]


def named_flows(call: Call) -> list[FlowVersion]:
    """Return the active flows that the body lists as `[{id, namespace}]`, in its order.

    Raises:
        InvalidError: `request.json.invalid` for another body.
        NotFoundError: `flow.missing` when one is not there or lies in a namespace the caller may not see.
    """
    found = []
    for key, version in named_versions(call, call.json()).items():
        if version is None:
            raise missing_flow(*key)
        found.append(version)
    return found


def named_versions(call: Call, names: Any) -> dict[FlowKey, FlowVersion | None]:
    """Return the active flows of a list `[{id, namespace}]`, in its order; None for those that the caller may not see.

    Raises:
        InvalidError: `request.json.invalid` for anything else.
    """
    if not isinstance(names, list) or len(names) > _MOST or not all(isinstance(each, dict) for each in names):
        raise InvalidError("request.json.invalid", f"there must be a list of at most {_MOST} {{id, namespace}}")
    keys = list(dict.fromkeys((str(each.get("namespace")), str(each.get("id"))) for each in names))

    def read(db: Session) -> dict[FlowKey, FlowVersion | None]:
        return {key: db.flows.active(*key) if call.sees(key[0]) else None for key in keys}

    return call.services.store.read(read)


def queried_flows(call: Call) -> list[FlowVersion]:
    """Return the active flows that the filters of the query find. Raises `RequestError` when they are too many."""
    found = found_flows(call)
    if len(found) > _MOST:
        raise RequestError("request.search.wide", f"the query finds {len(found)} flows, at most {_MOST} at once")
    return found


def _by_ids(act: Action, call: Call) -> dict[str, int]:
    return _carry_out(act, call, named_flows(call))


def _by_query(act: Action, call: Call) -> dict[str, int]:
    return _carry_out(act, call, queried_flows(call))


def _carry_out(act: Action, call: Call, versions: Sequence[FlowVersion]) -> dict[str, int]:
    for version in versions:
        call.require(version.namespace)
    return {"count": len(act(call, versions)) if versions else 0}


def _delete(call: Call, versions: Sequence[FlowVersion]) -> list[FlowKey]:
    keys = [(version.namespace, version.flow_id) for version in versions]
    sync_of(call).delete_flows(keys, actor=call.actor, proposed=call.proposals.append)
    _done(call, "delete", keys)
    return keys


def _switch(call: Call, versions: Sequence[FlowVersion], *, disabled: bool) -> list[FlowKey]:
    _check_in_force(call, versions)
    others = [version for version in versions if version.disabled is not disabled]
    if not others:
        return []
    sources = [with_disabled(version.source, disabled=disabled) for version in others]
    changed = sync_of(call).write_flows(sources, actor=call.actor, mode="update", proposed=call.proposals.append)
    keys = [(version.namespace, version.flow_id) for version in changed]
    _done(call, "disable" if disabled else "enable", keys)
    return keys


def _check_in_force(call: Call, versions: Sequence[FlowVersion]) -> None:
    """Demand that no draft hides the version in force: a commit would switch the draft, and the other would go on.

    Raises:
        ConflictError: `flow.draft.newest`.
    """
    catalogue = call.services.catalogue
    hidden = [
        f"{version.namespace}.{version.flow_id}"
        for version in versions
        if catalogue.version(version.namespace, version.flow_id).revision != version.revision
    ]
    if hidden:
        message = f"the file in git is a draft, and an older version is in force: {', '.join(hidden)[:500]}"
        hint = "switch its triggers off, or push the flow without `draft: true`"
        raise ConflictError("flow.draft.newest", message, hint=hint)


def _done(call: Call, verb: str, keys: Sequence[FlowKey], **detail: Any) -> None:
    call.services.catalogue.invalidate()
    call.note(f"{len(keys)} flows", verb=verb, flows=[".".join(key) for key in keys], **detail)


_ACTIONS: Final = (
    ("DELETE", "delete", "Delete flows {} (one commit)", _delete),
    ("POST", "disable", "Switch flows off {} (one commit)", partial(_switch, disabled=True)),
    ("POST", "enable", "Switch flows on {} (one commit)", partial(_switch, disabled=False)),
)


def endpoints() -> list[Endpoint]:
    """Return the routes of this file."""
    write, tag = Permission.FLOW_WRITE, "flows"
    for_all, for_one = "Replace all flows (one commit)", "Replace the flows of a namespace (one commit)"
    deletes = flag("delete", "Flows that the body does not name leave.", default=True)
    below = (
        text("namespace", "Only flows of this namespace are written and leave."),
        flag("allowNamespaceChild", "Those of the namespaces below it too."),
    )
    override = flag("override", "The namespace of the path replaces that of each flow.")
    shapes = {"takes": YAML, "body": TEXT, "answer": listed(FLOW), "proposes": True}
    return [
        Endpoint("POST", BASE + "/bulk", write, replace_all, for_all, tag, query=(deletes, *below), **shapes),
        Endpoint(
            "POST", BASE + "/{namespace}", write, replace_namespace, for_one, tag, query=(deletes, override), **shapes
        ),
        *[
            Endpoint(
                method,
                f"{BASE}/{verb}/{place}",
                write,
                partial(handler, act),
                summary.format(place.replace("-", " ")),
                tag,
                takes="application/json" if body else None,
                query=query,
                body=body,
                answer=COUNT,
                proposes=True,
            )
            for method, verb, summary, act in _ACTIONS
            for place, handler, query, body in (
                ("by-ids", _by_ids, (), listed(NAME)),
                ("by-query", _by_query, FLOW_SEARCH, None),
            )
        ],
    ]
