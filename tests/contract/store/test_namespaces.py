"""Namespaces are compared by whole segments and letter by letter: what a token may not see stays unseen."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final

import pytest

from runner.executions.models import LogEntry
from runner.store import LogQuery, Store
from runner.store.queries import ExecutionQuery
from runner.store.records import AuditEntry, FlowDraft, KeyValue

_NOW: Final = datetime(2026, 3, 1, tzinfo=UTC)
_NAMES: Final = (
    "te_m",
    "te_m.x",
    "te_m.X.y",
    "te_m.\U0010ffff",
    "Te_m",
    "Te_m.x",
    "TE_M.x",
    "team.x",
    "te_mm",
    "te_m-x.y",
)
_BELOW: Final = sorted(["te_m", "te_m.x", "te_m.X.y", "te_m.\U0010ffff"])


@pytest.fixture
def filled(store: Store, rows: Any) -> Store:
    """A store with a flow, a run, a log entry and a value in each namespace."""
    for name in _NAMES:
        rows.insert(store, rows.execution(namespace=name))
        value = KeyValue(name, "k", "NUMBER", 1, _NOW, _NOW)
        store.write(lambda db, value=value: db.kv.put(value))  # type: ignore[misc]  # bound at once
        draft = FlowDraft(name, "etl", "blob", "id: etl", _NOW)
        store.write(lambda db, draft=draft: db.flows.put(draft))  # type: ignore[misc]  # bound at once
    store.logs.append([LogEntry("e", name, "etl", _NOW, "INFO", "said") for name in _NAMES])
    store.logs.flush()
    return store


def test_what_differs_in_case_or_by_a_wildcard_is_another_namespace(filled: Store) -> None:
    found: dict[str, Iterable[Any]] = {
        "executions": filled.read(lambda db: db.executions.search(ExecutionQuery("te_m"))).items,
        "flows": filled.read(lambda db: db.flows.list(prefix="te_m")),
        "found flows": filled.read(lambda db: db.flows.search(namespace="te_m")).items,
        "logs": filled.logs.search(LogQuery(namespace="te_m")).items,
    }

    names = {kind: sorted(row.namespace for row in rows) for kind, rows in found.items()}
    assert names == dict.fromkeys(found, _BELOW)


def test_nothing_of_a_namespace_that_differs_in_case_is_removed(filled: Store) -> None:
    values = filled.write(lambda db: db.kv.delete_below("te_m"))
    logs = filled.logs.delete_matching(LogQuery(namespace="te_m"))

    assert (values, logs) == (len(_BELOW), len(_BELOW))
    kept = filled.read(lambda db: db.kv.list()).items
    assert sorted(row.namespace for row in kept) == sorted({*_NAMES} - {*_BELOW})


def test_keys_and_actions_are_found_by_what_they_begin_with_in_its_letters(store: Store) -> None:
    texts = ("a%.b", "A%.b", "ab.b", "a%.\ud7ff", "\U0010ffff")
    values = [KeyValue("team", text, "NUMBER", 1, _NOW, _NOW) for text in texts]
    store.write(lambda db: [db.kv.put(value) for value in values])
    for entry in [AuditEntry(_NOW, "ada", text, "x", "OK") for text in texts]:
        store.write(lambda db, entry=entry: db.audit.add(entry))  # type: ignore[misc]  # bound at once

    keys = store.read(lambda db: [db.kv.list("team", prefix).total for prefix in ("a%", "a", "z")])
    actions = [entry.action for entry in store.read(lambda db: db.audit.list(action="a%"))]

    assert keys == [2, 3, 0]
    assert actions == ["a%.\ud7ff", "a%.b"]
