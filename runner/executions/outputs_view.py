"""The variable `outputs`: task id, then the loop values around it, then the fields. Only what is named is read.

An expression that names `outputs.t[value].x` costs one run of one task, however long the execution; one that asks for
`outputs.t` as a whole costs the runs of that task, and `outputs` itself all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from runner.executions.models import TaskRun
from runner.executions.run_finder import Path, RunFinder, has_values
from runner.executions.task_states import TaskStates
from runner.executions.tree import Node, Tree
from runner.expressions.values import MISSING, Deferred, settled
from runner.tasks.flow import Loop

LoadOutputs = Callable[[Collection[str] | None], Mapping[str, dict[str, Any]]]
"""Return the outputs of some runs, None: of all, by run id."""


class OutputsView:
    """The outputs of one execution, kept while a burst adds to them."""

    def __init__(self, tree: Tree, load: LoadOutputs) -> None:
        self._tree = tree
        self._load = load
        self._stored: dict[str, dict[str, Any]] = {}
        self._has_all = False
        self._finder = RunFinder(tree)

    def of_run(self, run_id: str) -> dict[str, Any]:
        """Return the outputs of one run."""
        self._fetch([run_id])
        return self._known(run_id)

    def gather(self) -> None:
        """Read all outputs at once, for somebody who will ask for most of them one by one."""
        if not self._has_all:
            self._stored = {**self._load(None)}
            self._has_all = True

    def around(self, node: Node | None) -> Deferred:
        """Return the variable as the task of `node` sees it: with what the iterations of `Loop`s around it put out."""
        near = [each.row.task_id for each in node.ancestors()][::-1] if node is not None else ()
        return _Outputs(self, self._iterations_around(node), tuple(near))

    def states(self) -> Deferred:
        """Return the variable `tasks`."""
        return TaskStates(self._tree, self._finder)

    def _iterations_around(self, node: Node | None) -> dict[str, TaskRun]:
        """Return the runs directly in a `Loop` that `node` is or is in, by the loop's task."""
        found = {}
        for each in [node, *node.ancestors()] if node is not None else ():
            loop = each.container.task
            if each.row.iteration is not None and isinstance(loop, Loop):
                found[loop.id] = each.row
        return found

    def task_ids(self) -> Collection[str]:
        """Return the ids of all tasks of the flow."""
        return self._tree.index.tasks.keys()

    def containers(self, task_id: str, near: Path) -> Path:
        """Return the ids of the tasks around a task, outermost first; of several places that nearest to `near`."""
        return self._tree.index.around(task_id, near)

    def depth(self, around: Path) -> int:
        """Return how many loop values lead to the outputs of a task, counted from the innermost `Loop` around it."""
        depth = 0
        for each in around:
            task = self._tree.index.tasks[each]
            depth = 0 if isinstance(task, Loop) else depth + has_values(task)
        return depth

    def loop_around(self, around: Path) -> str | None:
        """Return the innermost `Loop` that a task is in: its outputs are seen in the same iteration only."""
        tasks = self._tree.index.tasks
        return next((each for each in reversed(around) if isinstance(tasks[each], Loop)), None)

    def read(self, task_id: str, around: Path, path: Path, within: TaskRun | None) -> Any:
        """Return what a task put out below some loop values, as plain maps; MISSING when that is nothing."""
        found = self._finder.runs(task_id, around, path, within)
        self._fetch([each.run.id for each in found if each.run is not None])
        merged: dict[str, Any] = {}
        for each in found:
            outputs = self._known(each.run.id) if each.run is not None else None
            if outputs:
                place = merged
                for value in each.path[len(path) :]:
                    place = place.setdefault(value, {})
                place.update(outputs)
        return merged or MISSING

    def _known(self, run_id: str) -> dict[str, Any]:
        return self._tree.outputs.get(run_id) or self._stored.get(run_id) or {}

    def _fetch(self, run_ids: Collection[str]) -> None:
        wanted = [each for each in run_ids if each not in self._tree.outputs and each not in self._stored]
        if wanted and not self._has_all:
            self._stored |= {run_id: {} for run_id in wanted} | {**self._load(wanted)}


class _Outputs(Deferred):
    """The map of all tasks, as it is seen inside the containers `near`."""

    def __init__(self, view: OutputsView, iterations: Mapping[str, TaskRun], near: Path) -> None:
        self._view = view
        self._iterations = iterations
        self._near = near

    def __getitem__(self, task_id: str) -> Any:
        view = self._view
        if task_id not in view.task_ids():
            raise KeyError(task_id)
        around = view.containers(task_id, self._near)
        loop = view.loop_around(around)
        if loop is not None and loop not in self._iterations:
            raise KeyError(task_id)
        within = self._iterations[loop] if loop is not None else None
        if view.depth(around):
            return _OfTask(view, task_id, around, (), within)
        found = view.read(task_id, around, (), within)
        if found is MISSING:
            raise KeyError(task_id)
        return found

    def names(self) -> Collection[str]:
        """Return the ids of the flow's tasks."""
        return self._view.task_ids()

    def whole(self) -> dict[str, Any]:
        """Return the map with everything in it."""
        self._view.gather()
        found = {}
        for task_id in self._view.task_ids():
            value = settled(self.get(task_id, MISSING))
            if value is not MISSING:
                found[task_id] = value
        return found


class _OfTask(Deferred):
    """The outputs of a task in loops, below some of their values."""

    def __init__(self, view: OutputsView, task_id: str, around: Path, path: Path, within: TaskRun | None) -> None:
        self._view = view
        self._task_id = task_id
        self._around = around
        self._path = path
        self._within = within

    def __getitem__(self, value: str) -> Any:
        path = (*self._path, value)
        if len(path) < self._view.depth(self._around):
            return _OfTask(self._view, self._task_id, self._around, path, self._within)
        found = self._view.read(self._task_id, self._around, path, self._within)
        if found is MISSING:
            raise KeyError(value)
        return found

    def whole(self) -> Any:
        """Return a plain map by value, MISSING when the task has put out nothing there."""
        return self._view.read(self._task_id, self._around, self._path, self._within)
