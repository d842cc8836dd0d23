"""What only shows when all flows of an environment are seen together."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from runner.errors import Problem, Severity
from runner.flows.dependents import deaf_triggers, wrong_inputs
from runner.flows.finding import find_cycle
from runner.flows.outline import FlowKey, Outline
from runner.flows.spelling import did_you_mean

__all__ = ["FlowKey", "LocatedFlow", "check_flows"]

_MOST_CYCLES = 20


@dataclass(frozen=True, slots=True)
class LocatedFlow:
    """The outline of a flow and the file where the flow stands."""

    outline: Outline
    file: str | None = None


def check_flows(flows: Sequence[LocatedFlow], known: Collection[FlowKey] = ()) -> list[Problem]:
    """Return the problems between flows, without places inside the files but the first of a flow that is there twice.

    Args:
        flows: all flows that will be active together.
        known: further flows, as (namespace, id), that subflows may call.
    """
    by_key: dict[FlowKey, LocatedFlow] = {}
    problems = []
    for located in flows:
        key = located.outline.key
        if key in by_key:
            message = f"the flow {'.'.join(key)} is defined twice"
            hint = f"the other one is {by_key[key].file}"
            problems.append(Problem("flow.id.duplicate", message, Severity.ERROR, located.file, 1, 1, hint))
        else:
            by_key[key] = located
    exists = by_key.keys() | known if known else by_key.keys()
    tied = [located for located in by_key.values() if located.outline.calls or located.outline.awaits]
    problems += _missing(tied, exists)
    for located in tied:
        problems += wrong_inputs(located.outline.calls, lambda target: _outline(by_key, target), located.file)
        problems += deaf_triggers(located.outline, exists, located.file)
    problems += _cycles(tied)
    return problems


def _outline(by_key: Mapping[FlowKey, LocatedFlow], key: FlowKey) -> Outline | None:
    return by_key[key].outline if key in by_key else None


def _missing(tied: Sequence[LocatedFlow], exists: Collection[FlowKey]) -> Iterator[Problem]:
    names: set[str] = set()
    for located in tied:
        for task_id, target, _ in located.outline.calls:
            if target not in exists:
                names = names or {".".join(key) for key in exists}
                message = f"task {task_id!r} calls the flow {'.'.join(target)}, which does not exist here"
                hint = did_you_mean(".".join(target), names)
                yield Problem("flow.subflow.missing", message, Severity.WARNING, located.file, hint=hint)


def _cycles(tied: Sequence[LocatedFlow]) -> Iterator[Problem]:
    files = {".".join(located.outline.key): located.file for located in tied}
    needs = {".".join(located.outline.key): _others(located.outline) for located in tied}
    for _ in range(_MOST_CYCLES):
        cycle = find_cycle(needs)
        if not cycle:
            return
        message = f"flows call one another in a circle: {', '.join(cycle)}"
        hint = "break the circle at one of these flows"
        yield Problem("flow.subflow.cycle", message, file=files[cycle[0]], hint=hint)
        needs = {name: [to for to in targets if name not in cycle] for name, targets in needs.items()}


def _others(flow: Outline) -> list[str]:
    """Return which others a flow calls; one that calls itself is reported when it is parsed."""
    return [".".join(target) for _, target, _ in flow.calls if target != flow.key]
