"""Files that belong to a namespace and travel with its flows in git."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Literal, Protocol

from runner.errors import AccessError, NotFoundError
from task_runners.errors import TaskRunnerError
from task_runners.files import open_beneath

MOST_BYTES = 10 * 1024 * 1024
"""The largest file that a task may write to git."""

_OTHER_FOLDERS = ("_files", "files", "_flows", "flows", "tests")


class NamespaceFiles(Protocol):
    """Reads namespace files as they were at a commit of an environment; both are None without git."""

    def read(self, environment: str | None, commit: str | None, namespace: str, path: str) -> bytes:
        """Return the content of the file. Raises `NotFoundError` `namespace.file.missing`."""

    def list(self, environment: str | None, commit: str | None, namespace: str) -> list[str]:
        """Return the paths of the namespace's files without leading slash, sorted."""


Conflict = Literal["OVERWRITE", "ERROR", "SKIP"]
"""What becomes of a file that is there already, with another content."""


class NamespaceFileWriter(Protocol):
    """Writes namespace files to the repository of an environment; running executions do not see them.

    An execution keeps the commit that it began with, so what it writes is for those that begin later.
    """

    def write(
        self,
        environment: str | None,
        namespace: str,
        files: Mapping[str, bytes],
        *,
        conflict: Conflict = "OVERWRITE",
        removing: Callable[[str], bool] | None = None,
        actor: str,
    ) -> list[str]:
        """Write files by their paths without leading slash, all or none; return the paths written, sorted.

        Other files whose path `removing` names leave at the same time.

        Raises:
            MainstemError: `namespace.file.exists` for `conflict` ERROR, `namespace.files.readonly` where nothing can be
                written, and what the repository refuses.
        """

    def delete(
        self, environment: str | None, namespace: str, matches: Callable[[str], bool], *, actor: str
    ) -> list[str]:
        """Remove the files whose path `matches`; return their paths, sorted. Raises as `write`."""


class ReadOnlyNamespaceFiles:
    """No namespace file can be written: what runs belongs to no environment of a server."""

    def write(
        self,
        environment: str | None,  # noqa: ARG002 - the protocol's
        namespace: str,
        files: Mapping[str, bytes],  # noqa: ARG002 - named as the port names it
        *,
        conflict: Conflict = "OVERWRITE",  # noqa: ARG002 - named as the port names it
        removing: Callable[[str], bool] | None = None,  # noqa: ARG002 - named as the port names it
        actor: str,  # noqa: ARG002 - named as the port names it
    ) -> list[str]:
        """Raise `AccessError` `namespace.files.readonly`."""
        raise readonly(namespace)

    def delete(
        self,
        environment: str | None,  # noqa: ARG002 - the protocol's
        namespace: str,
        matches: Callable[[str], bool],  # noqa: ARG002 - named as the port names it
        *,
        actor: str,  # noqa: ARG002 - named as the port names it
    ) -> list[str]:
        """Raise `AccessError` `namespace.files.readonly`."""
        raise readonly(namespace)


class NoNamespaceFiles:
    """No namespace has any file."""

    def read(self, environment: str | None, commit: str | None, namespace: str, path: str) -> bytes:  # noqa: ARG002 - the protocol's
        """Raise `NotFoundError` `namespace.file.missing`."""
        raise missing(namespace, path)

    def list(self, environment: str | None, commit: str | None, namespace: str) -> list[str]:  # noqa: ARG002 - the protocol's
        """Return nothing."""
        return []


class DirectoryNamespaceFiles:
    """The namespace files of a working copy, as they are on disk: for `mainstem run` and `mainstem test`.

    A namespace is the folder of its name, dotted or nested, below `root`. Its files are what lies in its folder
    `_files` or `files`, and what lies beside its flows and is no YAML. Links are not followed.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    def read(self, environment: str | None, commit: str | None, namespace: str, path: str) -> bytes:  # noqa: ARG002 - as they are on disk
        """Return the content of the file. Raises `NotFoundError` `namespace.file.missing`."""
        folder = self._found(namespace).get(path.lstrip("/"))
        try:
            descriptor = open_beneath(folder, path.lstrip("/")) if folder else -1
        except (OSError, TaskRunnerError):
            descriptor = -1
        if descriptor < 0:
            raise missing(namespace, path)
        with os.fdopen(descriptor, "rb") as file:
            return file.read()

    def list(self, environment: str | None, commit: str | None, namespace: str) -> list[str]:  # noqa: ARG002 - as they are on disk
        """Return the paths of the namespace's files, sorted."""
        return sorted(self._found(namespace))

    def _found(self, namespace: str) -> dict[str, Path]:
        places = dict.fromkeys((self._root / namespace, self._root.joinpath(*namespace.split("."))))
        found: dict[str, Path] = {}
        for place in places:
            for folder in (place / "_files", place / "files"):
                found |= dict.fromkeys(_paths(folder, skip=(), suffixes=()), folder)
            beside = _paths(place, skip=_OTHER_FOLDERS, suffixes=(".yaml", ".yml"))
            found = dict.fromkeys(beside, place) | found
        return found


def _paths(root: Path, *, skip: tuple[str, ...], suffixes: tuple[str, ...]) -> Iterator[str]:
    for place, folders, files, _ in os.fwalk(root, follow_symlinks=False) if root.is_dir() else ():
        folders[:] = [name for name in folders if name not in skip and not name.startswith(".")]
        for name in files:
            path = Path(place, name)
            if path.is_file() and not path.is_symlink() and not name.endswith(suffixes or ("\0",)):
                yield path.relative_to(root).as_posix()


def missing(namespace: str, path: str) -> NotFoundError:
    """Return the error for a file that a namespace does not have."""
    return NotFoundError("namespace.file.missing", f"the namespace {namespace!r} has no file {path!r}")


def readonly(namespace: str) -> AccessError:
    """Return the error for a write to a namespace whose files come from no environment."""
    return AccessError(
        "namespace.files.readonly",
        f"the files of {namespace!r} cannot be written: the execution belongs to no environment of a server",
        hint="push the flow to a server, which commits what its tasks write",
    )
