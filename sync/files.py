"""Namespace files as they were at a commit, read from git."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Final

from dulwich.objects import ObjectID

from runner.errors import NotFoundError
from runner.flows.namespace_defaults import stated_namespace
from runner.namespace_files import missing
from runner.previews import base_of
from sync.layout import Layout, file_index, flow_place
from sync.names import MAX_FILE_BYTES, MAX_FLOW_BYTES
from sync.planning import list_files, read_layout
from sync.sources import Source

_KEPT_INDEXES: Final = 64
_MOST_COMMITS: Final = 100

Index = Mapping[str, Mapping[str, str]]


class GitNamespaceFiles:
    """Reads namespace files of environments; what a commit holds is indexed once. In a preview they are its base's.

    `place_of` gives the source, the ref and the path of an environment, or None when there is no such environment. A
    commit that is not here, in a process that only reads, is fetched.
    """

    def __init__(self, place_of: Callable[[str], tuple[Source, str, str] | None]) -> None:
        self._place_of = place_of
        self._lock = threading.Lock()
        self._indexes: OrderedDict[tuple[str, str], tuple[Index, Mapping[str, str]]] = OrderedDict()

    def read(self, environment: str | None, commit: str | None, namespace: str, path: str) -> bytes:
        """Return the content of the file. Raises `NotFoundError` `namespace.file.missing`."""
        found = self._find(environment, commit)
        if found is None:
            raise missing(namespace, path)
        source, index, blobs = found
        stands = index.get(base_of(namespace) or namespace, {}).get(path.lstrip("/"))
        if stands is None:
            raise missing(namespace, path)
        blob = blobs[stands]
        if blob not in source.repository:
            with source.repository.lock:
                source.ensure([blob])
        return source.repository.blob(blob, limit=MAX_FILE_BYTES)

    def history(self, environment: str | None, commit: str | None, namespace: str, path: str) -> list[str]:
        """Return the last hundred commits up to `commit` that changed a file, the oldest first.

        Commits that were not fetched are left out; nothing is returned when the file is not there.
        """
        found = self._find(environment, commit)
        stands = found[1].get(base_of(namespace) or namespace, {}).get(path.lstrip("/")) if found else None
        if found is None or stands is None or commit is None:
            return []
        walker = found[0].repository.raw.get_walker(
            include=[ObjectID(commit.encode())], paths=[stands.encode()], max_entries=_MOST_COMMITS
        )
        return [entry.commit.id.decode() for entry in walker][::-1]

    def list(self, environment: str | None, commit: str | None, namespace: str) -> list[str]:
        """Return the paths of the namespace's files without leading slash, sorted."""
        found = self._find(environment, commit)
        return sorted(found[1].get(base_of(namespace) or namespace, {})) if found else []

    def _find(self, environment: str | None, commit: str | None) -> tuple[Source, Index, Mapping[str, str]] | None:
        if environment is None or commit is None:
            return None
        place = self._place_of(environment)
        if place is None:
            return None
        source, ref, path = place
        with self._lock:
            known = self._indexes.get((environment, commit))
        if known is None:
            if commit not in source.repository:
                with source.repository.lock:
                    source.fetch(ref, commit)
            known = self._indexed(source, path, commit)
            with self._lock:
                self._indexes[(environment, commit)] = known
                while len(self._indexes) > _KEPT_INDEXES:
                    self._indexes.popitem(last=False)
        return source, *known

    @staticmethod
    def _indexed(source: Source, path: str, commit: str) -> tuple[Index, Mapping[str, str]]:
        try:
            layout = read_layout(source, commit, path)
            files = list_files(source, commit, layout).files
        except NotFoundError:
            return {}, {}
        if all(flow_place(file, layout) for file in files):
            return {}, files
        return file_index(files, layout, stated_namespaces(source, files, layout)), files


def stated_namespaces(source: Source, files: Mapping[str, str], layout: Layout) -> dict[str, str]:
    """Return the namespaces that the flows among `files` (path to blob) state themselves, by path."""
    flows = {file: blob for file, blob in files.items() if flow_place(file, layout)}
    with source.repository.lock:
        source.ensure(flows.values())
    contents = {file: source.repository.blob(blob, limit=2 * MAX_FLOW_BYTES) for file, blob in flows.items()}
    return {file: name for file, content in contents.items() if (name := stated_namespace(content))}
