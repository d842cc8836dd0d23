"""A task runner as a third party writes one: every job is a folder below `root`, carried out by `mainstem_spool.body`.

In the folder: `spec.json` (what to do), `work` (the files), `log` (one JSON line for each line of the body), `pid`,
`end.json` (how it ended). Nothing of it needs the worker that made it.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from task_runners.archives import pack, unpack
from task_runners.base import (
    FailureReason,
    JobHandle,
    JobStatus,
    LogCursor,
    Note,
    Phase,
    RunnerContext,
    Stream,
    TaskRunnerError,
    TaskSpec,
    Usage,
    WorkDir,
)
from task_runners.log_pages import LogPage, RawLine
from task_runners.outputs import glob_pattern
from task_runners.remote import RemoteTaskRunner

__all__ = ["Spool"]

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
        """Copy the files, store the handle, start the process that carries the job out."""
        folder = self.root / workdir.path.name
        handle = JobHandle(self.type, folder.name, str(self.root), ctx.now())
        ctx.save_handle(handle)
        work = Path(self.inside(workdir))
        try:
            work.mkdir(parents=True)
            with pack(workdir.path, 0, ctx.file_limits, prefix="work") as archive:
                unpack(iter(lambda: archive.read(65536), b""), work)
            env = {"PATH": ctx.environment.get("PATH", os.defpath), **spec.env, "WORKING_DIR": str(work)}
            env |= {"MAINSTEM_TASKRUN": spec.task_marker} if spec.task_marker else {}
            job = {"command": spec.command, "cwd": str(work), "env": env, "labels": dict(spec.labels)}
            (folder / "spec.json").write_text(json.dumps(job))
        except OSError as error:
            shutil.rmtree(folder, ignore_errors=True)
            raise TaskRunnerError("spool.folder.refused", f"the job cannot be stored: {error}") from error
        _start(folder)
        return handle

    def attach(self, spec: TaskSpec, ctx: RunnerContext) -> JobHandle | None:
        """Return the stored job if its folder got as far as a body that can run; it is started if it was not."""
        found = super().attach(spec, ctx)
        if found is None or not (self._folder(found) / "spec.json").exists():
            return None
        _start(self._folder(found))
        return found

    def poll(self, handle: JobHandle, ctx: RunnerContext) -> JobStatus:
        """Read how the job stands."""
        folder = self._folder(handle)
        if not folder.exists():
            return JobStatus(Phase.LOST, None, FailureReason.LOST, "the folder of the job is gone")
        if not (folder / "end.json").exists():
            has_begun = (folder / "pid").exists()
            return JobStatus(Phase.RUNNING if has_begun else Phase.PENDING, notes=(Note("spooled", "job is spooled"),))
        end = json.loads((folder / "end.json").read_text())
        usage = Usage(end["memory"], end["cpu"], end["wall"])
        if end["code"] == 0:
            return JobStatus(Phase.SUCCEEDED, 0, usage=usage)
        if end["error"]:
            return JobStatus(Phase.FAILED, end["code"], FailureReason.CONFIG_ERROR, end["error"], usage)
        message = f"command failed with exit code {end['code']}"
        return JobStatus(Phase.FAILED, end["code"], FailureReason.APP_EXIT, message, usage)

    def read_log(self, handle: JobHandle, since: LogCursor | None, ctx: RunnerContext, *, is_final: bool) -> LogPage:
        """Read on from the byte that the cursor names."""
        start = int(since.token) if since and since.token else 0
        try:
            with (self._folder(handle) / "log").open("rb") as file:
                file.seek(start)
                chunk = file.read(_PAGE_BYTES)
        except FileNotFoundError:
            return LogPage()
        whole = chunk[: chunk.rfind(b"\n") + 1]
        lines = [_line(json.loads(line)) for line in whole.splitlines()]
        end = start + len(whole)
        return LogPage(lines, str(end), is_exact=True, has_more=len(chunk) == _PAGE_BYTES)

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
        patterns = [glob_pattern(glob) for glob in spec.output_globs]
        with pack(self._folder(handle) / "work", 0, prefix="work") as archive:
            unpack(
                iter(lambda: archive.read(65536), b""),
                workdir.path,
                wanted=lambda name: spec.sync_workdir or any(pattern.fullmatch(name) for pattern in patterns),
                limits=ctx.file_limits,
            )
        return super().collect(spec, workdir, handle, ctx)

    def list_owned(self, ctx: RunnerContext) -> Iterator[JobHandle]:
        """Yield every job below the root."""
        for folder in sorted(self.root.glob("[!.]*/spec.json")):
            at = datetime.fromtimestamp(folder.stat().st_mtime, tz=ctx.now().tzinfo)
            labels = json.loads(folder.read_text())["labels"]
            owner = (labels["kestra.io/taskrun-id"], int(labels["kestra.io/taskrun-attempt"])) if labels else None
            yield JobHandle(self.type, folder.parent.name, str(self.root), at, owner=owner)

    def _folder(self, handle: JobHandle) -> Path:
        return Path(handle.node or self.root) / handle.id

    def _signal(self, handle: JobHandle, number: signal.Signals) -> None:
        try:
            os.kill(int((self._folder(handle) / "pid").read_text()), number)
        except (FileNotFoundError, ProcessLookupError, ValueError):
            return  # it has not begun, or has ended


def _start(folder: Path) -> None:
    # Again is no error: the first one claims the folder. It goes on in the background by itself.
    subprocess.run(
        [sys.executable, "-m", "mainstem_spool.body", str(folder)], check=True, stdin=subprocess.DEVNULL, timeout=60
    )


def _line(entry: Mapping[str, Any]) -> RawLine:
    text = entry["text"].encode("utf-8", "surrogateescape")
    return RawLine(datetime.fromisoformat(entry["at"]), text, Stream(entry["stream"]))
