"""Finds the runs of a task by the loop values around it, and reads no more of a long execution than that takes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from runner.executions.ledgers import is_loop
from runner.executions.models import LEDGER, TaskRun
from runner.executions.tree import Node, Tree
from runner.flows.models import Task
from runner.tasks.flow import Loop

Path = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Found:
    """A run with the loop values that lead to it; `run` None stands for the execution itself."""

    path: Path
    run: TaskRun | None


class RunFinder:
    """Looks into one execution as it stands now: what is loaded, and what is read when it is asked for."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._read: dict[tuple[str, int | None], list[TaskRun]] = {}
        self._grouped: dict[str, tuple[int, dict[int, list[Node]]]] = {}

    def runs(self, task_id: str, around: Path, path: Path, within: TaskRun | None = None) -> list[Found]:
        """Return the runs of a task, in the containers `around` it, whose loop values begin with `path`.

        With `within`, a run that a `Loop` holds directly, only what belongs to the same iteration counts, and its own
        loop values do not.
        """
        if within is None or within.parent_id is None or within.iteration is None:
            base, steps = [Found((), None)], [*around, task_id]
        else:
            loop = self._tree.row(within.parent_id)
            assert loop is not None, "a run has its container"
            inside = around[around.index(loop.task_id) + 1 :]
            steps = [*inside, task_id]
            first = steps.pop(0)
            base = [Found((), run) for run in self._of_value(loop, within.iteration) if run.task_id == first]
        for step in steps:
            base = [each for place in base for each in self._below(place, step, path)]
        return base

    def _below(self, place: Found, task_id: str, path: Path) -> Iterable[Found]:
        """Return the runs of a task directly in a container."""
        run = place.run
        task = self._tree.index.tasks.get(run.task_id) if run is not None else None
        if run is None or not has_values(task):
            return [Found(place.path, each) for each in self._children(run) if each.task_id == task_id]
        depth = len(place.path)
        if depth < len(path):
            iteration = self._iteration(run, path[depth])
            children = self._of_value(run, iteration) if iteration is not None else ()
        else:
            children = self._children(run)
        return [Found((*place.path, each.value or ""), each) for each in children if each.task_id == task_id]

    def _iteration(self, loop: TaskRun, value: str) -> int | None:
        """Return the number of a value of a loop; most who ask are inside of it, so those that go on come first."""
        node = self._tree.nodes.get(loop.id)
        active = node.active.items() if node is not None else ()
        own = next((number for number, runs in active if runs and runs[0].row.value == value), None)
        if own is not None:
            return own
        try:
            return list.index(loop.memory.get("values", []), value)
        except ValueError:
            return None

    def _children(self, run: TaskRun | None) -> Sequence[TaskRun]:
        """Return all runs directly in a container."""
        tree = self._tree
        node = tree.root if run is None else tree.nodes.get(run.id)
        loaded = [each.row for nodes in node.children.values() for each in nodes] if node is not None else []
        if run is None or not tree.is_partial or (node is not None and self._is_loaded_whole(node)):
            return loaded
        return self._joined(loaded, self._stored(run.id, None))

    def _of_value(self, loop: TaskRun, iteration: int) -> Sequence[TaskRun]:
        """Return the runs directly in a loop for one of its values."""
        tree = self._tree
        node = tree.nodes.get(loop.id)
        loaded = [each.row for each in self._iterations(node).get(iteration, ())] if node is not None else []
        if not tree.is_partial:
            return loaded
        return self._joined(loaded, self._stored(loop.id, iteration))

    def _joined(self, loaded: Sequence[TaskRun], stored: Iterable[TaskRun]) -> list[TaskRun]:
        """Return runs in the order of their creation; what is loaded stands as it is decided now."""
        rows = {run.id: run for run in stored if run.id not in self._tree.removed} | {run.id: run for run in loaded}
        return sorted(rows.values(), key=lambda run: run.seq)

    def _is_loaded_whole(self, node: Node) -> bool:
        """Return whether all runs directly in a container are loaded, as those in an open one without a ledger are."""
        return self._tree.sees(node) and not node.row.state.is_terminal and LEDGER not in node.row.memory

    def _stored(self, parent_id: str, iteration: int | None) -> list[TaskRun]:
        key = (parent_id, iteration)
        if key not in self._read:
            rest = self._tree.rest
            assert rest is not None, "a tree that was loaded in part knows where the rest is"
            self._read[key] = list(rest.inside(parent_id) if iteration is None else rest.values(parent_id, [iteration]))
        return self._read[key]

    def _iterations(self, loop: Node) -> dict[int, list[Node]]:
        """Return the loaded runs of a loop by the number of their value; those that came since are added."""
        runs = loop.children.get("tasks", [])
        known, found = self._grouped.get(loop.row.id, (0, {}))
        if known > len(runs):
            known, found = 0, {}
        for run in runs[known:]:
            found.setdefault(run.row.iteration or 0, []).append(run)
        self._grouped[loop.row.id] = (len(runs), found)
        return found


def has_values(task: Task | None) -> bool:
    """Return whether the values of a loop are part of the place where its tasks' outputs are found."""
    return is_loop(task) and not isinstance(task, Loop)
