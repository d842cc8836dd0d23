"""What must hold of the task runner that a task names."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from runner.flows.build import field_names
from runner.flows.finding import Finding
from runner.flows.models import Task
from runner.flows.spelling import did_you_mean, nearest
from task_runners.errors import TaskRunnerError
from task_runners.registry import canonical_name, runner_class, runner_names


def task_runner_problems(task: Task) -> Iterator[Finding]:
    """Yield what is wrong with the task runner that a task names; values with expressions are seen when it runs."""
    spec = getattr(task, "task_runner", None)
    if not isinstance(spec, Mapping):
        return
    name = spec.get("type")
    if not isinstance(name, str):
        known = f"there are {', '.join(runner_names())}"
        yield Finding("runner.property.missing", "a task runner needs a `type`", task, ("taskRunner",), known)
        return
    if "{{" in name:
        return
    try:
        cls = runner_class(name)
    except TaskRunnerError as error:
        if error.code != "runner.type.unknown":
            raise
        found = nearest(canonical_name(name), runner_names())
        hint = f"did you mean {found!r}?" if found else error.hint
        yield Finding("runner.type.unknown", f"no task runner named {name!r}", task, ("taskRunner", "type"), hint)
    except ImportError:
        return  # the runner is known; its vendor library is asked for when a task uses it
    else:
        yield from _unknown(task, spec, name, field_names(cls))
        yield from _invalid(task, spec, cls)


def _unknown(task: Task, spec: Mapping[str, Any], name: str, names: Collection[str]) -> Iterator[Finding]:
    for key in spec:
        if key not in names:
            message = f'Unrecognized field "{key}" (class {name}), not marked as ignorable'
            yield Finding("runner.property.unknown", message, task, ("taskRunner", key), did_you_mean(key, names))


def _invalid(task: Task, spec: Mapping[str, Any], cls: type[BaseModel]) -> Iterator[Finding]:
    """Yield each property whose value the runner would refuse when the task runs."""
    try:
        cls.model_validate({**spec, "type": canonical_name(str(spec["type"]))})
    except ValidationError as error:
        seen: set[str] = set()
        for fault in error.errors(include_input=False, include_url=False):
            loc = tuple(str(part) for part in fault["loc"])
            is_unknown = len(loc) == 1 and fault["type"] == "extra_forbidden"  # told by name, with the nearest one
            if is_unknown or not loc or loc[0] in seen or loc[0] not in spec or _has_expression(spec[loc[0]]):
                continue
            seen.add(loc[0])
            message = f"`{'.'.join(loc)}`: {fault['msg']}"
            yield Finding("runner.property.invalid", message, task, ("taskRunner", loc[0]))


def _has_expression(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(_has_expression(each) for each in value.values())
    if isinstance(value, list | tuple):
        return any(_has_expression(each) for each in value)
    return isinstance(value, str) and ("{{" in value or "{%" in value)
