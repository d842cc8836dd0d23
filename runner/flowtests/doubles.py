"""Tasks that are not run: what stands in their place in a flow under test.

A fixture takes the place of the task in the flow itself, as an instant task with the same id, `runIf` and
`allowFailure`. So its result goes the way of every result, and the engine knows nothing of tests.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from runner.errors import TaskError
from runner.executions.flow_index import FlowIndex
from runner.flows.build import task_fields
from runner.flows.catalogue import Catalogue
from runner.flows.models import Flow, Model, Task, Trigger
from runner.flowtests.assertions import is_same
from runner.flowtests.models import TaskFixture
from runner.plugin import Context, InstantTask, Outcome, Outputs, RunnableTask
from runner.states import State
from runner.store import Store
from runner.store.records import FlowVersion

T = TypeVar("T", bound=Trigger)
M = TypeVar("M", bound=Model)

_ENDS_BY_FIXTURE = "ended by a fixture of the test"


class Double(Model):
    """What a double has beside the properties of all tasks: the task it stands for, and its results by loop value."""

    original: Task
    results: tuple[TaskFixture, ...]
    files: dict[str, str]

    def act(self, ctx: Context) -> Outputs | Outcome | None:
        """Give the result of the fixture for this loop value; without one, run the task after all."""
        found = self._result(ctx)
        if found is not None:
            outputs = ctx.with_variables(files=self.files).render_deep(dict(found.outputs))
            error = _ENDS_BY_FIXTURE if found.state == "FAILED" else None
            return Outcome(outputs, State(found.state), error)
        if isinstance(self.original, RunnableTask):
            return self.original.run(ctx)
        raise TaskError("test.fixture.missing", f"no fixture of {self.original.id!r} is for {_loop_value(ctx)!r}")

    def _result(self, ctx: Context) -> TaskFixture | None:
        for result in self.results:
            if result.value is None or is_same(result.value, _loop_value(ctx)):
                return result
        return None


def _loop_value(ctx: Context) -> Any:
    if ctx.task_run.value is not None:
        return ctx.task_run.value
    return ctx.render("{{ item.value ?? '' }}")  # inside an If, say, the loop is further out


class InstantDouble(Double, InstantTask):
    """A double that needs no worker."""

    def run(self, ctx: Context) -> Outputs | Outcome | None:
        """Give the result."""
        return self.act(ctx)


class WorkerDouble(Double, RunnableTask):
    """A double of a task that really runs for some loop values."""

    def run(self, ctx: Context) -> Outputs | Outcome | None:
        """Give the result, or run the task."""
        return self.act(ctx)


def with_doubles(flow: Flow, results: Mapping[str, tuple[TaskFixture, ...]], files: Mapping[str, str]) -> Flow:
    """Return the flow with doubles in the place of the tasks that `results` names; `files` are addresses by name."""

    def replaced(value: Any) -> Any:
        if isinstance(value, Task) and value.id in results:
            return _double(value, results[value.id], files)
        if isinstance(value, Model):
            return _changed(value, {name: replaced(getattr(value, name)) for name in task_fields(type(value))})
        if isinstance(value, tuple | list):
            return tuple(map(replaced, value))
        return {key: replaced(item) for key, item in value.items()} if isinstance(value, dict) else value

    changed: Flow = replaced(flow)
    return changed


def _changed(model: M, values: Mapping[str, Any]) -> M:
    return model.model_copy(update=dict(values)) if values else model


def _double(task: Task, results: tuple[TaskFixture, ...], files: Mapping[str, str]) -> Task:
    is_partial = isinstance(task, RunnableTask) and all(result.value is not None for result in results)
    cls = WorkerDouble if is_partial and not isinstance(task, InstantTask) else InstantDouble
    kept = {name: getattr(task, name) for name in Task.model_fields if is_partial or name not in {"retry", "timeout"}}
    return cls.model_construct(**kept, original=task, results=results, files=dict(files))


class DoubledCatalogue(Catalogue):
    """A catalogue that gives one flow with doubles. Flows that listen to others hear nothing of a test."""

    def __init__(
        self,
        store: Store,
        flow: tuple[str, str],
        results: Mapping[str, tuple[TaskFixture, ...]],
        files: Mapping[str, str],
    ) -> None:
        super().__init__(store)
        self._flow = flow
        self._results = results
        self._files = files
        self._doubled: FlowIndex | None = None

    def index_of(self, version: FlowVersion) -> FlowIndex:
        """Return the parsed form of a version. Raises `FlowError` `flow.invalid`."""
        index = super().index_of(version)
        if (version.namespace, version.flow_id) != self._flow or not self._results:
            return index
        if self._doubled is None:
            doubled = FlowIndex(with_doubles(index.flow, self._results, self._files))
            for name, task in doubled.tasks.items():
                if isinstance(task, InstantDouble):
                    doubled.retries[name] = None  # a result that is given is final
            self._doubled = doubled
        return self._doubled

    def triggers(self, kind: type[T]) -> list[tuple[Flow, T]]:  # noqa: ARG002 - the catalogue's
        """Return nothing."""
        return []
