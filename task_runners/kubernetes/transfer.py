"""Moving the files of a task into its pod and out of it, on the worker's side."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import IO, Final

from task_runners.archives import pack, unpack
from task_runners.errors import FailureReason, TaskRunnerError
from task_runners.kubernetes.api import Api, ApiError
from task_runners.kubernetes.execution import Executed, execute
from task_runners.kubernetes.manifest import IN_FILES, OUT_FILES, Files
from task_runners.kubernetes.properties import FileTransfer
from task_runners.kubernetes.scripts import ASK_OUT, ASK_WISH, END, LEFT, TOO_LARGE, WISH, receive, send
from task_runners.outputs import PRIVATE
from task_runners.spec import RunnerContext, TaskSpec, WorkDir
from task_runners.staging.direct import wanted_files
from task_runners.staging.port import INPUT, OUTPUT, Staged

__all__ = ["ask_how_files_left", "bring", "end_sidecar", "fetch", "is_wanted", "staged_files"]

_SILENCE_S: Final = 120.0
_IN_MEMORY_BYTES: Final = 8 * 1024 * 1024
_CHUNK_BYTES: Final = 256 * 1024
_ARCHIVE_FACTOR: Final = 16  # so many times the bytes of output files the working directory may have
_LEAST_ARCHIVE_BYTES: Final = 64 * 1024 * 1024

IsOver = Callable[[], bool]
"""Whether a command in a container need not be waited for: see `execute`."""


def staged_files(
    spec: TaskSpec, workdir: WorkDir, ctx: RunnerContext, transfer: FileTransfer, lifetime: timedelta
) -> Files:
    """Keep the input files of a task for its pod, and return what is to travel.

    Raises:
        TaskRunnerError: `file.inputs.too_large`, `staging...`, `runner.property.invalid` without an address for HTTP.
    """
    root, comes_back = str(workdir.path), bool(spec.output_globs or spec.sync_workdir)
    over_http = transfer is not FileTransfer.EXEC
    upload = ctx.stage.upload(OUTPUT, lifetime, _most_bytes(ctx)) if comes_back and over_http else None
    staged = None
    if any(entry.name != PRIVATE for entry in workdir.path.iterdir()):
        with pack(workdir.path, None, ctx.file_limits) as archive:
            digest = hashlib.sha256()
            for chunk in _chunks(archive):
                digest.update(chunk)
            archive.seek(0)
            size = ctx.stage.put(INPUT, archive)
        download = ctx.stage.download(INPUT, lifetime) if over_http else None
        staged = Staged(root, INPUT, size, digest.hexdigest(), download)
    if transfer is FileTransfer.HTTP and ((staged and not staged.download) or (comes_back and upload is None)):
        raise TaskRunnerError(
            "runner.property.invalid",
            "`fileTransfer: HTTP` needs an address at which pods reach this server",
            hint="set `internalUrl` in the settings of the server, or leave `fileTransfer` out",
        )
    return Files(root, staged, comes_back, upload, ctx.file_limits.file_bytes, _most_bytes(ctx))


def is_wanted(api: Api, pod: str, is_over: IsOver) -> bool:
    """Return whether the pod waits for the worker to bring its files. Raises `ApiError`."""
    return _answer(execute(api, pod, IN_FILES, ASK_WISH, is_over=is_over)) == WISH


def bring(api: Api, pod: str, staged: Staged, ctx: RunnerContext, is_over: IsOver) -> str | None:
    """Copy the input files into the pod; return what went wrong, None when all is well. Raises `ApiError`."""
    command = receive(staged, staged.root)
    with ctx.stage.open(INPUT) as archive:
        done = execute(api, pod, IN_FILES, command, content=archive, seconds=_SILENCE_S, is_over=is_over)
    return None if done.exit_code == 0 else f"the files cannot be brought to the pod: {done.text or done.exit_code}"


def ask_how_files_left(api: Api, pod: str, is_over: IsOver) -> str:
    """Tell the pod that the task has ended; return `sent`, `kept`, or nothing yet. Raises `ApiError`."""
    said = _answer(execute(api, pod, OUT_FILES, ASK_OUT, is_over=is_over))
    return said if said in LEFT else ""


def _answer(done: Executed) -> str:
    # Not all of it may be the container's: of one that has just ended some runtimes say so in the same place.
    return done.stdout.decode("ascii", "replace").strip()


def end_sidecar(api: Api, pod: str) -> None:
    """Let the container that keeps the files go. Raises `ApiError`."""
    execute(api, pod, OUT_FILES, END)


def fetch(
    api: Api,
    pod: str,
    spec: TaskSpec,
    workdir: WorkDir,
    ctx: RunnerContext,
    *,
    root: str,
    is_sent: bool,
    is_over: IsOver,
) -> None:
    """Bring the files that `spec` names into the working directory, from where the pod left them.

    Raises:
        ApiError: the connection broke.
        TaskRunnerError: `file.outputs...`, `file.archive.broken`.
    """
    with ctx.stage.open(OUTPUT) if is_sent else _archive_of(api, pod, root, ctx, is_over) as archive:
        unpack(_chunks(archive), workdir.path, wanted=wanted_files(spec), limits=ctx.file_limits)


def _most_bytes(ctx: RunnerContext) -> int:
    return max(ctx.file_limits.total_bytes * _ARCHIVE_FACTOR, _LEAST_ARCHIVE_BYTES)


def _chunks(archive: IO[bytes]) -> Iterator[bytes]:
    while chunk := archive.read(_CHUNK_BYTES):
        yield chunk


def _archive_of(api: Api, pod: str, root: str, ctx: RunnerContext, is_over: IsOver) -> IO[bytes]:
    """Return what the pod has, checked against the digest that the pod made of it."""
    archive: IO[bytes] = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY_BYTES)  # noqa: SIM115 - the caller closes it
    digest, size, most_bytes = hashlib.sha256(), 0, _most_bytes(ctx)

    def take(piece: bytes) -> None:
        nonlocal size
        size += len(piece)
        if size > most_bytes:
            raise _too_much()
        digest.update(piece)
        archive.write(piece)

    try:
        command = send(root, ctx.file_limits.file_bytes, most_bytes)
        done = execute(api, pod, OUT_FILES, command, take=take, seconds=_SILENCE_S, is_over=is_over)
        if done.exit_code == TOO_LARGE:
            raise _too_much()
        if done.exit_code != 0:
            raise _unreadable("file.outputs.unreadable", f"the files of the pod cannot be read: {done.text}")
        if digest.hexdigest() not in done.stderr.decode("ascii", "replace"):
            raise ApiError(0, "Truncated", "the files of the pod did not arrive whole")
    except BaseException:  # no archive stays, be it an interrupt
        archive.close()
        raise
    archive.seek(0)
    return archive


def _too_much() -> TaskRunnerError:
    return _unreadable("file.outputs.too_large", "the working directory is too large to look for outputs in")


def _unreadable(code: str, message: str) -> TaskRunnerError:
    return TaskRunnerError(code, message, failure_reason=FailureReason.OUTPUT_FILES)
