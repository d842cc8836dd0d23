"""A working directory as a tar stream, and back: how files travel into containers and out of them.

Only directories and regular files travel. Links and devices are left out in both directions, and what comes back is
checked member by member while it is read, since the container decides what it contains.
"""

from __future__ import annotations

import io
import os
import stat
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO

from task_runners.archive_headers import cheap_members
from task_runners.errors import FailureReason, TaskRunnerError
from task_runners.files import FileLimits, open_beneath, write_file
from task_runners.outputs import PRIVATE

__all__ = ["LEFT_OUT", "Owner", "pack", "unpack"]

LEFT_OUT = f"{PRIVATE}/left-out"
"""Where whoever packs a directory elsewhere lists the files that are larger than any output may be."""

_IN_MEMORY_BYTES = 8 * 1024 * 1024
_CHUNK_BYTES = 256 * 1024
_UNWANTED_PER_WANTED = 16  # so many times the bytes of output files may have to be read past
_MEMBERS_PER_FILE = 4  # so many times the number of output files an archive may have members

Owner = int | None


def pack(
    root: Path,
    owner: Owner,
    limits: FileLimits | None = None,
    *,
    prefix: str = ".",
    first: Mapping[str, bytes] | None = None,
) -> IO[bytes]:
    """Return `root` as a tar archive, from its start: names in order, times and modes kept, `.mainstem/` left out.

    The names begin with `prefix`, which also names the member for `root` itself. All members belong to the user and
    group `owner`; with None, whose user is not known, everybody may write to them. `first` are files that are not below
    `root` and go before the others, under these very names.
    The caller closes it.

    Raises:
        TaskRunnerError: `file.inputs.too_large`, or `file.inputs.changed` for what vanishes or shrinks meanwhile.
    """
    limits = limits or FileLimits()
    file: IO[bytes] = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY_BYTES)  # noqa: SIM115 - the caller closes it
    try:
        _demand_small(root, limits)
        _fill(file, root, owner, limits, prefix, first or {})
    except (FileNotFoundError, NotADirectoryError) as error:
        file.close()
        raise _changed(str(error.filename or root.name), error) from error
    except BaseException:  # no descriptor stays, be it an interrupt
        file.close()
        raise
    file.seek(0)
    return file


def _fill(
    file: IO[bytes], root: Path, owner: Owner, limits: FileLimits, prefix: str, first: Mapping[str, bytes]
) -> None:
    left = limits.total_bytes
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in first.items():
            archive.addfile(_own_member(name, len(content)), io.BytesIO(content))
        for relative, status in _entries(root):
            member = _member(f"{prefix}/{relative}" if relative != "." else prefix, status, owner)
            if not member.isreg():
                archive.addfile(member)
                continue
            with os.fdopen(open_beneath(root, relative), "rb") as there:
                member.size = os.fstat(there.fileno()).st_size
                left -= member.size
                if left < 0:  # it grew since all were measured
                    raise _too_large(f"the files of the task grew beyond what is allowed, at {relative[:200]!r}")
                add_content(archive, member, there)


def add_content(archive: tarfile.TarFile, member: tarfile.TarInfo, content: IO[bytes]) -> None:
    """Add a member with its content, which must have at least the size that the member says.

    Raises:
        TaskRunnerError: `file.inputs.changed`: it has become shorter.
    """
    try:
        archive.addfile(member, content)
    except OSError as error:
        if error.errno is not None:  # the disk is full, say
            raise
        raise _changed(member.name, error) from error  # how tarfile says that a file ends too early


def _changed(name: str, error: OSError) -> TaskRunnerError:
    return TaskRunnerError(
        "file.inputs.changed",
        f"the file {name[:200]!r} of the task vanished or shrank while it was packed: {error.strerror or error}",
        hint="something still writes to the working directory: let it end before the next task begins",
        failure_reason=FailureReason.INPUT_FILES,
    )


def _too_large(message: str) -> TaskRunnerError:
    return TaskRunnerError("file.inputs.too_large", message, failure_reason=FailureReason.INPUT_FILES)


def _demand_small(root: Path, limits: FileLimits) -> None:
    """Refuse a directory with too many bytes, by its largest file and before anything of it is copied."""
    sizes = {name: status.st_size for name, status in _entries(root) if stat.S_ISREG(status.st_mode)}
    total = sum(sizes.values())
    if total > limits.total_bytes:
        largest = max(sizes, key=sizes.__getitem__)
        raise _too_large(
            f"the files of the task have {total} bytes, {limits.total_bytes} are allowed; "
            f"the largest is {largest[:200]!r} with {sizes[largest]}"
        )


def _own_member(name: str, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, 0o600
    return member


def _entries(root: Path) -> Iterator[tuple[str, os.stat_result]]:
    yield ".", root.stat()
    for directory, directories, files, descriptor in os.fwalk(root, follow_symlinks=False):
        here = Path(directory).relative_to(root)
        if here == Path():
            directories[:] = [name for name in directories if name != PRIVATE]
        directories.sort()
        for name in sorted((*directories, *files)):
            status = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
            if stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode):
                yield (here / name).as_posix(), status


def _member(relative: str, status: os.stat_result, owner: Owner) -> tarfile.TarInfo:
    member = tarfile.TarInfo(relative)
    is_directory = stat.S_ISDIR(status.st_mode)
    member.type = tarfile.DIRTYPE if is_directory else tarfile.REGTYPE
    member.size = 0 if is_directory else status.st_size
    member.mtime = int(status.st_mtime)
    member.mode = stat.S_IMODE(status.st_mode) & 0o777
    if owner is None:
        member.mode |= 0o777 if is_directory else 0o666
    member.uid = member.gid = owner or 0
    return member


def copy_files(
    source: Path,
    target: Path,
    *,
    wanted: Callable[[str], bool] = lambda _name: True,
    limits: FileLimits | None = None,
) -> None:
    """Copy the regular files below `source` that are `wanted` to `target`, which is made if need be.

    Raises:
        TaskRunnerError: as `unpack`.
    """
    target.mkdir(parents=True, exist_ok=True)
    with pack(source, 0, limits) as archive:
        unpack(_pieces(archive), target, wanted=wanted, limits=limits)


def unpack(
    chunks: Iterable[bytes],
    root: Path,
    *,
    wanted: Callable[[str], bool] = lambda _name: True,
    limits: FileLimits | None = None,
    depth: int = 1,
) -> list[str]:
    """Write the regular files of a tar stream below `root`, without the first `depth` parts; return their names.

    Members that are not `wanted`, links and devices are passed over. Existing files are replaced. What the member
    `LEFT_OUT` lists was too large to be packed.

    Raises:
        TaskRunnerError: `file.path.refused` for a name that leaves `root`, `file.outputs.too_many`,
            `file.outputs.too_large`, `file.archive.broken`.
    """
    limits = limits or FileLimits()
    written: list[str] = []
    left_out: list[str] = []
    members = total = passed_over = 0
    try:
        with tarfile.open(fileobj=_Readable(chunks), mode="r|", tarinfo=cheap_members()) as archive:
            for member in archive:
                members += 1
                relative = "/".join(member.name.split("/")[depth:])
                is_taken = member.isreg() and relative and not relative.startswith(f"{PRIVATE}/") and wanted(relative)
                total += member.size if is_taken else 0
                passed_over += 0 if is_taken else member.size
                if members > limits.files * _MEMBERS_PER_FILE:
                    raise _refused(
                        "file.outputs.too_many", f"the working directory has more than {members - 1} entries"
                    )
                if (is_taken and member.size > limits.file_bytes) or total > limits.total_bytes:
                    raise _refused(
                        "file.outputs.too_large", f"the output files are too large, at {member.name[:200]!r}"
                    )
                if passed_over > limits.total_bytes * _UNWANTED_PER_WANTED:
                    raise _refused(
                        "file.outputs.too_large", "the working directory is too large to look for outputs in"
                    )
                if member.isreg() and relative == LEFT_OUT:
                    left_out = _names_in(archive.extractfile(member))
                if not is_taken:
                    continue
                content = archive.extractfile(member)
                assert content is not None  # a regular member has content
                write_file(root, relative, _pieces(content), mode=member.mode & 0o777 | 0o600)
                written.append(relative)
                archive.members = []  # type: ignore[attr-defined]  # not in its stub; else all members stay in memory
    except (tarfile.TarError, ValueError) as error:  # a number in a header may be none
        raise _refused("file.archive.broken", f"the archive of output files cannot be read: {error}") from error
    for name in filter(wanted, left_out):
        raise _refused("file.outputs.too_large", f"the output files are too large, at {name[:200]!r}")
    return written


def _names_in(content: IO[bytes] | None) -> list[str]:
    lines = content.read(_CHUNK_BYTES).decode("utf-8", "replace").splitlines() if content is not None else []
    return [line.removeprefix("./") for line in lines]


def _refused(code: str, message: str) -> TaskRunnerError:
    return TaskRunnerError(code, message, failure_reason=FailureReason.OUTPUT_FILES)


def _pieces(content: IO[bytes]) -> Iterator[bytes]:
    while piece := content.read(_CHUNK_BYTES):
        yield piece


class _Readable(io.RawIOBase):
    """A file to read from, over chunks of any size."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._rest = b""

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        pieces, have = [self._rest], len(self._rest)
        while size < 0 or have < size:
            chunk = next(self._chunks, None)
            if chunk is None:
                break
            pieces.append(chunk)
            have += len(chunk)
        joined = b"".join(pieces)
        self._rest = joined[size:] if size >= 0 else b""
        return joined[:size] if size >= 0 else joined
