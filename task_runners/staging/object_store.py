"""Buckets of an object store behind one port: S3 and what speaks like it, Google Cloud Storage, Azure Blob Storage.

The address names the kind, the bucket and a prefix below which everything happens: `s3://bucket/prefix`,
`gs://bucket/prefix`, `az://container/prefix`. Keys are relative to it and taken as they are written.
"""

from __future__ import annotations

import abc
import contextlib
import importlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from typing import IO, ClassVar, Final, final
from urllib.parse import urlsplit

from task_runners.errors import FailureReason, TaskRunnerError
from task_runners.staging.port import SignedUpload

__all__ = ["CHUNK_BYTES", "KINDS", "SECRET_OPTIONS", "BucketStage", "ObjectStore", "open_object_store"]

CHUNK_BYTES: Final = 1024 * 1024
KINDS: Final = {
    "s3": ("task_runners.staging.s3", "S3Store", "aws"),
    "gs": ("task_runners.staging.google_storage", "GoogleStore", "gcp"),
    "az": ("task_runners.staging.azure_blob", "AzureStore", "azure"),
}
SECRET_OPTIONS: Final = {"secretKeyId", "sessionToken", "serviceAccount", "accountKey", "connectionString"}
_MEMORY_BYTES = 8 * 1024 * 1024
_READS = 4  # so many times one object is read from its start before a broken connection counts


class ObjectStore(abc.ABC):
    """Objects below one prefix of one bucket. Safe to use from several threads.

    An object appears whole or not at all. Short troubles of the network and of the server are tried again inside.
    All verbs raise `TaskRunnerError` with a code `bucket...` or `cloud...`.
    """

    options_known: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, bucket: str, prefix: str, options: Mapping[str, str]) -> None:
        unknown = sorted(set(options) - self.options_known)
        if unknown:
            known = ", ".join(sorted(self.options_known))
            raise TaskRunnerError(
                "bucket.option.unknown", f"there is no option {unknown[0]!r}", hint=f"there are {known}"
            )
        self.bucket = bucket
        self.prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""

    @abc.abstractmethod
    def _send(self, name: str, source: IO[bytes], size: int) -> None:
        """Store the `size` bytes that `source` holds from where it stands."""

    @abc.abstractmethod
    def _read(self, name: str) -> Iterator[bytes]:
        """Yield the content; not tried again once it has begun."""

    @abc.abstractmethod
    def _size(self, name: str) -> int:
        """Return the size in bytes."""

    @abc.abstractmethod
    def _list(self, prefix: str) -> Iterator[str]:
        """Yield the names that begin with `prefix`, in order."""

    @abc.abstractmethod
    def _delete(self, names: list[str]) -> None:
        """Remove these objects; one that is gone is no error."""

    @abc.abstractmethod
    def _sign_get(self, name: str, lifetime: timedelta) -> str:
        """Return an address from which anybody may read the object."""

    @abc.abstractmethod
    def _sign_put(self, name: str, lifetime: timedelta) -> SignedUpload:
        """Return what lets anybody store the object."""

    def close(self) -> None:
        """Release connections."""
        return

    @final
    def put(self, key: str, source: IO[bytes]) -> int:
        """Store what `source` holds from where it stands, in place of what was there; return its size in bytes.

        What `source` raises is raised, and nothing is stored then.
        """
        with _rewindable(source) as file:
            start = file.tell()
            size = file.seek(0, os.SEEK_END) - start
            file.seek(start)
            self._send(self.prefix + key, file, size)
        return size

    @final
    def get(self, key: str, target: IO[bytes]) -> int:
        """Write the object to `target` from where that stands, all of it or an error; return its size in bytes.

        Raises:
            TaskRunnerError: `bucket.object.missing`.
        """
        start = target.tell()
        for left in reversed(range(_READS)):
            try:
                return sum(target.write(chunk) for chunk in self._read(self.prefix + key))
            except TaskRunnerError as error:
                if error.failure_reason is not FailureReason.UNAVAILABLE or not left:
                    raise
                target.seek(start)
                target.truncate()
        raise AssertionError

    @final
    def read(self, key: str) -> bytes:
        """Return a small object. Raises `bucket.object.missing`."""
        return b"".join(self._read(self.prefix + key))

    @final
    def size(self, key: str) -> int:
        """Return the size of an object in bytes. Raises `bucket.object.missing`."""
        return self._size(self.prefix + key)

    @final
    def list(self, prefix: str = "") -> Iterator[str]:
        """Yield the keys that begin with `prefix`, in the order of their UTF-8."""
        for name in self._list(self.prefix + prefix):
            yield name.removeprefix(self.prefix)

    @final
    def delete(self, key: str) -> None:
        """Remove an object; one that is not there is no error."""
        self._delete([self.prefix + key])

    @final
    def delete_prefix(self, prefix: str) -> int:
        """Remove every object whose key begins with `prefix`; return how many there were."""
        assert self.prefix + prefix, "a whole bucket is never emptied"
        names = list(self._list(self.prefix + prefix))
        if names:
            self._delete(names)
        return len(names)

    @final
    def presign_get(self, key: str, lifetime: timedelta) -> str:
        """Return an address from which anybody may read the object for `lifetime`."""
        return self._sign_get(self.prefix + key, lifetime)

    @final
    def presign_put(self, key: str, lifetime: timedelta) -> SignedUpload:
        """Return what lets anybody store the object for `lifetime`."""
        return self._sign_put(self.prefix + key, lifetime)


@contextlib.contextmanager
def _rewindable(source: IO[bytes]) -> Iterator[IO[bytes]]:
    """Give `source` itself when it can be read twice, or a copy of it on disk."""
    seekable: Callable[[], bool] = getattr(source, "seekable", lambda: False)
    if seekable():
        yield source
        return
    with tempfile.SpooledTemporaryFile(max_size=_MEMORY_BYTES) as copy:
        shutil.copyfileobj(source, copy, CHUNK_BYTES)
        copy.seek(0)
        yield copy


def open_object_store(url: str, options: Mapping[str, str] | None = None) -> ObjectStore:
    """Return the store at `url`; `options` are the credentials and addresses of its class, by default the ambient ones.

    Nothing is asked of the network.

    Raises:
        TaskRunnerError: `bucket.url.invalid`, `cloud.extra.missing`, `bucket.option.unknown`.
    """
    parts = urlsplit(url)
    if parts.scheme not in KINDS or not parts.netloc or parts.query or parts.fragment:
        raise TaskRunnerError(
            "bucket.url.invalid",
            f"{url!r} is no address of a bucket",
            hint="write s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or az://CONTAINER/PREFIX",
        )
    module, name, extra = KINDS[parts.scheme]
    try:
        kind: type[ObjectStore] = getattr(importlib.import_module(module), name)
        return kind(parts.netloc, parts.path, options or {})
    except ImportError as error:
        raise TaskRunnerError(
            "cloud.extra.missing",
            f"{parts.scheme}:// needs a package that is not installed: {error.name}",
            hint=f"pip install 'mainstem[{extra}]'",
        ) from error


class BucketStage:
    """Room for the archives of one attempt below a prefix of a bucket; see `task_runners.staging.port.Stage`."""

    def __init__(self, store: ObjectStore, prefix: str, most_bytes: int | None = None) -> None:
        self._store, self._prefix, self._most_bytes = store, f"{prefix.strip('/')}/", most_bytes

    def put(self, name: str, content: IO[bytes]) -> int:
        """Keep what `content` holds as `name`; return its size in bytes."""
        return self._store.put(self._prefix + name, content)

    def open(self, name: str) -> IO[bytes]:
        """Open a copy of a kept archive.

        Raises:
            TaskRunnerError: `staging.archive.missing`, `file.outputs.too_large` for more than `most_bytes`: whoever has
                the address to hand it in can hand in anything.
        """
        copy: IO[bytes] = tempfile.SpooledTemporaryFile(max_size=_MEMORY_BYTES)  # noqa: SIM115 - the caller closes it
        try:
            self._demand_small(name)
            self._store.get(self._prefix + name, copy)
        except TaskRunnerError as error:
            copy.close()
            if error.code != "bucket.object.missing":
                raise
            raise TaskRunnerError("staging.archive.missing", f"there is no {name} of the task") from error
        copy.seek(0)
        return copy

    def _demand_small(self, name: str) -> None:
        size = self._store.size(self._prefix + name) if self._most_bytes is not None else 0
        if self._most_bytes is not None and size > self._most_bytes:
            message = f"the archive of output files is too large: {size} bytes, {self._most_bytes} are allowed"
            raise TaskRunnerError("file.outputs.too_large", message, failure_reason=FailureReason.OUTPUT_FILES)

    def download(self, name: str, lifetime: timedelta) -> str | None:
        """Return an address that gives the archive without credentials."""
        return self._store.presign_get(self._prefix + name, lifetime)

    def upload(self, name: str, lifetime: timedelta, max_bytes: int) -> SignedUpload | None:  # noqa: ARG002 - `open` says
        """Return what lets a job hand in an archive; its size is judged when it is unpacked."""
        return self._store.presign_put(self._prefix + name, lifetime)

    def remove(self) -> None:
        """Remove all archives of the attempt. Again is no error."""
        self._store.delete_prefix(self._prefix)
