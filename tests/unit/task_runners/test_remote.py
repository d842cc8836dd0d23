"""What a worker makes of a job elsewhere that another one followed before, when the engine does not answer."""

# ruff: noqa: ARG002 - the engine below has the whole contract and needs a part of it

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import PrivateAttr

from task_runners import following
from task_runners.base import FailureReason, JobHandle, JobStatus, Phase, RunnerContext, TaskRunnerError, TaskSpec
from task_runners.log_pages import LogCursor, LogPage
from task_runners.remote import RemoteTaskRunner
from task_runners.spec import WorkDir

BEGAN = datetime(2026, 1, 2, tzinfo=UTC)
AWAY = TaskRunnerError("engine.away", "the engine is away", failure_reason=FailureReason.UNAVAILABLE)
REFUSED = TaskRunnerError("engine.refused", "you may not", failure_reason=FailureReason.CONFIG_ERROR)
SPEC = TaskSpec(("true",), "run1", timeout=timedelta(days=1))


@dataclass
class Engine:
    """What the runner below talks to: how asking for a job goes, when it is looked for and when it is looked at."""

    on_attach: TaskRunnerError | None = None
    on_poll: TaskRunnerError | None = None
    calls: list[str] = field(default_factory=list)


class Far(RemoteTaskRunner):
    type: Literal["test.Far"] = "test.Far"
    _engine: Engine = PrivateAttr()

    def submit(self, spec: TaskSpec, workdir: WorkDir, ctx: RunnerContext) -> JobHandle:
        self._engine.calls.append("submit")
        return JobHandle(self.type, "second")

    def attach(self, spec: TaskSpec, ctx: RunnerContext) -> JobHandle | None:
        if self._engine.on_attach is not None:
            raise self._engine.on_attach
        return super().attach(spec, ctx)

    def poll(self, handle: JobHandle, ctx: RunnerContext) -> JobStatus:
        if self._engine.on_poll is not None:
            raise self._engine.on_poll
        return JobStatus(Phase.RUNNING)

    def read_log(self, handle: JobHandle, since: LogCursor | None, ctx: RunnerContext, *, is_final: bool) -> LogPage:
        self._engine.calls.append("log")
        return LogPage()

    def cancel(self, handle: JobHandle, grace: timedelta, ctx: RunnerContext) -> None:
        self._engine.calls.append("cancel")

    def cleanup(self, handle: JobHandle, ctx: RunnerContext) -> None:
        self._engine.calls.append("cleanup")


def far(engine: Engine, **properties: Any) -> Far:
    runner = Far(**properties)
    runner._engine = engine
    return runner


def taken_over(clock: Callable[[], datetime]) -> RunnerContext:
    """Return the context under which a job is followed further that was last asked for two hours ago."""
    watch = following.begin(SPEC, BEGAN.timestamp(), patience_s=600, start_within_s=None, longest_s=None)
    stored: dict[str, Any] = watch.started(BEGAN.timestamp()).as_json()
    handle = JobHandle("test.Far", "first")
    return RunnerContext(on_line=print, now=clock, stored_handle=handle, stored_watch=stored, resubmits=False)


def test_the_patience_with_an_engine_begins_anew_when_another_worker_takes_a_job_over(tmp_path: Path) -> None:
    moment = [BEGAN + timedelta(hours=2)]
    ctx, runner = taken_over(lambda: moment[0]), far(Engine(on_poll=AWAY))

    job = runner.begin(SPEC, WorkDir(tmp_path), ctx)
    first = runner.look(job, ctx)
    moment[0] += timedelta(seconds=601)
    late = runner.look(first.job, ctx)

    assert first.status is None
    assert late.status is not None
    assert (late.status.phase, late.status.failure_reason) == (Phase.LOST, FailureReason.LOST)


def test_a_job_is_taken_over_from_an_engine_that_does_not_answer(tmp_path: Path) -> None:
    engine = Engine(on_attach=AWAY)
    ctx, runner = taken_over(lambda: BEGAN + timedelta(hours=2)), far(engine)

    job = runner.begin(SPEC, WorkDir(tmp_path), ctx)

    assert (job.handle.id, job.watch.running_at) == ("first", BEGAN.timestamp())
    assert engine.calls == []


@pytest.mark.parametrize(("error", "resume"), [(REFUSED, True), (AWAY, False)])
def test_what_is_no_silence_of_the_engine_is_told(tmp_path: Path, error: TaskRunnerError, *, resume: bool) -> None:
    ctx, runner = taken_over(lambda: BEGAN + timedelta(hours=2)), far(Engine(on_attach=error), resume=resume)

    with pytest.raises(TaskRunnerError) as caught:
        runner.begin(SPEC, WorkDir(tmp_path), ctx)

    assert caught.value is error


def test_a_kill_does_not_wait_for_an_engine_to_give_the_log(tmp_path: Path) -> None:
    engine = Engine()
    ctx, runner = taken_over(lambda: BEGAN + timedelta(hours=2)), far(engine)
    job = runner.begin(SPEC, WorkDir(tmp_path), ctx)
    ctx.cancelled.set()

    looked = runner.look(job, ctx)

    assert (looked.job.watch.ending, engine.calls) == ("CANCELLED", ["cancel", "log"])
