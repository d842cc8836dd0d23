"""What a task did, from what it returned, raised, or did once before."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runner.context import TaskContext
from runner.errors import MainstemError, TaskError
from runner.plugin import Outcome, Task
from runner.policies import demand_task_allowed
from runner.states import State
from runner.task_cache import CacheEntry


def cached_or_run(task: Task, context: TaskContext) -> Outcome:
    """Return the result that the cache of a task has, or that of its body; a job that runs already is not judged anew.

    Raises:
        TaskError: what the task raises, or `flow.task.forbidden`.
    """
    if not context.is_resumed:
        demand_task_allowed(context.host.rules_of(context.execution.environment), context.flow.namespace, task.type)
    entry = CacheEntry.of(context, task) if task.task_cache is not None else None
    if entry is not None and (kept_before := entry.outcome()) is not None:
        return kept_before
    result = task.run(context)
    outcome = result if isinstance(result, Outcome) else Outcome(result or {})
    if entry is not None and not context.cancelled.is_set():
        entry.keep(outcome)
    return outcome


def runner_of(outputs: Mapping[str, Any]) -> str | None:
    """Return the type of the task runner that a script task names among its outputs."""
    runner = outputs.get("taskRunner")
    name = runner.get("type") if isinstance(runner, Mapping) else None
    return name if isinstance(name, str) else None


def failed(error: MainstemError) -> Outcome:
    """Return the outcome of a task that an error ended, with its code, and with its exit code if there is one."""
    outputs = error.outputs if isinstance(error, TaskError) else {}
    code = outputs.get("exitCode")
    exit_code = code if isinstance(code, int) else None
    return Outcome(outputs, State.FAILED, error.message, exit_code=exit_code, failure_reason=error.code)
