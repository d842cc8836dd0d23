"""Files that need no place in between: a body sees the directory itself, or its engine takes and gives tar streams."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from typing import IO

from task_runners.archives import Owner, pack, unpack
from task_runners.outputs import glob_pattern
from task_runners.spec import RunnerContext, TaskSpec, WorkDir
from task_runners.staging.port import Staged

__all__ = ["SharedDir", "TarStream", "wanted_files"]


class SharedDir:
    """The body works in the directory itself."""

    def put(self, spec: TaskSpec, workdir: WorkDir, ctx: RunnerContext) -> Staged:  # noqa: ARG002 - the port's
        """Do nothing."""
        return Staged(str(workdir.path))

    def get(self, staged: Staged, spec: TaskSpec, workdir: WorkDir, ctx: RunnerContext) -> None:
        """Do nothing."""

    def remove(self, staged: Staged, ctx: RunnerContext) -> None:
        """Do nothing: the directory belongs to the caller."""


@dataclass(frozen=True, slots=True)
class TarStream:
    """An engine that takes one tar archive before the start and gives one after the end.

    `send` gets an archive whose names begin with `prefix`; `fetch` gives archives with what a task asks for of the same
    directory, in pieces, each with how many parts of the names of its members to drop.
    """

    send: Callable[[IO[bytes]], object]
    fetch: Callable[[TaskSpec], Generator[tuple[int, Iterable[bytes]]]]
    prefix: str = "."
    owner: Owner = None

    def put(self, spec: TaskSpec, workdir: WorkDir, ctx: RunnerContext) -> Staged:  # noqa: ARG002 - the port's
        """Send the directory."""
        with pack(workdir.path, self.owner, ctx.file_limits, prefix=self.prefix) as archive:
            self.send(archive)
        return Staged(str(workdir.path))

    def get(self, staged: Staged, spec: TaskSpec, workdir: WorkDir, ctx: RunnerContext) -> None:  # noqa: ARG002 - the port's
        """Write the files that are wanted of what the engine gives."""
        wanted = wanted_files(spec)
        with contextlib.closing(self.fetch(spec)) as archives:
            for depth, pieces in archives:
                unpack(pieces, workdir.path, wanted=wanted, limits=ctx.file_limits, depth=depth)

    def remove(self, staged: Staged, ctx: RunnerContext) -> None:
        """Do nothing: the files go with the job."""


def wanted_files(spec: TaskSpec) -> Callable[[str], bool]:
    """Return what tells of the name of a file whether it comes back."""
    patterns = [glob_pattern(glob) for glob in spec.output_globs]
    return lambda name: spec.sync_workdir or any(pattern.fullmatch(name) for pattern in patterns)
