"""What only shows when all flows of an environment are seen together."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from runner.errors import Problem, Severity
from runner.flows.dependents import Calls, FlowKey, calls, deaf_triggers, wrong_inputs
from runner.flows.finding import find_cycle
from runner.flows.models import Flow
from runner.flows.spelling import did_you_mean

__all__ = ["FlowKey", "LocatedFlow", "check_flows"]

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
    called = {key: calls(located.flow) for key, located in by_key.items()}
    exists = {*by_key, *known}
    problems += _missing(by_key, called, exists)
    for key, located in by_key.items():
        problems += wrong_inputs(called[key], lambda target: _flow(by_key, target), located.file)
        problems += deaf_triggers(located.flow, exists, located.file)
    problems += _cycles(by_key, called)
    return problems


def _flow(by_key: Mapping[FlowKey, LocatedFlow], key: FlowKey) -> Flow | None:
    return by_key[key].flow if key in by_key else None


def _missing(
    by_key: Mapping[FlowKey, LocatedFlow], called: Mapping[FlowKey, Calls], exists: Collection[FlowKey]
) -> Iterator[Problem]:
    names = {".".join(key) for key in exists}
    for key, located in by_key.items():
        for task, target in called[key]:
            if target not in exists:
                message = f"task {task.id!r} calls the flow {'.'.join(target)}, which does not exist here"
                hint = did_you_mean(".".join(target), names)
                yield Problem("flow.subflow.missing", message, Severity.WARNING, located.file, hint=hint)


def _cycles(by_key: Mapping[FlowKey, LocatedFlow], called: Mapping[FlowKey, Calls]) -> Iterator[Problem]:
    needs = _graph(called)
    for _ in range(_MOST_CYCLES):
        cycle = find_cycle(needs)
        if not cycle:
            return
        first = next(located for key, located in by_key.items() if ".".join(key) == cycle[0])
        message = f"flows call one another in a circle: {', '.join(cycle)}"
        yield Problem("flow.subflow.cycle", message, file=first.file, hint="break the circle at one of these flows")
        needs = {name: [to for to in targets if name not in cycle] for name, targets in needs.items()}


def _graph(called: Mapping[FlowKey, Calls]) -> dict[str, list[str]]:
    """Return which flow calls which others; a flow that calls itself is reported when it is parsed."""
    return {".".join(key): [".".join(target) for _, target in found if target != key] for key, found in called.items()}
