"""Whether a change of an execution's state fires a flow trigger. Pure: memory in, memory out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from runner.executions.models import Execution
from runner.expressions import is_truthy
from runner.expressions.regex import compile_pattern
from runner.flows.models import Condition, Flow
from runner.previews import root_of
from runner.states import State
from runner.triggers.conditions import (
    ConditionContext,
    HasRetryAttempt,
    MultipleCondition,
    Not,
    Or,
    PureCondition,
    RenderText,
    all_hold,
)
from runner.triggers.models import Filter, FlowTrigger, UpstreamFlow, Where
from runner.triggers.multiple import Sighting, count_in
from runner.triggers.windows import TimeWindow

_DEPENDS_ON = "dependsOn"


@dataclass(frozen=True, slots=True)
class Change:
    """An execution that entered `state` at `at`. `attempts` are the attempts' states, one tuple per task run."""

    execution: Execution
    state: State
    at: datetime
    attempts: tuple[tuple[State, ...], ...] = ()

    def variables(self) -> dict[str, Any]:
        """Return what expressions see as `trigger`."""
        upstream = self.execution
        found = {
            "executionId": upstream.id,
            "namespace": upstream.namespace,
            "flowId": upstream.flow_id,
            "flowRevision": upstream.flow_revision,
            "state": self.state.value,
        }
        return {**found, "outputs": upstream.outputs} if upstream.outputs else found

    def scope(self) -> dict[str, Any]:
        """Return the variables that the trigger's expressions see."""
        upstream = self.execution
        return {
            "trigger": self.variables(),
            "namespace": upstream.namespace,
            "flowId": upstream.flow_id,
            "state": self.state.value,
            "labels": dict(upstream.labels),
            "inputs": upstream.inputs,
            "outputs": upstream.outputs,
            "hasRetryAttempt": any(len(states) > 1 for states in self.attempts),
        }


@dataclass(frozen=True, slots=True)
class Match:
    """Whether the trigger fires, what it remembers from now on, and what the new execution sees as `trigger`."""

    fires: bool
    memory: dict[str, Any]
    variables: dict[str, Any] = field(default_factory=dict)


def concerns(flow: Flow, trigger: FlowTrigger, change: Change) -> bool:
    """Return whether the trigger has to be asked at all: its states admit the change, and the flow is another one.

    What runs in a preview starts nothing outside of it, and no flow in there has a trigger.
    """
    upstream = change.execution
    if root_of(upstream.namespace) is not None:
        return False
    if change.state is State.CREATED or (upstream.namespace, upstream.flow_id) == (flow.namespace, flow.id):
        return False
    admitted = set(trigger.states)
    for entry in _upstream_flows(trigger):
        admitted.update(entry.states or ())
    return change.state in admitted


def needs_attempts(trigger: FlowTrigger) -> bool:
    """Return whether a condition looks at the attempts of the execution."""
    templates = [trigger.when, *(entry.when for entry in trigger.depends_on)]
    return any(isinstance(one, HasRetryAttempt) for one in _all_conditions(trigger.conditions)) or any(
        "hasRetryAttempt" in template for template in templates if template
    )


def match(trigger: FlowTrigger, change: Change, memory: Mapping[str, Any], zone: ZoneInfo, render: RenderText) -> Match:
    """Return what the change does to the trigger; ask `concerns` first.

    Raises:
        MainstemError: when a condition cannot be decided.
    """
    matcher = _Matcher(trigger, change, dict(memory), zone, render)
    fires = matcher.fires()
    return Match(fires, matcher.memory, {**change.variables(), **matcher.outputs} if fires else {})


class _Matcher:
    """One evaluation. Everything with a memory counts the execution in, even when another part does not hold yet."""

    def __init__(
        self, trigger: FlowTrigger, change: Change, memory: dict[str, Any], zone: ZoneInfo, render: RenderText
    ) -> None:
        self.trigger = trigger
        self.change = change
        self.memory = memory
        self.outputs: dict[str, Any] = {}
        self._zone = zone
        upstream = change.execution
        self._context = ConditionContext(
            render,
            upstream.namespace,
            upstream.flow_id,
            change.state,
            upstream.labels,
            upstream.outputs,
            change.attempts,
            change.scope(),
            self._multiple,
        )

    def fires(self) -> bool:
        """Return whether all parts of the trigger hold."""
        trigger = self.trigger
        remembering = [one for one in trigger.conditions if isinstance(one, MultipleCondition)]
        plain = [one for one in trigger.conditions if not isinstance(one, MultipleCondition)]
        if not all_hold(plain, self._context) or not self._agrees(trigger.when):
            return False
        parts: list[Callable[[], bool]] = [lambda one=one: one.holds(self._context) for one in remembering]  # type: ignore[misc]  # the default binds the loop's value
        parts += [self._preconditions] if trigger.preconditions else []
        parts += [self._depends_on] if trigger.depends_on else []
        return all([part() for part in parts])  # noqa: C419 - all of them count the execution in

    def _multiple(self, condition: MultipleCondition) -> bool:
        inner = {name: one for name, one in condition.conditions.items() if isinstance(one, PureCondition)}
        met = [name for name, one in inner.items() if one.holds(self._context)]
        return self._count(condition.id, inner, met, condition.effective_window, reset=condition.reset_on_success)

    def _preconditions(self) -> bool:
        wanted = self.trigger.preconditions
        assert wanted is not None
        met = {f"flow:{index}": self._is_met(entry) for index, entry in enumerate(wanted.flows)}
        met |= {f"where:{where.id}": self._passes(where) for where in wanted.where}
        window = wanted.time_window or TimeWindow()
        return self._count(
            wanted.id, met, [name for name, yes in met.items() if yes], window, reset=wanted.reset_on_success
        )

    def _depends_on(self) -> bool:
        entries = self.trigger.depends_on
        met = {f"flow:{index}": self._is_met(entry) for index, entry in enumerate(entries)}
        window = self.trigger.window.time_window if self.trigger.window else TimeWindow()
        if len(entries) == 1:
            upstream = self.change.execution
            self.outputs = {"outputs": {upstream.flow_id: upstream.outputs, **upstream.outputs}}
            return met["flow:0"]
        return self._count(_DEPENDS_ON, met, [name for name, yes in met.items() if yes], window, scoped=True)

    def _count(
        self,
        name: str,
        entries: Iterable[str],
        met: list[str],
        window: TimeWindow,
        *,
        reset: bool = True,
        scoped: bool = False,
    ) -> bool:
        upstream = self.change.execution
        sighting = Sighting(self.change.at, upstream.flow_id, upstream.outputs)
        tally = count_in(self.memory, name, set(entries), met, sighting, window, self._zone, reset_on_success=reset)
        self.memory = tally.memory
        if scoped and tally.is_complete:
            self.outputs = {"outputs": tally.outputs}
        return tally.is_complete

    def _is_met(self, entry: UpstreamFlow) -> bool:
        upstream = self.change.execution
        return (
            entry.namespace in {None, upstream.namespace}
            and entry.flow_id in {None, upstream.flow_id}
            and self.change.state in (entry.states or self.trigger.states)
            and all(upstream.labels.get(key) == value for key, value in entry.labels.items())
            and self._agrees(entry.when)
        )

    def _agrees(self, when: str | None) -> bool:
        return when is None or is_truthy(self._context.text(when))

    def _passes(self, where: Where) -> bool:
        results = (self._holds(one) for one in where.filters)
        return all(results) if where.operand == "AND" else any(results)

    def _holds(self, one: Filter) -> bool:
        upstream = self.change.execution
        value = self._context.text(one.value or "")
        match one.field:
            case "FLOW_ID":
                subject = upstream.flow_id
            case "NAMESPACE":
                subject = upstream.namespace
            case "STATE":
                subject = self.change.state.value
            case _:
                return _says(one.type, value, "true")
        if one.values is not None:
            is_among = subject in {self._context.text(text) for text in one.values}
            return is_among if one.type == "IN" else not is_among
        return _says(one.type, subject, value)


def _says(kind: str, subject: str, value: str) -> bool:  # noqa: PLR0911 - one line per kind
    match kind:
        case "EQUAL_TO":
            return subject == value
        case "NOT_EQUAL_TO":
            return subject != value
        case "IS_TRUE":
            return subject == "true"
        case "IS_FALSE":
            return subject == "false"
        case "IS_NULL":
            return not subject
        case "IS_NOT_NULL":
            return bool(subject)
        case "STARTS_WITH":
            return subject.startswith(value)
        case "ENDS_WITH":
            return subject.endswith(value)
        case "CONTAINS":
            return value in subject
        case _:
            return compile_pattern(value).fullmatch(subject) is not None


def _upstream_flows(trigger: FlowTrigger) -> list[UpstreamFlow]:
    older = trigger.preconditions.flows if trigger.preconditions else ()
    return [*older, *trigger.depends_on]


def _all_conditions(conditions: Iterable[Condition]) -> Iterable[Condition]:
    for condition in conditions:
        yield condition
        if isinstance(condition, Not | Or):
            yield from _all_conditions(condition.conditions)
        elif isinstance(condition, MultipleCondition):
            yield from _all_conditions(condition.conditions.values())
