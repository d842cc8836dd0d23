"""Tasks that publish figures."""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import Field

from runner.durations import parse_duration
from runner.errors import InvalidError, TaskError
from runner.flows.models import Model
from runner.plugin import Context, InstantTask, Outputs


class Figure(Model):
    """One metric: a `counter` or `gauge` with a number, or a `timer` with a duration (`PT10M`) or seconds."""

    type: Literal["counter", "timer", "gauge"]
    name: Any
    value: Any
    description: Any = None
    tags: dict[str, Any] = Field(default_factory=dict)

    def amount(self, ctx: Context) -> float:
        """Return the rendered value, that of a timer in seconds. Raises `TaskError` if it is no such value."""
        text = ctx.render(self.value).strip()
        value = _number(text, may_be_duration=self.type == "timer")
        if value is None:
            wanted = "a number of seconds or a duration such as PT10M" if self.type == "timer" else "a number"
            message = f"the value {text!r} of the {self.type} {ctx.render(self.name)!r} is not {wanted}"
            raise TaskError("metric.value.invalid", message)
        return value


def _number(text: str, *, may_be_duration: bool) -> float | None:
    """Return a finite number, or the seconds of a duration; None for everything else."""
    try:
        value = float(text)
    except ValueError:
        try:
            value = parse_duration(text).total_seconds() if may_be_duration else math.nan
        except InvalidError:
            return None
    return value if math.isfinite(value) else None


class Publish(InstantTask):
    """Emit `metrics`, of the task run; their names, values and tags are rendered."""

    metrics: tuple[Figure, ...] = ()

    def run(self, ctx: Context) -> Outputs:
        """Return nothing. All values are read before the first metric is emitted."""
        values = [figure.amount(ctx) for figure in self.metrics]
        for figure, value in zip(self.metrics, values, strict=True):
            tags = {ctx.render(key): ctx.render(text) for key, text in figure.tags.items()}
            ctx.metric(figure.type, ctx.render(figure.name), value, tags)
        return {}
