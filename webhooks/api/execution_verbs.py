"""What can be done to one execution: kill, pause, resume, restart, replay, force-run, mark, label.

Each verb has two addresses. Below `/actions/` it answers as clients of Kestra 2.0 expect; the older one without it
keeps the statuses of 1.x, for scripts that look at them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from runner.access import Permission
from runner.errors import ConflictError, InvalidError
from runner.executions.models import Execution
from runner.executions.reruns import Reruns
from runner.states import State
from webhooks.answers.executions import EXECUTION, LABELS
from webhooks.api.executions import BASE, MULTIPART, form_inputs, full, visible_execution
from webhooks.call import Call
from webhooks.parameters import REVISION, Parameter, flag, required, text
from webhooks.problems import Json, RequestError
from webhooks.routes import Endpoint
from webhooks.schemas import MAP, TEXT, Schema, record

Answer = dict[str, Any]
Handler = Callable[[Call], Awaitable[Answer]]
ONE: Final = BASE + "/{id}"


def kill(call: Call) -> Answer:
    """Stop an execution, and what it started unless `isOnKillCascade=false`."""
    cascade = call.flag("isOnKillCascade")
    execution = visible_execution(call, call.path("id"))
    call.services.engine.kill(execution.id, cascade=cascade)
    call.note(execution.id, verb="kill")
    return full(call, execution.id)


def pause(call: Call) -> Answer:
    """Start nothing more of an execution until it is resumed."""
    execution = visible_execution(call, call.path("id"))
    call.services.engine.pause(execution.id)
    call.note(execution.id, verb="pause")
    return full(call, execution.id)


async def resume(call: Call) -> Answer:
    """Go on with a paused execution, with the inputs that its pause asks for."""
    execution = await run_in_threadpool(visible_execution, call, call.path("id"))
    inputs = await form_inputs(call)

    def go_on() -> Answer:
        call.services.engine.resume(execution.id, inputs, by=call.actor)
        call.note(execution.id, verb="resume")
        return full(call, execution.id)

    return await run_in_threadpool(go_on)


def resume_from_breakpoint(call: Call) -> Answer:
    """Go on after a breakpoint; `breakpoints` are those from now on, none of them when it is empty."""
    given = call.query("breakpoints") or ""
    wanted = [each for each in given.split(",") if each] if call.is_given("breakpoints") else None
    return _rerun(call, "resume-from-breakpoint", lambda again, each: again.resume_from_breakpoint(each.id, wanted))


def restart(call: Call) -> Answer:
    """Run again what failed; with another `revision` in a new execution."""
    revision = call.number("revision")
    return _rerun(call, "restart", lambda again, execution: again.restart(execution.id, revision))


def replay(call: Call) -> Answer:
    """Start a new execution like this one, from its beginning or from `taskRunId`."""
    run, revision = call.query("taskRunId"), call.number("revision")
    return _rerun(call, "replay", lambda again, execution: again.replay(execution.id, run, revision))


async def replay_with_inputs(call: Call) -> Answer:
    """Start a new execution like this one, with other inputs."""
    run, revision = call.query("taskRunId"), call.number("revision")
    inputs = await form_inputs(call)

    def again() -> Answer:
        return _rerun(call, "replay", lambda reruns, execution: reruns.replay(execution.id, run, revision, inputs))

    return await run_in_threadpool(again)


def force_run(call: Call) -> Answer:
    """Let an execution go on now, whatever it waits for."""
    return _rerun(call, "force-run", lambda again, execution: again.force_run(execution.id))


def unqueue(call: Call) -> Answer:
    """Take an execution out of the queue of its flow."""
    state = state_of(call.query("state") or "")
    return _rerun(call, "unqueue", lambda again, execution: again.unqueue(execution.id, state))


def change_status(call: Call) -> Answer:
    """Give an ended execution another final state."""
    state = state_of(call.required("status"))
    return _rerun(call, "change-status", lambda again, execution: again.change_status(execution.id, state))


def mark(call: Call) -> Answer:
    """Give a task run another state, and let the flow go on after it."""
    body = call.json_map()
    run, state = body.get("taskRunId"), state_of(str(body.get("state")))
    if not isinstance(run, str):
        raise InvalidError("request.parameter.missing", "the body names no taskRunId")
    return _rerun(call, "state", lambda again, execution: again.mark(execution.id, run, state))


def label(call: Call) -> Answer:
    """Add labels to an ended execution."""
    labels = labels_from(call.json())
    execution = visible_execution(call, call.path("id"))
    try:
        call.services.engine.set_labels(execution.id, labels)
    except ConflictError as error:
        raise RequestError(error.code, error.message) from None
    call.note(execution.id, verb="labels")
    return full(call, execution.id)


def labels_from(body: Any) -> Mapping[str, str]:
    """Return labels given as a list of `{key, value}`.

    Raises:
        InvalidError: `label.invalid`.
    """
    pairs = body if isinstance(body, list) else None
    if pairs is None or not all(isinstance(pair, Mapping) and pair.get("key") for pair in pairs):
        raise InvalidError("label.invalid", "labels must be a list of key and value")
    return {str(pair["key"]): str(pair.get("value", "")) for pair in pairs}


def state_of(text: str) -> State:
    """Return the state of a name. Raises `InvalidError` `execution.status.invalid`."""
    name = "CANCELLED" if text.upper() == "CANCELED" else text.upper()
    if name not in State.__members__:
        raise InvalidError("execution.status.invalid", f"there is no state {text!r}")
    return State[name]


def _rerun(call: Call, verb: str, carry_out: Callable[[Reruns, Execution], Execution]) -> Answer:
    """Carry a verb out and answer with the execution as it left it, before anything else happens to it."""
    execution = visible_execution(call, call.path("id"))
    changed = carry_out(Reruns(call.services.engine), execution)
    call.note(execution.id, verb=verb)
    answer = full(call, changed.id)
    call.services.engine.ring([changed.id])
    return answer


# -------------------------------------------------------------------- addresses


@dataclass(frozen=True, slots=True)
class _Verb:
    """A verb: `older` and `refused` are the statuses of its 1.x address for success and for a state that forbids it."""

    name: str
    handler: Callable[[Call], Any]
    summary: str
    method: str = "POST"
    takes: str | None = None
    older: int = 200
    refused: int = 422
    query: tuple[Parameter, ...] = ()
    body: Schema = None


_BREAKPOINTS: Final = text("breakpoints", "Ids of tasks before which it stops from now on, parted by commas.")
_RERUN: Final = (
    text("taskRunId", "The task run from which on it runs again; all of it without one."),
    REVISION,
    text("breakpoints", "Not looked at: what runs again has no breakpoints."),
)
_VERBS: Final = (
    _Verb(
        "kill",
        kill,
        "Stop an execution",
        "DELETE",
        older=202,
        refused=409,
        query=(flag("isOnKillCascade", "With the executions that it started.", default=True),),
    ),
    _Verb("pause", pause, "Pause an execution"),
    _Verb("resume", resume, "Resume a paused execution", takes=MULTIPART, older=204, refused=409, body=MAP),
    _Verb(
        "resume-from-breakpoint",
        resume_from_breakpoint,
        "Go on after a breakpoint",
        refused=409,
        query=(_BREAKPOINTS,),
    ),
    _Verb("restart", restart, "Run again what failed", query=(REVISION,)),
    _Verb("replay", replay, "Start a new execution like this one", query=_RERUN),
    _Verb(
        "replay-with-inputs",
        replay_with_inputs,
        "Start one like this with other inputs",
        takes=MULTIPART,
        query=_RERUN,
        body=MAP,
    ),
    _Verb("force-run", force_run, "Let an execution go on now"),
    _Verb(
        "unqueue",
        unqueue,
        "Take an execution out of its queue",
        query=(text("state", "The state it gets.", default=State.RUNNING.value),),
    ),
    _Verb(
        "change-status",
        change_status,
        "Give an ended execution another state",
        query=(required("status", "The state it gets."),),
    ),
    _Verb(
        "state",
        mark,
        "Give a task run another state",
        takes="application/json",
        body=record(taskRunId=TEXT, state=TEXT),
    ),
    _Verb("labels", label, "Add labels to an ended execution", takes="application/json", body=LABELS),
)


def endpoints() -> list[Endpoint]:
    """Return the routes of this file, each verb under both of its addresses."""
    return [endpoint for verb in _VERBS for endpoint in _addresses(verb)]


def _addresses(verb: _Verb) -> list[Endpoint]:
    run, tag = Permission.EXECUTION_RUN, "executions"
    reads = verb.takes == "application/json"

    def at(path: str, handler: Callable[[Call], Any], status: int) -> Endpoint:
        return Endpoint(
            verb.method,
            path,
            run,
            handler,
            verb.summary,
            tag,
            takes=verb.takes,
            status=status,
            reads_body=reads,
            query=verb.query,
            body=verb.body,
            answer=EXECUTION if status != 204 else None,
        )

    return [
        at(f"{ONE}/actions/{verb.name}", verb.handler, 200),
        at(f"{ONE}/{verb.name}", _as_before(verb), verb.older),
    ]


def _as_before(verb: _Verb) -> Callable[[Call], Awaitable[Response]]:
    """Return the handler of the older address of a verb."""
    import inspect

    is_async = inspect.iscoroutinefunction(verb.handler)

    async def handle(call: Call) -> Response:
        try:
            answer = await verb.handler(call) if is_async else await run_in_threadpool(verb.handler, call)
        except ConflictError as error:
            if verb.refused != error.status:
                raise InvalidError(error.code, error.message, hint=error.hint) from None
            raise
        return Response(status_code=204) if verb.older == 204 else Json(answer, status_code=verb.older)

    handle.__name__, handle.__doc__ = verb.handler.__name__, verb.handler.__doc__
    return handle
