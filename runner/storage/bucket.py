"""Storage in a bucket of an object store: S3 and what speaks like it, Google Cloud Storage, Azure Blob Storage."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from typing import IO, Final

from runner.errors import MainstemError, NotFoundError, StorageError
from runner.storage.uris import SCHEME, path_of
from task_runners.errors import TaskRunnerError
from task_runners.staging.object_store import ObjectStore

_MEMORY_BYTES: Final = 8 * 1024 * 1024


class BucketStorage:
    """Stored files below the prefix of a bucket, each under its path. Safe to use from any thread and process.

    A file appears with all of its content or not at all. A file that is opened is fetched whole first, so that readers
    may seek in it and never meet a connection that breaks half-way.
    """

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def close(self) -> None:
        """Close the connections; nothing else may use the storage after that."""
        self._store.close()

    def put(self, uri: str, source: IO[bytes]) -> int:
        """Store what `source` holds at `uri`, in place of what was there, and return its size in bytes."""
        path = path_of(uri)
        with _translated(uri):
            return self._store.put(path, source)

    def open(self, uri: str) -> IO[bytes]:
        """Open a stored file. Raises `NotFoundError` `storage.file.missing`."""
        path = path_of(uri)
        copy: IO[bytes] = tempfile.SpooledTemporaryFile(max_size=_MEMORY_BYTES)  # noqa: SIM115 - the caller closes it
        try:
            with _translated(uri):
                self._store.get(path, copy)
        except BaseException:  # no copy stays, be it an interrupt
            copy.close()
            raise
        copy.seek(0)
        return copy

    def size(self, uri: str) -> int:
        """Return the size in bytes. Raises `NotFoundError` `storage.file.missing`."""
        path = path_of(uri)
        with _translated(uri):
            return self._store.size(path)

    def exists(self, uri: str) -> bool:
        """Return whether there is such a file; a folder is none."""
        try:
            self.size(uri)
        except NotFoundError:
            return False
        return True

    def list(self, prefix: str) -> list[str]:
        """Return the URIs below the folder `prefix`, or `prefix` itself when it is a file; sorted."""
        path = path_of(prefix)
        if self.exists(prefix):
            return [f"{SCHEME}/{path}"]
        with _translated(prefix):
            return sorted(f"{SCHEME}/{key}" for key in self._store.list(f"{path}/"))

    def delete(self, prefix: str) -> int:
        """Remove the file or everything below the folder `prefix`; return how many files went."""
        path = path_of(prefix)
        is_file = self.exists(prefix)
        with _translated(prefix):
            if is_file:
                self._store.delete(path)
            return int(is_file) + self._store.delete_prefix(f"{path}/")


@contextlib.contextmanager
def _translated(uri: str) -> Iterator[None]:
    try:
        yield
    except TaskRunnerError as error:
        raise _in_our_words(uri, error) from error


def _in_our_words(uri: str, error: TaskRunnerError) -> MainstemError:
    if error.code == "bucket.object.missing":
        return NotFoundError("storage.file.missing", f"there is no file at {uri!r}")
    return StorageError(error.code, error.message, hint=error.hint)
