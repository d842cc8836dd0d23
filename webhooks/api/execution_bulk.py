"""The verbs of executions for many at once: those with certain ids, or all that a query finds.

Nothing is done unless it can be done to all of them: one unknown id, or one execution in a state that forbids the
verb, refuses the whole call and names what is in the way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

from starlette.responses import Response

from runner.access import Permission
from runner.errors import InvalidError, MainstemError
from runner.executions.models import Execution
from runner.executions.reruns import Reruns
from runner.ids import new_id
from runner.states import State
from webhooks.answers.executions import BULK, LABELS
from webhooks.api.execution_verbs import labels_from, state_of
from webhooks.api.executions import BASE, EXECUTION_SEARCH, KEEPS, filters_of, found
from webhooks.call import Call, Paging
from webhooks.parameters import Parameter, flag, required, text
from webhooks.problems import PROBLEM_TYPE, Json, problem
from webhooks.routes import Endpoint
from webhooks.schemas import TEXT, Schema, listed, record
from webhooks.search import narrow_executions

_MOST: Final = 10_000
_PAGE: Final = 1_000
_WAITING: Final = frozenset({State.CREATED, State.QUEUED, State.PAUSED})
_HELD: Final = frozenset({State.RUNNING, State.CREATED})


@dataclass(frozen=True, slots=True)
class _Bulk:
    """A verb: who may carry it out, on executions in which state, and what it does to one of them.

    `prepare` reads the request once and returns what is done to each execution; it gives the execution to ring.
    """

    name: str
    fits: Callable[[Execution], bool]
    prepare: Callable[[Call, Any], Callable[[Execution], Execution | None]]
    method: str = "POST"
    permission: Permission = Permission.EXECUTION_RUN
    query: tuple[Parameter, ...] = ()


def _by_ids(bulk: _Bulk, call: Call) -> Response:
    body = call.json()
    ids = body.get("executionsId") if isinstance(body, Mapping) else body
    if not isinstance(ids, list) or not all(isinstance(item, str) for item in ids):
        raise InvalidError("request.json.invalid", "the body must be a list of execution ids")
    store = call.services.store
    stored = store.read(lambda db: db.executions.get_many(ids))
    visible = {key: each for key, each in stored.items() if call.sees(each.namespace)}
    unknown = [f"execution {key} not found" for key in dict.fromkeys(ids) if key not in visible]
    return _carry_out(bulk, call, body, [visible[key] for key in dict.fromkeys(ids) if key in visible], unknown)


def _by_query(bulk: _Bulk, call: Call) -> Response:
    query, rest = narrow_executions(filters_of(call), datetime.now(UTC))
    executions: list[Execution] = []
    page = 1
    while True:
        rows, total = found(call, query, rest, Paging(page, _PAGE))
        if total > _MOST:
            raise InvalidError("request.search.wide", f"the query finds {total} executions, at most {_MOST} at once")
        executions += rows
        if not rows or len(executions) >= total:
            return _carry_out(bulk, call, call.json(), executions, [])
        page += 1


def _carry_out(bulk: _Bulk, call: Call, body: Any, executions: Sequence[Execution], wrong: list[str]) -> Response:
    act = bulk.prepare(call, body)
    ends = bulk.name == "delete" and call.flag("includeNonTerminated")
    wrong += [f"execution {each.id} is {each.state.value}" for each in executions if not (ends or bulk.fits(each))]
    if wrong:
        return Json(
            problem(400, "execution.bulk.invalid", f"{len(wrong)} of these executions do not allow it", invalids=wrong),
            status_code=400,
            media_type=PROBLEM_TYPE,
        )
    for each in executions:
        try:
            changed = act(each)
        except MainstemError as error:
            # It changed since it was looked at; the others must not suffer from that.
            wrong.append(f"execution {each.id}: {error.message}")
            continue
        if changed is not None:
            call.services.engine.ring([changed.id])
    call.note(f"{len(executions)} executions", verb=bulk.name)
    done = len(executions) - len(wrong)
    return Json({"count": done, "operationId": new_id(), "totalItems": done})


# -------------------------------------------------------------------- what is done to each


def _rerun(carry_out: Callable[[Reruns, Execution], Execution]) -> Callable[[Call, Any], Any]:
    def prepare(call: Call, _body: Any) -> Callable[[Execution], Execution]:
        return partial(carry_out, Reruns(call.services.engine))

    return prepare


def _kill(call: Call, _body: Any) -> Callable[[Execution], None]:
    return lambda execution: _nothing(call.services.engine.kill(execution.id))


def _pause(call: Call, _body: Any) -> Callable[[Execution], None]:
    return lambda execution: _nothing(call.services.engine.pause(execution.id))


def _resume(call: Call, _body: Any) -> Callable[[Execution], None]:
    return lambda execution: _nothing(call.services.engine.resume(execution.id, by=call.actor))


def _delete(call: Call, _body: Any) -> Callable[[Execution], None]:
    logs, storage = call.flag("deleteLogs"), call.flag("deleteStorage")
    return lambda execution: call.services.engine.delete(execution.id, logs=logs, storage=storage)


def _replay(call: Call, _body: Any) -> Callable[[Execution], Execution]:
    again, latest = Reruns(call.services.engine), call.flag("latestRevision")

    def replay(execution: Execution) -> Execution:
        version = call.services.catalogue.version(execution.namespace, execution.flow_id) if latest else None
        return again.replay(execution.id, revision=version.revision if version else None)

    return replay


def _unqueue(call: Call, _body: Any) -> Callable[[Execution], Execution]:
    state = state_of(call.query("newState") or call.query("state") or State.RUNNING.value)
    return lambda execution: Reruns(call.services.engine).unqueue(execution.id, state)


def _change_status(call: Call, _body: Any) -> Callable[[Execution], None]:
    state = state_of(call.required("newStatus"))
    return lambda execution: _nothing(Reruns(call.services.engine).change_status(execution.id, state))


def _label(call: Call, body: Any) -> Callable[[Execution], None]:
    labels = labels_from(body.get("executionLabels") if isinstance(body, Mapping) else body)
    return lambda execution: _nothing(call.services.engine.set_labels(execution.id, labels))


def _nothing(_changed: Execution) -> None:
    """Return nothing: these verbs of the engine ring by themselves, or leave nothing to do."""


def _has_ended(execution: Execution) -> bool:
    return execution.state.is_terminal


def _is_open(execution: Execution) -> bool:
    return not execution.state.is_terminal


_VERBS: Final = (
    _Bulk("kill", _is_open, _kill, "DELETE"),
    _Bulk("pause", lambda execution: execution.state in _HELD, _pause),
    _Bulk("resume", lambda execution: execution.state is State.PAUSED, _resume),
    _Bulk(
        "restart",
        lambda execution: execution.state.is_terminal or execution.state is State.PAUSED,
        _rerun(lambda again, execution: again.restart(execution.id)),
    ),
    _Bulk("replay", _has_ended, _replay, query=(flag("latestRevision", "At the revision that is active now."),)),
    _Bulk("force-run", _is_open, _rerun(lambda again, execution: again.force_run(execution.id))),
    _Bulk(
        "unqueue",
        lambda execution: execution.state is State.QUEUED,
        _unqueue,
        query=(text("newState", "The state they get; RUNNING without it."),),
    ),
    _Bulk("change-status", _has_ended, _change_status, query=(required("newStatus", "The state they get."),)),
    _Bulk("labels", _has_ended, _label),
    _Bulk(
        "delete",
        _has_ended,
        _delete,
        "DELETE",
        Permission.EXECUTION_DELETE,
        (flag("includeNonTerminated", "Also those that go on."), *KEEPS),
    ),
)


def endpoints() -> list[Endpoint]:
    """Return the routes of this file."""
    return [
        Endpoint(
            bulk.method,
            f"{BASE}/{place}" if bulk.name == "delete" else f"{BASE}/{bulk.name}/{place}",
            bulk.permission,
            partial(handler, bulk),
            f"{bulk.name.capitalize()} executions {place.replace('-', ' ')}",
            "executions",
            takes="application/json" if body else None,
            query=(*bulk.query, *searched),
            body=body,
            answer=BULK,
        )
        for bulk in _VERBS
        for place, handler, body, searched in (
            ("by-ids", _by_ids, _ids(bulk), (_STATE,) if bulk.name == "unqueue" else ()),
            ("by-query", _by_query, LABELS if bulk.name == "labels" else None, EXECUTION_SEARCH),
        )
    ]


_STATE: Final = text("state", "The same as `newState`.")


def _ids(bulk: _Bulk) -> Schema:
    ids = listed(TEXT)
    return record(executionsId=ids, executionLabels=LABELS) if bulk.name == "labels" else ids
