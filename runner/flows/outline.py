"""What others need to know of a flow: its name, the flows that it calls and listens to, the inputs that it takes.

A plan looks at all flows of an environment together. Thousands of outlines are a few megabytes; thousands of flows are
a hundred.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple

from runner.flows.models import Condition, Flow, Input

FlowKey = tuple[str, str]
"""A flow's namespace and id."""

_SHARED: Final = 10_000


class Called(NamedTuple):
    """A task that calls a flow whose name is written plainly, with the names of the inputs that it gives."""

    task_id: str
    target: FlowKey
    given: tuple[str, ...]


class Awaited(NamedTuple):
    """A flow, its name written plainly, that a trigger waits for."""

    trigger_id: str
    target: FlowKey


class Taken(NamedTuple):
    """An input of a flow, and whether whoever calls the flow has to give it."""

    id: str
    is_demanded: bool


@lru_cache(maxsize=_SHARED)
def _taken(name: str, *, is_demanded: bool) -> Taken:
    """Return an input: one object for the many flows that have the same."""
    return Taken(name, is_demanded)


@dataclass(frozen=True, slots=True)
class Outline:
    """What others need to know of a flow."""

    key: FlowKey
    calls: tuple[Called, ...] = ()
    awaits: tuple[Awaited, ...] = ()
    inputs: tuple[Taken, ...] = ()

    @classmethod
    def of(cls, flow: Flow) -> Outline:
        """Return the outline of a flow."""
        inputs = tuple(_taken(each.id, is_demanded=_is_demanded(each)) for each in flow.inputs)
        return cls((flow.namespace, flow.id), tuple(_calls(flow)), tuple(_awaits(flow)), inputs)


def _calls(flow: Flow) -> Iterator[Called]:
    from runner.tasks.flow import Subflow
    from runner.tasks.for_each_item import ForEachItem

    for task in flow.all_tasks():
        if isinstance(task, Subflow | ForEachItem) and "{" not in task.namespace and "{" not in task.flow_id:
            yield Called(task.id, (task.namespace, task.flow_id), tuple(task.inputs or ()))


def _awaits(flow: Flow) -> Iterator[Awaited]:
    from runner.triggers.models import FlowTrigger

    for trigger in flow.triggers:
        if isinstance(trigger, FlowTrigger):
            upstream = (*(trigger.preconditions.flows if trigger.preconditions else ()), *trigger.depends_on)
            keys = [(each.namespace, each.flow_id) for each in upstream if each.namespace and each.flow_id]
            for key in dict.fromkeys([*keys, *_named(trigger.conditions)]):
                if "{" not in "".join(key):
                    yield Awaited(trigger.id, key)


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


def _is_demanded(declared: Input) -> bool:
    is_filled = any(value is not None for value in (declared.defaults, declared.prefill, declared.depends_on))
    return declared.required and not is_filled and not declared.auto_select_first and declared.inputs is None
