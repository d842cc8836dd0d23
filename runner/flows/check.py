"""What must hold in a flow beyond the shape of its models. Pure; every finding is a `Problem` with its place."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from runner.durations import format_duration
from runner.errors import FlowError, MainstemError, Problem, Severity
from runner.flows import registry
from runner.flows.between import LocatedFlow, check_flows
from runner.flows.build import field_names
from runner.flows.check_effects import ineffective
from runner.flows.check_inputs import input_problems
from runner.flows.check_runners import task_runner_problems
from runner.flows.finding import Finding, find_cycle
from runner.flows.models import Flow, Model, Retry, Task, TaskKind, Trigger, walk
from runner.flows.positions import Path, Positions
from runner.flows.registry import TypeKind
from runner.flows.spelling import did_you_mean
from runner.flows.worker_groups import INVALID as INVALID_GROUP
from runner.flows.worker_groups import faults_of
from runner.tasks.flow import Dag, Pause, Sleep, Subflow, Switch, WorkingDirectory
from runner.tasks.for_each_item import ForEachItem
from runner.tasks.template import Template

__all__ = ["RESERVED_IDS", "LocatedFlow", "Places", "check_flow", "check_flows"]

RESERVED_IDS = frozenset(
    {"pause", "resume", "force-run", "change-status", "kill", "executions", "search", "source", "disable", "enable"}
)
"""Flow ids that Kestra refuses since 1.0, because they read like a verb in an API route; older flows have them."""


@dataclass(frozen=True, slots=True)
class Places:
    """Where the models of a flow stand in its file, and which of them are known to be wrong.

    `paths` has the path of each model instance by `id()`; `faulty` the properties that were refused and left out of
    an instance, by its `id()`; `file` is the name for problems.
    """

    positions: Positions
    paths: Mapping[int, Path]
    faulty: Mapping[int, Collection[str]]
    file: str | None = None

    def problem(self, finding: Finding) -> Problem | None:
        """Return a finding as a problem with its place; None for one that only follows from a fault told before."""
        known = self.faulty.get(id(finding.about), ())
        if known and (not finding.within or finding.within[0] in known):
            return None
        base = self.paths.get(id(finding.about), ()) if finding.about is not None else ()
        mark = self.positions.at((*base, *finding.within))
        return Problem(finding.code, finding.message, finding.severity, self.file, mark.line, mark.column, finding.hint)


def check_flow(flow: Flow, places: Places) -> list[Problem]:
    """Return what is wrong with a flow beyond the shape of its models.

    A flow that was refused is looked at as well, as far as it could be built, so that all is said at once.
    """
    checks: tuple[Callable[[Flow], Iterable[Finding]], ...] = (
        _flow_id,
        _unique_ids,
        _labels,
        _worker_groups,
        input_problems,
        _tasks,
        _slas,
        _retries,
        _triggers,
        _plugin_defaults,
        ineffective,
    )
    found = [places.problem(finding) for check in checks for finding in _findings(check, flow, places)]
    return [problem for problem in found if problem is not None]


def _findings(check: Callable[[Flow], Iterable[Finding]], flow: Flow, places: Places) -> Iterator[Finding]:
    try:
        yield from check(flow)
    except Exception:  # a plugin's code may raise anything
        # What is left of a refused task may be less than the methods of its plugin expect. That it is refused is told.
        if not places.faulty:
            raise


def _flow_id(flow: Flow) -> Iterator[Finding]:
    if flow.id in RESERVED_IDS:
        message = f"the flow id {flow.id!r} is reserved in Kestra since 1.0"
        yield Finding("flow.id.reserved", message, flow, ("id",), "choose another id", Severity.WARNING)


def _unique_ids(flow: Flow) -> Iterator[Finding]:
    tasks = list(_once(flow))
    tasks += [inner for task in tasks if isinstance(task, Pause) and task.on_pause for inner in walk(task.on_pause)]
    for code, things, message in (
        ("task.id.duplicate", tasks, "Duplicate task id with name [{}]"),
        ("trigger.id.duplicate", flow.triggers, "Duplicate trigger id with name [{}]"),
        ("output.id.duplicate", flow.outputs, "Duplicate output with name [{}]"),
    ):
        counts = Counter(thing.id for thing in things if thing.id)  # a refused one may have none
        for name, count in counts.items():
            if count > 1:
                again = [thing for thing in things if thing.id == name][1]
                yield Finding(code, message.format(name), again, ("id",), "ids are unique in a flow")


def _once(flow: Flow) -> Iterator[Task]:
    """Yield the tasks of a flow, those of a template that is used several times only once: they are the same."""
    seen: set[tuple[str, str]] = set()
    skipped: set[int] = set()
    for task in flow.all_tasks():
        if id(task) in skipped:
            continue
        if isinstance(task, Template):
            name = (task.namespace, task.template_id)
            skipped.update(id(inner) for inner in walk(task) if name in seen)
            seen.add(name)
        yield task


def _slas(flow: Flow) -> Iterator[Finding]:
    for sla in flow.sla:
        name, value = ("duration", sla.duration) if sla.type == "MAX_DURATION" else ("assert", sla.assertion)
        if value is None:
            yield Finding("sla.property.missing", f"{name}: must not be null", sla, hint=f"{sla.type} needs `{name}`")


def _labels(flow: Flow) -> Iterator[Finding]:
    holders: list[tuple[Model, Path, Any]] = [(flow, ("labels",), flow.labels)]
    holders += [(sla, ("labels",), sla.labels) for sla in flow.sla]
    holders += [(trigger, ("labels",), trigger.labels) for trigger in flow.triggers]
    for about, within, labels in holders:
        for place, key, value in _label_pairs(labels):
            if key.startswith("system.") and key != "system.readOnly":
                message = f"System labels can only be set by Kestra itself, offending label: {key}={value}."
                yield Finding("label.key.reserved", message, about, (*within, place), "drop the prefix `system.`")


def _label_pairs(labels: Any) -> Iterator[tuple[str | int, str, Any]]:
    if isinstance(labels, Mapping):
        for key, value in labels.items():
            yield key, key, value
    elif isinstance(labels, list | tuple):
        for index, item in enumerate(labels):
            if isinstance(item, Mapping) and "key" in item:
                yield index, str(item["key"]), item.get("value")


def _tasks(flow: Flow) -> Iterator[Finding]:
    for task in flow.all_tasks():
        if isinstance(task, Subflow | ForEachItem):
            yield from _recursion(flow, task)
        elif isinstance(task, Dag):
            yield from _dag(task)
        elif isinstance(task, Switch):
            if not any(task.cases.values()) and not task.defaults:
                message = f"{task.id}: No task defined, neither cases or default have any tasks"
                yield Finding("task.cases.empty", message, task)
        elif isinstance(task, WorkingDirectory):
            yield from _working_directory(task)
        yield from task_runner_problems(task)


def _worker_groups(flow: Flow) -> Iterator[Finding]:
    owners: tuple[Flow | Task, ...] = (flow, *flow.all_tasks())
    for owner in owners:
        for fault in faults_of(owner):
            yield Finding(INVALID_GROUP, fault.message, owner, fault.within, fault.hint)


def _recursion(flow: Flow, task: Subflow | ForEachItem) -> Iterator[Finding]:
    if (task.namespace, task.flow_id) == (flow.namespace, flow.id):
        message = f"Invalid Flow: Recursive call to flow [{flow.namespace}.{flow.id}]"
        yield Finding("flow.subflow.recursive", message, task, ("flowId",), "a loop needs a ForEach or LoopUntil task")


def _dag(dag: Dag) -> Iterator[Finding]:
    if not dag.tasks:
        yield Finding("task.tasks.empty", f"{dag.id}: No task defined", dag, ("tasks",))
    needs = {node.task.id: node.depends_on for node in dag.tasks}
    for node in dag.tasks:
        for index, name in enumerate(node.depends_on):
            if name not in needs:
                message = f"{dag.id}: Not existing task id in dependency: {name}"
                hint = did_you_mean(name, needs)
                yield Finding("task.dependency.missing", message, node, ("dependsOn", index), hint)
    cycle = find_cycle(needs)
    if cycle:
        first = next(node for node in dag.tasks if node.task.id == cycle[0])
        message = f"{dag.id}: Cyclic dependency detected: {', '.join(cycle)}"
        yield Finding("task.dependency.cycle", message, first, ("dependsOn",))


def _working_directory(task: WorkingDirectory) -> Iterator[Finding]:
    if not task.tasks:
        yield Finding("task.tasks.empty", f"{task.id}: The 'tasks' property cannot be empty", task)
    for child in task.tasks:
        if child.kind in {TaskKind.FLOWABLE, TaskKind.SUBFLOW} and not isinstance(child, Sleep):
            message = "Only runnable tasks are allowed as children of a WorkingDirectory task"
            yield Finding("task.tasks.invalid", f"{task.id}: {message}", child, ("type",), f"move {child.id!r} out")
        for name, given in (("workerGroup", child.worker_group), ("workerSelector", child.worker_selector)):
            if given is not None:
                message = f"{task.id}: Cannot set a Worker Group in any WorkingDirectory sub-tasks"
                yield Finding(INVALID_GROUP, message, child, (name,))


def _retries(flow: Flow) -> Iterator[Finding]:
    owners: list[Flow | Task] = [flow, *flow.all_tasks()]
    for owner in owners:
        if owner.retry is not None:
            yield from _retry(owner.retry)


_RETRY_NEEDS: Mapping[str, tuple[str, ...]] = {
    "constant": ("interval",),
    "exponential": ("interval", "maxInterval"),
    "random": ("minInterval", "maxInterval"),
}


def _retry(retry: Retry) -> Iterator[Finding]:
    times = {
        "interval": retry.interval,
        "minInterval": retry.min_interval,
        "maxInterval": retry.max_interval,
        "maxDuration": retry.max_duration,
    }
    needed = _RETRY_NEEDS.get(retry.type)
    if needed is None:
        return  # refused already
    for name in needed:
        if times[name] is None:
            message = f"a retry of type {retry.type!r} needs `{name}`"
            yield Finding("retry.property.missing", message, retry)
    short = times[needed[0]]
    for bound in ("maxDuration", "maxInterval"):
        limit = times[bound]
        if short is not None and limit is not None and short > limit and (bound == "maxDuration" or bound in needed):
            message = f"'{needed[0]}' must be less than '{bound}' but is {format_duration(short)}"
            yield Finding("retry.interval.invalid", message, retry, (needed[0],))


def _triggers(flow: Flow) -> Iterator[Finding]:
    for trigger in flow.triggers:
        for within, check in (("cron", _check_cron), ("timezone", _check_zone)):
            try:
                check(trigger)
            except MainstemError as error:
                yield Finding(error.code, error.message, trigger, (within,), error.hint)


def _check_cron(trigger: Trigger) -> None:
    from runner.triggers.cron import check_cron

    cron = getattr(trigger, "cron", None)
    if isinstance(cron, str):
        check_cron(cron, with_seconds=bool(getattr(trigger, "with_seconds", False)))


def _check_zone(trigger: Trigger) -> None:
    from runner.triggers.dates import parse_zone

    timezone = getattr(trigger, "timezone", None)
    if isinstance(timezone, str) and "{" not in timezone:
        parse_zone(timezone)


def _plugin_defaults(flow: Flow) -> Iterator[Finding]:
    for default in flow.plugin_defaults:
        if not default.values:
            yield Finding("default.value.missing", "No 'values' provided", default)
        for key, value in default.values.items():
            if value is None:
                message = f"No value provided for key '{key}'"
                yield Finding("default.value.missing", message, default, ("values", key))
        for kind in TypeKind:
            try:
                cls = registry.find(kind, default.type)
            except FlowError as error:
                yield Finding(error.code, error.message, default, ("type",), error.hint)
                continue
            if cls is not None:
                yield from _default_names(default, default.type, default.values, field_names(cls))


def _default_names(about: Model, name: str, values: Mapping[str, Any], known: Iterable[str]) -> Iterator[Finding]:
    names: Sequence[str] = list(known)
    for key in values:
        if key not in names:
            message = f"No property '{key}' exists in plugin '{name}'"
            hint = did_you_mean(key, names)
            yield Finding("default.property.unknown", message, about, ("values", key), hint, Severity.ERROR)
