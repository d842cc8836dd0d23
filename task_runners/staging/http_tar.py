"""Files by way of this product's own server: one archive to fetch, one to hand in, each at a signed address.

For jobs that reach the server and have nothing else in common with it. An address opens one archive of one attempt in
one direction until it expires or the attempt ends; whoever has it needs no account, so it travels as a secret does.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import timedelta
from typing import IO

from task_runners.archives import pack, unpack
from task_runners.errors import FailureReason, TaskRunnerError
from task_runners.spec import RunnerContext, TaskSpec, WorkDir
from task_runners.staging.direct import wanted_files
from task_runners.staging.port import INPUT, OUTPUT, Staged

__all__ = ["HttpTar"]

_CHUNK_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class HttpTar:
    """Stages by the server. `lifetime` must last until the job has handed in its files."""

    lifetime: timedelta = timedelta(days=1)

    def put(self, spec: TaskSpec, workdir: WorkDir, ctx: RunnerContext) -> Staged:  # noqa: ARG002 - the port's
        """Keep the archive of the directory and give the two addresses.

        Raises:
            TaskRunnerError: `staging.address.unset` where jobs cannot reach a server.
        """
        with pack(workdir.path, None, ctx.file_limits) as archive:
            digest = _digest(archive)
            size = ctx.stage.put(INPUT, archive)
        download = ctx.stage.download(INPUT, self.lifetime)
        upload = ctx.stage.upload(OUTPUT, self.lifetime, ctx.file_limits.total_bytes)
        if download is None or upload is None:
            ctx.stage.remove()
            raise TaskRunnerError(
                "staging.address.unset",
                "jobs do not know an address of this server to fetch their files from",
                hint="set `internalUrl` to one that they reach",
                failure_reason=FailureReason.INPUT_FILES,
            )
        return Staged(str(workdir.path), INPUT, size, digest, download, upload)

    def get(self, staged: Staged, spec: TaskSpec, workdir: WorkDir, ctx: RunnerContext) -> None:  # noqa: ARG002 - the port's
        """Write the files that are wanted of the archive that the job handed in."""
        with ctx.stage.open(OUTPUT) as archive:
            chunks = iter(lambda: archive.read(_CHUNK_BYTES), b"")
            unpack(chunks, workdir.path, wanted=wanted_files(spec), limits=ctx.file_limits)

    def remove(self, staged: Staged, ctx: RunnerContext) -> None:  # noqa: ARG002 - the port's
        """Remove both archives."""
        ctx.stage.remove()


def _digest(archive: IO[bytes]) -> str:
    digest = hashlib.sha256()
    while piece := archive.read(_CHUNK_BYTES):
        digest.update(piece)
    archive.seek(0)
    return digest.hexdigest()
