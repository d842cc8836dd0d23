from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from runner.errors import ConflictError
from runner.executions.models import Execution
from runner.ids import new_id
from runner.settings import EnvironmentSettings, FailureBound, RepositorySettings
from runner.states import State
from runner.store.records import Revision
from sync.deployments import failure
from sync.poller import Poller
from sync.service import SyncService
from tests.servers.git import git

START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
BOUND = FailureBound(rate=0.5, runs=4, within_s=600)
FLOW = "id: {id}\nnamespace: w\ntasks: [{{id: say, type: core.log.Log, message: {message}}}]\n"


@pytest.mark.parametrize(
    ("runs", "is_taken_back"),
    [
        ({State.FAILED: 3}, False),
        ({State.FAILED: 4}, True),
        ({State.FAILED: 2, State.SUCCESS: 2}, True),
        ({State.FAILED: 2, State.SUCCESS: 3}, False),
        ({State.FAILED: 2, State.WARNING: 3}, False),
        ({State.FAILED: 3, State.KILLED: 90, State.CANCELLED: 90}, False),
        ({}, False),
    ],
)
def test_a_deployment_fails_by_its_share_of_enough_runs(runs: dict[State, int], *, is_taken_back: bool) -> None:
    deployed = Revision("prod", "7d01c3e" * 5, "ACTIVE", START)

    reason = failure(runs, BOUND, deployed)

    assert (reason is not None) == is_taken_back


@dataclass
class World:
    """An environment with three deployments, of which the last changed flow `a` and not flow `b`."""

    service: SyncService
    now: list[datetime]
    commits: list[str]

    def end(self, flow: str, state: State, count: int, *, begun: datetime | None = None) -> None:
        at = begun or self.now[0]
        for _ in range(count):
            row = Execution(
                id=new_id(),
                namespace="w",
                flow_id=flow,
                flow_revision=2,
                state=state,
                created_at=at,
                started_at=at,
                ended_at=at,
                environment="prod",
                histories=((State.CREATED, at), (state, at)),
            )
            self.service._store.write(lambda db, row=row: db.executions.insert(row))  # type: ignore[misc]  # bound now

    def active(self) -> str | None:
        self.service.take_back_failing()
        return self.service.environment("prod").active


@pytest.fixture
def world(start: Callable[..., SyncService], git_server: Any, work_tree: Any) -> World:
    served = git_server.repository("flows.git")
    now = [START]
    service = start(
        EnvironmentSettings(name="prod", repository="prod", rollback_on_failures=BOUND),
        repositories=(RepositorySettings(name="prod", url=f"{git_server.url}/flows.git"),),
        clock=lambda: now[0],
    )
    commits = []
    for message in ("zero", "one", "two"):
        commits.append(
            work_tree.write(
                {"flows/a.yaml": FLOW.format(id="a", message=message), "flows/b.yaml": FLOW.format(id="b", message="x")}
            )
        )
        work_tree.push(served)
        now[0] += timedelta(minutes=1)
        service.reconcile_repository("prod", actor="poll")
    return World(service, now, commits)


def test_what_fails_after_a_deployment_is_taken_back_and_pinned(world: World) -> None:
    world.end("a", State.SUCCESS, 1)
    world.end("a", State.FAILED, 3)

    active = world.active()

    found = world.service.environment("prod")
    assert (active, found.state) == (world.commits[1], "PINNED")
    row = world.service.history("prod", 1)[0]
    assert (row.action, row.actor, row.reason) == (
        "rollback",
        "mainstem",
        f"3 of 4 runs failed since {world.commits[2][:7]}",
    )
    world.end("a", State.FAILED, 9)
    assert world.active() == world.commits[1]  # it does not go back further


def test_what_is_taken_back_is_proposed_to_git_where_the_environment_says_so(world: World, git_server: Any) -> None:
    settings = world.service._settings
    bound = BOUND.model_copy(update={"propose": True})
    declared = settings.environments[0].model_copy(update={"rollback_on_failures": bound})
    world.service._settings = settings.model_copy(update={"environments": (declared,)})
    world.end("a", State.FAILED, 4)

    active = world.active()

    bare, branch = git_server.root / "flows.git", f"mainstem/revert-prod-{world.commits[1][:7]}"
    assert active == world.commits[1]
    assert git(bare, "rev-parse", f"{branch}^") == world.commits[2]
    assert git(bare, "rev-parse", f"{branch}^{{tree}}") == git(bare, "rev-parse", f"{world.commits[1]}^{{tree}}")


def test_the_poller_takes_a_failing_deployment_back(world: World) -> None:
    world.end("a", State.FAILED, 4)
    poller = Poller(world.service, world.service._store)

    poller.start()

    deadline = time.monotonic() + 60
    while world.service.environment("prod").active != world.commits[1] and time.monotonic() < deadline:
        threading.Event().wait(0.01)
    poller.stop()
    assert world.service.environment("prod").active == world.commits[1]


def test_of_many_that_look_at_once_one_takes_the_deployment_back(world: World) -> None:
    world.end("a", State.FAILED, 4)
    together = threading.Barrier(6)

    def look() -> None:
        together.wait()
        world.service.take_back_failing()

    threads = [threading.Thread(target=look) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    actions = [row.action for row in world.service.history("prod")]
    assert (world.service.environment("prod").active, actions.count("rollback")) == (world.commits[1], 1)


def test_what_was_switched_meanwhile_is_not_taken_back(world: World) -> None:
    orders: Any = world.service._deployments.orders
    given = {"action": "rollback", "actor": "mainstem", "reason": "4 of 4 runs failed", "instead_of": world.commits[2]}
    world.service.stay("prod", world.commits[1], action="pin", actor="ann", reason="first things first")

    with pytest.raises(ConflictError) as other:
        orders.stay("prod", world.commits[0], **given)
    with pytest.raises(ConflictError) as pinned:
        orders.stay("prod", world.commits[0], **(given | {"instead_of": world.commits[1]}))

    assert other.value.code == pinned.value.code == "environment.revision.raced"
    assert world.active() == world.commits[1]


def test_runs_of_other_flows_and_of_before_do_not_count(world: World) -> None:
    world.end("b", State.FAILED, 9)
    world.end("a", State.FAILED, 9, begun=START)
    world.end("a", State.FAILED, 3)

    assert world.active() == world.commits[2]


def test_a_deployment_that_has_stood_for_long_stays(world: World) -> None:
    world.end("a", State.FAILED, 9)
    world.now[0] += timedelta(seconds=BOUND.within_s + 61)

    assert world.active() == world.commits[2]


def test_the_first_deployment_and_a_pinned_one_stay(world: World) -> None:
    world.service.stay("prod", None, action="suspend", actor="ann", reason="looking into it")
    world.end("a", State.FAILED, 9)

    assert world.active() == world.commits[2]


def test_after_somebody_resumed_the_same_commit_its_new_runs_count(world: World) -> None:
    world.end("a", State.FAILED, 4)
    assert world.active() == world.commits[1]
    world.now[0] += timedelta(minutes=1)

    world.service.resume("prod", actor="ann", reason="the cause is gone")

    assert world.active() == world.commits[2]
    world.end("a", State.FAILED, 4)
    assert world.active() == world.commits[1]
