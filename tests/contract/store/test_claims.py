"""Claims: one worker gets a run, and only the newest claim may write its one result."""

from __future__ import annotations

from typing import Any

from runner.states import State
from runner.store import Store


def _record(store: Store, rows: Any, run_id: str, epoch: int, result: State = State.SUCCESS) -> int | None:
    return store.write(
        lambda session: session.claims.record(
            run_id,
            epoch,
            result=result,
            outputs={"epoch": epoch},
            error="boom \x00" if result is State.FAILED else None,
            exit_code=0,
            failure_reason=None,
            at=rows.now,
            runner="core.runner.Process",
        )
    )


def test_a_claim_makes_the_run_running_under_the_next_epoch(store: Store, rows: Any) -> None:
    run = rows.submitted(store)

    claimed = store.write(lambda session: session.claims.claim(run.id, 0, "w1", rows.now))

    assert claimed is not None
    assert (claimed.state, claimed.epoch, claimed.attempts) == (State.RUNNING, 1, 1)
    assert claimed.histories == ((State.SUBMITTED, rows.now), (State.RUNNING, rows.now))
    (attempt,) = store.read(lambda session: session.executions.attempts(run.execution_id))
    assert (attempt.number, attempt.epoch, attempt.worker_id, attempt.state) == (1, 1, "w1", State.RUNNING)
    assert store.read(lambda session: session.outbox.of_key("run", run.id)) == []
    assert store.read(lambda session: session.claims.owned_by("w1")) == [claimed]
    assert store.read(lambda session: session.claims.is_current(run.id, 1))


def test_of_fifty_claims_one_wins(store: Store, rows: Any, at_once: Any) -> None:
    run = rows.submitted(store)

    def claim(worker: str) -> Any:
        return store.write(lambda session: session.claims.claim(run.id, 0, worker, rows.now))

    claimed = at_once([lambda number=number: claim(f"w{number}") for number in range(50)])

    assert sum(1 for run in claimed if run is not None) == 1
    assert len(store.read(lambda session: session.executions.attempts(run.execution_id))) == 1


def test_a_claim_of_another_epoch_finds_nothing(store: Store, rows: Any) -> None:
    run = rows.submitted(store)

    assert store.write(lambda session: session.claims.claim(run.id, 1, "w", rows.now)) is None
    assert store.write(lambda session: session.claims.claim("missing", 0, "w", rows.now)) is None


def test_a_result_is_recorded_once_and_rings_for_its_execution(store: Store, rows: Any) -> None:
    run = rows.submitted(store)
    store.write(lambda session: session.claims.claim(run.id, 0, "w", rows.now))

    bell = _record(store, rows, run.id, 1)
    again = _record(store, rows, run.id, 1, State.FAILED)

    assert again is None
    loaded = store.read(lambda session: session.executions.load(run.execution_id))
    assert loaded is not None
    assert loaded.doorbells == (bell,)
    assert (loaded.runs[0].result, loaded.runs[0].runner) == (State.SUCCESS, "core.runner.Process")
    assert store.read(lambda session: session.executions.outputs(run.execution_id)) == {run.id: {"epoch": 1}}
    (attempt,) = store.read(lambda session: session.executions.attempts(run.execution_id))
    assert (attempt.state, attempt.ended_at, attempt.exit_code) == (State.SUCCESS, rows.now, 0)
    assert not store.read(lambda session: session.claims.is_current(run.id, 1))
    assert store.read(lambda session: session.claims.owned_by("w")) == []


def test_a_failure_keeps_its_message(store: Store, rows: Any) -> None:
    run = rows.submitted(store)
    store.write(lambda session: session.claims.claim(run.id, 0, "w", rows.now))

    _record(store, rows, run.id, 1, State.FAILED)

    found = store.read(lambda session: session.executions.run(run.id))
    assert found is not None
    assert (found.result, found.error) == (State.FAILED, "boom \ufffd")


def test_a_released_run_may_be_claimed_again_and_the_lost_worker_writes_nothing(store: Store, rows: Any) -> None:
    run = rows.submitted(store, queue="slow")
    store.write(lambda session: session.claims.claim(run.id, 0, "lost", rows.now))

    assert store.write(lambda session: session.claims.release(run.id, 1, rows.now, "worker lost"))

    (bell,) = store.read(lambda session: session.outbox.take(("run",), 10, rows.now))
    assert (bell.key, bell.payload) == (run.id, {"epoch": 1, "queue": "slow", "since": rows.now.timestamp()})
    assert _record(store, rows, run.id, 1) is None
    claimed = store.write(lambda session: session.claims.claim(run.id, 1, "next", rows.now))
    assert claimed is not None
    assert (claimed.epoch, claimed.attempts, claimed.losses) == (2, 2, 1)
    assert _record(store, rows, run.id, 1) is None
    assert _record(store, rows, run.id, 2) is not None
    attempts = store.read(lambda session: session.executions.attempts(run.execution_id))
    assert [(attempt.state, attempt.failure_reason) for attempt in attempts] == [
        (State.KILLED, "worker lost"),
        (State.SUCCESS, None),
    ]


def test_only_one_of_those_who_release_and_record_succeeds(store: Store, rows: Any, at_once: Any) -> None:
    run = rows.submitted(store)
    store.write(lambda session: session.claims.claim(run.id, 0, "w", rows.now))

    def release() -> bool:
        return store.write(lambda session: session.claims.release(run.id, 1, rows.now, "lost"))

    done = at_once([release, lambda: _record(store, rows, run.id, 1) is not None] * 8)

    assert sum(done) == 1


def test_a_handle_is_kept_for_the_current_claim_only(store: Store, rows: Any) -> None:
    run = rows.submitted(store)
    store.write(lambda session: session.claims.claim(run.id, 0, "w", rows.now))

    assert store.write(lambda session: session.claims.save_handle(run.id, 1, {"pod": "p-1"}))

    assert not store.write(lambda session: session.claims.save_handle(run.id, 0, {"pod": "old"}))
    (attempt,) = store.read(lambda session: session.claims.attempts_of("w"))
    assert attempt.handle == {"pod": "p-1"}
    store.write(lambda session: session.claims.release(run.id, 1, rows.now, "lost"))
    assert not store.write(lambda session: session.claims.save_handle(run.id, 1, {"pod": "late"}))
