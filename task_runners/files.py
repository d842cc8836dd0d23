"""Paths and files that untrusted names and bodies may have touched: nothing here ever follows a link.

`safe_join` is the one way from a name that somebody gave to a path below a directory. The functions that open do so
component by component relative to directory descriptors with `O_NOFOLLOW`, so that a link which appears between check
and use is refused as well.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from task_runners.errors import FailureReason, TaskRunnerError

__all__ = ["FileLimits", "give_to", "open_beneath", "relative_parts", "safe_join", "write_file", "write_link"]

_MAXIMUM_NAME_BYTES = 255  # NAME_MAX of every Linux file system in use
_MAXIMUM_PATH_BYTES = 4096
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class FileLimits:
    """How much a body may hand back, and how much may be staged for it."""

    files: int = 10_000
    file_bytes: int = 2 * 1024**3
    total_bytes: int = 4 * 1024**3


def relative_parts(relative: str) -> tuple[str, ...]:
    """Return the components of `relative`, which stays below wherever it is joined to.

    Raises:
        TaskRunnerError: `file.path.refused` for empty and absolute names, `..`, backslashes, control characters and
            names that are too long.
    """
    fault = _fault(relative)
    if fault:
        raise TaskRunnerError("file.path.refused", f"the path {relative[:200]!r} {fault}")
    return tuple(part for part in relative.split("/") if part not in {"", "."})


def _fault(relative: str) -> str | None:
    parts = [part for part in relative.split("/") if part not in {"", "."}]
    size = len(relative.encode("utf-8", "replace"))
    faults = {
        "names no file": not parts,
        "is absolute": relative.startswith("/"),
        "leaves its directory": ".." in parts,
        "has a backslash": "\\" in relative,
        "has a control character": any(ord(char) < 0x20 or ord(char) == 0x7F for char in relative),
        "is not valid Unicode": any(0xD800 <= ord(char) <= 0xDFFF for char in relative),
        "is too long": size > _MAXIMUM_PATH_BYTES
        or any(len(part.encode("utf-8", "replace")) > _MAXIMUM_NAME_BYTES for part in parts),
    }
    return next((fault for fault, is_so in faults.items() if is_so), None)


def safe_join(root: Path, relative: str) -> Path:
    """Return `root / relative`, whether it exists or not, if it lies below `root` and passes no link.

    Raises:
        TaskRunnerError: `file.path.refused`.
    """
    path = root
    for part in relative_parts(relative):
        path = path / part
        if path.is_symlink():
            raise TaskRunnerError("file.path.refused", f"the path {relative!r} passes the link {path.name!r}")
    return path


@contextlib.contextmanager
def _parent(root: Path, parts: tuple[str, ...], *, create: bool, uid: int | None = None) -> Iterator[int]:
    descriptor = os.open(root, _DIRECTORY & ~os.O_NOFOLLOW)  # the root itself is the caller's, and may be a link
    try:
        for part in parts[:-1]:
            if create:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(part, 0o755, dir_fd=descriptor)
                    if uid is not None:
                        os.chown(part, uid, uid, dir_fd=descriptor, follow_symlinks=False)
            inner = os.open(part, _DIRECTORY, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = inner
        yield descriptor
    finally:
        os.close(descriptor)


def open_beneath(root: Path, relative: str, flags: int = os.O_RDONLY, mode: int = 0o600) -> int:
    """Open `relative` below `root` without following any link and return its descriptor.

    Raises:
        TaskRunnerError: `file.path.refused` when the name or a link on the way is refused.
        OSError: it does not exist or is not allowed.
    """
    parts = relative_parts(relative)
    try:
        with _parent(root, parts, create=False) as parent:
            return os.open(parts[-1], flags | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=parent)
    except (NotADirectoryError, FileNotFoundError):
        raise
    except OSError as error:
        raise _refused(relative, error) from error


def write_file(
    root: Path, relative: str, content: bytes | Iterable[bytes], *, mode: int = 0o644, uid: int | None = None
) -> int:
    """Write a new file, or replace one, below `root`, with the directories it needs; return its size in bytes.

    With `uid`, the file and the directories made for it belong to that user and the group of the same number.

    Raises:
        TaskRunnerError: `file.path.refused` when the name or a link on the way is refused.
    """
    parts = relative_parts(relative)
    chunks = (content,) if isinstance(content, bytes) else content
    try:
        with _parent(root, parts, create=True, uid=uid) as parent:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(parts[-1], dir_fd=parent)  # a link or a hard link must not receive what is meant for the name
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(parts[-1], flags, mode, dir_fd=parent)
    except OSError as error:
        raise _refused(relative, error) from error
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(file.fileno(), stat.S_IMODE(mode) & 0o777)
        size = sum(file.write(chunk) for chunk in chunks)
        if uid is not None:
            os.fchown(file.fileno(), uid, uid)
    return size


def write_link(root: Path, relative: str, target: str) -> None:
    """Make `relative` below `root` a link with `target`, with the directories it needs; replace what has its name.

    Raises:
        TaskRunnerError: `file.path.refused` when the name or a link on the way is refused, or a directory has the name.
    """
    parts = relative_parts(relative)
    try:
        with _parent(root, parts, create=True) as parent:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(parts[-1], dir_fd=parent)
            os.symlink(target, parts[-1], dir_fd=parent)
    except OSError as error:
        raise _refused(relative, error) from error


def _refused(relative: str, error: OSError) -> TaskRunnerError:
    reason = error.strerror or str(error)
    return TaskRunnerError(
        "file.path.refused",
        f"the file {relative!r} cannot be used: {reason}",
        failure_reason=FailureReason.CONFIG_ERROR,
    )


def give_to(root: Path, uid: int) -> None:
    """Make `root` and everything below it belong to `uid` and its group; never what a link points to."""
    for _, directories, files, descriptor in os.fwalk(root, follow_symlinks=False):
        for name in (*directories, *files):
            os.chown(name, uid, uid, dir_fd=descriptor, follow_symlinks=False)
    os.chown(root, uid, uid, follow_symlinks=False)
