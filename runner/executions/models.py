"""Rows of an execution as the engine sees them, without the outputs that deciding never needs."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Self

from runner.states import State

ORIGINAL = "originalCreatedDate"
"""The key of `Execution.memory` for the time at which the first of a series was created."""
Histories = tuple[tuple[State, datetime], ...]
MOST_STATES = 1_000
"""How many states the history of a row holds; of a longer one, of a loop that waits for days, the middle is gone."""
_FIRST_STATES = 100
ACTOR = "system.username"
"""The label of an execution that names who started it by the API."""
LEDGER = "ledger"
"""The key of a container's memory for what is to be known of its ended runs, so that they need not be loaded: of a
loop, or a `Parallel`.

`behind`: the values whose next task is still to be started though no run of theirs is open. `states`: the states other
than SUCCESS in which runs of its values ended. `limit`: how many may be open at the same time, 0 for all. `again`: of a
loop that a replay turned back, the first value that has yet to begin, though it and those after it may have runs
already. `begun`: how many runs an `EachParallel` or a `Parallel` has started. `beside`: the ids of the runs of a
`Parallel` that are not among its tasks.
"""


def extended(histories: Histories, state: State, at: datetime) -> Histories:
    """Return a history with one more state; a full one loses a pair in its middle, so that its states alternate."""
    if len(histories) >= MOST_STATES:
        histories = (*histories[:_FIRST_STATES], *histories[_FIRST_STATES + 2 :])
    return (*histories, (state, at))


def entered_since(before: Histories, after: Histories) -> Histories:
    """Return the states that a history got since it was `before`."""
    if not before:
        return after
    most = min(len(before), len(after))
    last = next((place for place in range(most - 1, -1, -1) if after[place] == before[-1]), -1)
    return after[last + 1 :]


@dataclass(frozen=True, slots=True)
class TriggerInfo:
    """What started an execution: the trigger's or parent task's id and type, and what expressions see as `trigger`."""

    id: str
    type: str
    variables: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return the API's shape."""
        return {"id": self.id, "type": self.type, "variables": self.variables}


@dataclass(frozen=True, slots=True)
class Execution:
    """One run of a flow, pinned to a flow revision and the commit it came from.

    `version` counts commits of the engine; every change names the version it was decided on. `variables` holds what
    `SetVariables` changed, over the flow's own. `parent_task_run_id` is set for subflows: the run that waits for this
    execution. `due_at` is the schedule date of an execution that has not started yet, later the end of its time limit.
    `memory` is what has been decided once: the promise that was broken, when the first of a series was created.
    """

    id: str
    namespace: str
    flow_id: str
    flow_revision: int
    state: State
    created_at: datetime
    version: int = 0
    environment: str | None = None
    commit: str | None = None
    labels: dict[str, str] = field(default_factory=dict)
    inputs: dict[str, Any] = field(default_factory=dict)
    variables: dict[str, Any] = field(default_factory=dict)
    outputs: dict[str, Any] = field(default_factory=dict)
    trigger: TriggerInfo | None = None
    original_id: str = ""
    parent_id: str | None = None
    parent_execution_id: str | None = None
    parent_task_run_id: str | None = None
    kind: str = "NORMAL"
    attempt_number: int = 1
    depth: int = 0
    error: str | None = None
    schedule_date: datetime | None = None
    due_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    histories: Histories = ()
    breakpoints: tuple[str, ...] = ()
    memory: dict[str, Any] = field(default_factory=dict)

    @property
    def original_created_at(self) -> datetime:
        """Return when the first execution of a series of retries or replays was created."""
        text = self.memory.get(ORIGINAL)
        return datetime.fromisoformat(text) if text else self.created_at

    def enter(self, state: State, at: datetime) -> Self:
        """Return this execution in `state`, its history extended; the same state twice is ignored."""
        if state is self.state and self.histories:
            return self
        started = self.started_at or (at if state is State.RUNNING else None)
        ended = at if state.is_terminal else None
        return replace(
            self, state=state, histories=extended(self.histories, state, at), started_at=started, ended_at=ended
        )


@dataclass(frozen=True, slots=True)
class Ending:
    """What is told of an execution that ended, without its data, whose size knows few bounds."""

    id: str
    namespace: str
    flow_id: str
    flow_revision: int
    state: State
    created_at: datetime
    environment: str | None = None
    commit: str | None = None
    trigger: TriggerInfo | None = None
    error: str | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class TaskRun:
    """One task in one execution, for one value of each loop around it. `parent_id` makes the tree.

    `branch` names the list of the parent that this run belongs to (`tasks`, `errors`, `finally`, `afterExecution`,
    `then`, `else`, `case:<key>`,
    `defaults`, `listeners:<n>`). `memory` is what a flowable has decided once: its condition's value, its loop
    values. `result` is the outcome a worker recorded and the engine has not applied yet. `epoch` counts claims: a
    write that names an older epoch is refused. `stamp` counts the writes of workers; the store keeps it, and refuses a
    commit whose changed runs were decided on an older stamp.
    """

    id: str
    execution_id: str
    task_id: str
    state: State
    created_at: datetime
    seq: int = 0
    parent_id: str | None = None
    branch: str = "tasks"
    value: str | None = None
    iteration: int | None = None
    epoch: int = 0
    attempts: int = 0
    losses: int = 0
    memory: dict[str, Any] = field(default_factory=dict)
    result: State | None = None
    error: str | None = None
    runner: str | None = None
    queue: str = "tasks"
    due_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    histories: Histories = ()
    stamp: int = 0

    def enter(self, state: State, at: datetime) -> Self:
        """Return this run in `state`, its history extended; the same state twice is ignored."""
        if state is self.state and self.histories:
            return self
        started = self.started_at or (at if state is State.RUNNING else None)
        ended = at if state.is_terminal else None
        return replace(
            self, state=state, histories=extended(self.histories, state, at), started_at=started, ended_at=ended
        )


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try of a runnable task run. `number` counts from 1; `epoch` is the claim it ran under.

    `log_file` is the address of its log where the task has `logToFile`.
    """

    task_run_id: str
    execution_id: str
    number: int
    epoch: int
    state: State
    worker_id: str | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    exit_code: int | None = None
    failure_reason: str | None = None
    message: str | None = None
    handle: dict[str, Any] | None = None
    histories: Histories = ()
    log_file: str | None = None


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One line of log. `level` is TRACE, DEBUG, INFO, WARN or ERROR; the message is masked already."""

    execution_id: str
    namespace: str
    flow_id: str
    timestamp: datetime
    level: str
    message: str
    task_id: str | None = None
    task_run_id: str | None = None
    attempt: int | None = None
    trigger_id: str | None = None

    def as_text(self) -> str:
        """Return the line as text, with its end: the time in UTC with always six decimals, level, message."""
        return f"{self.timestamp.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%fZ} {self.level} {self.message}\n"


@dataclass(frozen=True, slots=True)
class Metric:
    """A counter, timer (seconds) or gauge that a task emitted."""

    execution_id: str
    namespace: str
    flow_id: str
    task_id: str
    task_run_id: str
    name: str
    kind: str
    value: float
    timestamp: datetime
    tags: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class HistoryRow:
    """One line of the append-only history: what happened to an execution or to one of its runs."""

    execution_id: str
    version: int
    kind: str
    at: datetime
    task_run_id: str | None = None
    payload: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """Something that must be done after the commit, at least once. `kind` is one of the `OUTBOX_*` names.

    `key` names what it is about (an execution, a task run, an environment); `id` is given by the store.
    """

    kind: str
    key: str
    payload: dict[str, Any] = field(default_factory=dict)
    available_at: datetime | None = None
    id: int = 0


OUTBOX_ADVANCE = "advance"  # key: execution id
OUTBOX_RUN = "run"  # key: task run id; payload: {"epoch": n, "queue": name}
OUTBOX_REPORT = "report"  # key: execution id; payload: {"environment": name}
OUTBOX_FLOW_EVENT = "flow_event"  # key: execution id; payload: {"state": name}
OUTBOX_CHILD_ENDED = "child_ended"  # key: execution id of the child
OUTBOX_CHILD_RESTART = "child_restart"  # key: id of the run that waits; payload: {"child": execution id}
OUTBOX_PURGE = "purge"  # key: id of an execution that is gone; payload: namespace, flowId, what goes
OUTBOX_SYNC = "sync"  # key: repository name; payload: {"ref": name}
OUTBOX_STATUS = "status"  # key: repository name: a commit status to post


@dataclass(frozen=True, slots=True)
class Quiet:
    """What is known of an execution all of whose open runs wait for something outside: a worker, a moment, a subflow.

    Then only those runs need a look to which that has happened, and what stands around them. `later` are containers
    that something happened in and that no burst had time for yet. `waiting` counts the open runs in each of the states
    that the execution shows as its own.
    """

    later: tuple[str, ...] = ()
    waiting: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Omitted:
    """What deciding must know of the runs that were not loaded, because they cannot change anything now.

    `cursors` holds, for the run of each loop some of whose values are left out, the number of values that have begun.
    `next_seq` is the `seq` of the execution's next run. `inside` are the containers whose runs were looked for; None
    stands for all that are open. Of these, `hidden` counts the open runs that each loop has besides those that were
    loaded, as far as its limit makes a difference. `later` is left of `Quiet.later`.
    """

    cursors: dict[str, int]
    next_seq: int
    inside: frozenset[str] | None = None
    hidden: dict[str, int] = field(default_factory=dict)
    later: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Loaded:
    """An execution with its runs in creation order, and the doorbell rows that this load answers.

    `omitted` is None when all runs are there. `quiet` is None when each open run needs a look.
    """

    execution: Execution
    runs: tuple[TaskRun, ...]
    doorbells: tuple[int, ...] = ()
    omitted: Omitted | None = None
    quiet: Quiet | None = None


@dataclass(frozen=True, slots=True)
class Commit:
    """What one advance decided, to be written in one transaction or not at all.

    `execution` is the new row, `expected_version` the version it was decided on. `task_outputs` are the outputs of
    runs that ended here (workers write theirs with their result). `given_up` are changed runs that ended under a
    worker's hands: their attempts end with them. `answered` are the doorbell rows to remove. `quiet` is what the next
    load may leave out; by None it has to look at everything that is open.
    """

    execution: Execution
    expected_version: int
    new_runs: tuple[TaskRun, ...] = ()
    changed_runs: tuple[TaskRun, ...] = ()
    removed_runs: tuple[str, ...] = ()
    given_up: tuple[str, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    task_outputs: dict[str, dict[str, Any]] = field(default_factory=dict)
    history: tuple[HistoryRow, ...] = ()
    children: tuple[Execution, ...] = ()
    outbox: tuple[OutboxRow, ...] = ()
    answered: tuple[int, ...] = ()
    metrics: tuple[Metric, ...] = ()
    quiet: Quiet | None = None
