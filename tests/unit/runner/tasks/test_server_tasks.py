from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from runner.errors import TaskError
from runner.executions.models import LogEntry
from runner.store import LogQuery, Store
from runner.store.records import TriggerState
from runner.tasks.log import Fetch, PurgeLogs
from runner.tasks.trigger import Toggle

if TYPE_CHECKING:
    from tests.unit.runner.tasks.conftest import Bench


@pytest.fixture
def store(bench: Bench) -> Iterator[Store]:
    store = Store.open(f"sqlite:///{bench.root / 'state.db'}")
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


def test_without_a_server_these_tasks_say_so(bench: Bench) -> None:
    for task in (build(Fetch), build(Toggle, trigger="t")):
        with pytest.raises(TaskError) as caught:
            bench.run(task)
        assert caught.value.code == "store.absent"
