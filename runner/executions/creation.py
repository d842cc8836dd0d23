"""From a request to start a flow to the row of its execution: revision, inputs, labels, checks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from runner.errors import ConflictError, InvalidError
from runner.executions.flow_index import FlowIndex
from runner.executions.models import ACTOR, Execution, TriggerInfo
from runner.executions.variables import LazyVariables, nested_labels
from runner.expressions import Scope, is_truthy, render, render_typed
from runner.flows.inputs import FileInput, InputValue, nested, resolve_inputs, validate_inputs
from runner.flows.models import Check, Flow
from runner.services import Host
from runner.settings import expression_variables
from runner.states import State
from runner.store.records import FlowVersion

CORRELATION = "system.correlationId"
StoreInput = Callable[[Execution, str, FileInput], str]
MAX_DEPTH = 20  # subflows inside subflows; one more is taken for a cycle


@dataclass(frozen=True, slots=True)
class NewExecution:
    """A request to start a flow.

    `inputs` are raw values as the caller gave them (text from forms, JSON values, `FileInput`). `typed_inputs` says
    that they come from a flow or trigger and need no parsing from text. `inputs_optional` lets required inputs be
    absent, for a flow that listens to others and maps nothing to them. `revision` None means the newest that is no
    draft.
    """

    namespace: str
    flow_id: str
    revision: int | None = None
    inputs: Mapping[str, Any] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    trigger: TriggerInfo | None = None
    schedule_date: datetime | None = None
    kind: str = "NORMAL"
    breakpoints: tuple[str, ...] = ()
    id: str | None = None
    parent_execution_id: str | None = None
    parent_task_run_id: str | None = None
    correlation_id: str | None = None
    depth: int = 0
    typed_inputs: bool = False
    inputs_optional: bool = False
    actor: str | None = None


def make_execution(
    new: NewExecution,
    version: FlowVersion,
    index: FlowIndex,
    host: Host,
    now: datetime,
    store_file: StoreInput,
) -> Execution:
    """Return the row of the execution that `new` asks for, in CREATED.

    `store_file(execution, input id, file)` keeps an input file and returns its URI.

    Raises:
        ConflictError: `flow.disabled`, `flow.draft` where no revision is named, or `check.failed` when a check of the
            flow blocks it.
        InvalidError: `input.invalid`, `label.reserved`, `subflow.depth`.
    """
    flow = index.flow
    if flow.disabled:
        raise ConflictError("flow.disabled", f"Cannot execute the flow {flow.namespace}.{flow.id}: it is disabled")
    if flow.draft and new.revision is None:
        raise ConflictError(
            "flow.draft",
            f"Cannot execute the flow {flow.namespace}.{flow.id}: there are drafts of it only",
            hint=f"a draft runs for who names its revision, which is {version.revision}",
        )
    if new.depth > MAX_DEPTH:
        raise InvalidError(
            "subflow.depth",
            f"{flow.namespace}.{flow.id} would run {new.depth} levels below the execution that began it",
            hint="a flow seems to start itself through others",
        )
    execution_id = new.id or host.new_id()
    labels = labels_of(flow, new, execution_id)
    execution = Execution(
        id=execution_id,
        namespace=flow.namespace,
        flow_id=flow.id,
        flow_revision=version.revision,
        state=State.CREATED,
        created_at=now,
        environment=version.environment,
        commit=version.commit,
        labels=labels,
        trigger=new.trigger,
        original_id=execution_id,
        parent_execution_id=new.parent_execution_id,
        parent_task_run_id=new.parent_task_run_id,
        kind=new.kind,
        depth=new.depth,
        schedule_date=new.schedule_date,
        due_at=new.schedule_date,
        histories=((State.CREATED, now),),
        breakpoints=new.breakpoints,
    )
    if not flow.inputs and not flow.checks:
        return execution
    return _with_inputs(execution, flow, new, host, store_file)


def _with_inputs(
    execution: Execution,
    flow: Flow,
    new: NewExecution,
    host: Host,
    store_file: StoreInput,
) -> Execution:
    services = host.expression_services(flow, execution)

    def scope(extra: Mapping[str, Any]) -> Scope:
        return Scope(creation_variables(execution, flow, host).plus(extra), services)

    inputs = resolve_inputs(
        flow.inputs,
        new.inputs,
        render=lambda template, extra: render_typed(template, scope(extra)),
        render_text=lambda template, extra: render(template, scope(extra)),
        typed=new.typed_inputs,
        missing_allowed=new.inputs_optional,
        store_file=lambda name, file: store_file(execution, name, file),
        encrypt=host.encryption.seal if host.encryption else None,
    )
    execution = replace(execution, inputs=inputs)
    return _checked(execution, flow, scope({"inputs": inputs}))


def inspect_inputs(
    new: NewExecution, version: FlowVersion, flow: Flow, host: Host, now: datetime
) -> tuple[list[InputValue], list[tuple[Check, str]]]:
    """Return what would become of each input of a request, and the checks that would not hold with their messages.

    Nothing is stored. Checks are only asked when every input is right.
    """
    nobody = Execution(
        id="",
        namespace=flow.namespace,
        flow_id=flow.id,
        flow_revision=version.revision,
        state=State.CREATED,
        created_at=now,
    )
    services, known = host.expression_services(flow, nobody), creation_variables(nobody, flow, host)
    entries = validate_inputs(
        flow.inputs,
        new.inputs,
        render=lambda template, extra: render_typed(template, Scope(known.plus(extra), services)),
        render_text=lambda template, extra: render(template, Scope(known.plus(extra), services)),
    )
    if any(entry.error for entry in entries):
        return entries, []
    values = nested({entry.declared.id: entry.value for entry in entries if entry.enabled})
    scope = Scope(known.plus({"inputs": values}), services)
    return entries, [(check, render(check.message, scope)) for check in _failing(flow, scope)]


def _failing(flow: Flow, scope: Scope) -> list[Check]:
    return [check for check in flow.checks if not is_truthy(render(check.when, scope))]


def _checked(execution: Execution, flow: Flow, scope: Scope) -> Execution:
    failed = _failing(flow, scope)
    blocking = next((check for check in failed if check.behavior == "BLOCK_EXECUTION"), None)
    if blocking is not None:
        raise ConflictError("check.failed", render(blocking.message, scope))
    failing = next((check for check in failed if check.behavior == "FAIL_EXECUTION"), None)
    if failing is not None:
        return replace(execution.enter(State.FAILED, execution.created_at), error=render(failing.message, scope))
    return execution


def creation_variables(execution: Execution, flow: Flow, host: Host) -> LazyVariables:
    """Return what expressions see before an execution exists: input defaults, trigger labels, checks."""
    trigger = execution.trigger
    return LazyVariables(
        {
            "flow": lambda: {
                "id": flow.id,
                "namespace": flow.namespace,
                "revision": execution.flow_revision,
                "tenantId": "main",
            },
            "execution": lambda: {
                "id": execution.id,
                "startDate": execution.created_at,
                "originalId": execution.original_id,
            },
            "labels": lambda: nested_labels(execution.labels),
            "vars": lambda: flow.variables,
            "namespace": lambda: flow.namespace_variables,
            "trigger": lambda: trigger.variables if trigger else LazyVariables.ABSENT,
            "envs": lambda: expression_variables(host.environment),
            "globals": lambda: host.settings.globals,
            "kestra": lambda: {"environment": host.settings.environment_name, "url": host.settings.public_url},
        }
    )


def labels_of(flow: Flow, new: NewExecution, execution_id: str) -> dict[str, str]:
    """Return the labels of a new execution: the flow's, the caller's over them, the correlation id, and who asked.

    Raises:
        InvalidError: `label.reserved` for a label of the caller that starts with `system.`.
    """
    own = {name: text for name, text in flow.labels.items() if not name.startswith("system.")}
    for name in new.labels:
        if name.startswith("system.") and name != CORRELATION and new.trigger is None:
            raise InvalidError(
                "label.reserved",
                f"System labels can only be set by Mainstem itself, offending label: {name}={new.labels[name]}",
            )
    labels = {**own, **new.labels}
    labels.setdefault(CORRELATION, new.correlation_id or execution_id)
    if new.actor is not None:
        labels[ACTOR] = new.actor
    return labels
