"""Room for the archives of jobs in the internal storage, and signed addresses at which jobs fetch and hand them in.

A grant names one archive, one direction, one attempt, a size and an end; its signature is made with a key that all
processes of a deployment share. It is worth nothing any more when the attempt has ended.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import IO, TYPE_CHECKING, Literal

from runner.errors import AccessError, MainstemError, NotFoundError
from runner.executions.models import TaskRun
from runner.plugin import Storage
from runner.storage.uris import task_uri
from task_runners.errors import FailureReason, TaskRunnerError
from task_runners.staging.port import SignedUpload

if TYPE_CHECKING:
    from runner.services import Host

PATH = "/staging"
"""Below which the server gives and takes archives."""

Direction = Literal["get", "put"]


@dataclass(frozen=True, slots=True)
class Grant:
    """What one address allows."""

    uri: str
    direction: Direction
    task_run_id: str
    attempt: int
    max_bytes: int
    until: int
    """Seconds since 1970."""


class Grants:
    """Signs grants and reads them."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def sign(self, grant: Grant) -> str:
        """Return a grant as one path segment."""
        payload = base64.urlsafe_b64encode(json.dumps(asdict(grant)).encode()).decode().rstrip("=")
        return f"{payload}.{self._mac(payload)}"

    def read(self, token: str, direction: Direction, now: datetime) -> Grant:
        """Return the grant that `token` is.

        Raises:
            AccessError: `staging.grant.invalid` for one that nobody signed, that expired, or that is for another verb.
        """
        payload, _, mac = token.partition(".")
        if not hmac.compare_digest(mac.encode(), self._mac(payload).encode()):
            raise _refused("it is not one of ours")
        try:
            grant = Grant(**json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))))
        except (binascii.Error, ValueError, TypeError):
            raise _refused("it cannot be read") from None
        if grant.direction != direction:
            raise _refused("it is for another direction")
        if now.timestamp() >= grant.until:
            raise _refused("it has expired")
        return grant

    def _mac(self, payload: str) -> str:
        digest = hmac.new(self._key, payload.encode("utf-8", "surrogateescape"), hashlib.sha256).digest()
        return base64.urlsafe_b64encode(digest).decode().rstrip("=")


def _refused(reason: str) -> AccessError:
    return AccessError("staging.grant.invalid", f"the address opens nothing: {reason}")


def stage_of(host: Host, execution: str, run: TaskRun, attempt: int) -> StorageStage:
    """Return the stage of one attempt of a run; `execution` is the address of its execution's files."""

    def folder(number: int) -> str:
        return task_uri(execution, run.task_id, run.id, of_attempt(number, ".staging"))

    earlier = tuple(folder(number) for number in range(1, attempt)) if run.losses else ()
    return StorageStage(host, folder(attempt), run.id, attempt, earlier=earlier)


def of_attempt(number: int, name: str) -> str:
    """Return where the file `name` of an attempt lies among the files of its run.

    A worker that was taken for dead may still write: the files of a later attempt must not be its target.
    """
    return name if number <= 1 else f"attempt-{number}/{name}"


class StorageStage:
    """The stage of one attempt (see `task_runners.staging.port.Stage`), below `folder` of the storage.

    `earlier` are the folders of attempts whose workers were lost, which nobody else removes.
    """

    def __init__(
        self, host: Host, folder: str, task_run_id: str, attempt: int, *, earlier: tuple[str, ...] = ()
    ) -> None:
        self._host = host
        self._folder = folder
        self._task_run_id = task_run_id
        self._attempt = attempt
        self._earlier = earlier

    @property
    def _storage(self) -> Storage:
        return self._host.storage

    def put(self, name: str, content: IO[bytes]) -> int:
        """Keep what `content` holds as `name`; return its size in bytes."""
        return self._storage.put(f"{self._folder}/{name}", content)

    def open(self, name: str) -> IO[bytes]:
        """Open a kept archive."""
        try:
            return self._storage.open(f"{self._folder}/{name}")
        except NotFoundError as error:
            raise TaskRunnerError(
                "staging.archive.missing",
                f"the archive {name!r} of the job is not there",
                failure_reason=FailureReason.OUTPUT_FILES,
            ) from error

    def download(self, name: str, lifetime: timedelta) -> str | None:
        """Return the address of a kept archive; None when jobs reach no server."""
        return self._address(name, "get", lifetime, 0)

    def upload(self, name: str, lifetime: timedelta, max_bytes: int) -> SignedUpload | None:
        """Return what lets a job hand in an archive, once; None when jobs reach no server."""
        url = self._address(name, "put", lifetime, max_bytes)
        return SignedUpload(url) if url is not None else None

    def remove(self) -> None:
        """Remove all archives of the attempt, and of those before it that were lost."""
        try:
            for folder in (self._folder, *self._earlier):
                self._storage.delete(folder)
        except (MainstemError, OSError) as error:
            raise TaskRunnerError(
                "staging.archive.unremoved", f"the archives of the job cannot be removed: {error}"
            ) from error

    def _address(self, name: str, direction: Direction, lifetime: timedelta, max_bytes: int) -> str | None:
        base = self._host.settings.address_for_jobs
        if base is None or self._host.encryption is None or self._host.store is None:
            return None
        until = int((self._host.clock() + lifetime).timestamp())
        uri = f"{self._folder}/{name}"
        grant = Grant(uri, direction, self._task_run_id, self._attempt, max_bytes, until)
        return f"{base}{PATH}/{Grants(self._host.encryption.derived('staging')).sign(grant)}"
