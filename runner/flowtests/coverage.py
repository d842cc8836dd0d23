"""Which tasks and branches of flows their tests have run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from runner.executions.flow_index import FlowIndex
from runner.flows.models import Flow
from runner.flowtests.results import Touched


@dataclass(frozen=True, slots=True)
class Coverage:
    """What of a flow ran. A task counts when a test ran it, not when a fixture stood in its place.

    A branch is a list of tasks that only some executions run: the cases of a choice, `errors`, `finally`.
    `missed` names what never ran, `mocked` what only fixtures answered for.
    """

    flow: str
    tasks: int
    tasks_run: int
    branches: int
    branches_run: int
    missed: Sequence[str] = field(default_factory=tuple)
    mocked: Sequence[str] = field(default_factory=tuple)

    def as_json(self) -> dict[str, Any]:
        """Return the fields for machines."""
        return {
            "flow": self.flow,
            "tasks": {"total": self.tasks, "run": self.tasks_run},
            "branches": {"total": self.branches, "run": self.branches_run},
            "notRun": list(self.missed),
            "mocked": list(self.mocked),
        }


def coverage(flow: Flow, touched: Iterable[Touched]) -> Coverage:
    """Return what the cases of a flow have run together."""
    cases = list(touched)
    run = frozenset[str]().union(*(case.tasks for case in cases))
    begun = frozenset[tuple[str | None, str]]().union(*(case.branches for case in cases))
    mocked = frozenset[str]().union(*(case.doubles for case in cases)) - run
    tasks = [task.id for task in flow.all_tasks() if not task.disabled]
    branches = list(_branches(flow))
    missed = [name for name in tasks if name not in run and name not in mocked]
    missed += [_name(branch) for branch in branches if branch not in begun]
    return Coverage(
        f"{flow.namespace}.{flow.id}",
        len(tasks),
        sum(name in run for name in tasks),
        len(branches),
        sum(branch in begun for branch in branches),
        missed,
        [name for name in tasks if name in mocked],
    )


def _branches(flow: Flow) -> Iterator[tuple[str | None, str]]:
    for name, tasks in FlowIndex(flow).root_branches():
        if tasks and name != "tasks":
            yield None, name
    for task in flow.all_tasks():
        for name, tasks in task.branches():
            if tasks and name != "tasks":
                yield task.id, name


def _name(branch: tuple[str | None, str]) -> str:
    owner, name = branch
    return f"[{owner}.{name}]" if owner else f"[{name}]"
