"""A command of a task on its way through a task runner: values filled in, the job stored, lines told, figures kept."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import timedelta
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from runner.errors import TaskError
from runner.job import Parked
from task_runners.base import JobHandle, RunnerContext, TaskResult, TaskRunner, TaskSpec, WorkDir
from task_runners.errors import JobInterruptedError, TaskRunnerError
from task_runners.files import FileLimits
from task_runners.ownership import INSTALLATION
from task_runners.remote import RemoteTaskRunner

if TYPE_CHECKING:
    from runner.context import TaskContext
    from runner.settings import TaskFileSettings

_MAXIMUM_LABEL_CHARS = 63


class Command:
    """One command of one attempt."""

    def __init__(self, context: TaskContext, runner: TaskRunner, given: dict[str, Any]) -> None:
        self._context = context
        self._runner = runner
        self._job = context.job
        values = self._defaults() | given
        values["env"] = self._identity() | dict(given.get("env") or {})
        self._spec = TaskSpec(**values)

    def run(self) -> TaskResult:
        """Return how the command ended.

        Raises:
            TaskError: it could not be carried out.
            Parked: nobody has to wait for its end.
            JobInterruptedError: its machine was taken away, and the attempt is to be made once more.
        """
        try:
            result = self._result()
        except TaskRunnerError as error:
            raise TaskError(error.code, error.message, hint=error.hint) from error
        self._tell_figures(result)
        self._repeat_interrupted(result)
        return result

    def _result(self) -> TaskResult:
        workdir = WorkDir(self._context.work_dir())
        runner, ended = self._runner, self._job.ended
        if isinstance(runner, RemoteTaskRunner) and ended is not None:
            ended.is_taken = True
            return runner.finish(ended.job, ended.status, self._spec, workdir, ended.ctx)
        ctx = self._runner_context()
        for handle in self._job.left_behind:
            if handle.runner == runner.type:
                runner.cleanup(handle, ctx)
        if isinstance(runner, RemoteTaskRunner) and self._job.may_park:
            raise Parked(runner, runner.begin(self._spec, workdir, ctx), ctx)
        return runner.run(self._spec, workdir, ctx)

    def _repeat_interrupted(self, result: TaskResult) -> None:
        runner, job, reason = self._runner, self._job, result.failure_reason
        if reason is None or not reason.is_interruption or not isinstance(runner, RemoteTaskRunner):
            return
        start, most = job.interruptions + 2, runner.interruption_retry.max_attempts
        if start > most or job.policy == "FAIL" or self._context.cancelled.is_set():
            return
        self._context.log("WARN", f"{reason}: {result.message}; the task is started again ({start} of {most})")
        raise JobInterruptedError(reason)

    def _defaults(self) -> dict[str, Any]:
        context = self._context
        run = context.task_run
        left = None if context.deadline_s is None else max(0.0, context.deadline_s - context.spent_s)
        return {
            "task_run_id": run.id,
            "attempt": max(1, run.attempts),
            "labels": self._labels(),
            "timeout": None if left is None else timedelta(seconds=left),
            "task_marker": run.id,
            "uid": context.host.uid_of(context.flow.namespace),
        }

    def _identity(self) -> dict[str, str]:
        """Return the variables by which a body can tell its attempts apart, or that they are the same work."""
        context = self._context
        run, claimed = context.task_run, context.claimed
        # A job that starts again makes new runs for its tasks, so theirs are named by the job and the task. What a
        # lost worker left undone is the same try: only a retry after a failure gets another key.
        work = run.id if run.id == claimed.id else f"{claimed.id}/{run.task_id}"
        key = hashlib.sha256(f"{context.execution.id}/{work}/{max(1, run.attempts - run.losses)}".encode())
        return {"TASK_IDEMPOTENCY_KEY": key.hexdigest()[:32], "MAINSTEM_EPOCH": str(claimed.epoch)}

    def _labels(self) -> dict[str, str]:
        context = self._context
        names = {
            "namespace": context.flow.namespace,
            "flow-id": context.flow.id,
            "task-id": context.task_run.task_id,
            "execution-id": context.execution.id,
            "taskrun-id": context.task_run.id,
            "taskrun-attempt": str(max(1, context.task_run.attempts)),
        }
        if context.host.settings.installation:
            names[INSTALLATION] = context.host.settings.installation
        return {f"kestra.io/{name}": value[:_MAXIMUM_LABEL_CHARS] for name, value in names.items()}

    def _runner_context(self) -> RunnerContext:
        host, job, lines = self._context.host, self._job, self._context.lines
        goes_on = self._runner.capabilities.reattach and job.can_outlive
        epoch, policy = job.epoch, job.policy or "REATTACH"
        save = job.save
        note = cache(partial(host.runner_used, self._runner))

        def save_watch(handle: JobHandle, watch: Mapping[str, Any] | None = None) -> None:
            note()
            job.outlives = goes_on and policy != "RESTART"
            kept = {"outlives": job.outlives, "lossPolicy": policy} if goes_on else {}
            whose = {INSTALLATION: host.settings.installation} if host.settings.installation else {}
            save({**handle.as_json(), **kept, **whose, **({"watch": dict(watch)} if watch else {})})

        options: dict[str, Any] = {"interruptions": job.interruptions}
        if goes_on:
            options["on_progress"] = lambda items, progress: lines.follow(items, progress, epoch)
            options["tidy_later"] = job.later.append
            job.later.append(partial(lines.forget, epoch))
            if job.stored is not None:
                note()
                job.outlives = True
                options["progress"] = lines.take_over(epoch)
                options["stored_handle"] = job.stored_handle
                options["resubmits"] = False
                options["stored_watch"] = job.stored.get("watch")
        return RunnerContext(
            on_line=lines.take,
            cancelled=self._context.cancelled,
            left=job.left,
            save_handle=save_watch,
            save_watch=save_watch,
            now=host.clock,
            masker=host.masker,
            environment=host.environment,
            policy=self._context.policy(),
            control_groups=host.control_groups,
            file_limits=_limits(host.settings.task_files),
            stage=self._context.stage(),
            installation=host.settings.installation,
            **options,
        )

    def _tell_figures(self, result: TaskResult) -> None:
        """Emit what a container used; the bodies of the process runner are too small and too many for figures."""
        if not self._runner.capabilities.container:
            return
        metric, usage = self._context.metric, result.usage
        if usage.peak_memory_bytes is not None:
            metric("gauge", "task.memory.peak", usage.peak_memory_bytes)
        if usage.cpu_seconds is not None:
            metric("timer", "task.cpu", usage.cpu_seconds)
        for name, seconds in result.stages.items():
            metric("timer", f"task.{name}", seconds)


def _limits(settings: TaskFileSettings) -> FileLimits:
    return FileLimits(settings.count, settings.file_mib << 20, settings.total_mib << 20)
