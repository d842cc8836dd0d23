"""The conditions of triggers and listeners: each a model with a pure `holds`.

A condition that cannot be decided raises; whoever asks turns that into a failed execution, so that the mistake is seen.
Names, defaults and edge cases are Kestra's (language: Conditions).
"""

from __future__ import annotations

import abc
import enum
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, ClassVar, Literal, Protocol

from pydantic import Field, SerializeAsAny, field_validator

from runner.durations import Duration
from runner.errors import InvalidError
from runner.flows.models import Condition, Template
from runner.states import State
from runner.triggers.dates import parse_date, parse_time
from runner.triggers.windows import TimeWindow

_DATE = "{{ trigger.date }}"
NEVER = datetime.max.replace(tzinfo=UTC)
"""Later than every date: the answer stays no."""


class RenderText(Protocol):
    """Renders a template to text; `variables` add to what the template sees anyway."""

    def __call__(self, template: str, variables: Mapping[str, Any] | None = None, /) -> str:
        """Return the text."""


@dataclass(frozen=True, slots=True)
class ConditionContext:
    """What a condition may look at: the flow, and the execution that is tested (or that of a listener).

    `attempts` are the states of the attempts, one tuple per task run. `multiple` decides a MultipleCondition, which
    needs what earlier executions left behind.
    """

    render: RenderText
    namespace: str = ""
    flow_id: str = ""
    state: State | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    outputs: Mapping[str, Any] = field(default_factory=dict)
    attempts: tuple[tuple[State, ...], ...] = ()
    variables: Mapping[str, Any] = field(default_factory=dict)
    multiple: Callable[[MultipleCondition], bool] | None = None

    def text(self, template: str) -> str:
        """Return a template rendered with the context's variables; plain text as it is."""
        return self.render(template, self.variables) if "{" in template else template


class PureCondition(Condition, abc.ABC):
    """A condition that decides from its context alone."""

    @abc.abstractmethod
    def holds(self, context: ConditionContext) -> bool:
        """Return whether the condition is met. Raises `InvalidError` or `ExpressionError` when that cannot be said."""

    def fails_until(self, moment: datetime) -> datetime:
        """Return the first later time at which the answer can change, given that it is no at `moment`.

        Both times are of the same zone. Lets the search for a schedule's next date skip what cannot hold.
        """
        return moment

    @property
    def is_of_dates(self) -> bool:
        """Whether the answer depends on the tested date alone, and so is known ahead."""
        return False


def all_hold(conditions: Iterable[Condition], context: ConditionContext) -> bool:
    """Return whether every condition holds; they are asked in order, up to the first that does not."""
    return all(_pure(condition).holds(context) for condition in conditions)


def _pure(condition: Condition) -> PureCondition:
    assert isinstance(condition, PureCondition), f"{condition.type} has no rule"
    return condition


class DayOfWeek(enum.IntEnum):
    """Days as Java numbers them."""

    MONDAY = 1
    TUESDAY = 2
    WEDNESDAY = 3
    THURSDAY = 4
    FRIDAY = 5
    SATURDAY = 6
    SUNDAY = 7


DayName = Literal["MONDAY", "TUESDAY", "WEDNESDAY", "THURSDAY", "FRIDAY", "SATURDAY", "SUNDAY"]


class _DatedCondition(PureCondition):
    """A condition on a date, that of the schedule by default."""

    date: Template = _DATE
    lasts_all_day: ClassVar[bool] = False

    def moment(self, context: ConditionContext) -> datetime:
        """Return the date that is tested."""
        return parse_date(context.text(self.date))

    @property
    def is_of_dates(self) -> bool:
        """Whether the date is the schedule's own."""
        return self.date == _DATE

    def fails_until(self, moment: datetime) -> datetime:
        """Return the next midnight where the answer is one for the whole day."""
        if not self.lasts_all_day or not self.is_of_dates:
            return moment
        midnight = moment.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
        return midnight + timedelta(days=1)


class DateTimeBetween(_DatedCondition):
    """The date lies strictly between two others, of which one may be left out."""

    after: Template | None = None
    before: Template | None = None

    def holds(self, context: ConditionContext) -> bool:
        """Return whether `after` < date < `before`."""
        if self.after is None and self.before is None:
            raise InvalidError("condition.bounds.missing", "Invalid condition with no before nor after")
        moment = self.moment(context)
        if self.after is not None and moment <= parse_date(context.text(self.after)):
            return False
        return self.before is None or moment < parse_date(context.text(self.before))

    @property
    def is_of_dates(self) -> bool:
        """Whether nothing has to be rendered."""
        return self.date == _DATE and not any("{" in bound for bound in (self.after, self.before) if bound)

    def fails_until(self, moment: datetime) -> datetime:
        """Return when `after` is over; never, once `before` is."""
        if not self.is_of_dates:
            return moment
        if self.before is not None and moment >= parse_date(self.before):
            return NEVER
        return max(moment, parse_date(self.after).astimezone(moment.tzinfo)) if self.after is not None else moment


class TimeBetween(_DatedCondition):
    """The time of day lies strictly between two others, each with its offset from UTC."""

    after: Template | None = None
    before: Template | None = None

    def holds(self, context: ConditionContext) -> bool:
        """Return whether `after` < time of the date < `before`."""
        if self.after is None and self.before is None:
            raise InvalidError("condition.bounds.missing", "Invalid condition with no before nor after")
        at = self.moment(context).timetz()
        if self.after is not None and _since_midnight(at) <= _since_midnight(self._bound(self.after, at, context)):
            return False
        return self.before is None or _since_midnight(at) < _since_midnight(self._bound(self.before, at, context))

    @staticmethod
    def _bound(text: str, at: time, context: ConditionContext) -> time:
        bound = parse_time(context.text(text))
        return bound if bound.tzinfo is not None else bound.replace(tzinfo=at.tzinfo)

    @property
    def is_of_dates(self) -> bool:
        """Whether nothing has to be rendered."""
        return self.date == _DATE and not any("{" in bound for bound in (self.after, self.before) if bound)


def _since_midnight(at: time) -> timedelta:
    """Return the time since midnight UTC, not wrapped at the end of a day (as Java's `OffsetTime` compares)."""
    passed = timedelta(hours=at.hour, minutes=at.minute, seconds=at.second, microseconds=at.microsecond)
    return passed - (at.utcoffset() or timedelta(0))


class DayWeek(_DatedCondition):
    """The date is a certain day of the week."""

    lasts_all_day = True
    day_of_week: DayName

    def holds(self, context: ConditionContext) -> bool:
        """Return whether the date is that day."""
        return self.moment(context).isoweekday() == DayOfWeek[self.day_of_week]


class DayWeekInMonth(_DatedCondition):
    """The date is the first, second, third, fourth or last of a weekday in its month."""

    lasts_all_day = True
    day_of_week: DayName
    day_in_month: Literal["FIRST", "SECOND", "THIRD", "FOURTH", "LAST"]

    def holds(self, context: ConditionContext) -> bool:
        """Return whether the date is that day."""
        day = self.moment(context).date()
        if day.isoweekday() != DayOfWeek[self.day_of_week]:
            return False
        if self.day_in_month == "LAST":
            return (day + timedelta(days=7)).month != day.month
        return (day.day - 1) // 7 == ("FIRST", "SECOND", "THIRD", "FOURTH").index(self.day_in_month)


class Weekend(_DatedCondition):
    """The date is a Saturday or Sunday."""

    lasts_all_day = True

    def holds(self, context: ConditionContext) -> bool:
        """Return whether it is."""
        return self.moment(context).isoweekday() >= DayOfWeek.SATURDAY


class PublicHoliday(_DatedCondition):
    """The date is a public holiday of a country or one of its parts."""

    lasts_all_day = True
    country: Template | None = None
    sub_division: Template | None = None

    def holds(self, context: ConditionContext) -> bool:
        """Return whether it is. The country must be given: servers' locales differ and flows travel."""
        if self.country is None:
            raise InvalidError(
                "condition.country.missing",
                "PublicHoliday names no country",
                hint="add `country`, such as `country: FR`",
            )
        part = context.text(self.sub_division).upper() if self.sub_division else None
        return is_holiday(self.moment(context).date(), context.text(self.country).upper(), part)

    @property
    def is_of_dates(self) -> bool:
        """Whether nothing has to be rendered."""
        return self.date == _DATE and "{" not in (self.country or "") + (self.sub_division or "")


def is_holiday(day: date, country: str, part: str | None = None) -> bool:
    """Return whether `day` is a public holiday in a country (ISO 3166-1 alpha-2) and subdivision.

    Raises:
        InvalidError: `condition.country.unknown` when no calendar is known for them.
    """
    from holidays import country_holidays

    try:
        return day in country_holidays(country, subdiv=part, years=day.year)
    except (NotImplementedError, KeyError):  # how the library says that it knows no such place
        place = f"{country}-{part}" if part else country
        raise InvalidError(
            "condition.country.unknown",
            f"no calendar of public holidays for {place!r}",
            hint="use the code of ISO 3166-1, such as FR",
        ) from None


class ExecutionFlow(PureCondition):
    """The execution is of a certain flow."""

    namespace: str
    flow_id: str

    def holds(self, context: ConditionContext) -> bool:
        """Return whether namespace and flow id are equal."""
        return (context.namespace, context.flow_id) == (self.namespace, self.flow_id)


class FlowCondition(ExecutionFlow):
    """The same under its older name."""


class FlowNamespaceCondition(PureCondition):
    """The flow is in a namespace."""

    namespace: str
    prefix: bool = False

    def holds(self, context: ConditionContext) -> bool:
        """Return whether the namespace is equal, or starts so."""
        return context.namespace.startswith(self.namespace) if self.prefix else context.namespace == self.namespace


class ExecutionNamespace(PureCondition):
    """The execution is in a namespace; `comparison` counts before `prefix`."""

    namespace: str
    comparison: Literal["EQUALS", "PREFIX", "SUFFIX"] | None = None
    prefix: bool = False

    def holds(self, context: ConditionContext) -> bool:
        """Return whether the namespace compares so."""
        match self.comparison or ("PREFIX" if self.prefix else "EQUALS"):
            case "PREFIX":
                return context.namespace.startswith(self.namespace)
            case "SUFFIX":
                return context.namespace.endswith(self.namespace)
            case _:
                return context.namespace == self.namespace


class _StatesCondition(PureCondition):
    in_: tuple[State, ...] | None = Field(default=None, alias="in")
    not_in: tuple[State, ...] | None = None

    def admits(self, state: State | None) -> bool:
        """Return whether a state is among `in` and not among `notIn`, where they are given."""
        return (self.in_ is None or state in self.in_) and (self.not_in is None or state not in self.not_in)


class ExecutionStatus(_StatesCondition):
    """The execution is in one of some states."""

    def holds(self, context: ConditionContext) -> bool:
        """Return whether its state is admitted."""
        return self.admits(context.state)


class HasRetryAttempt(_StatesCondition):
    """A task of the execution was tried more than once."""

    def holds(self, context: ConditionContext) -> bool:
        """Return whether an attempt of such a task ended in an admitted state."""
        return any(self.admits(state) for states in context.attempts if len(states) > 1 for state in states)


class ExecutionLabels(PureCondition):
    """The execution has certain labels."""

    labels: dict[str, str]

    @field_validator("labels", mode="before")
    @classmethod
    def _as_map(cls, labels: Any) -> Any:
        return labels_of(labels)

    def holds(self, context: ConditionContext) -> bool:
        """Return whether all of them are there."""
        return all(context.labels.get(key) == value for key, value in self.labels.items())


def labels_of(labels: Any) -> dict[str, str]:
    """Return labels, written as a map or as a list of `key` and `value`, as a map of texts."""
    if not labels:
        return {}
    pairs = labels.items() if isinstance(labels, Mapping) else [(item.get("key"), item.get("value")) for item in labels]
    return {str(key): _label_text(value) for key, value in pairs}


def _label_text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


class ExecutionOutputs(PureCondition):
    """An expression over the outputs of the execution, `trigger.outputs`."""

    expression: Template

    def holds(self, context: ConditionContext) -> bool:
        """Return whether it renders to something; no outputs, no evaluation."""
        if not context.outputs:
            return False
        trigger = dict(context.variables.get("trigger") or {}) | {"outputs": context.outputs}
        return _says_yes(context.render(self.expression, {**context.variables, "trigger": trigger}))


class Expression(PureCondition):
    """An expression."""

    expression: Template

    def holds(self, context: ConditionContext) -> bool:
        """Return whether it renders to anything but nothing and `false`."""
        return _says_yes(context.text(self.expression))


def _says_yes(text: str) -> bool:
    return bool(text.strip()) and text.strip() != "false"


class _ListCondition(PureCondition):
    conditions: tuple[SerializeAsAny[Condition], ...] = Field(min_length=1)

    @property
    def is_of_dates(self) -> bool:
        """Whether all inside are."""
        return all(_pure(condition).is_of_dates for condition in self.conditions)


class Not(_ListCondition):
    """None of some conditions."""

    def holds(self, context: ConditionContext) -> bool:
        """Return whether none of them holds."""
        return not any(_pure(condition).holds(context) for condition in self.conditions)


class Or(_ListCondition):
    """At least one of some conditions."""

    def holds(self, context: ConditionContext) -> bool:
        """Return whether one of them holds."""
        return any(_pure(condition).holds(context) for condition in self.conditions)

    def fails_until(self, moment: datetime) -> datetime:
        """Return when the first of them can change its answer."""
        return min(_pure(condition).fails_until(moment) for condition in self.conditions)


class MultipleCondition(PureCondition):
    """Several conditions, each met by some execution, all within one window of time."""

    id: str
    conditions: dict[str, SerializeAsAny[Condition]] = Field(min_length=1)
    time_window: TimeWindow | None = None
    window: Duration | None = None
    window_advance: Duration | None = None
    reset_on_success: bool = True
    description: str | None = None

    def holds(self, context: ConditionContext) -> bool:
        """Return whether, this execution counted in, all of them are met."""
        if context.multiple is None:
            raise InvalidError("condition.place.invalid", "conditions of type MultipleCondition are not supported here")
        return context.multiple(self)

    @property
    def effective_window(self) -> TimeWindow:
        """Return the window, from either way to write it."""
        if self.time_window is not None:
            return self.time_window
        return TimeWindow(window=self.window, window_advance=self.window_advance)
