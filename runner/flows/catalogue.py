"""Parsed flows of the store, kept in memory by content: a blob is parsed once in a process's life."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from runner.errors import FlowError, MainstemError, NotFoundError
from runner.executions.flow_index import FlowIndex
from runner.flows import registry
from runner.flows.inherited import from_text
from runner.flows.models import Flow, Trigger
from runner.flows.parse import parse_flow
from runner.flows.registry import TypeKind
from runner.store.records import FlowVersion

if TYPE_CHECKING:
    from runner.store import Store

T = TypeVar("T", bound=Trigger)

_MOST_PARSED = 20_000
_MOST_VERSIONS = 50_000


def stored_flow(version: FlowVersion) -> Flow:
    """Return the flow of a version, parsed anew. Raises `FlowError` `flow.invalid`."""
    inherited = from_text(version.defaults)
    parsed = parse_flow(
        version.source, file=version.path, namespace=version.namespace, strict=False, inherited=inherited
    )
    if parsed.flow is None:
        name = f"{version.namespace}.{version.flow_id}"
        raise FlowError("flow.invalid", f"the flow {name} is not valid any more", problems=parsed.problems)
    return parsed.flow.model_copy(update={"revision": version.revision})


class Catalogue:
    """Flows by namespace, id and revision. Safe for any thread; what it returns is frozen and may be kept."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._parsed: OrderedDict[tuple[str, str, str, int], FlowIndex] = OrderedDict()
        self._versions: OrderedDict[tuple[str, str, int | None], FlowVersion] = OrderedDict()
        self._generation = -1
        self._active: list[Flow] | None = None
        self._triggers: dict[type[Trigger], list[tuple[Flow, Any]]] = {}

    def version(self, namespace: str, flow_id: str, revision: int | None = None) -> FlowVersion:
        """Return a stored version; without `revision` the newest that is no draft, of drafts alone the newest.

        Raises:
            NotFoundError: `flow.missing` when there is no such flow, or none of that revision.
        """
        self._refresh()
        return self._version(namespace, flow_id, revision)

    def _version(self, namespace: str, flow_id: str, revision: int | None) -> FlowVersion:
        key = (namespace, flow_id, revision)
        with self._lock:
            generation = self._generation
            found = self._versions.get(key)
        if found is None:
            found = self._store.read(lambda db: db.flows.get(namespace, flow_id, revision))
            if found is not None and revision is None:
                found = self._released(found)
            if found is None or found.deleted:
                number = f" with revision {revision}" if revision is not None else ""
                raise NotFoundError(
                    "flow.missing",
                    f"there is no flow {namespace}.{flow_id}{number}",
                    hint="`mainstem flows list` shows what is active",
                )
            with self._lock:
                if generation == self._generation:
                    self._versions[key] = found
                while len(self._versions) > _MOST_VERSIONS:
                    self._versions.popitem(last=False)
        return found

    def _released(self, newest: FlowVersion) -> FlowVersion:
        """Return the version that counts for whoever names none: the newest one before a draft."""
        if not self._is_draft(newest):
            return newest
        versions = self._store.read(lambda db: db.flows.revisions(newest.namespace, newest.flow_id))
        return self.in_force(versions) or newest

    def in_force(self, versions: Sequence[FlowVersion]) -> FlowVersion | None:
        """Return the version in force of all those of a flow, the oldest first; None when there are drafts only."""
        for version in reversed(versions):
            if version.deleted:
                break
            if not self._is_draft(version):
                return version
        return None

    def _is_draft(self, version: FlowVersion) -> bool:
        try:
            return "draft" in version.source and self.index_of(version).flow.draft
        except FlowError:
            return False

    def index(self, namespace: str, flow_id: str, revision: int | None = None) -> FlowIndex:
        """Return a flow with what deciding looks up in it.

        Raises:
            NotFoundError: `flow.missing`.
            FlowError: `flow.invalid` when the stored source is no flow (any more); carries the problems.
        """
        if revision is None:
            self._refresh()
        # The content of a revision is what it ever was, so nothing needs to be looked up for one that is known.
        return self.index_of(self._version(namespace, flow_id, revision))

    def get(self, namespace: str, flow_id: str, revision: int | None = None) -> Flow:
        """Return a flow. Raises as `index`."""
        return self.index(namespace, flow_id, revision).flow

    def index_of(self, version: FlowVersion) -> FlowIndex:
        """Return the parsed form of a version. Raises `FlowError` `flow.invalid`."""
        key = (version.namespace, version.flow_id, version.blob, version.revision)
        with self._lock:
            found = self._parsed.get(key)
            if found is not None:
                self._parsed.move_to_end(key)
                return found
        index = FlowIndex(stored_flow(version))
        with self._lock:
            self._parsed[key] = index
            while len(self._parsed) > _MOST_PARSED:
                self._parsed.popitem(last=False)
        return index

    def active(self) -> list[Flow]:
        """Return all active flows that parse, disabled ones too; in the place of a draft what it is to follow."""
        generation = self._refresh()
        with self._lock:
            if self._active is not None:
                return self._active
        found = list(self._parsed_of(lambda _version: True))
        with self._lock:
            if generation == self._generation:
                self._active = found
        return found

    def _parsed_of(self, is_wanted: Callable[[FlowVersion], bool]) -> Iterator[Flow]:
        """Yield the active flows that parse, of the versions that are wanted and of all that may be drafts."""
        for version in self._store.read(lambda db: db.flows.list()):
            if not is_wanted(version) and "draft" not in version.source:
                continue
            try:
                yield self.index_of(self._released(version)).flow
            except MainstemError:
                continue  # listed as invalid elsewhere; one bad object must not stop the rest

    def triggers(self, kind: type[T]) -> list[tuple[Flow, T]]:
        """Return the enabled triggers of a class in all active flows that are neither disabled nor drafts.

        Only flows whose text can hold one are parsed: every end of an execution asks, and few flows wait for others.
        """
        generation = self._refresh()
        with self._lock:
            known = self._triggers.get(kind)
        if known is None:
            words = _words(kind)
            known = [
                (flow, trigger)
                for flow in self._parsed_of(lambda version: _may_hold(version.source, words))
                if not flow.disabled and not flow.draft
                for trigger in flow.triggers
                if isinstance(trigger, kind) and not trigger.disabled
            ]
            with self._lock:
                if generation == self._generation:
                    self._triggers[kind] = known
        return known

    def invalidate(self) -> None:
        """Look at the store again before the next answer about active flows."""
        with self._lock:
            self._generation = -1

    def _refresh(self) -> int:
        """Forget what is not true any more, and return the generation of flows that the rest is of."""
        generation = self._store.read(lambda db: db.flows.generation())
        with self._lock:
            if generation != self._generation:
                self._generation = generation
                self._active = None
                self._triggers.clear()
                # Named revisions too: which commit's files a version runs with may change.
                self._versions.clear()
        return generation


def _words(kind: type[Trigger]) -> tuple[str, ...]:
    """Return the words that stand in the text of every flow with a trigger of a class."""
    name = registry.full_name(TypeKind.TRIGGER, kind)
    return ("triggers", name.rpartition(".")[2]) if name else ("triggers",)


def _may_hold(source: str, words: Sequence[str]) -> bool:
    """Whether all words stand in a text; a backslash may hide any."""
    return "\\" in source or all(word in source for word in words)
