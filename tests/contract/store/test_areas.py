"""The smaller areas: repositories, environments, revisions, triggers, deliveries, values, tokens, audit, workers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from runner.executions.models import Commit, Metric
from runner.states import State
from runner.store import Store
from runner.store.metrics import Aggregation
from runner.store.records import (
    AuditEntry,
    Delivery,
    Environment,
    KeyValue,
    Pin,
    Repository,
    Revision,
    StoredSecret,
    Token,
    TriggerState,
    Worker,
)


def _write(store: Store, unit: Callable[..., Any]) -> None:
    store.write(unit)


def test_a_repository_is_put_over_and_deleted(store: Store) -> None:
    repository = Repository("hosted", "file:///x", kind="hosted", webhook_secret="s1")
    store.write(lambda session: session.repositories.put(repository))
    changed = replace(repository, webhook_secret="s2", previous_webhook_secret="s1")

    store.write(lambda session: session.repositories.put(changed))

    assert store.read(lambda session: session.repositories.get("hosted")) == changed
    assert store.read(lambda session: session.repositories.all()) == [changed]
    assert store.write(lambda session: session.repositories.delete("hosted"))
    assert not store.write(lambda session: session.repositories.delete("hosted"))
    assert store.read(lambda session: session.repositories.get("hosted")) is None


def test_of_two_swaps_of_the_active_commit_one_wins(store: Store, rows: Any, at_once: Any) -> None:
    environment = Environment("prod", "hosted", namespaces=("team", "team.data"), held="h", reject_invalid=True)
    store.write(lambda session: session.environments.put(environment))

    def swap(expected: str | None, new: str) -> bool:
        return store.write(lambda session: session.environments.swap_active("prod", expected, new, at=rows.now))

    first = at_once([lambda number=number: swap(None, f"c{number}") for number in range(8)])
    second = [swap("wrong", "x"), swap(f"c{first.index(True)}", "next")]

    assert sum(first) == 1
    assert second == [False, True]
    found = store.read(lambda session: session.environments.get("prod"))
    assert found == replace(environment, active="next", held=None, changed_at=rows.now, checked_at=rows.now)
    assert store.read(lambda session: session.environments.of_repository("hosted")) == [found]


def test_an_environment_says_how_it_is(store: Store, rows: Any) -> None:
    store.write(lambda session: session.environments.put(Environment("prod", "hosted", active="c1")))

    assert store.write(
        lambda session: session.environments.set_state("prod", "HELD", "deletes 9", held="c2", checked_at=rows.now)
    )

    found = store.read(lambda session: session.environments.get("prod"))
    assert found is not None
    assert (found.state, found.message, found.held, found.active) == ("HELD", "deletes 9", "c2", "c1")
    assert not store.write(lambda session: session.environments.set_state("none", "OK"))


def test_revisions_are_kept_in_order(store: Store, rows: Any) -> None:
    revision = Revision("prod", "c1", "INVALID", rows.now, author="Ü \x00", seconds=0.1, changes=({"path": "a"},))

    first = store.write(lambda session: session.revisions.add(revision))
    second = store.write(lambda session: session.revisions.add(replace(revision, author="a", commit="c2")))

    found = store.read(lambda session: session.revisions.get(first))
    assert found is not None
    assert found == replace(revision, author="Ü \ufffd", digest=found.digest, id=first)
    assert store.read(lambda session: session.revisions.of_commit("prod", "c2")).id == second  # type: ignore[union-attr]  # just written
    assert [one.id for one in store.read(lambda session: session.revisions.list("prod", 5))] == [second, first]
    assert store.read(lambda session: session.revisions.list("other")) == []


def test_what_became_of_a_commit_is_read_without_its_changes(store: Store, rows: Any) -> None:
    row = Revision("prod", "c1", "WAITING", rows.now, previous="c0", changes=({"path": "a"},))
    active, later = replace(row, result="ACTIVE"), replace(row, result="UNCHANGED", at=rows.now + timedelta(hours=1))
    apart = replace(row, commit="c2", result="QUARANTINED")

    for each in (row, active, later, apart, replace(apart, result="UNCHANGED")):
        store.write(lambda session, each=each: session.revisions.add(each))  # type: ignore[misc]  # bound at once

    def found(commit: str) -> Any:
        return store.read(
            lambda session: (session.revisions.verdict("prod", commit), session.revisions.quarantine("prod", commit))
        )

    assert found("c1") == (("UNCHANGED", "c0", later.at), None)
    verdict, quarantine = found("c2")
    assert (verdict.result, quarantine.result, quarantine.changes) == ("UNCHANGED", "QUARANTINED", ({"path": "a"},))
    assert found("c3") == (None, None)


def test_a_ledger_row_that_was_changed_taken_out_or_put_in_is_found(store: Store, rows: Any) -> None:
    row = Revision("prod", "c1", "ACTIVE", rows.now, author="Ü", reason="why", seconds=1 / 3)
    signed = store.write(lambda session: session.revisions.add(replace(row, signature={"state": "missing"})))
    other = store.write(lambda session: session.revisions.add(replace(row, environment="test")))
    ids = [store.write(lambda session: session.revisions.add(row)) for _ in range(1203)]

    def after(statement: str) -> int | None:
        def tamper(session: Any) -> int | None:
            session.connection.driver.execute(statement)
            broken: int | None = session.revisions.broken("prod")
            raise _UndoneError(broken)

        with pytest.raises(_UndoneError) as undone:
            store.write(tamper)
        return undone.value.broken

    assert store.read(lambda session: (session.revisions.broken("prod"), session.revisions.broken("test"))) == (
        None,
        None,
    )
    assert after(f"UPDATE revisions SET actor = 'somebody' WHERE id = {ids[3]}") == ids[3]
    assert after(f"UPDATE revisions SET reason = NULL WHERE id = {ids[1202]}") == ids[1202]
    assert after(f"DELETE FROM revisions WHERE id = {ids[700]}") == ids[701]
    assert after(f"UPDATE revisions SET signature = NULL WHERE id = {signed}") == signed
    assert after(f"UPDATE revisions SET signature = '{{}}' WHERE id = {ids[5]}") == ids[5]
    assert after(f"UPDATE revisions SET environment = 'prod' WHERE id = {other}") == other
    assert after(f"UPDATE revisions SET delivery = 'd-1' WHERE id = {ids[5]}") == ids[5]
    assert after(f"UPDATE revisions SET sender = 'ann' WHERE id = {ids[5]}") == ids[5]


def test_a_row_that_no_delivery_led_to_has_the_digest_that_it_had_before_there_were_any(store: Store) -> None:
    row = Revision("old", "c1", "ACTIVE", datetime(2026, 3, 10, 12, tzinfo=UTC), author="Ü", reason="why", seconds=0.5)

    number = store.write(lambda session: session.revisions.add(row))

    found = store.read(lambda session: session.revisions.get(number))
    assert found is not None
    assert found.digest == "8e2cac44e91a2f4b4e81122f7437102b4d6aa0071a31e7edc18d751a75188341"


class _UndoneError(Exception):
    def __init__(self, broken: int | None) -> None:
        super().__init__("the transaction is undone")
        self.broken = broken


def test_revisions_of_simultaneous_writers_are_one_chain(store: Store, rows: Any, at_once: Any) -> None:
    row = Revision("prod", "c1", "ACTIVE", rows.now)

    at_once([lambda: store.write(lambda session: session.revisions.add(row))] * 12)

    assert store.read(lambda session: session.revisions.broken("prod")) is None
    assert len({one.prior for one in store.read(lambda session: session.revisions.list("prod"))}) == 12


def test_an_environment_has_one_pin(store: Store, rows: Any) -> None:
    pin = Pin("prod", "c1", "admin", "it breaks", rows.now)
    later = replace(pin, commit="c0", until=rows.now + timedelta(hours=1))
    store.write(lambda session: session.pins.put(pin))

    store.write(lambda session: session.pins.put(later))

    assert store.read(lambda session: session.pins.all()) == [later]
    assert (later.is_in_force(rows.now), later.is_in_force(rows.now + timedelta(hours=1))) == (True, False)
    assert store.write(lambda session: session.pins.delete("prod"))


def test_a_tick_fires_once_for_all_schedulers(store: Store, rows: Any, at_once: Any) -> None:
    def fire() -> bool:
        return store.write(lambda session: session.triggers.fire("team.data/etl/nightly", rows.now))

    fired = at_once([fire] * 12)

    assert sum(fired) == 1
    later = rows.now + timedelta(hours=1)
    assert store.write(lambda session: session.triggers.fire("team.data/etl/nightly", later))
    assert store.write(lambda session: session.triggers.prune(later)) == 1


def test_triggers_are_due_when_their_moment_comes(store: Store, rows: Any) -> None:
    trigger = TriggerState("team", "etl", "nightly", next_at=rows.now, memory={"seen": [1]})
    off = replace(trigger, trigger_id="off", disabled=True)
    later = replace(trigger, flow_id="other", next_at=rows.now + timedelta(hours=1))
    hook = TriggerState("team", "etl", "hook", kind="WEBHOOK")
    for one in (trigger, off, later, hook):
        _write(store, lambda session, one=one: session.triggers.put(one))

    def read(session: Any) -> Any:
        triggers = session.triggers
        of_flow = [one.trigger_id for one in triggers.of_flow("team", "etl")]
        return triggers.due(rows.now), triggers.next_due(), of_flow, triggers.all("WEBHOOK"), len(triggers.all())

    due, moment, of_flow, hooks, count = store.read(read)
    assert due == [trigger]
    assert moment == rows.now
    assert of_flow == ["hook", "nightly", "off"]
    assert (hooks, count) == ([hook], 4)
    assert store.write(lambda session: session.triggers.delete("team", "etl", "hook"))


def test_a_delivery_comes_once_for_each_repository(store: Store, rows: Any, at_once: Any) -> None:
    delivery = Delivery("one", "d-1", "push", rows.now, "ACCEPTED", body=b"\x00\xff", headers={"X-A": "b"})

    def add(repository: str) -> bool:
        return store.write(lambda session: session.deliveries.add(replace(delivery, repository=repository)))

    added = at_once([lambda: add("one")] * 8)

    assert sum(added) == 1
    assert add("two")
    found = store.read(lambda session: session.deliveries.find("one", "d-1"))
    assert found is not None
    assert found == replace(delivery, id=found.id)
    store.write(lambda session: session.deliveries.set_result(found.id, "IGNORED", "other branch"))
    assert store.read(lambda session: session.deliveries.get(found.id)).reason == "other branch"  # type: ignore[union-attr]  # it exists
    assert [one.repository for one in store.read(lambda session: session.deliveries.list(result="ACCEPTED"))] == ["two"]
    assert store.read(lambda session: session.deliveries.counts()) == {"ACCEPTED": 1, "IGNORED": 1}
    assert store.write(lambda session: session.deliveries.prune(rows.now + timedelta(seconds=1))) == 2


def test_the_newest_deliveries_of_a_repository_are_kept_and_the_newest_of_a_ref_is_known(
    store: Store, rows: Any
) -> None:
    def receive(number: int, repository: str = "one", **fields: Any) -> None:
        at = rows.now + timedelta(seconds=number)
        delivery = Delivery(repository, f"d-{number}", "push", at, "ACCEPTED", ref="r", after=f"c{number}")
        store.write(lambda session: session.deliveries.put(replace(delivery, **fields)))

    receive(0, "two")
    for number in range(1, 6):
        receive(number)
    receive(6, ref="other")
    receive(7, result="IGNORED")
    receive(5, after="c5 again")

    def last(ref: str, seconds: int = 0) -> str | None:
        since = rows.now + timedelta(seconds=seconds)
        return store.read(lambda session: session.deliveries.last_after("one", ref, since))

    assert (last("r"), last("other"), last("r", 6), last("none")) == ("c5 again", "c6", None, None)
    assert store.write(lambda session: session.deliveries.trim("one", 3)) == 4
    kept = store.read(lambda session: session.deliveries.list())
    assert [(row.repository, row.delivery_id) for row in kept] == [
        ("one", "d-7"),
        ("one", "d-6"),
        ("one", "d-5"),
        ("two", "d-0"),
    ]
    assert store.write(lambda session: session.deliveries.trim("one", 3)) == 0


def test_an_answer_is_kept_under_the_first_request(store: Store) -> None:
    first = store.write(lambda session: session.idempotency.put("key", "digest", {"id": "e1"}))
    second = store.write(lambda session: session.idempotency.put("key", "other", {"id": "e2"}))

    answer = store.read(lambda session: session.idempotency.get("key"))

    assert (first, second) == (True, False)
    assert answer is not None
    assert (answer.digest, answer.response) == ("digest", {"id": "e1"})
    assert store.read(lambda session: session.idempotency.get("none")) is None


def test_a_value_counts_its_revisions_and_expires(store: Store, rows: Any) -> None:
    now = rows.now
    value = KeyValue("team", "k", "JSON", {"a": [1, None]}, now, now, now + timedelta(seconds=10), "why")
    store.write(lambda session: session.kv.put(value))
    later = replace(value, value=2, created_at=now + timedelta(days=1), updated_at=now + timedelta(days=1))

    written = store.write(lambda session: session.kv.put(later))

    assert (written.revision, written.created_at, written.value) == (2, now, 2)
    at_end = now + timedelta(seconds=10)

    def read(session: Any) -> Any:
        kv = session.kv
        return kv.get("team", "k", now), kv.get("team", "k", at_end), kv.expired("team", "k", at_end)

    assert store.read(read) == (written, None, True)
    assert store.read(lambda session: session.kv.get("team", "none", now)) is None
    assert store.write(lambda session: session.kv.purge_expired(at_end)) == 1
    assert not store.write(lambda session: session.kv.delete("team", "k"))


def test_a_key_knows_which_commits_wrote_it_last(store: Store, rows: Any) -> None:
    now = rows.now
    seeded = KeyValue("team", "k", "NUMBER", 1, now, now, origin="prod")
    ended = KeyValue("team", "e", "NUMBER", 1, now, now, now + timedelta(seconds=1), origin="prod")
    other = KeyValue("team", "o", "NUMBER", 1, now, now, origin="lab")
    for value in (seeded, ended, other):
        _write(store, lambda session, value=value: session.kv.put(value))

    before = store.read(lambda session: session.kv.of_origin("prod", now + timedelta(seconds=5)))
    store.write(lambda session: session.kv.put(replace(seeded, value=2, origin=None)))
    after = store.read(lambda session: session.kv.of_origin("prod", now))

    assert before == (seeded,)
    assert after == (ended,)


def test_each_change_of_a_secret_raises_the_generation(store: Store, rows: Any) -> None:
    secret = StoredSecret("team", "KEY", "c2VhbGVk", rows.now, "of the forge", {"owner": "data"})
    before = store.read(lambda session: session.secrets.generation())

    store.write(lambda session: session.secrets.put(secret))
    store.write(lambda session: session.secrets.put(replace(secret, sealed="YW5vdGhlcg==")))
    is_gone = store.write(lambda session: session.secrets.delete("team", "KEY"))
    is_gone_again = store.write(lambda session: session.secrets.delete("team", "KEY"))

    assert (is_gone, is_gone_again) == (True, False)
    assert store.read(lambda session: session.secrets.generation()) == before + 3
    store.write(lambda session: session.secrets.put(secret))
    assert store.read(lambda session: session.secrets.all()) == [secret]


def test_values_are_listed_in_pages(store: Store, rows: Any) -> None:
    for namespace, key in (("a", "x_1"), ("a", "x_2"), ("a", "xy"), ("b", "x_3")):
        value = KeyValue(namespace, key, "NUMBER", 1, rows.now, rows.now)
        _write(store, lambda session, value=value: session.kv.put(value))

    page = store.read(lambda session: session.kv.list("a", "x_", page=1, size=1, sort=("key:desc",)))
    everything = store.read(lambda session: session.kv.list())

    assert ([one.key for one in page.items], page.total) == (["x_2"], 2)
    assert everything.total == 4


def test_a_token_is_found_by_the_digest_of_its_secret(store: Store, rows: Any) -> None:
    token = Token("ci", "d" * 64, "ms_ab", "developer", rows.now, ("team", "other"))
    store.write(lambda session: session.tokens.put(token))

    store.write(lambda session: session.tokens.touch("ci", rows.now))

    found = store.read(lambda session: session.tokens.by_digest("d" * 64))
    assert found == replace(token, last_used_at=rows.now)
    assert store.read(lambda session: session.tokens.by_digest("no")) is None
    assert store.read(lambda session: session.tokens.all()) == [found]


def test_the_audit_log_is_searched_and_its_oldest_entries_leave(store: Store, rows: Any) -> None:
    table = [
        ("ada", "token.create", "ci", "OK"),
        ("ada", "tokens", "x", "OK"),
        ("bob", "token.revoke", "ci", "REFUSED"),
    ]
    for number, (actor, action, target, result) in enumerate(table):
        entry = AuditEntry(rows.now + timedelta(hours=number), actor, action, target, result)
        _write(store, lambda session, entry=entry: session.audit.add(entry))

    def actions(**wanted: Any) -> list[str]:
        return [entry.action for entry in store.read(lambda session: session.audit.list(**wanted))]

    assert actions(action="token") == ["token.revoke", "token.create"]
    assert actions(target="ci", result="OK") == ["token.create"]
    assert actions(since=rows.now + timedelta(hours=1)) == ["token.revoke", "tokens"]
    assert store.write(lambda session: session.audit.prune(rows.now + timedelta(hours=2), 1)) == 1
    assert store.write(lambda session: session.audit.prune(rows.now + timedelta(hours=2), 9)) == 1
    assert actions() == ["token.revoke"]


def test_the_audit_log_is_read_backwards(store: Store, rows: Any) -> None:
    for number in range(3):
        entry = AuditEntry(rows.now, "ci", "flow.put", f"team/{number}", detail={"n": number})
        _write(store, lambda session, entry=entry: session.audit.add(entry))

    first = store.read(lambda session: session.audit.list(2))
    rest = store.read(lambda session: session.audit.list(2, before=first[-1].id))

    assert [entry.target for entry in (*first, *rest)] == ["team/2", "team/1", "team/0"]
    assert store.read(lambda session: session.audit.list(actor="nobody")) == []


def test_a_worker_beats_until_it_is_removed(store: Store, rows: Any) -> None:
    store.write(lambda session: session.workers.register(Worker("w1", "host", 42, rows.now)))

    beats = [store.write(lambda session: session.workers.beat("w1")) for _ in range(2)]
    store.write(lambda session: session.workers.set_draining("w1"))

    assert beats == [True, True]
    assert store.read(lambda session: session.workers.all()) == [Worker("w1", "host", 42, rows.now, 2, draining=True)]
    assert store.write(lambda session: session.workers.remove("w1"))
    assert not store.write(lambda session: session.workers.beat("w1"))


def test_each_namespace_has_a_number_of_its_own(store: Store, at_once: Any) -> None:
    def allocate(namespace: str) -> int:
        return store.write(lambda session: session.uids.allocate(namespace))

    numbers = at_once([lambda number=number: allocate(f"n{number % 5}") for number in range(20)])

    assert sorted(set(numbers)) == list(range(5))
    assert [allocate(f"n{number}") for number in range(5)] == numbers[:5]


def test_the_report_writer_has_a_memory(store: Store) -> None:
    store.write(lambda session: session.reports.put("prod", "head", {"sha": "a"}))
    store.write(lambda session: session.reports.put("prod", "head", {"sha": "b"}))

    assert store.read(lambda session: session.reports.get("prod", "head")) == {"sha": "b"}
    assert store.read(lambda session: session.reports.texts("prod")) == [("head", '{"sha":"b"}')]
    assert store.read(lambda session: session.reports.get("prod", "none")) is None
    assert store.write(lambda session: session.reports.delete("prod", "head"))


def test_metrics_are_listed_with_their_names(store: Store, rows: Any) -> None:
    metric = Metric("e", "team", "etl", "work", "r1", "rows", "counter", 2.0, rows.now, {"k": "v"})
    other = replace(metric, name="bytes", task_id="load", task_run_id="r2")
    store.write(lambda session: session.metrics.add([metric, other]))

    def read(session: Any) -> Any:
        metrics = session.metrics
        return (
            metrics.of_execution("e").items,
            metrics.of_execution("e", task_id="load").total,
            metrics.names("team", "etl"),
            metrics.names("team", "etl", "work"),
            metrics.tasks("team", "etl"),
        )

    assert store.read(read) == ([metric, other], 1, ["bytes", "rows"], ["rows"], ["load", "work"])


def test_declaring_an_environment_leaves_alone_what_is_active(store: Store, rows: Any) -> None:
    _write(store, lambda db: db.environments.declare(Environment("prod", "team")))
    _write(store, lambda db: db.environments.swap_active("prod", None, "c1", at=rows.now))

    _write(store, lambda db: db.environments.declare(Environment("prod", "other", path="elsewhere")))

    found = store.read(lambda db: db.environments.get("prod"))
    assert found == Environment(
        "prod", "other", path="elsewhere", active="c1", checked_at=rows.now, changed_at=rows.now
    )


def test_one_process_at_a_time_has_something_exclusively(store_url: str) -> None:
    store = Store.open(store_url)
    other = Store.open(store_url) if store.dialect == "postgresql" else store

    with store.exclusive("reports") as first, other.exclusive("reports") as second, other.exclusive("more") as third:
        got = [first, second, third]
    with other.exclusive("reports") as afterwards:
        got.append(afterwards)

    # On SQLite there is one process, which keeps its own threads apart.
    assert got == [True, other is store, True, True]
    store.close()
    other.close()


def test_the_runs_of_killed_executions_and_their_holders_are_found(store: Store, rows: Any) -> None:
    run = rows.submitted(store)
    _write(store, lambda db: db.claims.claim(run.id, 0, "w1", rows.now))
    before = store.read(lambda db: (db.claims.killed("w1"), db.claims.holders()))
    loaded = store.read(lambda db: db.executions.load(run.execution_id))
    assert loaded is not None

    killing = replace(loaded.execution.enter(State.KILLING, rows.now), version=loaded.execution.version + 1)
    _write(store, lambda db: db.executions.commit(Commit(killing, loaded.execution.version)))

    after = store.read(lambda db: (db.claims.killed("w1"), db.claims.killed("w2"), db.claims.holders()))
    assert before == (set(), {"w1"})
    assert after == ({run.id}, set(), {"w1"})


@pytest.mark.parametrize(("how", "values"), [("sum", {1: 6.0, 3: 10.0}), ("avg", {1: 2.0, 3: 10.0})])
def test_metrics_are_put_together_by_stretches_of_time(
    store: Store, rows: Any, how: Aggregation, values: dict[int, float]
) -> None:
    minute = timedelta(minutes=1)
    given = [(1.0, 61), (2.0, 62), (3.0, 119), (10.0, 180), (99.0, 600)]
    metrics = [
        Metric("e", "team", "etl", "t", "r", "rows", "gauge", value, rows.now + timedelta(seconds=second))
        for value, second in given
    ]
    store.write(lambda session: session.metrics.add(metrics))

    found = store.read(
        lambda session: session.metrics.aggregate(
            "team", "etl", "rows", "t", rows.now, rows.now + 5 * minute, minute, how
        )
    )

    assert found == values
