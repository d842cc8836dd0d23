"""The variable `tasks`: task id, then the loop value, then `state`. Only what is named is read."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from runner.executions.ledgers import is_loop
from runner.executions.models import TaskRun
from runner.executions.run_finder import Path, RunFinder, has_values
from runner.executions.tree import Tree
from runner.expressions.values import MISSING, Deferred


class TaskStates(Deferred):
    """The map of all tasks that have a run."""

    def __init__(self, tree: Tree, finder: RunFinder) -> None:
        self._tree = tree
        self._finder = finder

    def __getitem__(self, task_id: str) -> Any:
        index = self._tree.index
        if task_id not in index.tasks:  # of an earlier revision of the flow, before it was restarted
            return self.whole()[task_id]
        places = index.places(task_id)
        if len(places) == len(places[0]) == 1 and has_values(index.tasks[places[0][0]]):
            return _InLoop(self, task_id)
        states = self._in_all(task_id) if any(self._is_deep(place) for place in places) else self.read(task_id, ())
        if not states:
            raise KeyError(task_id)
        return states

    def _is_deep(self, place: Path) -> bool:
        """Return whether a place is inside containers of a loop: looking into each of them would take many reads."""
        return any(is_loop(self._tree.index.tasks[each]) for each in place[:-1])

    def _in_all(self, task_id: str) -> dict[str, Any]:
        runs = (run for run in self._tree.rows() if run.task_id == task_id)
        return _states(runs).get(task_id, {})

    def names(self) -> Collection[str]:
        """Return the ids of the flow's tasks."""
        return self._tree.index.tasks.keys()

    def read(self, task_id: str, path: Path) -> dict[str, Any]:
        """Return the states of one task's runs, below some loop values."""
        places = self._tree.index.places(task_id)
        found = [each.run for around in places for each in self._finder.runs(task_id, around, path)]
        runs = [run for run in found if run is not None]
        return _states(sorted(runs, key=lambda run: run.seq)).get(task_id, {})

    def whole(self) -> dict[str, Any]:
        """Return the map with everything in it."""
        return _states(self._tree.rows())


class _InLoop(Deferred):
    """The states of a task that stands directly in a loop, which is in no other."""

    def __init__(self, states: TaskStates, task_id: str) -> None:
        self._states = states
        self._task_id = task_id

    def __getitem__(self, value: str) -> Any:
        return self._states.read(self._task_id, (value,))[value]

    def whole(self) -> Any:
        """Return a plain map by value, MISSING when the task has no run."""
        return self._states.read(self._task_id, ()) or MISSING


def _states(runs: Iterable[TaskRun]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for run in runs:
        place = found.setdefault(run.task_id, {})
        if run.value is not None:
            place[run.value] = {"state": run.state.value}
        else:
            place["state"] = run.state.value
    return found
