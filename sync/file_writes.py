"""Writes of namespace files by tasks: each is a commit to the one environment that the execution belongs to."""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from runner.errors import AccessError, ConflictError, InvalidError
from runner.namespace_files import Conflict, readonly
from runner.store import Store
from runner.store.records import Environment
from sync.commits import MOVED, Commits, Proposed
from sync.edits import Edit, Edits
from sync.files import stated_namespaces
from sync.layout import Layout, file_index
from sync.planning import list_files, read_layout
from sync.sifting import owns
from sync.sources import Source

_MOST_TRIES: Final = 10


@dataclass(frozen=True, slots=True)
class GitFileWrites:
    """Commits namespace files. What is there already is looked up at the head, under the lock that pushes take."""

    store: Store
    commits: Commits

    def write(
        self,
        environment: str | None,
        namespace: str,
        files: Mapping[str, bytes],
        *,
        conflict: Conflict = "OVERWRITE",
        removing: Callable[[str], bool] | None = None,
        actor: str,
        proposed: Proposed | None = None,
    ) -> list[str]:
        """Write files of a namespace in one commit; return the paths that were written or are so already, sorted.

        Where `proposed` is told of a proposal, nothing is written yet; so too in `delete` and `move`.

        A file that has the content already is no conflict, so that the same write may be made twice. Files of the
        namespace that are not among `files` and whose path `removing` names leave with the same commit.

        Raises:
            AccessError: `namespace.files.readonly` without an environment, `namespace.files.foreign` for a namespace
                that it does not own, `environment.writes.refused`.
            ConflictError: `namespace.file.exists` in case of `conflict` ERROR, `environment.writes.elsewhere`,
                `environment.held`, `repository.head.moved`.
            FlowError: `flow.invalid`.
        """
        found = self._environment(environment, namespace)
        written: list[str] = []

        def edit(source: Source, head: str | None) -> Edits:
            shelf = _shelf(source, found, head)
            kept = shelf.admitted(source, namespace, files, conflict)
            written[:] = sorted(kept)
            edits: dict[str, bytes | None] = {
                place: kept[path] for path, place in shelf.places(namespace, kept).items()
            }
            if removing is not None:
                stand = shelf.index.get(namespace, {})
                edits |= {stand[path]: None for path in stand if path not in files and removing(path)}
            return edits

        message = _message("Write", namespace, sorted(files))
        self._commit(found, edit, actor=actor, message=message, proposed=proposed)
        return written

    def delete(
        self,
        environment: str | None,
        namespace: str,
        matches: Callable[[str], bool],
        *,
        actor: str,
        proposed: Proposed | None = None,
    ) -> list[str]:
        """Remove the files of a namespace whose path `matches`, in one commit; return their paths, sorted.

        Raises as `write`.
        """
        found = self._environment(environment, namespace)
        removed: list[str] = []

        def edit(source: Source, head: str | None) -> Edits:
            stand = _shelf(source, found, head).index.get(namespace, {})
            removed[:] = sorted(path for path in stand if matches(path))
            return dict.fromkeys((stand[path] for path in removed), None)

        self._commit(found, edit, actor=actor, message=f"Delete files of {namespace}", proposed=proposed)
        return removed

    def move(
        self,
        environment: str | None,
        namespace: str,
        old: str,
        new: str,
        *,
        actor: str,
        proposed: Proposed | None = None,
    ) -> list[str]:
        """Move a file, or all that lies below a folder, in one commit; return the new paths, sorted.

        Raises as `write`; ConflictError `namespace.file.exists` when something stands at a new path.
        """
        found = self._environment(environment, namespace)
        moved: dict[str, str] = {}

        def edit(source: Source, head: str | None) -> Edits:
            shelf = _shelf(source, found, head)
            stand = shelf.index.get(namespace, {})
            moved.clear()
            moved.update({path: new + path.removeprefix(old) for path in stand if _is_at(path, old)})
            files = {moved[path]: shelf.content(source, stand[path]) for path in moved}
            taken = next((path for path in files if path in stand), None)
            if taken is not None:
                raise ConflictError(
                    "namespace.file.exists", f"the namespace {namespace!r} has a file {taken!r} already"
                )
            written = {place: files[path] for path, place in shelf.places(namespace, files).items()}
            return dict.fromkeys((stand[path] for path in moved), None) | written

        self._commit(found, edit, actor=actor, message=f"Move {old} to {new} in {namespace}", proposed=proposed)
        return sorted(moved.values())

    def _commit(
        self, environment: Environment, edit: Edit, *, actor: str, message: str, proposed: Proposed | None
    ) -> None:
        for left in range(_MOST_TRIES - 1, -1, -1):
            try:
                self.commits.commit(environment, edit, actor=actor, message=message, proposed=proposed)
            except ConflictError as error:
                if error.code != MOVED or not left:
                    raise
            else:
                return

    def _environment(self, name: str | None, namespace: str) -> Environment:
        found = self.store.read(lambda db: db.environments.get(name)) if name is not None else None
        if found is None:
            raise readonly(namespace)
        if not owns(found, namespace):
            raise AccessError(
                "namespace.files.foreign",
                f"the environment {found.name} does not own the namespace {namespace!r}",
            )
        return found


@dataclass(frozen=True, slots=True)
class _Shelf:
    """Where the namespace files of a commit stand, and where more would."""

    layout: Layout
    blobs: Mapping[str, str]
    stated: Mapping[str, str]
    index: Mapping[str, Mapping[str, str]] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "index", file_index(self.blobs, self.layout, self.stated))

    def admitted(
        self, source: Source, namespace: str, files: Mapping[str, bytes], conflict: Conflict
    ) -> dict[str, bytes]:
        """Return the files that are to be written. Raises `ConflictError` `namespace.file.exists`."""
        stand = self.index.get(namespace, {})
        kept = {}
        for path, content in files.items():
            differs = path in stand and self.content(source, stand[path]) != content
            if differs and conflict == "ERROR":
                raise _exists(namespace, path)
            if not differs or conflict == "OVERWRITE":
                kept[path] = content
        return kept

    def content(self, source: Source, place: str) -> bytes:
        """Return what stands at a place in the repository."""
        blob = self.blobs[place]
        source.ensure([blob])
        return source.repository.blob(blob)

    def places(self, namespace: str, paths: Mapping[str, bytes]) -> dict[str, str]:
        """Return where in the repository each path of the namespace stands, or would be found once it is written.

        Raises:
            InvalidError: `namespace.path.invalid` when it would not be found anywhere.
        """
        stand = self.index.get(namespace, {})
        found = {path: stand[path] for path in paths if path in stand}
        for folder in self._folders(namespace):
            left = [path for path in paths if path not in found]
            if not left:
                break
            places = {path: posixpath.join(folder, path) for path in left}
            owners = _owners(file_index([*self.blobs, *places.values()], self.layout, self.stated))
            found |= {path: place for path, place in places.items() if owners.get(place) == [(namespace, path)]}
        lost = next((path for path in paths if path not in found), None)
        if lost is not None:
            raise InvalidError("namespace.path.invalid", f"{lost!r} cannot be a file of the namespace {namespace!r}")
        return found

    def _folders(self, namespace: str) -> Iterator[str]:
        """Yield where files of a namespace may go, the best first: beside those it has, its own folder, `_files`."""
        if self.layout.files is not None:
            yield posixpath.join(self.layout.files, namespace)
        used = Counter(
            place.removesuffix(path).rstrip("/")
            for path, place in self.index.get(namespace, {}).items()
            if place.endswith(path)
        )
        yield from (folder for folder, _ in used.most_common(1))
        own = posixpath.join(self.layout.root, namespace)
        yield from (own, posixpath.join(own, "_files"))


def _exists(namespace: str, path: str) -> ConflictError:
    return ConflictError("namespace.file.exists", f"the namespace {namespace!r} has a file {path!r} already")


def _is_at(path: str, place: str) -> bool:
    return path == place or path.startswith(f"{place}/")


def _owners(index: Mapping[str, Mapping[str, str]]) -> dict[str, list[tuple[str, str]]]:
    """Return, by place in the repository, the namespaces that have the file and its path in each."""
    found: dict[str, list[tuple[str, str]]] = {}
    for namespace, files in index.items():
        for path, place in files.items():
            found.setdefault(place, []).append((namespace, path))
    return found


def _shelf(source: Source, environment: Environment, head: str | None) -> _Shelf:
    if head is None:
        return _Shelf(Layout(environment.path.strip("/")), {}, {})
    layout = read_layout(source, head, environment.path)
    blobs = list_files(source, head, layout).files
    return _Shelf(layout, blobs, stated_namespaces(source, blobs, layout))


def _message(verb: str, namespace: str, paths: Sequence[str]) -> str:
    return f"{verb} {len(paths)} file{'s' * (len(paths) != 1)} of {namespace}\n\n" + "\n".join(paths)
