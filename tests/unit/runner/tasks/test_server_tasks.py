from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from runner.context import wide_namespace
from runner.errors import TaskError
from runner.executions.models import OUTBOX_CHILD_ENDED, OUTBOX_PURGE, Commit, Execution, LogEntry, OutboxRow
from runner.states import State
from runner.store import ExecutionQuery, LogQuery, Session, Store
from runner.store.logs import LogStore
from runner.store.records import KeyValue, TriggerState
from runner.tasks.execution import Count, PurgeExecutions
from runner.tasks.kv import PurgeKV
from runner.tasks.log import Fetch, PurgeLogs
from runner.tasks.trigger import Toggle
from tests.servers.store import fresh_store

if TYPE_CHECKING:
    from tests.unit.runner.tasks.conftest import Bench


NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)  # what the clock of the bench shows


@pytest.fixture
def store(bench: Bench) -> Iterator[Store]:
    store = fresh_store(f"sqlite:///{bench.root / 'state.db'}")
    bench.host = replace(bench.host, store=store)
    yield store
    store.close()


def build(kind: Any, **fields: Any) -> Any:
    return kind.model_validate({"id": "t", "type": "x", **fields})


def entry(bench: Bench, task_id: str, level: str = "INFO", **fields: Any) -> LogEntry:
    place: dict[str, Any] = {"execution_id": "exec1", "namespace": "company.team", "flow_id": "flow"}
    said = {"timestamp": bench.host.clock(), "level": level, "message": f"{task_id} says {level}", "task_id": task_id}
    return LogEntry(**(place | said | fields))


def test_fetch_writes_the_entries_of_the_execution(bench: Bench, store: Store) -> None:
    store.logs.append([entry(bench, "a"), entry(bench, "b", "ERROR"), entry(bench, "a", "DEBUG")])
    store.logs.append([entry(bench, "a", execution_id="exec2")])

    everything = bench.outputs(build(Fetch))
    one = bench.outputs(build(Fetch, tasksId=["b"]))
    none = bench.outputs(build(Fetch, tasksId="{{ ['a'] }}", level="ERROR"))

    rows = [json.loads(line) for line in bench.content(everything["uri"]).splitlines()]
    assert [(row["taskId"], row["level"], row["message"]) for row in rows] == [
        ("a", "INFO", "a says INFO"),
        ("b", "ERROR", "b says ERROR"),
    ]
    assert (everything["size"], one["size"], none["size"]) == (2, 1, 0)


def test_fetch_reads_other_executions_of_its_own_namespace_only(bench: Bench, store: Store) -> None:
    store.logs.append([entry(bench, "a", execution_id="exec2"), entry(bench, "a", execution_id="e", flow_id="other")])
    other = {"executionId": "e", "namespace": "company.team", "flowId": "other"}

    assert bench.outputs(build(Fetch, executionId="exec2"))["size"] == 1
    assert bench.outputs(build(Fetch, **other))["size"] == 1
    for fields in ({**other, "namespace": "company"}, {"executionId": "e", "flowId": "other"}):
        with pytest.raises(TaskError):
            bench.run(build(Fetch, **fields))


def test_purge_removes_entries_before_its_date(bench: Bench, store: Store) -> None:
    old = bench.host.clock() - timedelta(days=40)
    store.logs.append([entry(bench, "a"), entry(bench, "old", timestamp=old)])
    store.logs.append([entry(bench, "stays", timestamp=old, namespace="company")])

    outputs = bench.outputs(build(PurgeLogs, endDate="{{ now() | dateAdd(-1, 'MONTHS') }}"))

    left = [row.task_id for row in store.logs.search(LogQuery()).items]
    assert outputs == {"count": 1}
    assert sorted(str(name) for name in left) == ["a", "stays"]
    with pytest.raises(TaskError, match="no date"):
        bench.run(build(PurgeLogs, endDate="yesterday"))


def test_toggle_switches_a_trigger(bench: Bench, store: Store) -> None:
    row = TriggerState("company.team", "flow", "schedule")
    store.write(lambda db: db.triggers.put(row))

    def disabled_after(**fields: Any) -> bool:
        bench.run(build(Toggle, trigger="schedule", **fields))
        found = store.read(lambda db: db.triggers.get("company.team", "flow", "schedule"))
        assert found is not None
        return found.disabled

    assert disabled_after() is True
    assert disabled_after(enabled=True) is False
    with pytest.raises(TaskError, match="no trigger 'absent'"):
        bench.run(build(Toggle, trigger="absent"))
    with pytest.raises(TaskError, match="may not look after"):
        bench.run(build(Toggle, trigger="schedule", namespace="company"))


def _insert(db: Session, one: Execution) -> None:
    db.executions.insert(one)


def _put(db: Session, row: KeyValue) -> None:
    db.kv.put(row)


def execution(name: str, state: State, **fields: Any) -> Execution:
    place: dict[str, Any] = {"namespace": "company.team", "flow_id": "flow", "created_at": NOW - timedelta(days=40)}
    ended_at = NOW - timedelta(days=39) if state.is_terminal else None
    return Execution(id=name, flow_revision=1, state=state, ended_at=ended_at, **(place | fields))


@pytest.fixture
def executions(store: Store) -> list[Execution]:
    kept = [
        execution("a", State.SUCCESS),
        execution("b", State.FAILED),
        execution("c", State.SUCCESS, namespace="company.team.below"),
        execution("d", State.RUNNING),
        execution("e", State.SUCCESS, created_at=NOW),
        execution("f", State.SUCCESS, namespace="company"),
    ]
    for one in kept:
        store.write(partial(_insert, one=one))
    return kept


def left(store: Store) -> list[str]:
    return sorted(one.id for one in store.read(lambda db: db.executions.search(ExecutionQuery(size=100))).items)


@pytest.mark.parametrize(
    ("fields", "removed"),
    [
        ({}, "abc"),
        ({"states": ["SUCCESS"]}, "ac"),
        ({"states": ["RUNNING"]}, ""),
        ({"flowId": "flow"}, "ab"),
        ({"startDate": "{{ now() | dateAdd(-1, 'DAYS') }}", "endDate": "{{ now() | dateAdd(1, 'DAYS') }}"}, "e"),
        ({"purgeExecution": False}, ""),
    ],
)
def test_ended_executions_are_purged_with_what_they_left(
    bench: Bench, store: Store, executions: list[Execution], fields: dict[str, Any], removed: str
) -> None:
    store.logs.append([entry(bench, "t", execution_id="b")])

    outputs = bench.outputs(build(PurgeExecutions, **{"endDate": "{{ now() | dateAdd(-1, 'MONTHS') }}"} | fields))

    assert left(store) == [name for name in "abcdef" if name not in removed]
    assert outputs["executionsCount"] == len(removed)
    assert outputs["logsCount"] == (1 if "b" in removed or fields == {"purgeExecution": False} else 0)


def test_an_execution_that_was_restarted_since_it_was_found_keeps_its_log(
    bench: Bench, store: Store, executions: list[Execution], monkeypatch: pytest.MonkeyPatch
) -> None:
    store.logs.append([entry(bench, "t", execution_id="a"), entry(bench, "t", execution_id="c")])
    store.logs.flush()
    delete = LogStore.delete

    def delete_and_restart(logs: LogStore, execution_id: str) -> int:
        if execution_id == "c":  # the first to go
            one = executions[0]
            store.write(lambda db: db.executions.commit(Commit(one.enter(State.RESTARTED, NOW), one.version)))
        return delete(logs, execution_id)

    monkeypatch.setattr(LogStore, "delete", delete_and_restart)
    outputs = bench.outputs(build(PurgeExecutions, endDate="{{ now() | dateAdd(-1, 'MONTHS') }}"))

    assert (outputs["executionsCount"], left(store)) == (2, ["a", "d", "e", "f"])
    assert [row.execution_id for row in store.logs.search(LogQuery()).items] == ["a"]
    assert store.read(lambda db: db.outbox.take((OUTBOX_PURGE,), 9, NOW)) == []


def test_an_execution_whose_parent_has_yet_to_hear_of_its_end_is_not_purged(
    bench: Bench, store: Store, executions: list[Execution]
) -> None:
    store.write(lambda db: db.outbox.add([OutboxRow(OUTBOX_CHILD_ENDED, "b")]))

    bench.run(build(PurgeExecutions, endDate="{{ now() | dateAdd(-1, 'MONTHS') }}"))

    assert left(store) == ["b", "d", "e", "f"]


@pytest.mark.parametrize(
    ("fields", "counts"),
    [
        ({"flows": [{"flowId": "flow"}], "expression": "{{ count >= 1 }}"}, [4]),
        ({"flows": [{"flowId": "flow"}, {"flowId": "none"}], "expression": "{{ count == 0 }}"}, [0]),
        ({"namespaces": ["company.team.below"], "expression": "{{ true }}"}, [1]),
        ({"flows": [{"flowId": "flow"}], "states": ["SUCCESS"], "expression": "{{ count == 2 }}"}, [2]),
    ],
)
def test_executions_are_counted(
    bench: Bench, executions: list[Execution], fields: dict[str, Any], counts: list[int]
) -> None:
    outputs = bench.outputs(build(Count, **fields))

    assert [result["count"] for result in outputs["results"]] == counts
    assert outputs["total"] == sum(counts)


@pytest.mark.parametrize(
    ("own", "asked", "scope"),
    [
        ("system", "", None),
        ("system", "company", "company"),
        ("company", "", "company"),
        ("company", "company.team", "company.team"),
        ("company", "companyx", TaskError),
        ("company.team", "company", TaskError),
    ],
)
def test_only_flows_of_system_look_after_everybody(bench: Bench, own: str, asked: str, scope: Any) -> None:
    ctx = bench.context(build(Count, expression="x"))
    ctx.flow = ctx.flow.model_copy(update={"namespace": own})

    if scope is TaskError:
        with pytest.raises(TaskError):
            wide_namespace(ctx, asked)
    else:
        assert wide_namespace(ctx, asked) == scope


def test_count_needs_to_know_of_what(bench: Bench, store: Store) -> None:
    with pytest.raises(TaskError, match="You must provide a list of flows or namespaces"):
        bench.run(build(Count, expression="{{ true }}"))
    with pytest.raises(TaskError, match="no state"):
        bench.run(build(Count, namespaces=["company.team"], states=["TIRED"], expression="x"))


@pytest.mark.parametrize(
    ("fields", "kept"),
    [
        ({}, ["company.live", "company.team.below.live", "company.team.live", "company.over"]),
        ({"includeChildNamespaces": False}, ["company.team.below.over", "company.over"]),
        ({"expiredOnly": False}, ["company.live", "company.over"]),
    ],
)
def test_keys_are_purged(bench: Bench, store: Store, fields: dict[str, Any], kept: list[str]) -> None:
    for namespace in ("company", "company.team", "company.team.below"):
        for key, expires in (("live", None), ("over", NOW - timedelta(days=1))):
            row = KeyValue(namespace, key, "STRING", "x", NOW, NOW, expires)
            store.write(partial(_put, row=row))

    outputs = bench.outputs(build(PurgeKV, **fields))

    rows = store.read(lambda db: db.kv.list()).items
    assert {f"{row.namespace}.{row.key}" for row in rows} >= set(kept)
    assert outputs == {"size": 6 - len(rows)}


def test_without_a_server_these_tasks_say_so(bench: Bench) -> None:
    for task in (build(Fetch), build(Toggle, trigger="t")):
        with pytest.raises(TaskError) as caught:
            bench.run(task)
        assert caught.value.code == "store.absent"
