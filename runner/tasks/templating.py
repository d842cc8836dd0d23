"""A task whose very definition is a template."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from runner.errors import FlowError, TaskError
from runner.flows.loader import load_value
from runner.flows.models import Template
from runner.flows.registry import TypeKind, find
from runner.plugin import Context, Outcome, Outputs, Task


class TemplatedTask(Task):
    """Render `spec`, the YAML of one task, and run that task; its outputs are the outputs.

    Containers, and templated tasks inside templated tasks, are refused.
    """

    spec: Template

    def run(self, ctx: Context) -> Outputs | Outcome | None:
        """Return what the task of the template returns."""
        return self._task(ctx).run(ctx)

    def _task(self, ctx: Context) -> Task:
        values = self._values(ctx)
        name = str(values.get("type", ""))
        found = find(TypeKind.TASK, name)
        if found is None:
            raise TaskError("task.type.unknown", f"no task type named {name!r}")
        if not issubclass(found, Task) or issubclass(found, TemplatedTask):
            raise TaskError("task.type.refused", f"a templated task cannot run {name!r}: it is no plain task")
        try:
            return found.model_validate({"id": self.id, **values})
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            raise TaskError("task.property.invalid", f"spec: {where}: {first['msg']}") from None

    def _values(self, ctx: Context) -> dict[str, Any]:
        try:
            values = load_value(ctx.render(self.spec))
        except FlowError as error:
            raise TaskError(error.problems[0].code, f"spec: {error.problems[0].message}") from None
        if not isinstance(values, Mapping):
            raise TaskError("task.property.invalid", "`spec` must be the YAML of one task")
        return {str(name): value for name, value in values.items()}
