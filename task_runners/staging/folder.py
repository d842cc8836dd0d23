"""A stage in a folder of this machine, for callers without a server: nothing gets an address."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import IO

from task_runners.errors import FailureReason, TaskRunnerError
from task_runners.staging.port import NoStage

__all__ = ["FolderStage"]


class FolderStage(NoStage):
    """Keeps archives in `folder`, which belongs to the caller."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, name: str, content: IO[bytes]) -> int:
        """Keep what `content` holds as `name`; return its size in bytes."""
        with (self._folder / name).open("wb") as file:
            shutil.copyfileobj(content, file)
            return file.tell()

    def open(self, name: str) -> IO[bytes]:
        """Open a kept archive."""
        try:
            return (self._folder / name).open("rb")
        except FileNotFoundError as error:
            raise TaskRunnerError(
                "staging.archive.missing", f"no archive {name!r} is kept", failure_reason=FailureReason.OUTPUT_FILES
            ) from error

    def remove(self) -> None:
        """Remove all archives."""
        for path in self._folder.glob("*.tar"):
            path.unlink()
