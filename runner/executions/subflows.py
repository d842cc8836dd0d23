"""What a Subflow task asks for, and what it answers when the flow it started has ended."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from runner.errors import InvalidError
from runner.executions.burst import BurstActions
from runner.executions.creation import CORRELATION, NewExecution
from runner.executions.items import Batch
from runner.executions.models import Execution, TaskRun, TriggerInfo
from runner.executions.tree import Node, Tree
from runner.expressions import Scope, is_truthy, render, render_deep, render_typed
from runner.states import State
from runner.tasks.flow import Subflow
from runner.triggers.dates import parse_date

_TRANSMITTED = frozenset({State.FAILED, State.PAUSED, State.KILLED, State.WARNING, State.CANCELLED})


def subflow_request(tree: Tree, node: Node, actions: BurstActions, batch: Batch | None = None) -> NewExecution:
    """Return the request that a Subflow task makes, or a ForEachItem for one batch.

    Raises:
        ExpressionError: a property does not render.
        InvalidError: `label.invalid` when `labels` are no map or list of labels.
    """
    task, execution = node.task, tree.execution
    assert isinstance(task, Subflow)
    scope = _scope(node, actions, batch)
    namespace, flow_id = render(task.namespace, scope), render(task.flow_id, scope)
    inputs = {
        name: render_typed(value, scope) if isinstance(value, str) else render_deep(value, scope)
        for name, value in (task.inputs or {}).items()
    }
    inherits = (
        task.inherit_labels if isinstance(task.inherit_labels, bool) else is_truthy(render(task.inherit_labels, scope))
    )
    own = {name: text for name, text in execution.labels.items() if inherits or name.startswith("system.")}
    labels = {**own, **labels_from(render_deep(task.labels, scope)), "system.from": "subflow"}
    variables = {
        "executionId": execution.id,
        "namespace": execution.namespace,
        "flowId": execution.flow_id,
        "flowRevision": execution.flow_revision,
        "taskRunId": node.row.id,
    }
    if batch is not None:
        variables["taskRunIteration"] = batch.iteration
    if node.row.value is not None:
        variables["taskRunValue"] = node.row.value
    date = render(task.schedule_date, scope) if task.schedule_date else None
    return NewExecution(
        namespace=namespace,
        flow_id=flow_id,
        revision=task.revision,
        inputs=inputs,
        labels=labels,
        trigger=TriggerInfo(task.id, task.type, variables),
        schedule_date=parse_date(date) if date else None,
        parent_execution_id=execution.id,
        parent_task_run_id=node.row.id if task.wait else None,
        correlation_id=execution.labels.get(CORRELATION, execution.id),
        depth=execution.depth + 1,
        typed_inputs=True,
    )


def _scope(node: Node, actions: BurstActions, batch: Batch | None) -> Scope:
    scope = actions.scope(node)
    if batch is None:
        return scope
    variables = actions.variables(node)
    seen = {**variables["taskrun"], "items": batch.uri, "iteration": batch.iteration}
    return Scope(variables.plus({"taskrun": seen}), scope.services)


def labels_from(value: Any) -> dict[str, str]:
    """Return labels given as a map, a list of `{key, value}` or the JSON text of one of these.

    Raises:
        InvalidError: `label.invalid`.
    """
    if value is None:
        return {}
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            raise InvalidError("label.invalid", f"labels must be a map or a list, got {value!r}") from None
    if isinstance(value, Mapping):
        return {str(name): _text(text) for name, text in value.items()}
    if isinstance(value, list) and all(isinstance(item, Mapping) and "key" in item for item in value):
        return {str(item["key"]): _text(item.get("value")) for item in value}
    raise InvalidError("label.invalid", f"labels must be a map or a list of key and value, got {value!r}")


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def waits_for(run: TaskRun, child: Execution) -> bool:
    """Return whether a Subflow task still waits for `child`: after a retry it waits for the one that it started then.

    A child whose flow retries it as a new execution is known by the id of its first one.
    """
    return run.memory.get("executionId") in {None, child.id, child.original_id}


def subflow_result(task: Subflow | None, child: Execution) -> tuple[State, dict[str, Any]]:
    """Return the state and outputs of a Subflow task whose flow has ended."""
    outputs: dict[str, Any] = {"executionId": child.id, "state": child.state.value}
    if child.outputs:
        outputs["outputs"] = child.outputs
    state = State.SUCCESS
    if task is None or task.transmit_failed:
        state = child.state if child.state in _TRANSMITTED else State.SUCCESS
    return (State.FAILED if state is State.CANCELLED else state), outputs
