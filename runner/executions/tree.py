"""The working copy of one execution: its runs as a tree, and everything a step has decided so far.

A tree is built from the stored rows, changed by `runner.executions.step`, and turned into one `Commit`. It keeps what
a decision needs beside each container (how many children are open, whether one failed, which loop values are active).
Of a long execution only the runs that still matter are loaded, so that the cost of one transition does not grow with
the number of runs; the `LEDGER` of a loop says what must be known of its other values. Of an execution that is `Quiet`
they are those that something has happened to, so that it does not grow with the number of open runs either.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from typing import Any

from runner.executions.flow_index import FlowIndex, is_main
from runner.executions.ledgers import keeps_ledger, ledger_of
from runner.executions.models import (
    LEDGER,
    Attempt,
    Commit,
    Execution,
    HistoryRow,
    Loaded,
    LogEntry,
    Metric,
    Omitted,
    OutboxRow,
    Quiet,
    TaskRun,
)
from runner.executions.ports import Rest
from runner.flows.models import Task, TaskKind
from runner.states import State
from runner.tasks.flow import Loop, WorkingDirectory

WAITING = (State.BREAKPOINT, State.PAUSED, State.RETRYING)
"""The states of runs that an execution shows as its own, the first there is."""
_BEGINNING = frozenset({State.CREATED, State.QUEUED, State.RESTARTED})
VALUES_AT_ONCE = 100  # values of a loop whose kept runs are loaded together


class Node:
    """A task run with its place in the tree; the root stands for the execution itself and has no run."""

    __slots__ = (
        "active",
        "again",
        "children",
        "cursor",
        "failed",
        "hidden",
        "kept",
        "looked",
        "omitted",
        "open",
        "parent",
        "queued",
        "run",
        "task",
        "touched",
        "unseen",
    )

    def __init__(self, run: TaskRun | None, task: Task | None, parent: Node | None) -> None:
        self.run = run
        self.task = task
        self.parent = parent
        self.children: dict[str, list[Node]] = {}
        self.open = 0  # children that have not ended, those that are hidden too
        self.hidden = 0  # open children that are not loaded, as far as a loop's limit makes a difference
        self.failed = False  # a child of the main branch FAILED
        self.cursor = 0  # the next loop value or parallel task to start
        self.active: dict[int, list[Node]] = {}  # runs of the loop values that have begun and not ended
        self.touched: list[int] = []  # loop values whose last run ended since the container was settled
        self.queued = False  # stands on the list of containers to settle
        self.unseen = 0  # runs of an `EachParallel` or a `Parallel` that are not loaded
        self.omitted: frozenset[State] = frozenset()  # the states of ended loop values that are not loaded
        self.again: int | None = run.memory.get(LEDGER, {}).get("again") if run is not None else None
        self.kept: dict[int, list[Node]] = {}  # runs of the loop values from `again` on, which have yet to begin
        self.looked = 0  # the runs of loop values before this one are loaded, as far as they were kept

    @property
    def row(self) -> TaskRun:
        """Return the run; an error for the root."""
        assert self.run is not None, "the root has no run"
        return self.run

    @property
    def container(self) -> Node:
        """Return the node around this one; an error for the root."""
        assert self.parent is not None, "the root has no container"
        return self.parent

    @property
    def fails(self) -> bool:
        """Whether the container fails with a child of its main branch."""
        return not isinstance(self.task, Loop) or self.task.transmit_failed

    @property
    def is_written_by_job(self) -> bool:
        """Whether the job of a WorkingDirectory writes this run, and not the engine while the job goes on."""
        return self.row.branch == "tasks" and isinstance(self.container.task, WorkingDirectory)

    @property
    def owner(self) -> str | None:
        """Return the id of the task that holds the children, None for the flow."""
        return self.task.id if self.task else None

    @property
    def begun(self) -> int:
        """Return how many runs of the main list there are, loaded or not."""
        return len(self.children.get("tasks", ())) + self.unseen

    def main_children(self) -> Iterator[Node]:
        """Yield the children of every branch other than errors, finally and what follows the end."""
        for branch, nodes in self.children.items():
            if is_main(branch):
                yield from nodes

    def main_states(self) -> set[State]:
        """Return the states that the children of `main_children` are in, loaded or not."""
        return {child.row.state for child in self.main_children()} | self.omitted

    def ancestors(self) -> Iterator[Node]:
        """Yield the containers around this run, nearest first, without the root."""
        node = self.parent
        while node is not None and node.run is not None:
            yield node
            node = node.parent


class Tree:
    """One execution being decided on.

    `rest` is asked when some runs were omitted and one of them is needed.
    """

    def __init__(self, index: FlowIndex, loaded: Loaded, rest: Rest | None = None) -> None:
        self.index = index
        self.flow = index.flow
        self.execution: Execution = loaded.execution
        self.version = loaded.execution.version
        self.doorbells = loaded.doorbells
        self.root = Node(None, None, None)
        self.nodes: dict[str, Node] = {}
        self.dirty: deque[Node] = deque()
        self.seq = 0
        self.new: dict[str, Node] = {}
        self.changed: dict[str, Node] = {}
        self.removed: list[str] = []
        self.attempts: list[Attempt] = []
        self.outputs: dict[str, dict[str, Any]] = {}
        self.history: list[HistoryRow] = []
        self.started_children: list[Execution] = []
        self.outbox: list[OutboxRow] = []
        self.logs: list[LogEntry] = []
        self.metrics: list[Metric] = []
        self.given_up: list[str] = []  # runs that end here while a worker carries them out
        self.stop_runs: list[str] = []  # runs whose bodies must be stopped after the commit
        self.kill_children: list[str] = []  # runs whose child executions must be killed after the commit
        self.touched_execution = False
        self._omitted = loaded.omitted
        self.rest = rest
        self._others: dict[str, TaskRun] | None = None  # the runs that were omitted, once they are loaded
        self._inside = loaded.omitted.inside if loaded.omitted is not None else None
        self._put_off: list[str] = []  # containers that this burst has no time to settle
        for run in loaded.runs:
            self._attach(run)
        if loaded.omitted is not None:
            self._account(loaded.omitted)
        waiting = loaded.quiet.waiting if loaded.quiet is not None and self._inside is not None else {}
        self._hidden_waiting = Counter(waiting) - self._loaded_waiting()
        self._held = self.execution.state is State.PAUSED and State.PAUSED not in self.waiting

    # ---------------------------------------------------------------- building

    def _attach(self, run: TaskRun) -> None:
        parent = self.nodes.get(run.parent_id, self.root) if run.parent_id else self.root
        node = Node(run, self.index.tasks.get(run.task_id), parent)
        self.nodes[run.id] = node
        self.seq = max(self.seq, run.seq + 1)
        if parent.again is not None and run.iteration is not None and run.iteration >= parent.again:
            parent.children.setdefault(run.branch, []).append(node)
            parent.kept.setdefault(run.iteration, []).append(node)
            return
        self._place(parent, node)
        if run.state.is_terminal:
            self._count_end(parent, node)
        else:
            parent.open += 1

    def _account(self, omitted: Omitted) -> None:
        """Have the loops know of their values that were not loaded."""
        self.seq = max(self.seq, omitted.next_seq)
        for run_id, cursor in omitted.cursors.items():
            loop = self.nodes[run_id]
            loop.unseen = max(0, loop.row.memory[LEDGER].get("begun", 0) - len(loop.children.get("tasks", ())))
            loop.cursor = max(loop.cursor, cursor) if loop.again is None else loop.again
            loop.omitted = frozenset(State(name) for name in loop.row.memory[LEDGER]["states"])
            loop.failed = loop.failed or (loop.fails and any(state.is_failed for state in loop.omitted))
            loop.hidden = omitted.hidden.get(run_id, 0)
            loop.open += loop.hidden

    def _place(self, parent: Node, node: Node) -> None:
        run = node.row
        parent.children.setdefault(run.branch, []).append(node)
        if run.iteration is not None and run.branch == "tasks":
            parent.active.setdefault(run.iteration, parent.kept.pop(run.iteration, [])).append(node)
            parent.cursor = max(parent.cursor, run.iteration + 1)

    def _count_end(self, parent: Node, node: Node) -> None:
        run = node.row
        if not is_main(run.branch):
            return
        if run.state.is_failed and parent.fails:
            parent.failed = True
        if run.iteration is not None:
            parent.touched.append(run.iteration)

    # ---------------------------------------------------------------- changing

    def create(self, parent: Node, task: Task, run_id: str, now: datetime, **fields: Any) -> Node:
        """Add a run in CREATED below `parent` and return its node."""
        run = TaskRun(
            id=run_id,
            execution_id=self.execution.id,
            task_id=task.id,
            state=State.CREATED,
            created_at=now,
            seq=self.seq,
            parent_id=parent.run.id if parent.run else None,
            histories=((State.CREATED, now),),
            **fields,
        )
        self.seq += 1
        node = Node(run, task, parent)
        self.nodes[run.id] = self.new[run.id] = node
        parent.open += 1
        self._place(parent, node)
        return node

    def update(self, node: Node, run: TaskRun) -> None:
        """Replace the run of `node`, keep its parent's counts, and have the parent settled when the run ended."""
        before = node.row
        if run == before:
            return
        node.run = run
        if run.id not in self.new:
            self.changed[run.id] = node
        if run.state is not before.state:
            self.history.append(HistoryRow(self.execution.id, self.version, run.state.value, _last(run), run.id))
        parent = node.parent
        if parent is None:
            return
        if run.state.is_terminal and not before.state.is_terminal:
            parent.open -= 1
            self._count_end(parent, node)
            self.mark(parent)
        elif before.state.is_terminal and not run.state.is_terminal:
            parent.open += 1
            parent.failed = parent.fails and any(state.is_failed for state in parent.main_states())

    def remove(self, node: Node) -> None:
        """Take a run and everything below it out of the execution."""
        for children in list(node.children.values()):
            for child in list(children):
                self.remove(child)
        run, parent = node.row, node.parent
        if node.task is None or node.task.kind is TaskKind.FLOWABLE:
            self._remove_unloaded(run.id)
        if self.new.pop(run.id, None) is None:
            self.removed.append(run.id)
        self.changed.pop(run.id, None)
        self.outputs.pop(run.id, None)
        self.nodes.pop(run.id, None)
        if parent is not None:
            parent.children[run.branch].remove(node)
            if not run.state.is_terminal:
                parent.open -= 1
            parent.failed = parent.fails and any(state.is_failed for state in parent.main_states())
            for runs in (parent.active, parent.kept) if run.iteration is not None else ():
                if node in runs.get(run.iteration or 0, ()):
                    runs[run.iteration or 0].remove(node)

    def _remove_unloaded(self, parent_id: str) -> None:
        others = self._unloaded()
        for run_id in [run.id for run in others.values() if run.parent_id == parent_id]:
            del others[run_id]
            self.removed.append(run_id)
            self._remove_unloaded(run_id)

    def turn_back(self, loop: Node, iteration: int) -> None:
        """Have a loop begin its values from `iteration` on once more; the runs that they have now are kept for that."""
        loop.again = loop.cursor = iteration
        for later in [each for each in loop.active if each >= iteration]:
            loop.kept[later] = loop.active.pop(later)

    def load_open(self) -> None:
        """Load all open runs, since something will happen to each of them."""
        if self._inside is None or self.rest is None:
            return
        self._inside = None
        self._hidden_waiting.clear()
        for node in self.nodes.values():
            node.open -= node.hidden
            node.hidden = 0
        for run in self.rest.open():
            if run.id not in self.nodes and run.id not in self.removed:
                self._attach(run)

    def load_values(self, loop: Node) -> None:
        """Load all runs directly inside a loop."""
        if self._omitted is not None and self.rest is not None:
            for run in self.rest.inside(loop.row.id):
                if run.id not in self.nodes and run.id not in self.removed:
                    self._attach(run)
            loop.unseen = 0

    def kept_runs(self, loop: Node, iteration: int) -> list[Node]:
        """Return the runs that a value of a loop has before it begins, because the loop was turned back."""
        if loop.again is None:
            return []
        if self._omitted is not None and self.rest is not None and iteration >= loop.looked:
            for run in self.rest.values(loop.row.id, range(iteration, iteration + VALUES_AT_ONCE)):
                if run.id not in self.nodes:
                    self._attach(run)
            loop.looked = iteration + VALUES_AT_ONCE
        return loop.kept.get(iteration, [])

    def set_execution(self, execution: Execution) -> None:
        """Replace the execution's row."""
        if execution.state is not self.execution.state:
            at = execution.histories[-1][1] if execution.histories else execution.created_at
            self.history.append(HistoryRow(execution.id, self.version, execution.state.value, at))
        self.execution = execution
        self.touched_execution = True

    def mark(self, node: Node) -> None:
        """Put a container on the list of those to settle."""
        if not node.queued:
            node.queued = True
            self.dirty.append(node)

    def clear_marks(self) -> None:
        """Leave the containers that were to be settled to the next burst."""
        while self.dirty:
            node = self.dirty.popleft()
            node.queued = False
            self.put_off(node)

    def put_off(self, node: Node) -> None:
        """Have the next burst look at a container, whatever happens; the root is looked at each time."""
        if node.run is not None:
            self._put_off.append(node.run.id)

    def log(self, level: str, message: str, now: datetime, node: Node | None = None) -> None:
        """Add a line of log, written after the commit."""
        run = node.run if node else None
        self.logs.append(
            LogEntry(
                execution_id=self.execution.id,
                namespace=self.execution.namespace,
                flow_id=self.execution.flow_id,
                timestamp=now,
                level=level,
                message=message,
                task_id=run.task_id if run else None,
                task_run_id=run.id if run else None,
                attempt=max(run.attempts - 1, 0) if run else None,
            )
        )

    # ---------------------------------------------------------------- looking

    @property
    def is_partial(self) -> bool:
        """Whether some of the runs were not loaded."""
        return self._omitted is not None

    @property
    def later(self) -> tuple[str, ...]:
        """Return the containers to look at that were too many to be loaded together."""
        return self._omitted.later if self._omitted is not None else ()

    @property
    def waiting(self) -> set[State]:
        """Return those of the states in `WAITING` that open runs are in, loaded or not."""
        loaded = {node.row.state for node in self.nodes.values()}
        return {state for state in WAITING if state in loaded or self._hidden_waiting[state.value]}

    def _loaded_waiting(self) -> Counter[str]:
        """Count the loaded runs in each of the states in `WAITING`, those aside that a job writes while it runs."""
        waiting = (node for node in self.nodes.values() if node.row.state in WAITING)
        return Counter(node.row.state.value for node in waiting if not node.is_written_by_job)

    def sees(self, node: Node) -> bool:
        """Return whether what is directly in an open container is known; nothing has happened in one that is not."""
        return self._inside is None or node.run is None or node.run.id in self._inside or node.run.id in self.new

    def rows(self) -> list[TaskRun]:
        """Return all runs as they stand now, in the order of their creation; loads those that were omitted."""
        rows = {**self._unloaded(), **{run_id: node.row for run_id, node in self.nodes.items()}}
        return sorted(rows.values(), key=lambda run: run.seq) if self._omitted is not None else list(rows.values())

    def row(self, run_id: str | None) -> TaskRun | None:
        """Return one run as it stands now; loads those that were omitted when it is among them."""
        if run_id is None:
            return None
        node = self.nodes.get(run_id)
        return node.row if node is not None else self._unloaded().get(run_id)

    def first_failure(self) -> TaskRun | None:
        """Return the run that was created first of those that FAILED with an error; those made up for come last."""
        runs = [node.row for node in self.nodes.values()]
        if self._omitted is not None and self.rest is not None:
            known = {*self.nodes, *self.removed}
            runs += [run for run in self.rest.failures(len(known) + 1) if run.id not in known]
        failed = [run for run in runs if run.state is State.FAILED and run.error]
        return min(failed, key=lambda run: (self._is_forgiven(run), run.seq), default=None)

    def _is_forgiven(self, run: TaskRun) -> bool:
        node = self.nodes.get(run.id)
        return node is not None and any(each.row.state in {State.SUCCESS, State.WARNING} for each in node.ancestors())

    def _unloaded(self) -> dict[str, TaskRun]:
        if self._omitted is None or self.rest is None:
            return {}
        if self._others is None:
            known = {*self.nodes, *self.removed}
            self._others = {run.id: run for run in self.rest.all() if run.id not in known}
        return self._others

    # ---------------------------------------------------------------- result

    @property
    def is_held(self) -> bool:
        """Whether somebody paused the execution itself: nothing new starts until it is resumed."""
        return self._held

    @property
    def is_changed(self) -> bool:
        """Whether there is anything to commit."""
        return bool(
            self.touched_execution or self.new or self.changed or self.removed or self.started_children or self.outbox
        )

    def keep_ledgers(self) -> None:
        """Write into each open loop and Parallel what the next decision must know of the runs that it will not load."""
        for node in list(self.nodes.values()):
            if not keeps_ledger(node.task) or not self.sees(node):
                continue
            if not node.row.state.is_terminal or self._has_just_ended(node):
                ledger, memory = ledger_of(node, self.index), node.row.memory
                if memory.get(LEDGER) != ledger:
                    self.update(node, replace(node.row, memory={**memory, LEDGER: ledger}))

    def _has_just_ended(self, loop: Node) -> bool:
        """Return whether a loop that was turned back ends here: run again, it must not count its values as kept."""
        return loop.again is not None and loop.row.id in self.changed

    def quiet(self) -> Quiet | None:
        """Return what is left to look at when all that could be decided has been; None: everything, once more."""
        if self.is_held or self.kill_children or self.execution.state in _BEGINNING or not self.root.open:
            return None
        if any(node.row.state in _BEGINNING for node in self.nodes.values()):
            return None
        put_off = [id_ for id_ in self._put_off if id_ in self.nodes and not self.nodes[id_].row.state.is_terminal]
        later = tuple(dict.fromkeys([*put_off, *self.later]))
        return Quiet(later, dict(self._hidden_waiting + self._loaded_waiting()))

    def commit(self) -> Commit:
        """Return everything decided as one unit of work."""
        self.keep_ledgers()
        return Commit(
            execution=replace(self.execution, version=self.version + 1),
            expected_version=self.version,
            new_runs=tuple(node.row for node in self.new.values()),
            changed_runs=tuple(node.row for node in self.changed.values()),
            removed_runs=tuple(self.removed),
            given_up=tuple(self.given_up),
            attempts=tuple(self.attempts),
            task_outputs=self.outputs,
            history=tuple(self.history),
            children=tuple(self.started_children),
            outbox=tuple(self.outbox),
            answered=self.doorbells,
            metrics=tuple(self.metrics),
        )


def _last(run: TaskRun) -> datetime:
    return run.histories[-1][1] if run.histories else run.created_at
