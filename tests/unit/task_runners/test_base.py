"""The loop that all task runners share, against an engine that does what a script says."""

# ruff: noqa: ARG002 - the engine below has the whole contract and needs a part of it

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import ClassVar, Literal

import pytest
from pydantic import PrivateAttr

from task_runners import base
from task_runners.base import (
    FailureReason,
    JobHandle,
    JobStatus,
    LogCursor,
    LogLine,
    Phase,
    RunnerContext,
    Stream,
    TaskResult,
    TaskRunner,
    TaskRunnerError,
    TaskSpec,
    WorkDir,
)

AWAY = TaskRunnerError("engine.away", "the engine is away", failure_reason=FailureReason.UNAVAILABLE)
RUNNING = JobStatus(Phase.RUNNING)
DONE = JobStatus(Phase.SUCCEEDED, 0)


@dataclass
class Engine:
    """What the runner below talks to: answers of `poll` in order, the last one again and again."""

    answers: list[JobStatus | TaskRunnerError]
    output: bytes = b""
    on_cancel: Callable[[], None] = lambda: None
    cleanup_error: TaskRunnerError | None = None
    calls: list[str] = field(default_factory=list)


class Scripted(TaskRunner):
    type: Literal["test.Scripted"] = "test.Scripted"
    poll_seconds: ClassVar[float] = 0.001
    full_when: str = ""
    _engine: Engine = PrivateAttr()

    def _write(self, step: str) -> None:
        with Path("/dev/full" if self.full_when == step else "/dev/null").open("wb", buffering=0) as file:
            file.write(b"x")

    def collect(self, spec: TaskSpec, workdir: WorkDir, handle: JobHandle, ctx: RunnerContext) -> Mapping[str, Path]:
        self._write("collect")
        return super().collect(spec, workdir, handle, ctx)

    def submit(self, spec: TaskSpec, workdir: WorkDir, ctx: RunnerContext) -> JobHandle:
        self._write("submit")
        handle = JobHandle(self.type, spec.task_run_id)
        ctx.save_handle(handle)
        self._engine.calls.append("submit")
        return handle

    def poll(self, handle: JobHandle, ctx: RunnerContext) -> JobStatus:
        answer = self._engine.answers.pop(0) if len(self._engine.answers) > 1 else self._engine.answers[0]
        if isinstance(answer, TaskRunnerError):
            raise answer
        return answer

    def logs(self, handle: JobHandle, since: LogCursor | None, ctx: RunnerContext) -> Iterator[LogLine]:
        yield from ctx.capture.feed(Stream.STDOUT, self._engine.output)

    def cancel(self, handle: JobHandle, grace: timedelta, ctx: RunnerContext) -> None:
        self._engine.calls.append("cancel")
        self._engine.on_cancel()

    def cleanup(self, handle: JobHandle, ctx: RunnerContext) -> None:
        self._engine.calls.append("cleanup")
        if self._engine.cleanup_error is not None:
            raise self._engine.cleanup_error


class Clock:
    """Time that passes a second at each look."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


def _run(
    engine: Engine, tmp_path: Path, *, timeout: float | None = None, cancelled: bool = False, started: bool = True
) -> TaskResult:
    runner = Scripted()
    runner._engine = engine
    ctx = RunnerContext(on_line=lambda _line: None, clock=Clock())
    if cancelled and started:
        engine.answers.insert(0, RUNNING)
        ctx.save_handle = lambda _handle: ctx.cancelled.set()
    elif cancelled:
        ctx.cancelled.set()
    spec = TaskSpec(("true",), "one", timeout=None if timeout is None else timedelta(seconds=timeout))
    return runner.run(spec, WorkDir(tmp_path), ctx)


def test_the_end_of_the_job_is_the_result(tmp_path: Path) -> None:
    engine = Engine([RUNNING, RUNNING, DONE], b"a\nb\n")

    result = _run(engine, tmp_path)

    assert (result.status, result.exit_code, result.stdout_lines) == (Phase.SUCCEEDED, 0, 2)
    assert engine.calls == ["submit", "cleanup"]


def test_a_deadline_cancels_once_and_says_so(tmp_path: Path) -> None:
    engine = Engine([*[RUNNING] * 9, JobStatus(Phase.FAILED, 143)])

    result = _run(engine, tmp_path, timeout=4)

    assert (result.status, result.exit_code, result.failure_reason) == (Phase.FAILED, 143, FailureReason.DEADLINE)
    assert engine.calls == ["submit", "cancel", "cleanup"]


def test_the_timeout_of_a_job_goes_on_when_it_is_found_again(tmp_path: Path) -> None:
    class Found(Scripted):
        def attach(self, spec: TaskSpec, ctx: RunnerContext) -> JobHandle | None:
            return ctx.stored_handle

    began_at = datetime(2026, 1, 2, tzinfo=UTC)
    handle = JobHandle("test.Scripted", "one", created_at=began_at)
    ctx = RunnerContext(
        on_line=lambda _line: None,
        clock=Clock(),
        now=lambda: began_at + timedelta(minutes=9),
        stored_handle=JobHandle.from_json(handle.as_json()),
    )
    runner = Found()
    ended = JobStatus(Phase.FAILED, 143)
    runner._engine = engine = Engine([*[RUNNING] * 99, ended], on_cancel=lambda: engine.answers.__setitem__(0, ended))

    result = runner.run(TaskSpec(("true",), "one", timeout=timedelta(minutes=10)), WorkDir(tmp_path), ctx)

    assert (result.failure_reason, engine.calls) == (FailureReason.DEADLINE, ["cancel", "cleanup"])
    assert (result.stages["starting"], result.stages["running"] > 600) == (0, True)


def test_a_cancel_is_passed_on_once(tmp_path: Path) -> None:
    engine = Engine([*[RUNNING] * 5, JobStatus(Phase.FAILED, 143)])

    result = _run(engine, tmp_path, cancelled=True)

    assert (result.status, result.failure_reason) == (Phase.CANCELLED, FailureReason.CANCELLED)
    assert engine.calls == ["submit", "cancel", "cleanup"]


def test_a_body_that_ends_well_while_it_is_cancelled_did_its_work(tmp_path: Path) -> None:
    result = _run(Engine([DONE]), tmp_path, cancelled=True)

    assert (result.status, result.failure_reason) == (Phase.SUCCEEDED, None)


def test_a_job_that_never_ends_after_a_cancel_is_lost(tmp_path: Path) -> None:
    result = _run(Engine([RUNNING]), tmp_path, timeout=4)

    assert (result.status, result.failure_reason) == (Phase.LOST, FailureReason.LOST)


def test_an_engine_may_be_away_for_a_while(tmp_path: Path) -> None:
    result = _run(Engine([RUNNING, *[AWAY] * 40, RUNNING, DONE]), tmp_path)

    assert result.status is Phase.SUCCEEDED


def test_an_engine_that_stays_away_has_lost_the_job(tmp_path: Path) -> None:
    engine = Engine([RUNNING, AWAY], cleanup_error=AWAY)

    result = _run(engine, tmp_path)

    assert (result.status, result.message) == (Phase.LOST, "the engine is away")
    assert engine.calls == ["submit", "cleanup"]


def test_a_cancel_that_does_not_arrive_is_sent_again(tmp_path: Path) -> None:
    refusals = [AWAY, AWAY]

    def on_cancel() -> None:
        if refusals:
            raise refusals.pop()
        engine.answers[:] = [JobStatus(Phase.FAILED, 137)]

    engine = Engine([RUNNING], on_cancel=on_cancel)

    result = _run(engine, tmp_path, cancelled=True)

    assert (result.status, engine.calls) == (Phase.CANCELLED, ["submit", "cancel", "cancel", "cancel", "cleanup"])


def test_what_was_cancelled_before_is_not_submitted(tmp_path: Path) -> None:
    engine = Engine([RUNNING])

    result = _run(engine, tmp_path, cancelled=True, started=False)

    assert (result.status, engine.calls) == (Phase.CANCELLED, [])


@pytest.mark.parametrize(
    ("reason", "phase"), [(FailureReason.CANCELLED, Phase.CANCELLED), (FailureReason.DEADLINE, Phase.FAILED)]
)
def test_a_start_that_was_given_up_is_a_result(tmp_path: Path, reason: FailureReason, phase: Phase) -> None:
    class Slow(Scripted):
        def submit(self, spec: TaskSpec, workdir: WorkDir, ctx: RunnerContext) -> JobHandle:
            raise TaskRunnerError("image.slow", "too slow", failure_reason=reason)

    ctx = RunnerContext(on_line=lambda _line: None)

    result = Slow().run(TaskSpec(("true",), "one"), WorkDir(tmp_path), ctx)

    assert (result.status, result.failure_reason, result.message) == (phase, reason, "too slow")


def test_a_log_that_never_ends_does_not_keep_the_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "_DRAIN_S", 0.05)
    hangs, never = threading.Event(), threading.Event()

    class Hanging(Scripted):
        def poll(self, handle: JobHandle, ctx: RunnerContext) -> JobStatus:
            assert hangs.wait(60)  # the line has been told when the job ends, whenever its thread comes up
            return super().poll(handle, ctx)

        def logs(self, handle: JobHandle, since: LogCursor | None, ctx: RunnerContext) -> Iterator[LogLine]:
            yield from ctx.capture.feed(Stream.STDOUT, b"one\n")
            hangs.set()
            never.wait(30)

    runner = Hanging()
    runner._engine = Engine([DONE])
    try:
        result = runner.run(TaskSpec(("true",), "one"), WorkDir(tmp_path), RunnerContext(on_line=lambda _line: None))
    finally:
        never.set()

    assert (result.status, result.stdout_lines) == (Phase.SUCCEEDED, 1)


def test_lines_that_are_told_slowly_are_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "_DRAIN_S", 0.02)
    told: list[str] = []
    begun, stored = threading.Event(), threading.Event()

    class Telling(Scripted):
        def poll(self, handle: JobHandle, ctx: RunnerContext) -> JobStatus:
            assert begun.wait(60)  # the job ends while its first line is told, whenever the thread of its log comes up
            return super().poll(handle, ctx)

    def on_line(line: LogLine) -> None:
        begun.set()
        stored.wait(0.2)  # a database that takes longer than an engine may be silent
        told.append(line.text)

    runner = Telling()
    runner._engine = Engine([DONE], b"one\ntwo\n")
    result = runner.run(TaskSpec(("true",), "one"), WorkDir(tmp_path), RunnerContext(on_line=on_line))

    assert (told, result.stdout_lines) == (["one", "two"], 2)


def _with_full_disk(step: str, folder: Path) -> TaskResult:
    runner = Scripted(full_when=step)
    runner._engine = Engine([DONE])
    spec = TaskSpec(("true",), "one", output_globs=("out",))
    return runner.run(spec, WorkDir(folder), RunnerContext(on_line=lambda _line: None, clock=Clock()))


def test_a_disk_that_is_full_when_outputs_are_taken_is_the_reason_of_the_failure(tmp_path: Path) -> None:
    result = _with_full_disk("collect", tmp_path)

    assert (result.status, result.failure_reason) == (Phase.FAILED, FailureReason.DISK_FULL)
    assert "No space left on device" in str(result.message)


def test_a_disk_that_is_full_before_the_start_is_named(tmp_path: Path) -> None:
    with pytest.raises(TaskRunnerError, match="No space left on device") as caught:
        _with_full_disk("submit", tmp_path)

    assert (caught.value.code, caught.value.failure_reason) == ("file.inputs.unmoved", FailureReason.DISK_FULL)
