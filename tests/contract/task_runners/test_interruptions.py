"""A task whose machine is taken away is started again elsewhere, so often and no more; its own retry is not used."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from runner.states import State
from tests.contract.task_runners.conftest import IMAGE
from tests.contract.task_runners.flows import engine_of, runner_values
from tests.servers.aws import Account
from tests.servers.clouds.azure import Azure
from tests.servers.clouds.google import Google
from tests.servers.kubernetes.server import KubernetesServer
from tests.servers.program import wait_until

if TYPE_CHECKING:
    from tests.contract.task_runners.conftest import Bench

# Each of the first lives waits for the end of its machine; the one after them ends by itself.
BODY = 'echo "life $MAINSTEM_EPOCH"; test "$MAINSTEM_EPOCH" -gt "$LIVES" || exec sleep 60'


def flow_for(bench: Bench, lives: int, **values: Any) -> dict[str, Any]:
    """Return a flow whose task waits for the end of its machine `lives` times, then ends."""
    task = {
        "id": "body",
        "type": "scripts.shell.Commands",
        "containerImage": IMAGE,
        "taskRunner": {"type": bench.runner.type, **runner_values(bench), **values},
        "env": {"LIVES": str(lives)},
        "commands": [BODY],
    }
    return {"id": "spot", "namespace": "company.team", "tasks": [task]}


def _disrupt(cluster: KubernetesServer, how: str) -> bool:
    for pod in cluster.pods():
        if pod["status"].get("phase") == "Running" and not pod["metadata"].get("deletionTimestamp"):
            getattr(cluster.node, how)(pod["metadata"]["namespace"], pod["metadata"]["name"])
            return True
    return False


def _terminate(account: Account) -> bool:
    batch = account.client("batch")
    for job in batch.list_jobs(jobQueue=account.queue, jobStatus="RUNNING")["jobSummaryList"]:
        # The words of AWS for it: only who ends a job can put them there.
        batch.terminate_job(jobId=job["jobId"], reason="Host EC2 (instance i-0a1b2c3d) terminated.")
        return True
    return False


def _take_away(cloud: Google | Azure) -> bool:
    for job in list(cloud.jobs.values()):
        if job.state == "running" and not job.was_taken and b"life" in job.content["stdout"]:
            cloud.machines.take_away(job)
            return True
    return False


@pytest.fixture
def bench(request: pytest.FixtureRequest, place: str) -> Bench:
    found: Bench = request.getfixturevalue(f"{place.split(maxsplit=1)[0]}_bench")
    return found


@pytest.fixture
def take_away(request: pytest.FixtureRequest, place: str) -> Callable[[], bool]:
    """Give what takes the machine of a running job away; it says False while no job runs."""
    name, _, how = place.partition(" ")
    if name == "kubernetes":
        cluster: KubernetesServer = request.getfixturevalue("kubernetes")
        return lambda: _disrupt(cluster, how)
    if name == "aws":
        account: Account = request.getfixturevalue("aws_account")
        return lambda: _terminate(account)
    cloud: Google | Azure = request.getfixturevalue("google_cloud" if name == "google_batch" else "azure_cloud")
    return lambda: _take_away(cloud)


@pytest.mark.parametrize("place", ["kubernetes preempt", "kubernetes evict", "aws", "google_batch", "azure"])
def test_a_task_whose_machine_is_taken_away_is_started_again(
    bench: Bench, take_away: Callable[[], bool], place: str, tmp_path: Path
) -> None:
    with engine_of(bench, flow_for(bench, lives=1), tmp_path / "home") as engine:
        started = engine.start()
        wait_until(take_away, "a job that runs", 60)
        ended = engine.ended(started)
        attempts = engine.attempts(started)
        lines = engine.lines(started)

    reason = "EVICTED" if place.endswith("evict") else "PREEMPTED"
    assert ended.state is State.SUCCESS
    assert [(each.state, each.failure_reason) for each in attempts] == [(State.KILLED, reason), (State.SUCCESS, None)]
    assert [line for line in lines if "started again (2 of 3)" in line]
    assert [line for line in lines if line == "life 2"]


@pytest.mark.parametrize("place", ["kubernetes preempt"])
def test_a_working_directory_is_started_again_as_a_whole(
    bench: Bench, take_away: Callable[[], bool], tmp_path: Path
) -> None:
    flow = flow_for(bench, lives=1)
    flow["tasks"] = [{"id": "room", "type": "core.flow.WorkingDirectory", "tasks": flow["tasks"]}]
    with engine_of(bench, flow, tmp_path / "home") as engine:
        started = engine.start()
        wait_until(take_away, "a job that runs", 60)
        ended = engine.ended(started)
        rooms = [each for each in engine.attempts(started) if each.state is State.KILLED]
        lines = engine.lines(started)

    assert ended.state is State.SUCCESS
    assert [each.failure_reason for each in rooms] == ["PREEMPTED"]
    assert [line for line in lines if line == "life 2"]


@pytest.mark.parametrize("place", ["google_batch"])
def test_no_more_starts_than_asked_for_and_then_the_own_retry_of_the_task(
    bench: Bench, take_away: Callable[[], bool], google_cloud: Google, tmp_path: Path
) -> None:
    spot = {"provisioningModel": "SPOT", "interruptionRetry": {"maxAttempts": 2, "lastAttemptOnDemand": True}}
    flow = flow_for(bench, lives=3, **spot)
    flow["tasks"][0]["retry"] = {"type": "constant", "interval": "PT0.1S", "maxAttempts": 2}
    models: list[str] = []
    with engine_of(bench, flow, tmp_path / "home") as engine:
        started = engine.start()
        for _ in range(3):
            wait_until(take_away, "a job that runs", 60)
            models += [_model(job.request) for job in google_cloud.jobs.values() if job.was_taken][-1:]
        ended = engine.ended(started)
        attempts = engine.attempts(started)

    assert ended.state is State.SUCCESS
    assert [each.state for each in attempts] == [State.KILLED, State.FAILED, State.KILLED, State.SUCCESS]
    assert [each.failure_reason for each in attempts] == ["PREEMPTED", "PREEMPTED", "PREEMPTED", None]
    assert models == ["SPOT", "STANDARD", "SPOT"]


def _model(request: dict[str, Any]) -> str:
    return str(request["allocationPolicy"]["instances"][0]["policy"]["provisioningModel"])


@pytest.mark.parametrize("place", ["kubernetes preempt"])
def test_a_body_that_may_begin_once_only_is_not_started_again(
    bench: Bench, take_away: Callable[[], bool], tmp_path: Path
) -> None:
    flow = flow_for(bench, lives=1)
    flow["tasks"][0]["onWorkerLoss"] = "FAIL"
    with engine_of(bench, flow, tmp_path / "home") as engine:
        started = engine.start()
        wait_until(take_away, "a job that runs", 60)
        ended = engine.ended(started)
        [attempt] = engine.attempts(started)

    assert (ended.state, attempt.state, attempt.failure_reason) == (State.FAILED, State.FAILED, "PREEMPTED")
