"""Properties of Kestra that are read and have no effect here yet: said, so that nothing is ignored silently."""

from __future__ import annotations

from collections.abc import Iterator

from runner.errors import Severity
from runner.flows.finding import Finding
from runner.flows.models import Flow, Model, TaskKind

_OF_OTHERS = ("task_cache", "log_to_file")  # of tasks that no worker runs
_OF_TRIGGERS = ("log_to_file", "backfill")
_OF_WINDOWS = ("on_miss",)
_OF_FLOWS = ("quotas",)


def ineffective(flow: Flow) -> Iterator[Finding]:
    """Yield a warning for each property that is set and does nothing."""
    yield from _set(flow, _OF_FLOWS)
    for task in flow.all_tasks():
        if task.kind is not TaskKind.RUNNABLE:
            yield from _set(task, _OF_OTHERS)
    for trigger in flow.triggers:
        yield from _set(trigger, _OF_TRIGGERS)
        window = getattr(trigger, "window", None)
        if isinstance(window, Model):
            yield from _set(window, _OF_WINDOWS)


def _set(model: Model, names: tuple[str, ...]) -> Iterator[Finding]:
    for name in names:
        if name in model.model_fields_set and getattr(model, name, None):
            alias = type(model).model_fields[name].alias or name
            message = f"`{alias}` has no effect here yet"
            yield Finding("property.effect.none", message, model, (alias,), severity=Severity.WARNING)
