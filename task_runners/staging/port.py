"""What every way of moving files offers, so that task runners do not differ in it.

A task runner holds one `Staging` and calls `put` before the start, `get` after the end, `remove` in its cleanup. What
`put` returned is JSON and belongs into the job's handle, so that another worker can go on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from typing import IO, TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from task_runners.spec import RunnerContext, TaskSpec, WorkDir

__all__ = ["INPUT", "OUTPUT", "NoStage", "SignedUpload", "Stage", "Staged", "Staging"]

INPUT, OUTPUT = "in.tar", "out.tar"


@dataclass(frozen=True, slots=True)
class SignedUpload:
    """What lets somebody without credentials store one archive, until it expires.

    `PUT url` with `headers` and the content as body. Where the store also takes forms, `form_url` and `form` do the
    same by `POST` as `multipart/form-data` with the content last as the field `file`, for clients that know no `PUT`.
    """

    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    form_url: str | None = None
    form: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Staged:
    """Input files that wait for a job: where they are, and how many bytes of archive with which SHA-256.

    `root` is the working directory whose files they are; the job finds it as WORKING_DIR. The signed addresses are
    secrets: they go to the job, never into the handle.
    """

    root: str
    place: str = ""
    size: int = 0
    sha256: str = ""
    download: str | None = None
    upload: SignedUpload | None = None

    def as_json(self) -> dict[str, Any]:
        """Return what another worker needs for `get` and `remove`, without the signed addresses."""
        return {key: value for key, value in asdict(self).items() if key not in {"download", "upload"}}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Staged:
        """Return what `as_json` described."""
        return cls(**document)


class Staging(Protocol):
    """One way of moving files; it holds no state of a job."""

    def put(self, spec: TaskSpec, workdir: WorkDir, ctx: RunnerContext) -> Staged:
        """Make the files of the working directory available to the job that `spec` describes.

        Raises:
            TaskRunnerError: with the reason INPUT_FILES.
        """

    def get(self, staged: Staged, spec: TaskSpec, workdir: WorkDir, ctx: RunnerContext) -> None:
        """Bring the files that `spec` names (all with `sync_workdir`) into the working directory.

        Raises:
            TaskRunnerError: with the reason OUTPUT_FILES.
        """

    def remove(self, staged: Staged, ctx: RunnerContext) -> None:
        """Remove what was staged. Again is no error."""


class Stage(Protocol):
    """Room for the archives of one attempt that every worker of this product reaches and that outlives them."""

    def put(self, name: str, content: IO[bytes]) -> int:
        """Keep what `content` holds as `name`; return its size in bytes."""

    def open(self, name: str) -> IO[bytes]:
        """Open a kept archive. Raises `TaskRunnerError` `staging.archive.missing`."""

    def download(self, name: str, lifetime: timedelta) -> str | None:
        """Return an address that gives the archive without credentials; None where no server can be reached."""

    def upload(self, name: str, lifetime: timedelta, max_bytes: int) -> SignedUpload | None:
        """Return what lets a job hand in an archive of at most `max_bytes`, once; None as for `download`."""

    def remove(self) -> None:
        """Remove all archives of the attempt. Again is no error."""


class NoStage:
    """A stage for contexts that have none: nothing can be kept, no address is given."""

    def put(self, name: str, content: IO[bytes]) -> int:  # noqa: ARG002 - the port's
        """Refuse."""
        raise _no_stage()

    def open(self, name: str) -> IO[bytes]:  # noqa: ARG002 - the port's
        """Refuse."""
        raise _no_stage()

    def download(self, name: str, lifetime: timedelta) -> str | None:  # noqa: ARG002 - the port's
        """Return None."""
        return None

    def upload(self, name: str, lifetime: timedelta, max_bytes: int) -> SignedUpload | None:  # noqa: ARG002 - the port's
        """Return None."""
        return None

    def remove(self) -> None:
        """Do nothing."""


def _no_stage() -> Exception:
    from task_runners.errors import FailureReason, TaskRunnerError

    return TaskRunnerError(
        "staging.room.absent",
        "there is no room to stage files in",
        failure_reason=FailureReason.INPUT_FILES,
    )
