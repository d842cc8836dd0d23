"""What one flow needs of another: the flows that its tasks call, the inputs it gives them, the flows it listens to."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator

from runner.errors import Problem, Severity
from runner.flows.models import Condition, Flow, Input
from runner.tasks.flow import Subflow
from runner.tasks.for_each_item import ForEachItem

FlowKey = tuple[str, str]
"""A flow's namespace and id."""
Calls = tuple[tuple[Subflow | ForEachItem, FlowKey], ...]
"""Subflow tasks with the flows that they call."""


def calls(flow: Flow) -> Calls:
    """Return the subflow tasks whose target is written plainly."""
    return tuple(
        (task, (task.namespace, task.flow_id))
        for task in flow.all_tasks()
        if isinstance(task, Subflow | ForEachItem) and "{" not in task.namespace and "{" not in task.flow_id
    )


def wrong_inputs(found: Calls, flow_of: Callable[[FlowKey], Flow | None], file: str | None) -> Iterator[Problem]:
    """Yield a warning for each input that a caller gives and the flow has not, or does not give and the flow demands.

    `flow_of` gives a called flow, None for one that is not known here; `file` is that of the caller.
    """
    for task, target in found:
        flow = flow_of(target)
        if flow is None:
            continue
        given = task.inputs or {}
        name = ".".join(target)
        for key in given:
            if not any(_names(key, declared) for declared in flow.inputs):
                message = f"task {task.id!r} gives the flow {name} an input {key!r}, which it does not have"
                yield Problem("flow.subflow.input.unknown", message, Severity.WARNING, file)
        for declared in flow.inputs:
            if _is_demanded(declared) and not any(_names(key, declared) for key in given):
                message = f"task {task.id!r} calls the flow {name} without its input {declared.id!r}, which is required"
                yield Problem("flow.subflow.input.missing", message, Severity.WARNING, file)


def _names(key: str, declared: Input) -> bool:
    """Whether a caller's `key` is the input, a part of it (`form.name`), or a map around it."""
    return declared.id == key or declared.id.startswith(f"{key}.") or key.startswith(f"{declared.id}.")


def _is_demanded(declared: Input) -> bool:
    is_filled = any(value is not None for value in (declared.defaults, declared.prefill, declared.depends_on))
    return declared.required and not is_filled and not declared.auto_select_first and declared.inputs is None


def deaf_triggers(flow: Flow, exists: Collection[FlowKey], file: str | None) -> Iterator[Problem]:
    """Yield a warning for each flow trigger that waits for a flow which is not there."""
    for trigger_id, target in listens(flow):
        if target not in exists:
            message = f"trigger {trigger_id!r} waits for the flow {'.'.join(target)}, which does not exist here"
            yield Problem("flow.trigger.flow.missing", message, Severity.WARNING, file)


def listens(flow: Flow) -> Iterator[tuple[str, FlowKey]]:
    """Yield the flows, written plainly, that the flow's triggers wait for, each with the id of the trigger."""
    from runner.triggers.models import FlowTrigger

    for trigger in flow.triggers:
        if isinstance(trigger, FlowTrigger):
            upstream = (*(trigger.preconditions.flows if trigger.preconditions else ()), *trigger.depends_on)
            keys = [(each.namespace, each.flow_id) for each in upstream if each.namespace and each.flow_id]
            for key in dict.fromkeys([*keys, *_named(trigger.conditions)]):
                if "{" not in "".join(key):
                    yield trigger.id, key


def _named(conditions: Iterable[Condition]) -> Iterator[FlowKey]:
    """Yield the flows that conditions ask for; what stands in a `Not` is not waited for."""
    from runner.triggers.conditions import ExecutionFlow, MultipleCondition, Or

    for condition in conditions:
        if isinstance(condition, ExecutionFlow):
            yield condition.namespace, condition.flow_id
        elif isinstance(condition, Or):
            yield from _named(condition.conditions)
        elif isinstance(condition, MultipleCondition):
            yield from _named(condition.conditions.values())
