"""What deciding needs to look up in a flow, computed once per flow revision."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import takewhile

from runner.flows.models import Flow, Retry, Task, TaskKind, Tasks
from runner.tasks.flow import WorkingDirectory

ERRORS = "errors"
FINALLY = "finally"
AFTER = "afterExecution"
ON_PAUSE = "onPause"
LISTENERS = "listeners:"


def is_main(branch: str) -> bool:
    """Return whether a branch is what its container is there for, and decides how it ends."""
    return branch not in {ERRORS, FINALLY, AFTER, ON_PAUSE} and not branch.startswith(LISTENERS)


def _shared(place: Sequence[str], near: Sequence[str]) -> int:
    """Return how many containers two places begin with alike."""
    return len(list(takewhile(lambda pair: pair[0] == pair[1], zip(place, near, strict=False))))


class FlowIndex:
    """The tasks of a flow by id, with what stands around and in them."""

    def __init__(self, flow: Flow) -> None:
        self.flow = flow
        self.tasks: dict[str, Task] = {}
        self.retries: dict[str, Retry | None] = {}
        self._enabled: dict[tuple[str | None, str], Tasks] = {}
        self._places: dict[str, list[tuple[str, ...]]] = {}
        for name, tasks in self.root_branches():
            self._add((), name, tasks, flow.retry)

    def root_branches(self) -> Iterator[tuple[str, Tasks]]:
        """Yield the lists of tasks at the top of the flow, by branch name."""
        yield "tasks", self.flow.tasks
        yield ERRORS, self.flow.errors
        yield FINALLY, self.flow.finally_
        yield AFTER, self.flow.after_execution
        for number, listener in enumerate(self.flow.listeners):
            yield f"{LISTENERS}{number}", listener.tasks

    def _add(self, around: tuple[str, ...], branch: str, tasks: Tasks, inherited: Retry | None) -> None:
        self._enabled[around[-1] if around else None, branch] = tuple(task for task in tasks if not task.disabled)
        for task in tasks:
            self.tasks[task.id] = task
            self._places.setdefault(task.id, []).append(around)
            self.retries[task.id] = task.retry or inherited
            for name, inner in task.engine_branches():
                self._add((*around, task.id), name, inner, task.retry or inherited)

    def enabled(self, owner: str | None, branch: str) -> Tasks:
        """Return the tasks of a branch that are not disabled; `owner` None names the flow itself."""
        return self._enabled.get((owner, branch), ())

    def places(self, task_id: str) -> Sequence[tuple[str, ...]]:
        """Return for each place of a task the ids of the tasks that it stands in there, outermost first."""
        return self._places[task_id]

    def around(self, task_id: str, near: Sequence[str] = ()) -> tuple[str, ...]:
        """Return the ids of the tasks that a task of the flow stands in, outermost first.

        A task of a template stands wherever the template is used: that place counts which has most in common with
        `near`, and of several the last.
        """
        places = self._places[task_id]
        return places[0] if len(places) == 1 else max(reversed(places), key=lambda place: _shared(place, near))

    def retry_of(self, task: Task) -> Retry | None:
        """Return the retry that applies to a task: its own, the nearest container's, the flow's."""
        if task.kind is TaskKind.FLOWABLE and not isinstance(task, WorkingDirectory):
            return None
        return self.retries.get(task.id)
