"""Going back in git: a commit on top of the ref with the files of an earlier revision, in a change request."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from runner.errors import ConflictError, MainstemError, NotFoundError
from runner.settings import EnvironmentSettings, FailureBound, RepositorySettings
from sync.reverts import unproposed
from sync.service import SyncService
from tests.servers.dialects import TOKEN
from tests.servers.git import git

FLOW = "id: {id}\nnamespace: w\ntasks: [{{id: say, type: core.log.Log, message: {message}}}]\n"


def flow(name: str, message: str) -> str:
    return FLOW.format(id=name, message=message)


@dataclass
class World:
    """A service with three deployments, and the forge of its repository."""

    service: SyncService
    forge: Any
    work_tree: Any
    commits: list[str] = field(default_factory=list)

    def push(self, files: dict[str, str | None]) -> None:
        self.commits.append(self.work_tree.write(files))
        git(self.work_tree.path, "push", "-q", str(self.forge.bare), "main")
        self.service.reconcile_repository("r", actor="poll")

    def tree(self, ref: str, folder: str = "flows") -> str:
        return git(self.forge.bare, "ls-tree", "-r", ref, "--", folder)


@pytest.fixture
def world(start: Callable[..., SyncService], git_server: Any, forge: Any, work_tree: Any) -> World:
    repository = RepositorySettings(
        name="r", url=f"{git_server.url}/acme/flows.git", kind=forge.kind, api_url=forge.url, api_token=TOKEN
    )
    service = start(EnvironmentSettings(name="prod", repository="r", writes="refuse"), repositories=(repository,))
    world = World(service, forge, work_tree)
    world.push({"flows/w/a.yaml": flow("a", "one"), "flows/w/q.sql": "1", "README.md": "one"})
    world.push({"flows/w/a.yaml": flow("a", "two"), "flows/w/q.sql": None, "flows/w/b.yaml": flow("b", "new")})
    world.push({"flows/w/a.yaml": flow("a", "three"), "README.md": "three"})
    return world


@pytest.mark.parametrize("forge", ["github", "gitlab"], indirect=True)
def test_a_change_request_gives_the_flows_back_and_leaves_what_is_around_them(world: World) -> None:
    first, _, third = world.commits

    made = world.service.reverts.propose("prod", first[:9], actor="ann", reason="loads @team fail")

    [pull] = world.forge.opened
    assert (pull.title, pull.number) == (f"Revert prod to {first[:7]}", made.number)
    assert made.branch == f"mainstem/revert-prod-{first[:7]}"
    assert git(world.forge.bare, "rev-parse", f"{made.branch}^") == third
    assert world.tree(made.branch) == world.tree(first)
    assert git(world.forge.bare, "show", f"{made.branch}:README.md") == "three"
    assert "**removed** `w.b`" in pull.text
    assert "Why: `loads @team fail`" in pull.text
    assert world.service.environment("prod").active == third
    rows = world.service._store.read(lambda db: db.audit.list(10, action="sync.revert"))
    assert [(row.actor, row.target, row.detail["proposal"]) for row in rows] == [("ann", "environment/prod", made.url)]


@pytest.mark.parametrize("forge", ["github"], indirect=True)
def test_without_a_commit_git_follows_what_a_rollback_pinned_or_else_goes_one_back(world: World) -> None:
    _, second, _ = world.commits

    before = world.service.reverts.propose("prod", None, actor="ann", reason="slow")
    world.service.stay("prod", None, action="rollback", actor="ann", reason="slow")
    pinned = world.service.reverts.propose("prod", None, actor="ann", reason="slow")
    git(world.forge.bare, "update-ref", "refs/heads/main", pinned.commit)
    world.forge.pulls[pinned.number or 0].state = "merged"
    world.service.resume("prod", actor="ann")

    assert before == pinned
    assert world.tree(pinned.branch) == world.tree(second)
    assert world.service.environment("prod").active == pinned.commit
    assert world.service.environment("prod").state == "OK"
    with pytest.raises(ConflictError) as caught:
        world.service.reverts.propose("prod", second, actor="ann", reason="slow")
    assert caught.value.code == "proposal.revert.none"


@pytest.mark.parametrize("forge", ["github"], indirect=True)
def test_a_commit_that_the_mirror_has_lost_is_fetched_again(world: World) -> None:
    first = world.commits[0]
    mirror = world.service.repository("r").repository.path
    world.service._origins.forget("r")
    shutil.rmtree(mirror)

    made = world.service.reverts.propose("prod", first, actor="ann", reason="x")

    assert world.tree(made.branch) == world.tree(first)


@pytest.mark.parametrize("forge", ["github"], indirect=True)
@pytest.mark.parametrize(
    ("environment", "commit", "error", "code"),
    [
        ("other", None, NotFoundError, "environment.missing"),
        ("prod", "f" * 40, NotFoundError, "repository.commit.missing"),
        ("prod", "abc", NotFoundError, "repository.commit.missing"),
    ],
)
def test_what_was_never_active_is_not_gone_back_to(
    world: World, environment: str, commit: str | None, error: type[MainstemError], code: str
) -> None:
    with pytest.raises(error) as caught:
        world.service.reverts.propose(environment, commit, actor="ann", reason="x")

    assert caught.value.code == code
    assert world.forge.opened == []


@pytest.mark.parametrize("forge", ["github"], indirect=True)
def test_a_key_that_was_taken_out_does_not_come_back_with_the_flows(
    start: Callable[..., SyncService], git_server: Any, forge: Any, work_tree: Any
) -> None:
    repository = RepositorySettings(
        name="r", url=f"{git_server.url}/acme/flows.git", kind=forge.kind, api_url=forge.url, api_token=TOKEN
    )
    service = start(EnvironmentSettings(name="prod", repository="r", path=""), repositories=(repository,))
    world = World(service, forge, work_tree)
    world.push({"w/a.yaml": flow("a", "one"), ".mainstem.signers": "# ann and the one who left\n"})
    world.push({"w/a.yaml": flow("a", "two"), ".mainstem.signers": "# ann\n"})

    made = world.service.reverts.propose("prod", world.commits[0], actor="ann", reason="loads fail")

    changed = git(forge.bare, "diff", "--name-only", world.commits[1], made.branch)
    assert changed == "w/a.yaml"


@dataclass
class Watched:
    """An environment that was taken back by itself, and is to be proposed to a forge; its clock stands still."""

    world: World
    now: list[datetime]

    def look(self, minutes: float = 0) -> str | None:
        """Look after so many minutes; return what keeps it from being proposed."""
        self.now[0] += timedelta(minutes=minutes)
        self.world.service.take_back_failing()
        pin = self.world.service.pin_of("prod")
        assert pin is not None
        return self.world.service._store.read(lambda db: unproposed(db, pin))

    def results(self) -> list[str]:
        rows = self.world.service._store.read(lambda db: db.audit.list(100, action="sync.revert"))
        return [row.result for row in reversed(rows)]


@pytest.fixture
def watched(start: Callable[..., SyncService], git_server: Any, forge: Any, work_tree: Any) -> Watched:
    repository = RepositorySettings(
        name="r", url=f"{git_server.url}/acme/flows.git", kind=forge.kind, api_url=forge.url, api_token=TOKEN
    )
    now = [datetime(2026, 3, 1, 12, tzinfo=UTC)]
    environment = EnvironmentSettings(name="prod", repository="r", rollback_on_failures=FailureBound(propose=True))
    world = World(start(environment, repositories=(repository,), clock=lambda: now[0]), forge, work_tree)
    world.push({"flows/w/a.yaml": flow("a", "one")})
    world.push({"flows/w/a.yaml": flow("a", "two")})
    world.service.stay("prod", None, action="rollback", actor="mainstem", reason="4 of 4 runs failed")
    return Watched(world, now)


@pytest.mark.parametrize("forge", ["github"], indirect=True)
def test_what_the_forge_refused_is_proposed_once_it_takes_it(watched: Watched) -> None:
    forge = watched.world.forge
    forge.refuses_to_open = True

    refused = watched.look()
    early = watched.look(minutes=0.9)
    late = watched.look(minutes=0.2)
    forge.refuses_to_open = False
    taken = watched.look(minutes=2)
    watched.look(minutes=600)

    assert refused == early
    assert refused is not None
    assert refused.startswith("not proposed to git after 1 of 12 tries: proposal.unopened: the branch mainstem/revert")
    assert refused.endswith("(it is tried again)")
    assert late is not None
    assert "after 2 of 12" in late
    assert (taken, watched.results(), len(forge.opened)) == (None, ["REFUSED", "REFUSED", "PROPOSED"], 1)


@pytest.mark.parametrize("forge", ["github"], indirect=True)
def test_a_pin_of_somebody_is_not_said_to_be_proposed_again(watched: Watched) -> None:
    watched.world.forge.refuses_to_open = True
    refused = watched.look()
    watched.world.service.stay("prod", watched.world.commits[0], action="pin", actor="ann", reason="mine now")

    said = watched.look(minutes=61)

    assert refused is not None
    assert (said, watched.results()) == (None, ["REFUSED"])


@pytest.mark.parametrize("forge", ["github"], indirect=True)
def test_a_forge_that_refuses_for_hours_is_asked_twelve_times(watched: Watched) -> None:
    watched.world.forge.refuses_to_open = True

    for _ in range(14):
        said = watched.look(minutes=61)

    assert watched.results() == ["REFUSED"] * 12
    assert said is not None
    assert said.endswith("(not tried again; mainstem sync revert prod)")


@pytest.mark.parametrize("forge", ["github"], indirect=True)
def test_what_git_has_undone_already_is_not_proposed_again_and_again(watched: Watched) -> None:
    watched.world.push({"flows/w/a.yaml": flow("a", "one")})

    said = [watched.look(minutes=61) for _ in range(3)]

    assert (said, watched.results(), watched.world.forge.opened) == ([None] * 3, ["UNNEEDED"], [])


@pytest.mark.parametrize("forge", ["github"], indirect=True)
def test_a_clock_that_was_set_back_keeps_no_proposal_waiting(watched: Watched) -> None:
    watched.world.forge.refuses_to_open = True
    watched.look(minutes=60)

    again = watched.look(minutes=-90)
    early = watched.look(minutes=1)
    watched.world.forge.refuses_to_open = False
    said = watched.look(minutes=2)

    assert watched.results() == ["REFUSED", "REFUSED", "PROPOSED"]
    assert (again is not None, early == again, said) == (True, True, None)
