"""Writes that become proposals: a branch, a commit, a change request at each forge, over sockets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from runner.errors import ConflictError, FlowError, MainstemError
from runner.settings import EnvironmentSettings, RepositorySettings
from sync.forges.bitbucket_api import BitbucketApi
from sync.proposals import Proposal, branch_of
from sync.service import SyncService
from tests.servers.dialects import TOKEN
from tests.servers.git import git

FLOW = """\
id: {name}
namespace: w
tasks:
  - id: say
    type: core.log.Log
    message: {message}
"""
KINDS = ("github", "gitlab", "forgejo", "bitbucket")
Start = Callable[..., SyncService]


def flow(name: str, message: str = "hello") -> str:
    return FLOW.format(name=name, message=message)


@dataclass
class World:
    """A service whose environment takes proposals only, and the forge of its repository."""

    service: SyncService
    forge: Any
    work_tree: Any

    def write(self, *sources: str, actor: str = "ann") -> Proposal | None:
        made: list[Proposal] = []
        self.versions = self.service.write_flows(sources, actor=actor, proposed=made.append)
        return made[0] if made else None

    def show(self, ref: str, path: str = "flows/w/a.yaml") -> str:
        return git(self.forge.bare, "show", f"{ref}:{path}")

    def log(self, ref: str) -> list[str]:
        return git(self.forge.bare, "log", "--format=%s", ref).splitlines()

    def branches(self) -> list[str]:
        found = git(self.forge.bare, "for-each-ref", "--format=%(refname:short)", "refs/heads/mainstem")
        return found.splitlines()


@pytest.fixture
def world(start: Start, git_server: Any, forge: Any, work_tree: Any) -> World:
    repository = RepositorySettings(
        name="r", url=f"{git_server.url}/acme/flows.git", kind=forge.kind, api_url=forge.url, api_token=TOKEN
    )
    service = start(
        EnvironmentSettings(name="production", repository="r", writes="propose"), repositories=(repository,)
    )
    work_tree.write({"flows/w/a.yaml": flow("a"), "flows/w/b.yaml": flow("b")})
    git(work_tree.path, "push", "-q", str(forge.bare), "main")
    service.reconcile_repository("r", actor="poll")
    return World(service, forge, work_tree)


@pytest.mark.parametrize("forge", KINDS, indirect=True)
def test_a_write_opens_a_change_request_and_nothing_is_active(world: World) -> None:
    made = world.write(flow("a", "slower"))

    assert made is not None
    [pull] = world.forge.opened
    assert (pull.number, pull.branch, pull.title) == (made.number, made.branch, "Write w.a")
    assert made.url is not None
    assert made.url.startswith(world.forge.url)
    assert made.branch.startswith("mainstem/w.a-")
    assert "Asked for by `ann`" in pull.text
    assert "`tasks.say.message hello -> slower`" in pull.text
    assert (
        git(world.forge.bare, "log", "-1", "--format=%an %(trailers:key=Requested-by,valueonly)", made.branch)
        == "ann ann"
    )
    assert (world.show(made.branch)[-6:], world.show("main")[-5:]) == ("slower", "hello")
    [version] = world.versions
    assert (version.revision, version.commit, version.active) == (2, made.commit, False)
    active = world.service._store.read(lambda db: db.flows.active("w", "a"))
    assert active is not None
    assert (active.revision, active.source) == (1, flow("a"))


@pytest.mark.parametrize("forge", KINDS, indirect=True)
def test_a_second_write_goes_on_in_the_open_change_request_and_a_later_one_begins_anew(world: World) -> None:
    first, second = world.write(flow("a", "one")), world.write(flow("a", "two"), actor="bob")
    same = world.write(flow("a", "two"))
    assert first is not None
    assert second is not None
    log = world.log(first.branch)
    texts = [pull.text for pull in world.forge.opened]
    world.forge.pulls[first.number].state = "closed"

    third = world.write(flow("a", "three"))

    assert third is not None
    assert (first.branch, first.number, first.url) == (second.branch, second.number, second.url)
    assert same == second
    assert log == ["Write w.a", "Write w.a", "change"]
    assert len(texts) == 1
    assert "hello -&gt; two" in texts[0] or "hello -> two" in texts[0]
    assert (third.branch, third.number) == (first.branch, (first.number or 0) + 1)
    assert world.log(third.branch) == ["Write w.a", "change"]
    assert world.show(third.branch).endswith("three")


@pytest.mark.parametrize("forge", ["github"], indirect=True)
def test_what_is_so_already_is_not_proposed(world: World) -> None:
    made = world.write(flow("a"))

    assert made is None
    assert world.branches() == []
    assert [version.revision for version in world.versions] == [1]


@pytest.mark.parametrize("forge", ["github"], indirect=True)
def test_flows_together_new_ones_and_deletions_are_proposed_too(world: World) -> None:
    made: list[Proposal] = []

    together = world.write(flow("a", "x"), flow("new"))
    world.service.delete_flow("w", "b", actor="ann", proposed=made.append)
    again = world.write(flow("b", "back"))

    assert together is not None
    assert again is not None
    assert together.branch.startswith("mainstem/2-files-")
    assert [pull.title for pull in world.forge.opened] == ["Write 2 flows", "Write w.b"]
    assert made[0].number == again.number
    assert world.show(again.branch, "flows/w/b.yaml").endswith("back")
    assert world.show(together.branch, "flows/w/new.yaml") == flow("new").strip()


@pytest.mark.parametrize("forge", ["github"], indirect=True)
def test_a_flow_with_errors_is_not_proposed(world: World) -> None:
    with pytest.raises(FlowError) as caught:
        world.write(flow("a").replace("Log", "Lgo"))

    assert caught.value.code == "flow.invalid"
    assert (world.branches(), world.forge.opened) == ([], [])


@pytest.mark.parametrize("forge", ["github"], indirect=True)
def test_who_does_not_listen_for_proposals_is_refused(world: World) -> None:
    with pytest.raises(ConflictError) as caught:
        world.service.write_flow(flow("a", "x"), actor="ann")

    assert caught.value.code == "environment.writes.elsewhere"
    assert world.branches() == []


@pytest.mark.parametrize("forge", ["github"], indirect=True)
def test_a_forge_that_does_not_answer_leaves_nothing_behind(world: World) -> None:
    world.forge.failures = [(401, {})]

    with pytest.raises(MainstemError) as caught:
        world.write(flow("a", "x"))

    assert (caught.value.code, caught.value.status) == ("proposal.forge.away", 502)
    assert "[forge.access.denied]" in caught.value.message
    assert TOKEN not in str(caught.value)
    assert world.branches() == []


@pytest.mark.parametrize("forge", ["github", "gitlab"], indirect=True)
def test_a_branch_whose_change_request_the_forge_refused_is_told_and_taken_up_again(world: World) -> None:
    world.forge.refuses_to_open = True
    with pytest.raises(MainstemError) as caught:
        world.write(flow("a", "x"))
    [left] = world.branches()
    tip = git(world.forge.bare, "rev-parse", left)
    world.forge.refuses_to_open = False

    made = world.write(flow("a", "x"))

    assert caught.value.code == "proposal.unopened"
    assert left in caught.value.message
    assert made is not None
    assert (made.branch, made.commit) == (left, tip)
    assert len(world.forge.opened) == 1


@pytest.mark.parametrize("forge", ["gitlab"], indirect=True)
def test_what_others_named_is_no_mention_and_closes_nothing(world: World) -> None:
    files = world.service.file_writer()
    made: list[Proposal] = []
    names = {"Closes #12 @team.sql": b"select 1", "x.sql": b"2"}

    files.write("production", "w", names, actor="ann", proposed=made.append)

    [pull] = world.forge.opened
    message = git(world.forge.bare, "log", "-1", "--format=%B", made[0].branch)
    assert pull.title == "Write 2 files of w"
    assert not any(bad in text for text in (pull.title, pull.text, message) for bad in ("#12", "@team"))
    assert world.show(made[0].branch, "flows/w/Closes #12 @team.sql") == "select 1"


@pytest.mark.parametrize("forge", ["bitbucket"], indirect=True)
def test_a_plan_that_is_too_long_for_the_forge_is_cut_where_nothing_is_left_open(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BitbucketApi, "most_comment", 900)

    made = world.write(*(flow(f"f{number}") for number in range(40)))

    [pull] = world.forge.opened
    assert made is not None
    assert 600 < len(pull.text) <= 900
    assert (pull.text.count("<details>"), pull.text.count("</details>")) == (1, 1)
    assert "… the rest is cut: see `mainstem plan`." in pull.text
    assert pull.text.endswith("it is written anew.</sub>")


@pytest.mark.parametrize("forge", ["github"], indirect=True)
def test_a_namespace_is_described_and_its_files_are_moved_and_removed_by_proposals(world: World) -> None:
    made: list[Proposal] = []
    world.service.namespaces.write("w", {"description": "Ours"}, actor="ann", proposed=made.append)
    world.work_tree.write({"flows/w/q.sql": "select 1"})
    git(world.work_tree.path, "push", "-q", str(world.forge.bare), "main")
    world.service.reconcile_repository("r", actor="poll")
    files = world.service.file_writer()

    files.move("production", "w", "q.sql", "p.sql", actor="ann", proposed=made.append)
    files.delete("production", "w", lambda path: path == "q.sql", actor="ann", proposed=made.append)

    assert "description: Ours" in world.show(made[0].branch, "flows/w/_defaults.yaml")
    assert world.show(made[1].branch, "flows/w/p.sql") == "select 1"
    assert "q.sql" not in git(world.forge.bare, "ls-tree", "-r", "--name-only", made[2].branch)
    assert [pull.branch for pull in world.forge.opened] == [each.branch for each in made]


def test_without_a_forge_a_branch_is_pushed_and_used_until_it_is_merged(
    start: Start, git_server: Any, work_tree: Any
) -> None:
    bare = git_server.repository("flows.git")
    work_tree.write({"flows/w/a.yaml": flow("a")})
    git(work_tree.path, "push", "-q", str(bare), "main")
    plain = RepositorySettings(name="r", url=f"{git_server.url}/flows.git")
    service = start(EnvironmentSettings(name="e", repository="r", writes="propose"), repositories=(plain,))
    service.reconcile_repository("r", actor="poll")
    made: list[Proposal] = []

    for message in ("one", "two"):
        service.write_flow(flow("a", message), actor="ann", proposed=made.append)
    before = git(bare, "log", "--format=%s", made[1].branch).splitlines()
    git(bare, "update-ref", "refs/heads/main", made[1].commit)
    service.reconcile_repository("r", actor="poll")
    service.write_flow(flow("a", "three"), actor="ann", proposed=made.append)

    assert {(each.branch, each.number, each.url) for each in made} == {(made[0].branch, None, None)}
    assert before == ["Write w.a", "Write w.a", "change"]
    assert git(bare, "rev-parse", f"{made[2].branch}^") == made[1].commit


def test_the_hosted_repository_gets_a_branch(start: Start) -> None:
    service = start(EnvironmentSettings(name="default", repository="hosted", writes="propose"))
    made: list[Proposal] = []
    with pytest.raises(ConflictError) as empty:
        service.write_flow(flow("a"), actor="ann", proposed=made.append)
    repository = service.repository("hosted").repository
    from datetime import UTC, datetime

    from sync.commit_record import Author

    first = repository.commit_changes(
        None, {"flows/w/a.yaml": flow("a").encode()}, author=Author("a", "a"), message="m", at=datetime.now(UTC)
    )
    repository.set_head("refs/heads/main", None, first)
    service.reconcile_repository("hosted", actor="poll")

    service.write_flow(flow("a", "x"), actor="ann", proposed=made.append)

    assert empty.value.code == "proposal.base.none"
    assert repository.head(f"refs/heads/{made[0].branch}") == made[0].commit
    assert repository.head("refs/heads/main") == first


@pytest.mark.parametrize(
    ("paths", "name"),
    [
        (["flows/w/a.yaml"], "mainstem/w.a-"),
        (["flows/team.sub/load.yml"], "mainstem/team.sub.load-"),
        (["flows/w/@x/../#1 …\n.sql"], "mainstem/w.x.1.sql-"),
        (["elsewhere/" + "a" * 500], f"mainstem/elsewhere.{'a' * 50}-"),
        (["flows/…"], "mainstem/change-"),
        (["a", "b", "c"], "mainstem/3-files-"),
    ],
)
def test_a_branch_is_named_after_what_it_changes(paths: list[str], name: str) -> None:
    environment: Any = type("E", (), {"name": "production", "path": "flows"})

    branch = branch_of(environment, dict.fromkeys(paths))

    assert branch.startswith(name)
    assert len(branch) == len(name) + 8
    assert branch == branch_of(environment, dict.fromkeys(reversed(paths)))
    git_name_check = branch.encode().isascii() and ".." not in branch and " " not in branch
    assert git_name_check
