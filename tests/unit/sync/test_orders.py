from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from runner.errors import ConflictError, InvalidError, NotFoundError
from runner.settings import EnvironmentSettings, RepositorySettings
from runner.store import Store
from sync.activation import Outcome
from sync.service import SyncService

FLOW = """\
id: {id}
namespace: w
tasks:
  - id: say
    type: core.log.Log
    message: {message}
"""
START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def flow(name: str, message: str = "hello") -> str:
    return FLOW.format(id=name, message=message)


@dataclass
class World:
    """A served repository with three commits, each of which was activated."""

    service: SyncService
    served: Path
    work_tree: Any
    now: list[datetime]
    commits: list[str] = field(default_factory=list)

    @property
    def store(self) -> Store:
        return self.service._store

    def push(self, files: dict[str, str | None]) -> str:
        commit: str = self.work_tree.write(files)
        self.work_tree.push(self.served)
        self.now[0] += timedelta(minutes=1)
        return commit

    def look(self) -> Outcome:
        return self.service.reconcile_repository("prod", actor="poll")[0].outcome

    def messages(self) -> dict[str, str]:
        versions = self.store.read(lambda db: db.flows.list())
        return {version.flow_id: version.source.rpartition("message: ")[2].strip() for version in versions}

    def cut(self) -> None:
        """Take the served repository away, as an outage of the forge does."""
        self.served.rename(self.served.with_name("away.git"))

    def order(self, action: str, commit: str | None = None, **given: Any) -> Any:
        return self.service.stay("prod", commit, action=action, actor="ann", reason="it breaks", **given)


@pytest.fixture
def world(start: Callable[..., SyncService], git_server: Any, work_tree: Any) -> World:
    served = git_server.repository("flows.git")
    now = [START]
    service = start(
        EnvironmentSettings(name="prod", repository="prod"),
        repositories=(RepositorySettings(name="prod", url=f"{git_server.url}/flows.git"),),
        clock=lambda: now[0],
    )
    world = World(service, served, work_tree, now)
    steps: tuple[dict[str, str | None], ...] = (
        {"flows/a.yaml": flow("a", "one"), "flows/w/data.txt": "1"},
        {"flows/a.yaml": flow("a", "two"), "flows/b.yaml": flow("b"), "flows/w/data.txt": "2"},
        {"flows/a.yaml": flow("a", "three"), "flows/b.yaml": None, "flows/c.yaml": flow("c")},
    )
    for files in steps:
        world.commits.append(world.push(files))
        assert world.look() is Outcome.ACTIVE
    return world


def test_a_rollback_needs_no_remote_and_is_kept_by_a_pin(world: World) -> None:
    world.cut()

    result = world.order("rollback")

    found = world.service.environment("prod")
    assert (result.outcome, found.active, found.state) == (Outcome.ACTIVE, world.commits[1], "PINNED")
    assert found.message == f"pinned to {world.commits[1][:7]} by ann: it breaks"
    assert world.messages() == {"a": "two", "b": "hello"}
    commits = {version.commit for version in world.store.read(lambda db: db.flows.list())}
    assert commits == {world.commits[1]}
    row = world.service.history("prod", 1)[0]
    assert (row.action, row.actor, row.reason, row.previous) == ("rollback", "ann", "it breaks", world.commits[2])
    assert world.store.read(lambda db: db.revisions.broken("prod")) is None


def test_a_second_rollback_goes_one_further_and_there_is_an_end(world: World) -> None:
    world.order("rollback")

    second = world.order("rollback")

    assert second.active == world.commits[0]
    with pytest.raises(NotFoundError, match="nothing was active before") as caught:
        world.order("rollback")
    assert caught.value.hint == "name a commit; those seen are in: mainstem sync history prod"
    assert world.messages() == {"a": "one"}


def test_a_rollback_passes_over_commits_that_changed_no_flow(world: World) -> None:
    world.push({"readme": "only this"})
    assert world.look() is Outcome.UNCHANGED

    result = world.order("rollback")

    assert result.active == world.commits[1]


def test_a_rollback_works_after_the_mirror_was_lost_with_the_remote(world: World) -> None:
    world.cut()
    world.service.close()
    shutil.rmtree(world.service._origins._home / "mirrors")

    result = world.order("rollback", world.commits[0][:9])

    assert (result.outcome, result.active) == (Outcome.ACTIVE, world.commits[0])
    assert world.messages() == {"a": "one"}


def test_what_is_pushed_to_a_pinned_environment_waits_and_is_planned_once(world: World) -> None:
    world.order("rollback")
    pushed = world.push({"flows/a.yaml": flow("a", "four")})

    outcomes = [world.look() for _ in range(3)]

    rows = world.service.history("prod")
    assert outcomes == [Outcome.PINNED, Outcome.UNCHANGED, Outcome.UNCHANGED]
    assert [row.result for row in rows if row.commit == pushed] == ["PINNED"]
    assert world.service.environment("prod").state == "PINNED"
    assert world.messages()["a"] == "two"


def test_the_answer_to_a_push_names_the_pin_and_the_way_out(world: World) -> None:
    world.order("suspend", until=START + timedelta(days=1))
    pushed = world.push({"flows/a.yaml": flow("a", "four")})

    [result] = world.service.reconcile_repository("prod", actor="poll")

    pin = f"pinned to {world.commits[2][:7]} until 2026-03-02 12:00 UTC by ann: it breaks"
    assert result.lines == [
        f"revision {pushed[:7]} waits: environment prod is {pin}",
        "let it follow again with: mainstem sync resume prod",
    ]


def test_resuming_brings_what_waited(world: World) -> None:
    world.order("rollback")
    pushed = world.push({"flows/a.yaml": flow("a", "four")})
    world.look()

    [result] = world.service.resume("prod", actor="bob", reason="mended")

    found = world.service.environment("prod")
    assert (result.outcome, found.active, found.state) == (Outcome.ACTIVE, pushed, "OK")
    assert [row.action for row in world.service.history("prod", 3)] == ["sync", "resume", "sync"]
    with pytest.raises(ConflictError, match="follows its ref already"):
        world.service.resume("prod", actor="bob")


def test_a_pin_that_runs_out_frees_the_environment_by_itself(world: World) -> None:
    world.order("pin", world.commits[0], until=world.now[0] + timedelta(hours=2))
    before = world.service.expire_pins()
    world.now[0] += timedelta(hours=2)

    freed = world.service.expire_pins()

    assert (before, freed) == ([], ["prod"])
    assert world.look() is Outcome.ACTIVE
    assert world.service.environment("prod").active == world.commits[2]
    assert world.service.history("prod", 2)[1].action == "expire"


def test_a_commit_that_was_never_active_can_be_pinned_when_it_is_here(world: World) -> None:
    world.order("suspend")
    pushed = world.push({"flows/a.yaml": flow("a", "four")})
    world.look()

    result = world.order("pin", pushed)

    assert (result.active, world.messages()["a"]) == (pushed, "four")


@pytest.mark.parametrize("commit", ["0" * 40, "abc", "0000000"])
def test_an_unknown_commit_is_refused_and_nothing_changes(world: World, commit: str) -> None:
    with pytest.raises(NotFoundError, match="never had commit"):
        world.order("pin", commit)

    assert world.service.environment("prod").state == "OK"
    assert world.service.pin_of("prod") is None


def test_a_revision_that_another_environment_owns_meanwhile_stays_away(world: World) -> None:
    world.store.write(
        lambda db: db.connection.driver.execute("UPDATE flows SET environment = 'other' WHERE flow_id = 'a'")
    )

    with pytest.raises(InvalidError, match="belongs to environment other"):
        world.order("rollback")

    assert world.service.environment("prod").active == world.commits[2]


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"reason": " \n "}, "environment.reason.missing"),
        ({"reason": "x", "until": START}, "environment.until.past"),
    ],
)
def test_an_order_needs_a_reason_and_a_future(world: World, given: dict[str, Any], code: str) -> None:
    with pytest.raises(InvalidError) as refused:
        world.service.stay("prod", None, action="suspend", actor="ann", **given)

    assert refused.value.code == code


def test_a_write_to_a_pinned_environment_is_refused_before_it_is_committed(
    start: Callable[..., SyncService],
) -> None:
    service = start()
    first = service.write_flow(flow("a"), actor="ann")
    service.stay("default", None, action="suspend", actor="ann", reason="release")

    with pytest.raises(ConflictError, match="pinned to") as refused:
        service.write_flow(flow("a", "two"), actor="ann")

    head = service.repository("hosted").repository.head("refs/heads/main")
    assert (refused.value.code, head) == ("environment.pinned", first.commit)
