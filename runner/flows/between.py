"""What only shows when all flows of an environment are seen together."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from runner.errors import Problem, Severity
from runner.flows.finding import find_cycle
from runner.flows.models import Flow
from runner.flows.spelling import did_you_mean
from runner.tasks.flow import Subflow
from runner.tasks.for_each_item import ForEachItem

FlowKey = tuple[str, str]
_MOST_CYCLES = 20


@dataclass(frozen=True, slots=True)
class LocatedFlow:
    """A flow and the file where it stands."""

    flow: Flow
    file: str | None = None


def check_flows(flows: Sequence[LocatedFlow], known: Collection[FlowKey] = ()) -> list[Problem]:
    """Return the problems between flows, without places inside the files.

    Args:
        flows: all flows that will be active together.
        known: further flows, as (namespace, id), that subflows may call.
    """
    by_key: dict[FlowKey, LocatedFlow] = {}
    problems = []
    for located in flows:
        key = (located.flow.namespace, located.flow.id)
        if key in by_key:
            message = f"the flow {'.'.join(key)} is defined twice"
            hint = f"the other one is {by_key[key].file}"
            problems.append(Problem("flow.id.duplicate", message, file=located.file, hint=hint))
        else:
            by_key[key] = located
    problems += _missing(by_key, known)
    problems += _cycles(by_key)
    return problems


def calls(flow: Flow) -> Iterator[tuple[Subflow | ForEachItem, FlowKey]]:
    """Yield the subflow tasks whose target is written plainly."""
    for task in flow.all_tasks():
        if isinstance(task, Subflow | ForEachItem) and "{" not in task.namespace and "{" not in task.flow_id:
            yield task, (task.namespace, task.flow_id)


def _missing(by_key: Mapping[FlowKey, LocatedFlow], known: Collection[FlowKey]) -> Iterator[Problem]:
    names = {".".join(key) for key in (*by_key, *known)}
    for located in by_key.values():
        for task, target in calls(located.flow):
            if target not in by_key and target not in known:
                message = f"task {task.id!r} calls the flow {'.'.join(target)}, which does not exist here"
                hint = did_you_mean(".".join(target), names)
                yield Problem("flow.subflow.missing", message, Severity.WARNING, located.file, hint=hint)


def _cycles(by_key: Mapping[FlowKey, LocatedFlow]) -> Iterator[Problem]:
    needs = _graph(by_key)
    for _ in range(_MOST_CYCLES):
        cycle = find_cycle(needs)
        if not cycle:
            return
        first = next(located for key, located in by_key.items() if ".".join(key) == cycle[0])
        message = f"flows call one another in a circle: {', '.join(cycle)}"
        yield Problem("flow.subflow.cycle", message, file=first.file, hint="break the circle at one of these flows")
        needs = {name: [to for to in targets if name not in cycle] for name, targets in needs.items()}


def _graph(by_key: Mapping[FlowKey, LocatedFlow]) -> dict[str, list[str]]:
    """Return which flow calls which others; a flow that calls itself is reported when it is parsed."""
    return {
        ".".join(key): [".".join(target) for _, target in calls(located.flow) if target != key]
        for key, located in by_key.items()
    }
