"""Tasks that change or end the execution they run in."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from runner.errors import TaskError
from runner.expressions import is_truthy, to_text
from runner.plugin import Context, InstantTask, Outcome, Outputs, State
from runner.tasks.execution_records import Count, Kill, PurgeExecutions, Resume

__all__ = [
    "Assert",
    "Count",
    "Exit",
    "Fail",
    "Kill",
    "Labels",
    "PurgeExecutions",
    "Resume",
    "SetVariables",
    "UnsetVariables",
]

_EXIT_STATES = {
    "SUCCESS": State.SUCCESS,
    "WARNING": State.WARNING,
    "KILLED": State.KILLED,
    "FAILED": State.FAILED,
    "CANCELED": State.CANCELLED,
    "CANCELLED": State.CANCELLED,
}


class Fail(InstantTask):
    """Fail, always or when `condition` is truthy."""

    condition: Any = None
    error_message: Any = "Task failure"

    def run(self, ctx: Context) -> Outputs:
        """Return nothing, or fail: with `errorMessage`, or with a fixed sentence when a condition is given."""
        if self.condition is None:
            raise TaskError("execution.fail.requested", ctx.render(self.error_message))
        if is_truthy(ctx.render(self.condition)):
            ctx.log("ERROR", ctx.render(self.error_message))
            raise TaskError("execution.fail.condition", "Fail on a condition")
        return {}


class Assert(InstantTask):
    """Fail unless every condition is truthy. Metrics: `failed`, `total`."""

    conditions: tuple[Any, ...] = ()
    error_message: Any = None

    def run(self, ctx: Context) -> Outputs:
        """Return nothing, or fail with the list of the conditions that do not hold."""
        failed = [str(condition) for condition in self.conditions if not is_truthy(ctx.render(condition))]
        ctx.metric("counter", "failed", len(failed))
        ctx.metric("counter", "total", len(self.conditions))
        if not failed:
            return {}
        if self.error_message is not None:
            ctx.log("ERROR", ctx.render(self.error_message))
        lines = "\n".join(f"- {condition}" for condition in failed)
        noun = "assertion" if len(failed) == 1 else "assertions"
        raise TaskError("execution.assert.failed", f"{len(failed)} {noun} failed:\n{lines}")


class Labels(InstantTask):
    """Add labels to the execution, in place of those with the same keys.

    `labels` is a map, a list of `{key, value}`, or a text that renders to either as JSON. `system.*` is refused.
    """

    labels: Any

    def run(self, ctx: Context) -> Outcome:
        """Return the labels to merge."""
        rendered = _label_map(ctx, self.labels)
        for key, value in rendered.items():
            if not key.strip():
                raise TaskError("execution.label.empty", f"a label has no key (its value is {value!r})")
            if key.startswith("system."):
                message = f"System labels can only be set by the server itself, offending label: {key}={value}"
                raise TaskError("execution.label.system", message)
        return Outcome(labels=rendered)


class SetVariables(InstantTask):
    """Set variables for the rest of the execution; expressions find them under `vars`."""

    variables: Any
    overwrite: Any = True

    def run(self, ctx: Context) -> Outcome:
        """Return the variables to merge; fails when one is there and `overwrite` is false."""
        variables = _parsed(ctx.render_typed(self.variables))
        if not isinstance(variables, Mapping):
            raise TaskError("execution.variables.invalid", "`variables` must be a map of names and values")
        existing = {**ctx.flow.variables, **ctx.execution.variables}
        taken = sorted(str(name) for name in variables if name in existing)
        if taken and not is_truthy(ctx.render(self.overwrite)):
            raise TaskError(
                "execution.variables.exist", f"the variables {', '.join(taken)} exist and overwrite is false"
            )
        return Outcome(variables={str(name): value for name, value in variables.items()})


class UnsetVariables(InstantTask):
    """Remove variables for the rest of the execution."""

    variables: Any
    ignore_missing: Any = False

    def run(self, ctx: Context) -> Outcome:
        """Return the names to remove; fails when one is missing, unless `ignoreMissing`."""
        names = _parsed(ctx.render_typed(self.variables))
        if not isinstance(names, list | tuple):
            raise TaskError("execution.variables.invalid", "`variables` must be a list of names")
        existing = {**ctx.flow.variables, **ctx.execution.variables}
        missing = sorted(str(name) for name in names if name not in existing)
        if missing and not is_truthy(ctx.render(self.ignore_missing)):
            raise TaskError("execution.variables.missing", f"there are no variables {', '.join(missing)}")
        return Outcome(unset=tuple(str(name) for name in names))


class Exit(InstantTask):
    """End the execution now, in `state`: SUCCESS (the default), WARNING, KILLED, FAILED or CANCELED."""

    state: str = "SUCCESS"

    def run(self, ctx: Context) -> Outcome:
        """Return the state to end in."""
        name = ctx.render(self.state).strip().upper()
        if name not in _EXIT_STATES:
            hint = "one of SUCCESS, WARNING, KILLED, FAILED, CANCELED"
            raise TaskError("execution.state.invalid", f"an execution cannot exit in state {name!r}", hint=hint)
        return Outcome(exit_state=_EXIT_STATES[name])


def _label_map(ctx: Context, labels: Any) -> dict[str, str]:
    value = _parsed(ctx.render_typed(labels))
    if isinstance(value, Mapping):
        return {to_text(key): to_text(item) for key, item in value.items()}
    if isinstance(value, list | tuple) and all(isinstance(item, Mapping) and "key" in item for item in value):
        return {to_text(item["key"]): to_text(item.get("value")) for item in value}
    raise TaskError("execution.labels.invalid", "`labels` must be a map, or a list of maps with `key` and `value`")


def _parsed(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value
