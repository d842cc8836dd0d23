"""A task runner as a third party writes one: every job is a folder below `root`, carried out by `mainstem_spool.body`.

In the folder: `job.json` (what to do), `work` (the files), `log`, `pid`, `end.json` (how it ended). Nothing of it needs
the worker that made it.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Literal

from task_runners import base
from task_runners.archives import copy_files
from task_runners.base import JobHandle, JobStatus, LogCursor, RunnerContext, TaskSpec, WorkDir
from task_runners.log_pages import LogPage, file_lines
from task_runners.remote import RemoteTaskRunner

_PAGE_BYTES = 1_000_000


class Spool(RemoteTaskRunner):
    """Runs commands as processes that outlive their worker."""

    poll_seconds = 0.2

    type: Literal["spool.Spool"] = "spool.Spool"
    root: Path

    def inside(self, workdir: WorkDir) -> str:
        """Return where the job finds its files."""
        return str(self.root / workdir.path.name / "work")

    def submit(self, spec: TaskSpec, workdir: WorkDir, ctx: RunnerContext) -> JobHandle:
        """Store the handle, copy the files, start the process that carries the job out."""
        folder, work = self.root / workdir.path.name, self.inside(workdir)
        handle = JobHandle(self.type, folder.name, str(self.root), ctx.now())
        ctx.save_handle(handle)
        env = {"PATH": ctx.environment.get("PATH", os.defpath), **spec.environment(work)}
        owner = [spec.task_run_id, spec.attempt, ctx.installation]
        job = {"command": spec.command, "cwd": work, "env": env, "owner": owner}
        try:
            copy_files(workdir.path, Path(work), limits=ctx.file_limits)
            (folder / "job.json").write_text(json.dumps(job))
        except OSError as error:
            shutil.rmtree(folder, ignore_errors=True)
            raise base.TaskRunnerError("spool.folder.refused", f"the job cannot be stored: {error}") from error
        _start(folder)
        return handle

    def attach(self, spec: TaskSpec, ctx: RunnerContext) -> JobHandle | None:
        """Return the stored job if its folder got as far as a body that can run; it is started if it was not."""
        found = super().attach(spec, ctx)
        if found is None or not (self._folder(found) / "job.json").exists():
            return None
        _start(self._folder(found))
        return found

    def poll(self, handle: JobHandle, ctx: RunnerContext) -> JobStatus:
        """Read how the job stands."""
        folder = self._folder(handle)
        if not folder.exists():
            return JobStatus(base.Phase.LOST, None, base.FailureReason.LOST, "the folder of the job is gone")
        if not (folder / "end.json").exists():
            phase = base.Phase.RUNNING if (folder / "pid").exists() else base.Phase.PENDING
            return JobStatus(phase, notes=(base.Note("spooled", "job is spooled"),))
        end = json.loads((folder / "end.json").read_text())
        if end["error"]:
            return JobStatus(base.Phase.FAILED, end["code"], base.FailureReason.CONFIG_ERROR, end["error"])
        return JobStatus.exited(end["code"], base.Usage(*end["usage"]))

    def read_log(self, handle: JobHandle, since: LogCursor | None, ctx: RunnerContext, *, is_final: bool) -> LogPage:
        """Read on from the byte that the cursor names."""
        start = int(since.token) if since and since.token else 0
        try:
            with (self._folder(handle) / "log").open("rb") as file:
                file.seek(start)
                piece = file.read(_PAGE_BYTES)
        except FileNotFoundError:
            return LogPage()
        lines, size = file_lines(piece, ctx.now(), is_full=len(piece) == _PAGE_BYTES, is_final=is_final)
        return LogPage(lines, str(start + size), is_exact=True, has_more=len(piece) == _PAGE_BYTES)

    def cancel(self, handle: JobHandle, grace: timedelta, ctx: RunnerContext) -> None:
        """Write how long the body may take to end, and ask for it."""
        (self._folder(handle) / "grace").write_text(str(grace.total_seconds()))
        self._signal(handle, signal.SIGTERM)

    def cleanup(self, handle: JobHandle, ctx: RunnerContext) -> None:
        """Kill what runs and remove the folder, which is moved away first: a body that ends must not write there."""
        folder = self._folder(handle)
        self._signal(handle, signal.SIGUSR1)
        gone = folder.with_name(f".{folder.name}")
        if self.delete and folder.exists():
            folder.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)

    def collect(self, spec: TaskSpec, workdir: WorkDir, handle: JobHandle, ctx: RunnerContext) -> Mapping[str, Path]:
        """Copy the files back that the task names."""
        copy_files(self._folder(handle) / "work", workdir.path, wanted=spec.wants, limits=ctx.file_limits)
        return super().collect(spec, workdir, handle, ctx)

    def list_owned(self, ctx: RunnerContext) -> Iterator[JobHandle]:
        """Yield every job below the root that this installation started."""
        for file in sorted(self.root.glob("[!.]*/job.json")):
            run, attempt, name = json.loads(file.read_text())["owner"]
            if name == ctx.installation:
                yield JobHandle(self.type, file.parent.name, str(self.root), owner=(run, attempt))

    def _folder(self, handle: JobHandle) -> Path:
        return Path(handle.node or self.root) / handle.id

    def _signal(self, handle: JobHandle, number: signal.Signals) -> None:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError, ValueError):  # not begun, or ended
            os.kill(int((self._folder(handle) / "pid").read_text()), number)


def _start(folder: Path) -> None:
    # Again is no error: the first one claims the folder. It goes on in the background by itself.
    command, nothing = [sys.executable, "-m", "mainstem_spool.body", str(folder)], subprocess.DEVNULL
    subprocess.run(command, check=True, stdin=nothing, stdout=nothing, stderr=nothing, timeout=60)
