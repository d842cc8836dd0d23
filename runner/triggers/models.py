"""The triggers that a flow can declare."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import AliasChoices, Field, SerializeAsAny, ValidationError, field_validator, model_validator

from runner.durations import Duration
from runner.flows.models import Condition, Model, Template, Trigger
from runner.states import TERMINAL, State
from runner.triggers.conditions import MultipleCondition, Not, Or, labels_of
from runner.triggers.windows import TimeWindow

RecoverMissed = Literal["ALL", "LAST", "NONE"]

DEFAULT_STATES = (*sorted(TERMINAL), State.PAUSED)
"""The states of an execution that a flow trigger reacts to when it names none (Kestra since 0.23)."""


class Schedule(Trigger):
    """Starts an execution at the times that a cron expression names."""

    conditions: tuple[SerializeAsAny[Condition], ...] = Field(
        default=(), validation_alias=AliasChoices("conditions", "scheduleConditions")
    )
    cron: str
    with_seconds: bool = False
    timezone: str | None = None
    late_maximum_delay: Duration | None = None
    recover_missed_schedules: RecoverMissed | None = None
    backfill: dict[str, Any] | None = None


class ScheduleOnDates(Trigger):
    """Starts an execution at each of some dates."""

    conditions: tuple[SerializeAsAny[Condition], ...] = Field(
        default=(), validation_alias=AliasChoices("conditions", "scheduleConditions")
    )
    dates: tuple[Template, ...] | Template
    timezone: str | None = None
    recover_missed_schedules: RecoverMissed | None = None


class Webhook(Trigger):
    """Starts an execution when a request with the right key arrives."""

    key: Template = Field(max_length=256)
    wait: bool = False
    return_outputs: bool = False
    response_content_type: Literal["application/json", "text/plain"] | None = None

    @model_validator(mode="after")
    def _needs_no_memory(self) -> Self:
        if any(isinstance(condition, MultipleCondition) for condition in _flat(self.conditions)):
            raise ValueError("invalid webhook: conditions of type MultipleCondition are not supported")
        return self


class UpstreamFlow(Model):
    """A flow that must have ended in one of some states, with some labels; an id left out means any flow."""

    namespace: str
    flow_id: str | None = None
    states: tuple[State, ...] | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    when: Template | None = None

    @field_validator("labels", mode="before")
    @classmethod
    def _labels_as_map(cls, labels: Any) -> Any:
        return labels_of(labels)


class Dependency(UpstreamFlow):
    """The same in the language of 2.0, where the namespace may be left out too."""

    namespace: str | None = None  # type: ignore[assignment]  # wider than the older property, read the same way


_TAKES_VALUES = {"IN", "NOT_IN"}


class Filter(Model):
    """A test of one property of an execution."""

    field: Literal["FLOW_ID", "NAMESPACE", "STATE", "EXPRESSION"]
    type: Literal[
        "EQUAL_TO",
        "NOT_EQUAL_TO",
        "IN",
        "NOT_IN",
        "IS_TRUE",
        "IS_FALSE",
        "IS_NULL",
        "IS_NOT_NULL",
        "STARTS_WITH",
        "ENDS_WITH",
        "REGEX",
        "CONTAINS",
    ]
    value: Template | None = None
    values: tuple[Template, ...] | None = None

    @model_validator(mode="after")
    def _has_what_its_type_needs(self) -> Self:
        faults = []
        for name, wanted in (("value", self.type not in _TAKES_VALUES), ("values", self.type in _TAKES_VALUES)):
            given = getattr(self, name) is not None
            if wanted and not given:
                faults.append(f"`{name}` cannot be null for type {self.type}")
            elif given and not wanted:
                faults.append(f"`{name}` must be null for type {self.type}")
        if faults:
            raise ValueError("; ".join(faults))
        return self


class Where(Model):
    """Filters that one execution must pass: all of them, or one."""

    id: str
    operand: Literal["AND", "OR"] = "AND"
    filters: tuple[Filter, ...] = Field(min_length=1)


class Preconditions(Model):
    """What must all have happened within a window before a flow trigger fires."""

    id: str
    flows: tuple[UpstreamFlow, ...] = ()
    where: tuple[Where, ...] = ()
    time_window: TimeWindow | None = None
    reset_on_success: bool = True
    description: str | None = None


class DependencyWindow(Model):
    """The window of `dependsOn` in the language of 2.0: consecutive periods, or each day up to a time."""

    every: Duration | None = None
    last: Duration | None = None
    deadline: str | None = None
    start_time: str | None = None
    end_time: str | None = None
    on_miss: str | None = None

    @property
    def time_window(self) -> TimeWindow:
        """Return the same window in the older words."""
        if self.deadline is not None:
            return TimeWindow.model_validate({"type": "DAILY_TIME_DEADLINE", "deadline": self.deadline})
        if self.start_time is not None or self.end_time is not None:
            return TimeWindow.model_validate(
                {"type": "DAILY_TIME_WINDOW", "startTime": self.start_time, "endTime": self.end_time}
            )
        if self.last is not None:
            return TimeWindow(type="SLIDING_WINDOW", window=self.last)
        return TimeWindow(window=self.every)

    @model_validator(mode="after")
    def _is_a_window(self) -> Self:
        try:
            _ = self.time_window
        except ValidationError as error:
            raise ValueError(error.errors()[0]["msg"].removeprefix("Value error, ")) from None
        return self


class FlowTrigger(Trigger):
    """Starts an execution when executions of other flows change their state."""

    states: tuple[State, ...] = DEFAULT_STATES
    preconditions: Preconditions | None = None
    depends_on: tuple[Dependency, ...] = ()
    window: DependencyWindow | None = None


def _flat(conditions: tuple[Condition, ...]) -> list[Condition]:
    found = list(conditions)
    for condition in conditions:
        if isinstance(condition, Not | Or):
            found.extend(_flat(condition.conditions))
    return found
