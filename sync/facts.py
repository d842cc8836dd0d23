"""What a plan needs to know of every flow of an environment, found once per content and kept in a few bytes.

A flow is parsed for its facts and forgotten: models of ten thousand flows are a hundred megabytes.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from runner.errors import FlowError, Problem
from runner.flows.catalogue import stored_flow
from runner.flows.models import Flow
from runner.policies import FlowUse
from runner.store.records import ActiveFlow, FlowVersion
from sync.repository import blob_id
from sync.sifting import Candidate, Facts, Warnings

if TYPE_CHECKING:  # plans of a laptop load no database
    from runner.store import Store

_MOST: Final = 100_000
_MOST_SHARED: Final = 1_000
_Key = tuple[str, str, str, str | None]  # namespace, id, blob, and the text of what it inherits


def no_warnings(_located: Sequence[tuple[str, FlowUse]]) -> Iterable[Problem]:
    """Say nothing."""
    return ()


class FlowFacts:
    """Flows of active versions, and the facts about them and about files. Safe for any thread.

    Facts are kept by all that they depend on: the name, the content, and what files around it gave a flow. What
    `warnings` says must depend on nothing else.
    """

    def __init__(self, store: Store, warnings: Warnings = no_warnings) -> None:
        self._store = store
        self._warnings = warnings
        self._lock = threading.Lock()
        self._known: dict[_Key, Facts | None] = {}

    def flow_of(self, row: ActiveFlow) -> Flow | None:
        """Return the flow of an active version, or None when it no longer parses."""
        return _parsed(self._version(row))

    def of_active(self, row: ActiveFlow) -> Facts | None:
        """Return the facts of an active version, or None when it no longer parses."""
        key = (row.namespace, row.flow_id, row.blob, row.defaults)
        try:
            return self._known[key]
        except KeyError:
            version = self._version(row)
            flow = _parsed(version)
            found = self._facts(flow) if flow is not None else None
            is_itself = version is not None and _stands_for(row.blob, version.source)
            return self._kept(key, found) if is_itself else found

    def of_file(self, file: Candidate) -> Facts | None:
        """Return the facts of a file, or None when it has errors."""
        name = file.key
        if name is None:
            return None
        is_itself = _stands_for(file.blob, file.source or "")
        key = (*name, file.blob, file.defaults)
        found = self._known.get(key) if is_itself else None
        if found is None and (flow := file.flow) is not None:
            found = self._facts(flow)
            return self._kept(key, found) if is_itself else found
        return found

    def _version(self, row: ActiveFlow) -> FlowVersion | None:
        return self._store.read(lambda db: db.flows.get(row.namespace, row.flow_id, row.revision))

    def _facts(self, flow: Flow) -> Facts:
        return Facts.of(flow, self._warnings)

    def _kept(self, key: _Key, found: Facts | None) -> Facts | None:
        namespace, flow_id, blob, inherited = key
        # Of thousands of flows few differ in these two.
        shared = _shared(inherited) if inherited is not None else None
        with self._lock:
            self._known[_shared(namespace), flow_id, blob, shared] = found
            while len(self._known) > _MOST:
                del self._known[next(iter(self._known))]
        return found


@lru_cache(maxsize=_MOST_SHARED)
def _shared(text: str) -> str:
    """Return one object for texts that are equal. What `sys.intern` gets stays for ever in some versions of Python."""
    return text


def _parsed(version: FlowVersion | None) -> Flow | None:
    try:
        return stored_flow(version) if version is not None else None
    except FlowError:
        return None


def _stands_for(blob: str, source: str) -> bool:
    """Whether an id is that of a source; it is not where a hand changed what the store keeps."""
    return blob == blob_id(source.encode())


def located_warnings(located: Sequence[tuple[str, Facts]]) -> Iterable[Problem]:
    """Yield what is to be told of each flow for itself, in its file."""
    return (replace(problem, file=path) for path, facts in located for problem in facts.warnings)
