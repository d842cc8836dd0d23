"""Jobs that run elsewhere: no thread waits for them, and they outlive threads, workers and servers."""

from __future__ import annotations

import json
import os
import threading
import time
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from runner.claim import Claim
from runner.executions.creation import NewExecution
from runner.executions.effects import Effects
from runner.executions.models import Execution, TaskRun
from runner.follower import FINISHERS, LOOKERS, Follower
from runner.janitor import Janitor
from runner.job import Parked
from runner.key_values import MemoryKeyValues
from runner.local import LocalEngine
from runner.services import Host
from runner.settings import RunnerPolicySettings, Settings, TaskFileSettings
from runner.states import State
from runner.store import LogQuery
from runner.sweeper import STOPPED, Sweeper
from task_runners import following
from task_runners.registry import runner_class
from task_runners.remote import Job, RemoteTaskRunner
from task_runners.spec import JobHandle, RunnerContext, TaskSpec
from tests.servers.place import Place, wait_until
from tests.servers.spool import installed_spool
from tests.servers.store import fresh_store

JOBS = 20
FLOW = """\
id: {id}
namespace: team
tasks:
  - id: body
    type: scripts.shell.Script
    {extra}
    taskRunner:
      type: spool.Spool
      root: {root}
    outputFiles: [out.txt]
    script: |
      {script}
"""


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    settings = Settings(home=tmp_path / "home", work=tmp_path / "work")
    store = fresh_store(f"sqlite:///{tmp_path / 'state.db'}", durability="normal")
    host = Host.open(
        settings,
        MemoryKeyValues(),
        environment={"PATH": os.environ["PATH"]},
        store=store,
        log=lambda entry: store.logs.append([entry]),
        metric=lambda metric: store.write(lambda db: db.metrics.add([metric])),
    )
    opened: list[LocalEngine] = []
    (tmp_path / "spool").mkdir()
    with installed_spool():
        yield Place(store, host, tmp_path, opened)
        for local in opened:
            if local._threads[0].is_alive():
                local.close()
    assert store.check() == []
    store.close()


def deploy(place: Place, script: str, *, flow_id: str = "work", extra: str = "") -> str:
    return place.deploy(FLOW.format(id=flow_id, script=script, root=place.folder / "spool", extra=extra), flow_id)


def jobs(place: Place) -> list[Path]:
    return sorted((place.folder / "spool").glob("[!.]*"))


def lines(place: Place, execution: Execution) -> list[str]:
    place.store.logs.flush()
    query = LogQuery(execution_id=execution.id, min_level="INFO", size=10_000, sort=("id:asc",))
    return [entry.message for entry in place.store.logs.search(query).items]


def state_of(place: Place, execution: Execution) -> State:
    found = place.store.read(lambda db: db.executions.get(execution.id))
    assert found is not None
    return found.state


def lose(place: Place, local: LocalEngine) -> None:
    """Have a worker vanish without a word, as kill -9 does, and others find out."""
    local.worker.follower.stop()
    local.worker.follower._followed.clear()
    engine = place.engine().engine
    Sweeper(engine, Effects(engine), own_worker=lambda: "").take_back(local.worker.id, STOPPED)


def test_a_job_elsewhere_gives_its_result_files_and_log(place: Place) -> None:
    flow_id = deploy(place, """echo hello; echo '::{"outputs": {"a": 1}}::'; echo made > out.txt""")
    with place.engine() as local:
        execution = local.engine.create(NewExecution("team", flow_id))
        ended = local.engine.wait(execution.id, 60)

    assert ended is not None
    assert ended.state is State.SUCCESS
    assert lines(place, execution) == ["hello"]
    (outputs,) = place.store.read(lambda db: db.executions.outputs(execution.id)).values()
    assert (outputs["vars"], outputs["stdOutLineCount"], list(outputs["outputFiles"])) == ({"a": 1}, 2, ["out.txt"])
    assert jobs(place) == []


def test_a_waiting_job_holds_no_thread(place: Place) -> None:
    flow_id = deploy(place, f"while [ ! -e {place.folder}/go ]; do sleep 0.5; done; echo done")
    local = LocalEngine(place.store, place.host, threads=1)
    place.opened.append(local)
    with local:
        before = threading.active_count()
        executions = [local.engine.create(NewExecution("team", flow_id)) for _ in range(JOBS)]
        wait_until(lambda: local.worker.follower.count == JOBS, "jobs that are followed")
        threads = threading.active_count()
        (place.folder / "go").touch()
        ended = [local.engine.wait(execution.id, 60) for execution in executions]

    assert [each.state for each in ended if each] == [State.SUCCESS] * JOBS
    assert threads - before <= 1 + LOOKERS + FINISHERS < JOBS


def test_a_failed_job_keeps_its_files_and_its_exit_code(place: Place) -> None:
    flow_id = deploy(place, "echo partial > out.txt; exit 7")
    with place.engine() as local:
        execution = local.engine.create(NewExecution("team", flow_id))
        ended = local.engine.wait(execution.id, 60)

    assert ended is not None
    assert ended.state is State.FAILED
    attempts = place.store.read(lambda db: db.executions.attempts(execution.id))
    (outputs,) = place.store.read(lambda db: db.executions.outputs(execution.id)).values()
    assert [(each.exit_code, each.failure_reason) for each in attempts] == [(7, "APP_EXIT")]
    assert list(outputs["outputFiles"]) == ["out.txt"]


def test_a_killed_execution_ends_its_job(place: Place) -> None:
    flow_id = deploy(place, f"touch {place.folder}/begun; sleep 60")
    with place.engine() as local:
        execution = local.engine.create(NewExecution("team", flow_id))
        wait_until((place.folder / "begun").exists, "a body")
        local.engine.kill(execution.id)
        ended = local.engine.wait(execution.id, 60)

    assert ended is not None
    assert ended.state is State.KILLED
    assert jobs(place) == []


def test_a_timeout_ends_the_job(place: Place) -> None:
    flow_id = deploy(place, "sleep 60", extra="timeout: PT1S")
    with place.engine() as local:
        execution = local.engine.create(NewExecution("team", flow_id))
        ended = local.engine.wait(execution.id, 60)

    assert ended is not None
    assert ended.state is State.FAILED
    assert [each.failure_reason for each in place.store.read(lambda db: db.executions.attempts(execution.id))] == [
        "TIMEOUT"
    ]
    assert jobs(place) == []


def test_the_job_of_a_lost_worker_is_followed_further_with_each_line_once(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runner.worker._END_S", 0.5)  # what the lost one still holds, it cannot end when it is closed
    begin = "for i in $(seq 20); do echo $i; sleep 0.05; done"
    end = "for i in $(seq 21 40); do echo $i; done; echo x > out.txt"
    wait = f"while [ ! -e {place.folder}/go ]; do sleep 0.05; done"
    flow_id = deploy(place, f"echo begun >> {place.folder}/ledger; {begin}; {wait}; {end}")
    with place.engine() as first:
        execution = first.engine.create(NewExecution("team", flow_id))
        wait_until(lambda: len(lines(place, execution)) > 3, "some lines")
        lose(place, first)
        with place.engine() as second:
            wait_until(lambda: second.worker.adopt() or second.worker.follower.count, "the job at the other worker")
            (place.folder / "go").touch()
            ended = second.engine.wait(execution.id, 60)

    assert ended is not None
    assert ended.state is State.SUCCESS
    assert lines(place, execution) == [str(number) for number in range(1, 41)]
    assert place.said() == ["begun"]
    run = place.run_of(execution)
    assert (run.attempts, run.losses, run.epoch) == (1, 0, 2)


def test_a_drained_worker_leaves_its_jobs_to_others_at_once(place: Place) -> None:
    flow_id = deploy(place, f"while [ ! -e {place.folder}/go ]; do sleep 0.05; done; echo done")
    with place.engine() as first:
        execution = first.engine.create(NewExecution("team", flow_id))
        wait_until(lambda: first.worker.follower.count, "a followed job")
        first.worker.drain(30)
        with place.engine() as second:
            wait_until(lambda: second.worker.adopt() or second.worker.follower.count, "the job at the other worker")
            (place.folder / "go").touch()
            ended = second.engine.wait(execution.id, 60)

    assert ended is not None
    assert ended.state is State.SUCCESS
    assert lines(place, execution) == ["done"]


def test_a_worker_is_drained_while_a_thread_that_finishes_jobs_only_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    begins, done = threading.Event(), threading.Event()

    class Slow(threading.Thread):
        def start(self) -> None:
            begins.set()
            done.wait(0.2)  # as on a busy machine
            super().start()

    follower = Follower(lambda _claim, _ended: None)
    caller = threading.Thread(target=follower.soon, args=[done.set])
    monkeypatch.setattr("runner.follower.threading.Thread", Slow)

    caller.start()
    assert begins.wait(10)
    follower.stop(10)

    assert done.is_set()
    caller.join(10)


@pytest.mark.parametrize(("policy", "state", "begun"), [("RESTART", "SUCCESS", 2), ("FAIL", "FAILED", 1)])
def test_the_task_says_what_a_lost_worker_means(place: Place, policy: str, state: str, begun: int) -> None:
    script = f"echo begun >> {place.folder}/ledger; test $(wc -l < {place.folder}/ledger) = 2 || sleep 60"
    flow_id = deploy(place, script, extra=f"onWorkerLoss: {policy}")
    with place.engine() as first:
        execution = first.engine.create(NewExecution("team", flow_id))
        wait_until(place.said, "a body")
        lose(place, first)
        with place.engine() as second:
            Sweeper(second.engine, Effects(second.engine), own_worker=lambda: second.worker.id).ring_again(0)
            ended = second.engine.wait(execution.id, 60)

    assert ended is not None
    assert (ended.state.value, len(place.said())) == (state, begun)
    if policy == "RESTART":
        assert jobs(place) == []


def test_a_worker_that_was_taken_for_lost_writes_nothing_more(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runner.local.HEARTBEAT_S", 60.0)  # or the first one learns of it midway, and takes it again
    begin, end = ("for i in $(seq 30); do echo $i; sleep 0.05; done", "for i in $(seq 31 60); do echo $i; done")
    flow_id = deploy(place, f"{begin}; while [ ! -e {place.folder}/go ]; do sleep 0.05; done; {end}")
    with place.engine() as first:
        execution = first.engine.create(NewExecution("team", flow_id))
        wait_until(lambda: len(lines(place, execution)) > 3, "some lines")
        engine = place.engine().engine
        Sweeper(engine, Effects(engine), own_worker=lambda: "").take_back(first.worker.id, STOPPED)
        with place.engine() as second:  # and the first one goes on, as one that was only slow does
            wait_until(lambda: second.worker.adopt() == 0 and second.worker.follower.count, "the job at the other one")
            (place.folder / "go").touch()
            ended = second.engine.wait(execution.id, 60)

    assert ended is not None
    assert ended.state is State.SUCCESS
    assert lines(place, execution) == [str(number) for number in range(1, 61)]
    assert place.run_of(execution).epoch == 2


def test_the_janitor_removes_what_ended_and_leaves_what_runs_or_belongs_to_others(place: Place) -> None:
    flow_id = deploy(place, f"while [ ! -e {place.folder}/go ]; do sleep 0.05; done")
    janitor = Janitor(place.host)
    host = replace(place.host, runner_used=janitor.note)
    local = LocalEngine(place.store, host)
    place.opened.append(local)
    with local:
        orphaned, running = (local.engine.create(NewExecution("team", flow_id)) for _ in range(2))
        wait_until(lambda: local.worker.follower.count == 2, "two followed jobs")
        foreign = place.folder / "spool" / "foreign"
        foreign.mkdir()
        (foreign / "job.json").write_text(json.dumps({"owner": ["unknown", 1, None]}))
        run = place.run_of(orphaned)
        local.worker.follower.remove(run.id)  # as if its worker had died after the result, before the cleanup
        place.store.write(
            lambda db: db.claims.record(
                run.id,
                run.epoch,
                result=State.FAILED,
                outputs={},
                error=None,
                exit_code=None,
                failure_reason=None,
                at=place.host.clock(),
            )
        )
        removed = [janitor.run_once(), janitor.run_once()]
        names = [path.name for path in jobs(place)]
        (place.folder / "go").touch()
        ended = local.engine.wait(running.id, 60)
        local.engine.advancer.advance([orphaned.id])
        local.worker._claims.pop(run.id)

    assert removed == [1, 0]
    assert names == sorted(["foreign", f"{place.run_of(running).id}-1"])
    assert ended is not None
    assert ended.state is State.SUCCESS


def test_a_copy_of_a_database_leaves_the_jobs_of_its_original_alone(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runner.worker._END_S", 0.5)  # what the original still holds, it does not end when it is closed
    flow_id = deploy(place, f"while [ ! -e {place.folder}/go ]; do sleep 0.05; done; echo x > out.txt")
    with LocalEngine(place.store, named(place.host, "live")) as original:
        execution = original.engine.create(NewExecution("team", flow_id))
        wait_until(lambda: original.worker.follower.count, "the job of the original")
        (job,) = jobs(place)
        wait_until((job / "pid").exists, "its body")
        lose(place, original)  # for the copy, all workers of the original are lost
        copy = named(place.host, "copy")
        janitor = Janitor(copy)
        with LocalEngine(place.store, replace(copy, runner_used=janitor.note)) as other:
            wait_until(lambda: other.worker.adopt() or other.worker.follower.count, "a job of the copy's own")
            wait_until(lambda: len(jobs(place)) == 2, "a job of the copy's own")
            (place.folder / "go").touch()
            ended = other.engine.wait(execution.id, 30)
            removed = janitor.run_once()

    assert ended is not None
    assert ended.state is State.SUCCESS
    assert removed == 0
    assert jobs(place) == [job]
    assert not (job / "grace").exists()
    attempts = place.store.read(lambda db: db.executions.attempts(execution.id))
    assert [each.failure_reason for each in attempts] == ["its job is one of another installation", None]


def named(host: Host, name: str) -> Host:
    return replace(host, settings=host.settings.model_copy(update={"installation": name}))


def test_many_waiting_jobs_cost_little(place: Place) -> None:
    flow_id = deploy(place, "true")
    with place.engine() as local:
        execution = local.engine.create(NewExecution("team", flow_id))
        local.engine.wait(execution.id, 60)
        run = place.run_of(execution)
        runner = runner_class("spool.Spool").model_validate({"type": "spool.Spool", "root": str(place.folder)})
        assert isinstance(runner, RemoteTaskRunner)
        patient = runner.model_copy()
        threads = threading.active_count()
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        for number in range(200):
            local.worker.follower.add(*_waiting(place, patient.model_copy(), replace(run, id=f"w{number}")))
        wait_until(
            lambda: not local.worker.follower._due or local.worker.follower._due[0][0] > time.monotonic(), "rest"
        )
        cost = tracemalloc.get_traced_memory()[0] - before
        tracemalloc.stop()
        more_threads = threading.active_count() - threads
        for number in range(200):
            local.worker.follower.remove(f"w{number}")

    assert cost < 20 * 1024 * 1024
    assert more_threads <= LOOKERS + 1


def _waiting(place: Place, runner: RemoteTaskRunner, run: TaskRun) -> tuple[Claim, Parked]:
    (place.folder / run.id).mkdir()
    handle = JobHandle(runner.type, run.id, str(place.folder))
    watch = following.begin(
        TaskSpec(("true",), run.id), time.time(), patience_s=60, start_within_s=None, longest_s=None
    )
    claim = Claim(run)
    return claim, Parked(runner, Job(handle, watch), RunnerContext(on_line=print, cancelled=claim.cancelled))


def test_a_task_that_the_policy_refuses_fails_with_its_code(place: Place) -> None:
    rules = (RunnerPolicySettings(namespaces=("team",), runners=("docker",)),)
    host = replace(place.host, settings=place.host.settings.model_copy(update={"runner_policies": rules}))
    flow_id = deploy(place, "echo never")
    local = LocalEngine(place.store, host)
    place.opened.append(local)
    with local:
        execution = local.engine.create(NewExecution("team", flow_id))
        ended = local.engine.wait(execution.id, 60)

    assert ended is not None
    assert ended.state is State.FAILED
    attempts = place.store.read(lambda db: db.executions.attempts(execution.id))
    assert [each.failure_reason for each in attempts] == ["runner.type.refused"]
    assert jobs(place) == []


def test_the_settings_bound_the_files_of_a_task(place: Place) -> None:
    bounds = {"task_files": TaskFileSettings(file_mib=1, total_mib=1)}
    host = replace(place.host, settings=place.host.settings.model_copy(update=bounds))
    flow_id = deploy(place, "head -c 1200000 /dev/zero > out.txt")
    local = LocalEngine(place.store, host)
    place.opened.append(local)
    with local:
        execution = local.engine.create(NewExecution("team", flow_id))
        ended = local.engine.wait(execution.id, 60)

    assert ended is not None
    assert ended.state is State.FAILED
    [attempt] = place.store.read(lambda db: db.executions.attempts(execution.id))
    assert "1048576 are allowed; the largest is 'out.txt'" in str(attempt.message)
