"""Storage in a folder of this machine (or of a file system that several machines share)."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from runner.errors import InvalidError, NotFoundError
from runner.storage.uris import SCHEME, path_of
from task_runners.errors import TaskRunnerError
from task_runners.files import open_beneath, safe_join

_CHUNK = 1024 * 1024
_TEMPORARY = ".incoming-"
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class LocalStorage:
    """Stored files below `root`, which is made with mode 0700. Safe to use from any thread and process.

    A file appears with all of its content or not at all, and is on disk when `put` returns. No link is followed on the
    way to a file.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        root.mkdir(parents=True, exist_ok=True, mode=0o700)

    def put(self, uri: str, source: IO[bytes]) -> int:
        """Store what `source` holds at `uri`, in place of what was there, and return its size in bytes."""
        path = path_of(uri)
        folder, _, name = path.rpartition("/")
        with self._folder(folder, path) as descriptor:
            temporary = f"{_TEMPORARY}{secrets.token_hex(8)}"
            try:
                size = _write(temporary, descriptor, source)
                os.rename(temporary, name, src_dir_fd=descriptor, dst_dir_fd=descriptor)
            except BaseException:  # no half a file stays, be it an interrupt
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(temporary, dir_fd=descriptor)
                raise
            os.fsync(descriptor)
        return size

    def open(self, uri: str) -> IO[bytes]:
        """Open a stored file. Raises `NotFoundError` `storage.file.missing`."""
        try:
            descriptor = open_beneath(self._root, path_of(uri), os.O_RDONLY | os.O_NONBLOCK)
        except (TaskRunnerError, OSError):
            raise _missing(uri) from None
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise _missing(uri)
        return os.fdopen(descriptor, "rb")

    def size(self, uri: str) -> int:
        """Return the size in bytes. Raises `NotFoundError` `storage.file.missing`."""
        with self.open(uri) as file:
            return os.fstat(file.fileno()).st_size

    def exists(self, uri: str) -> bool:
        """Return whether there is such a file; a folder is none."""
        try:
            self.open(uri).close()
        except NotFoundError:
            return False
        return True

    def list(self, prefix: str) -> list[str]:
        """Return the URIs below the folder `prefix`, or `prefix` itself when it is a file; sorted."""
        path = self._join(prefix)
        if path.is_file():
            return [f"{SCHEME}/{path_of(prefix)}"]
        found: list[str] = []
        if not path.is_dir():
            return found
        for folder, _, files, _ in os.fwalk(path, follow_symlinks=False):
            relative = Path(folder).relative_to(self._root).as_posix()
            found += [f"{SCHEME}/{relative}/{name}" for name in files if not name.startswith(_TEMPORARY)]
        return sorted(found)

    def delete(self, prefix: str) -> int:
        """Remove the file or everything below the folder `prefix`; return how many files went."""
        count = len(self.list(prefix))
        path = self._join(prefix)
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
        return count

    def _join(self, uri: str) -> Path:
        try:
            return safe_join(self._root, path_of(uri))
        except TaskRunnerError as error:
            raise InvalidError("storage.uri.invalid", error.message) from None

    @contextlib.contextmanager
    def _folder(self, folder: str, path: str) -> Iterator[int]:
        target = self._join(f"{SCHEME}/{folder}") if folder else self._root
        try:
            target.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = open_beneath(self._root, folder, _DIRECTORY) if folder else os.open(self._root, _DIRECTORY)
        except (FileExistsError, NotADirectoryError, TaskRunnerError):
            raise InvalidError("storage.uri.invalid", f"{path!r} lies below a file or a link") from None
        try:
            yield descriptor
        finally:
            os.close(descriptor)


def _write(name: str, folder: int, source: IO[bytes]) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(name, flags, 0o600, dir_fd=folder), "wb") as file:
        shutil.copyfileobj(source, file, _CHUNK)
        file.flush()
        os.fsync(file.fileno())
        return file.tell()


def _missing(uri: str) -> NotFoundError:
    return NotFoundError("storage.file.missing", f"there is no file at {uri!r}")
