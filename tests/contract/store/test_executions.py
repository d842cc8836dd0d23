"""Executions: what was inserted is loaded, a commit is whole or not at all, and the faster one wins."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from runner.errors import StoreError
from runner.executions.models import (
    LEDGER,
    Attempt,
    Commit,
    HistoryRow,
    LogEntry,
    Metric,
    Omitted,
    OutboxRow,
    Quiet,
    TaskRun,
    TriggerInfo,
)
from runner.states import State
from runner.store import ExecutionQuery, Store
from runner.store.executions import MOST_WHOLE


def test_an_execution_comes_back_as_it_was_inserted(store: Store, rows: Any) -> None:
    execution = rows.execution(
        labels={"team": 'it\'s "data" %', "ü": "é"},
        inputs={"day": "2026-03-01", "n": 2**70, "nested": [{"a": None}]},
        variables={"x": 1.5},
        outputs={"y": True},
        trigger=TriggerInfo("hook", "core.trigger.Webhook", {"body": {"a": "\x00"}}),
        environment="prod",
        commit="c0ffee",
        original_id="o",
        error="bad \x00 \ud800 bytes",
        due_at=rows.now + timedelta(hours=1),
        schedule_date=rows.now,
        breakpoints=("a", "b"),
    )

    store.write(lambda session: session.executions.insert(execution))

    found = store.read(lambda session: session.executions.get(execution.id))
    assert found is not None
    expected = replace(execution, error="bad \ufffd \ufffd bytes", inputs=execution.inputs | {"n": found.inputs["n"]})
    assert found == expected
    assert int(found.inputs["n"]) == 2**70


def test_an_execution_that_does_not_exist_is_none(store: Store) -> None:
    found = store.read(lambda session: (session.executions.get("no"), session.executions.load("no")))

    assert found == (None, None)


def test_a_load_has_the_runs_in_order_and_the_doorbells_it_answers(store: Store, rows: Any) -> None:
    execution = rows.execution()
    runs = [rows.run(execution, seq=seq, memory={"n": seq}) for seq in (2, 0, 1)]
    bell = OutboxRow("advance", execution.id)
    store.write(lambda session: session.executions.insert(execution, outbox=(bell, bell)))
    store.write(lambda session: session.executions.commit(Commit(execution, 0, new_runs=tuple(runs))))

    loaded = store.read(lambda session: session.executions.load(execution.id))

    assert loaded is not None
    assert [run.seq for run in loaded.runs] == [0, 1, 2]
    assert sorted(loaded.runs, key=lambda run: run.seq) == sorted(runs, key=lambda run: run.seq)
    assert len(loaded.doorbells) == 2


def test_many_are_loaded_in_the_order_asked_for(store: Store, rows: Any) -> None:
    executions = [rows.started(store) for _ in range(3)]
    ids = [executions[2].id, "missing", executions[0].id]
    store.write(lambda session: session.outbox.add([OutboxRow("advance", ids[0])]))

    loaded = store.read(lambda session: session.executions.load_many(ids))

    assert [one.execution for one in loaded] == [executions[2], executions[0]]
    assert [len(one.doorbells) for one in loaded] == [1, 0]


def test_of_a_long_execution_the_runs_that_can_change_nothing_are_omitted(store: Store, rows: Any) -> None:
    execution = rows.started(store)
    over = {"state": State.SUCCESS, "ended_at": rows.now}
    loop = rows.run(execution, state=State.RUNNING, memory={LEDGER: {"behind": [3], "states": ["WARNING"]}})
    earlier = rows.run(execution, seq=1, **over)
    inside_earlier = rows.run(execution, seq=2, parent_id=earlier.id, **over)
    values = [
        rows.run(execution, seq=number + 3, parent_id=loop.id, iteration=number, value=str(number), **over)
        for number in range(MOST_WHOLE)
    ]
    inside_value = rows.run(execution, seq=MOST_WHOLE + 3, parent_id=values[7].id, **over)
    first, second = (
        rows.run(execution, seq=MOST_WHOLE + seq, parent_id=loop.id, iteration=MOST_WHOLE, **fields)
        for seq, fields in ((4, over), (5, {}))
    )
    runs = (loop, earlier, inside_earlier, *values, inside_value, first, second)
    store.write(lambda session: session.executions.commit(Commit(execution, 1, new_runs=runs)))

    whole, (part,) = store.read(
        lambda session: (session.executions.load(execution.id), session.executions.load_many([execution.id]))
    )

    assert whole is not None
    assert (len(whole.runs), whole.omitted) == (len(runs), None)
    assert part.runs == (loop, earlier, values[3], first, second)
    assert part.omitted == Omitted({loop.id: MOST_WHOLE + 1}, MOST_WHOLE + 6)


def test_of_a_quiet_execution_only_what_something_happened_to_is_read(store: Store, rows: Any) -> None:
    execution = rows.started(store)
    ledger = {"behind": [], "limit": 2, "states": []}
    loop = rows.run(execution, state=State.RUNNING, memory={"values": [], LEDGER: ledger})

    def value(number: int, **fields: Any) -> TaskRun:
        run: TaskRun = rows.run(execution, seq=MOST_WHOLE + number, state=State.RUNNING, **fields)
        return replace(run, parent_id=loop.id, iteration=number)

    told, due, block = value(1, result=State.SUCCESS), value(2, due_at=rows.now), value(3)
    inside = rows.run(execution, seq=MOST_WHOLE + 4, parent_id=block.id)
    others = [value(5, due_at=rows.now + timedelta(days=1)), *map(value, range(6, 10))]
    quiet = Quiet((block.id,), {"RETRYING": 1})
    runs = (loop, told, due, block, inside, *others)
    store.write(lambda session: session.executions.commit(Commit(execution, 1, new_runs=runs, quiet=quiet)))

    (part,) = store.read(lambda session: session.executions.load_many([execution.id]))

    assert (part.runs, part.quiet) == ((loop, told, due, block, inside), quiet)
    assert part.omitted is not None
    assert part.omitted.inside == frozenset(run.id for run in (loop, told, due, block))
    assert part.omitted.hidden == {loop.id: 2}


def test_a_commit_that_does_not_say_what_is_quiet_has_all_that_is_open_read(store: Store, rows: Any) -> None:
    execution = rows.started(store)
    runs = [rows.run(execution, seq=seq) for seq in (0, MOST_WHOLE)]
    inside = [rows.run(execution, seq=seq, parent_id=runs[1].id) for seq in (MOST_WHOLE + 1, MOST_WHOLE + 2)]
    first = Commit(execution, 1, new_runs=(*runs, *inside), quiet=Quiet())
    store.write(lambda session: session.executions.commit(first))

    (before,) = store.read(lambda session: session.executions.load_many([execution.id]))
    store.write(lambda session: session.executions.commit(Commit(execution, 2)))
    (after,) = store.read(lambda session: session.executions.load_many([execution.id]))

    assert (before.runs, before.quiet) == (tuple(runs), Quiet())
    assert (after.runs, after.quiet) == ((*runs, *inside), None)


def test_the_containers_of_an_open_run_are_read_though_they_have_ended(store: Store, rows: Any) -> None:
    execution = rows.started(store)
    over = {"state": State.FAILED, "ended_at": rows.now}
    outer = rows.run(execution, **over)
    pause = rows.run(execution, seq=1, parent_id=outer.id, **over)
    left = rows.run(execution, seq=MOST_WHOLE, parent_id=pause.id, branch="onPause")
    store.write(lambda session: session.executions.commit(Commit(execution, 1, new_runs=(outer, pause, left))))

    (part,) = store.read(lambda session: session.executions.load_many([execution.id]))

    assert part.runs == (outer, pause, left)


def test_a_commit_writes_all_its_parts(store: Store, rows: Any) -> None:
    execution = rows.execution()
    store.write(lambda session: session.executions.insert(execution, outbox=[OutboxRow("advance", execution.id)]))
    (bell,) = store.read(lambda session: session.executions.load(execution.id)).doorbells  # type: ignore[union-attr]  # it exists
    kept, gone, new = (rows.run(execution, seq=seq) for seq in range(3))
    store.write(lambda session: session.executions.commit(Commit(execution, 0, new_runs=(kept, gone))))
    child = rows.execution(parent_execution_id=execution.id, parent_task_run_id=kept.id)
    ended = kept.enter(State.SUCCESS, rows.now)
    attempt = Attempt(new.id, execution.id, 1, 0, State.SUCCESS, started_at=rows.now, ended_at=rows.now)
    commit = Commit(
        execution.enter(State.RUNNING, rows.now),
        1,
        new_runs=(new,),
        changed_runs=(ended,),
        removed_runs=(gone.id,),
        attempts=(attempt,),
        task_outputs={kept.id: {"value": 1}, new.id: {"value": 2}},
        history=(HistoryRow(execution.id, 2, "RUNNING", rows.now, kept.id, {"a": 1}),),
        children=(child,),
        outbox=(OutboxRow("report", execution.id, {"environment": "prod"}),),
        answered=(bell,),
        metrics=(Metric(execution.id, "team.data", "etl", "work", kept.id, "n", "counter", 3.0, rows.now, {"t": "v"}),),
    )

    assert store.write(lambda session: session.executions.commit(commit))

    def read(session: Any) -> Any:
        executions = session.executions
        return (
            executions.load(execution.id),
            executions.outputs(execution.id),
            executions.attempts(execution.id),
            executions.history(execution.id),
            executions.history(child.id),
            executions.children(execution.id),
            session.metrics.of_execution(execution.id).items,
            session.outbox.take(("advance", "report"), 10, rows.now),
        )

    loaded, outputs, attempts, history, of_child, children, metrics, bells = store.read(read)
    assert loaded.execution == replace(commit.execution, version=2)
    assert loaded.runs == (ended, new)
    assert outputs == {kept.id: {"value": 1}, new.id: {"value": 2}}
    assert attempts == [attempt]
    assert history == list(commit.history)
    assert [row.kind for row in of_child] == ["CREATED"]
    assert children == [child]
    assert metrics == list(commit.metrics)
    assert sorted((bell.kind, bell.key) for bell in bells) == [("advance", child.id), ("report", execution.id)]


def test_a_commit_on_an_older_version_writes_nothing(store: Store, rows: Any) -> None:
    execution = rows.started(store)
    late = Commit(execution.enter(State.FAILED, rows.now), 0, new_runs=(rows.run(execution),))

    done = store.write(lambda session: session.executions.commit(late))

    assert not done
    loaded = store.read(lambda session: session.executions.load(execution.id))
    assert loaded is not None
    assert (loaded.execution, loaded.runs) == (execution, ())


def test_a_commit_that_did_not_see_a_workers_result_writes_nothing(store: Store, rows: Any) -> None:
    run = rows.submitted(store)
    loaded = store.read(lambda session: session.executions.load(run.execution_id))
    assert loaded is not None
    store.write(lambda session: session.claims.claim(run.id, 0, "w", rows.now))
    killed = loaded.runs[0].enter(State.KILLED, rows.now)

    done = store.write(lambda session: session.executions.commit(Commit(loaded.execution, 1, changed_runs=(killed,))))

    assert not done
    found = store.read(lambda session: session.executions.run(run.id))
    assert found is not None
    assert found.state is State.RUNNING


def test_of_twenty_commits_of_one_version_one_wins(store: Store, rows: Any, at_once: Any) -> None:
    execution = rows.started(store)

    def commit(number: int) -> bool:
        changed = replace(execution, variables={"winner": number})
        row = HistoryRow(execution.id, 2, "TRIED", rows.now, payload={"number": number})
        return store.write(lambda session: session.executions.commit(Commit(changed, 1, history=(row,))))

    won = at_once([lambda number=number: commit(number) for number in range(20)])

    assert sum(won) == 1
    found = store.read(lambda session: session.executions.get(execution.id))
    history = store.read(lambda session: session.executions.history(execution.id))
    assert found is not None
    assert found.variables == {"winner": won.index(True)}
    assert [row.payload for row in history] == [{"number": won.index(True)}]


def test_an_attempt_is_written_over_with_its_end(store: Store, rows: Any) -> None:
    execution = rows.started(store)
    run = rows.run(execution, state=State.RUNNING)
    begun = Attempt(run.id, execution.id, 1, 0, State.RUNNING, started_at=rows.now)
    ended = replace(begun, state=State.FAILED, ended_at=rows.now, message="no", exit_code=3)
    store.write(lambda session: session.executions.commit(Commit(execution, 1, new_runs=(run,), attempts=(begun,))))

    store.write(lambda session: session.executions.commit(Commit(execution, 2, attempts=(ended,))))

    assert store.read(lambda session: session.executions.attempts(execution.id)) == [ended]


def test_outputs_are_read_for_some_runs_or_all(store: Store, rows: Any) -> None:
    execution = rows.started(store)
    first, second = rows.run(execution), rows.run(execution)
    outputs: dict[str, Any] = {first.id: {"a": 1}, second.id: {"b": [None, "\x00"]}}
    commit = Commit(execution, 1, new_runs=(first, second), task_outputs=outputs)
    store.write(lambda session: session.executions.commit(commit))

    some = store.read(lambda session: session.executions.outputs(execution.id, [second.id, "other"]))
    none = store.read(lambda session: session.executions.outputs(execution.id, []))
    everything = store.read(lambda session: session.executions.outputs(execution.id))

    assert some == {second.id: {"b": [None, "\x00"]}}
    assert none == {}
    assert everything == outputs


def test_new_labels_refuse_a_commit_that_was_decided_before(store: Store, rows: Any) -> None:
    execution = rows.started(store)

    assert store.write(lambda session: session.executions.set_labels(execution.id, {"a": "b"}))

    assert not store.write(lambda session: session.executions.commit(Commit(execution, 1)))
    found = store.read(lambda session: session.executions.get(execution.id))
    assert found is not None
    assert found.labels == {"a": "b"}


def test_a_deleted_execution_leaves_nothing(store: Store, rows: Any) -> None:
    run = rows.submitted(store)
    store.write(lambda session: session.claims.claim(run.id, 0, "w", rows.now))
    store.logs.append([LogEntry(run.execution_id, "team.data", "etl", rows.now, "INFO", "line")])

    assert store.write(lambda session: session.executions.delete(run.execution_id))

    assert not store.write(lambda session: session.executions.delete(run.execution_id))
    assert store.read(lambda session: (session.executions.run(run.id), session.outbox.counts())) == (None, {})
    assert store.logs.delete(run.execution_id) == 1


def test_the_same_id_twice_is_a_conflict(store: Store, rows: Any) -> None:
    execution = rows.started(store)

    with pytest.raises(StoreError) as caught:
        store.write(lambda session: session.executions.insert(execution))

    assert caught.value.code == "store.row.conflict"


def test_due_are_those_whose_own_timer_or_whose_runs_timer_has_come(store: Store, rows: Any) -> None:
    now = rows.now
    later = now + timedelta(minutes=5)
    early = rows.started(store, due_at=now)
    waits = rows.started(store)
    run = rows.run(waits, due_at=later)
    store.write(lambda session: session.executions.commit(Commit(waits, 1, new_runs=(run,))))
    ended = rows.started(store, due_at=now)
    over = replace(ended.enter(State.SUCCESS, now), due_at=now)
    store.write(lambda session: session.executions.commit(Commit(over, 1)))

    first, moment = store.read(lambda session: (session.executions.due(now), session.executions.next_due()))
    both = store.read(lambda session: session.executions.due(later))

    assert first == [(early.id, now)]
    assert moment == now
    assert sorted(both) == sorted([(early.id, now), (waits.id, later)])


def test_counts_tell_what_runs_and_what_waits(store: Store, rows: Any) -> None:
    running = [rows.started(store) for _ in range(2)]
    other = rows.started(store, flow_id="other")
    queued = [
        rows.execution(state=State.QUEUED, created_at=rows.now + timedelta(seconds=seconds)) for seconds in (2, 1)
    ]
    for execution in queued:
        rows.insert(store, execution)

    def read(session: Any) -> Any:
        executions = session.executions
        return (
            executions.running_count("team.data", "etl"),
            executions.queued("team.data", "etl"),
            executions.count_by_state(),
            executions.running_flows(),
            set(executions.open_ids()),
        )

    count, waiting, by_state, flows, opened = store.read(read)
    assert count == 2
    assert waiting == [queued[1].id, queued[0].id]
    assert by_state == {State.RUNNING: 3, State.QUEUED: 2}
    assert flows == {("team.data", "etl"): 2, ("team.data", "other"): 1}
    assert opened == {execution.id for execution in (*running, other, *queued)}


def test_no_more_are_admitted_than_the_limit_under_a_race(store: Store, rows: Any, at_once: Any) -> None:
    waiting = [rows.execution(state=State.QUEUED) for _ in range(16)]
    for execution in waiting:
        rows.insert(store, execution)

    def start(execution: Any) -> bool:
        def unit(session: Any) -> bool:
            if not session.executions.admit(execution.id, "team.data", "etl", 3):
                return False
            committed: bool = session.executions.commit(Commit(execution.enter(State.RUNNING, rows.now), 0))
            return committed

        return store.write(unit)

    admitted = at_once([lambda execution=execution: start(execution) for execution in waiting])

    assert sum(admitted) == 3
    assert store.read(lambda session: session.executions.running_count("team.data", "etl")) == 3


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (ExecutionQuery(), "cba"),
        (ExecutionQuery(namespace="team"), "ba"),
        (ExecutionQuery(namespace="team", exact=True), ""),
        (ExecutionQuery(namespace="tea"), ""),
        (ExecutionQuery(flow_id="load"), "b"),
        (ExecutionQuery(states=(State.FAILED, State.WARNING)), "b"),
        (ExecutionQuery(labels={"env": "it's 100%"}), "c"),
        (ExecutionQuery(labels={"env": "it's 100%", "no": "x"}), ""),
        (ExecutionQuery(q="LOAD"), "b"),
        (ExecutionQuery(q="100%"), ""),
        (ExecutionQuery(trigger_execution_id="upstream"), "a"),
        (ExecutionQuery(parent_id="replayed"), "c"),
        (ExecutionQuery(kind="TEST"), "c"),
        (ExecutionQuery(sort=("flow_id:asc",)), "cab"),
        (ExecutionQuery(sort=("namespace:desc", "flow_id:desc")), "bac"),
        (ExecutionQuery(page=2, size=2), "a"),
    ],
)
def test_a_search_finds(store: Store, rows: Any, query: ExecutionQuery, expected: str) -> None:
    trigger = TriggerInfo("up", "core.trigger.Flow", {"executionId": "upstream"})
    made: tuple[dict[str, Any], ...] = (
        {"id": "a", "flow_id": "etl", "trigger": trigger},
        {"id": "b", "flow_id": "load", "state": State.FAILED},
        {"id": "c", "namespace": "other", "labels": {"env": "it's 100%"}, "parent_id": "replayed", "kind": "TEST"},
    )
    for number, fields in enumerate(made):
        execution = rows.execution(**fields, created_at=rows.now + timedelta(seconds=number))
        rows.insert(store, execution)

    page = store.read(lambda session: session.executions.search(query))

    assert "".join(execution.id for execution in page.items) == expected
    assert page.total == (3 if query.size == 2 else len(expected))


def test_a_search_bounded_in_time_leaves_its_end_out(store: Store, rows: Any) -> None:
    for seconds in range(3):
        execution = rows.execution(id=str(seconds), created_at=rows.now + timedelta(seconds=seconds))
        rows.insert(store, execution)
    query = ExecutionQuery(since=rows.now, until=rows.now + timedelta(seconds=2))

    page = store.read(lambda session: session.executions.search(query))

    assert [execution.id for execution in page.items] == ["1", "0"]


def test_statistics_count_each_day_and_state(store: Store, rows: Any) -> None:
    for days, seconds in ((0, 4), (0, 2), (1, 1)):
        begun = rows.now - timedelta(days=days)
        execution = rows.execution(created_at=begun)
        ended = execution.enter(State.RUNNING, begun).enter(State.SUCCESS, begun + timedelta(seconds=seconds))
        rows.insert(store, execution)
        rows.commit(store, Commit(ended, 0))

    found = store.read(lambda session: session.executions.statistics("team.data", "etl", rows.now - timedelta(days=3)))

    assert [(row.day.isoformat(), row.state, row.count, row.seconds, row.seconds_max) for row in found] == [
        ("2026-02-28", State.SUCCESS, 1, 1.0, 1.0),
        ("2026-03-01", State.SUCCESS, 2, 6.0, 4.0),
    ]


def test_the_last_of_a_flow_come_newest_first(store: Store, rows: Any) -> None:
    for number in range(4):
        execution = rows.execution(id=str(number), created_at=rows.now + timedelta(seconds=number))
        rows.insert(store, execution)

    found = store.read(lambda session: session.executions.last_of_flow("team.data", "etl", 2))

    assert [execution.id for execution in found] == ["3", "2"]


def test_what_is_told_of_ended_executions_comes_without_their_data(store: Store, rows: Any) -> None:
    trigger = TriggerInfo("hook", "core.trigger.Webhook", {"body": 1})
    ended = rows.execution(state=State.FAILED, error="boom", trigger=trigger, environment="prod", ended_at=rows.now)
    running = rows.execution(state=State.RUNNING)
    for each in (ended, running):
        rows.insert(store, each)

    found = store.read(lambda session: session.executions.endings([ended.id, running.id, "none"]))

    assert [(each.id, each.state, each.error, each.trigger) for each in found] == [
        (ended.id, State.FAILED, "boom", trigger)
    ]
    assert (found[0].environment, found[0].ended_at, found[0].created_at) == ("prod", rows.now, ended.created_at)


def test_the_failed_runs_of_many_executions_are_read_at_once(store: Store, rows: Any) -> None:
    bad, good = rows.started(store), rows.started(store)
    runs = [
        rows.run(bad, task_id=name, state=state, seq=number)
        for number, (name, state) in enumerate([("a", State.SUCCESS), ("b", State.KILLED), ("c", State.FAILED)])
    ]
    rows.commit(store, Commit(replace(bad, version=2), 1, new_runs=tuple(runs)))
    rows.commit(store, Commit(replace(good, version=2), 1, new_runs=(rows.run(good, state=State.SUCCESS),)))

    found = store.read(lambda session: session.executions.failed_runs([good.id, bad.id]))

    assert {key: [run.task_id for run in found[key]] for key in found} == {bad.id: ["b", "c"]}
