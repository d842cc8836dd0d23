"""Containers and other tasks that the engine itself carries out; their meaning is in `runner.executions.flowables`."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any, ClassVar, Literal

from pydantic import AliasChoices, Field, SerializeAsAny

from runner.durations import Duration
from runner.flows.models import Input, Model, Output, Task, TaskKind, Tasks, Template


class Flowable(Task):
    """A task that holds other tasks."""

    kind: ClassVar[TaskKind] = TaskKind.FLOWABLE

    errors: Tasks = ()
    finally_: Tasks = Field(default=(), alias="finally")

    def branches(self) -> Iterator[tuple[str, Tasks]]:
        """Yield the lists of tasks inside, by branch name."""
        yield from self.main_branches()
        yield "errors", self.errors
        yield "finally", self.finally_

    def main_branches(self) -> Iterator[tuple[str, Tasks]]:
        """Yield the lists other than `errors` and `finally`."""
        yield from ()


class Block(Flowable):
    """A flowable whose main list is called `tasks`."""

    tasks: Tasks = ()

    def main_branches(self) -> Iterator[tuple[str, Tasks]]:
        """Yield the one list `tasks`."""
        yield "tasks", self.tasks


class Sequential(Block):
    """Run tasks one after the other."""


class Parallel(Block):
    """Run tasks at the same time, at most `concurrent` of them (0: no limit)."""

    tasks: Tasks = Field(min_length=1)
    concurrent: int = Field(default=0, ge=0)


class DagTask(Model):
    """A task of a `Dag` with the ids of those that must have ended before it."""

    task: SerializeAsAny[Task]
    depends_on: tuple[str, ...] = ()


class Dag(Flowable):
    """Run tasks in the order of their dependencies."""

    tasks: tuple[DagTask, ...] = ()
    concurrent: int = Field(default=0, ge=0)

    def main_branches(self) -> Iterator[tuple[str, Tasks]]:
        """Yield the tasks in the order in which they are written."""
        yield "tasks", tuple(node.task for node in self.tasks)


class If(Flowable):
    """Run `then` when the condition is truthy, else `else`."""

    condition: Template
    then: Tasks = Field(min_length=1)
    else_: Tasks = Field(default=(), alias="else")

    def main_branches(self) -> Iterator[tuple[str, Tasks]]:
        """Yield `then` and `else`."""
        yield "then", self.then
        yield "else", self.else_


class Switch(Flowable):
    """Run the case whose key equals the value, else `defaults`."""

    value: Template
    cases: dict[str, Tasks] = Field(default_factory=dict)
    defaults: Tasks = ()

    def main_branches(self) -> Iterator[tuple[str, Tasks]]:
        """Yield each case as `case:<key>`, then `defaults`."""
        for key, tasks in self.cases.items():
            yield f"case:{key}", tasks
        yield "defaults", self.defaults


class ForEach(Block):
    """Run tasks for each value; values side by side up to `concurrency_limit` (0: all)."""

    values: Any
    concurrency_limit: int = Field(default=1, ge=0)


class Loop(ForEach):
    """The loop of Kestra 2.0: run tasks for each value of a list or map, or each row of a file in internal storage.

    Values may be equal. Inside, `item` has `value`, `index`, `key` (of a map), `parent` and `parents`, and `outputs`
    has what the tasks of the same iteration put out; outside it has not. Outputs: `iterationCount`,
    `terminatedIterations`, `runningIterations`, and `outputs`, a list with the declared `outputs` of each iteration
    beside its `item`; with `fetchType: STORE` a file with the rows of that list in its place, `uri`. Without
    `transmitFailed` an iteration that fails stops no other one, and the loop succeeds.
    """

    transmit_failed: bool = True
    outputs: tuple[Output, ...] = ()
    fetch_type: Literal["AUTO", "FETCH", "STORE"] = "AUTO"


class EachSequential(Block):
    """Deprecated form of `ForEach` with one value at a time."""

    value: Any


class EachParallel(Block):
    """Deprecated: all tasks of all values side by side, at most `concurrent`."""

    value: Any
    concurrent: int = Field(default=0, ge=0)


class AllowFailure(Block):
    """Turn a failure inside into a warning."""


class WorkingDirectory(Block):
    """Run tasks one after the other in one directory on one worker."""

    kind: ClassVar[TaskKind] = TaskKind.FLOWABLE

    input_files: Any = None
    output_files: Any = None
    namespace_files: Any = None
    cache: dict[str, Any] | None = None
    task_runner: dict[str, Any] | None = None


class Pause(Block):
    """Stop until somebody resumes, or until a time has passed."""

    delay: Duration | Template | None = None
    pause_duration: Duration | Template | None = None
    on_resume: tuple[Input, ...] = ()
    on_pause: SerializeAsAny[Task] | None = None
    behavior: Literal["RESUME", "WARN", "FAIL", "CANCEL"] = "RESUME"

    def engine_branches(self) -> Iterator[tuple[str, Tasks]]:
        """Yield the lists as they are written, and the task that runs while the execution waits."""
        yield from self.branches()
        yield "onPause", (self.on_pause,) if self.on_pause is not None else ()


class CheckFrequency(Model):
    """How often and how long a `LoopUntil` tries."""

    interval: Duration | Template = timedelta(seconds=1)
    max_iterations: int | Template | None = 100
    max_duration: Duration | Template | None = timedelta(hours=1)


class LoopUntil(Block):
    """Run tasks again and again until the condition is truthy."""

    condition: Template
    check_frequency: CheckFrequency = CheckFrequency()
    fail_on_max_reached: bool = False


class Subflow(Task):
    """Start another flow, and wait for it unless told otherwise."""

    kind: ClassVar[TaskKind] = TaskKind.SUBFLOW

    namespace: Template
    flow_id: Template
    revision: int | None = None
    inputs: dict[str, Any] | None = None
    labels: Any = None
    wait: bool = True
    transmit_failed: bool = True
    inherit_labels: bool | Template = False
    schedule_date: Template | None = None
    outputs: Any = None
    restart_behavior: Literal["RETRY_FAILED", "NEW_EXECUTION"] = "RETRY_FAILED"


class Sleep(Task):
    """Let some time pass, without holding a worker."""

    kind: ClassVar[TaskKind] = TaskKind.FLOWABLE

    duration: Duration | Template = Field(validation_alias=AliasChoices("duration"))
