from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runner.errors import AccessError, InvalidError
from runner.settings import EnvironmentSettings, RepositorySettings
from runner.store.records import Environment
from sync.activation import Outcome, RevisionResult
from sync.following import MISSING, MOVED, Following
from sync.service import SyncService
from tests.servers.git import git

A, B, C = "a" * 40, "b" * 40, "c" * 40
FLOW = """\
id: a
namespace: w
tasks:
  - {{id: say, type: core.log.Log, message: {message}}}
"""


def production(**fields: Any) -> Environment:
    return Environment("prod", "r", ref="refs/tags/v*", **fields)


def at(tag: str, commit: str) -> Environment:
    return production(followed=f"refs/tags/{tag}", followed_commit=commit, active=commit)


@pytest.mark.parametrize(
    ("environment", "tags", "commit", "ref", "code"),
    [
        (production(), {}, None, None, MISSING),
        (production(), {"v1": A, "v2": B}, B, "v2", None),
        (at("v1", A), {"v1": A}, A, "v1", None),
        (at("v1", A), {"v1": A, "v2": B}, B, "v2", None),
        (at("v1", A), {"v1": B}, None, "v1", MOVED),
        (at("v1", A), {"v1": B, "v2": C}, C, "v2", None),
        (at("v2", B), {"v1": A}, None, None, MISSING),
        (at("v2", B), {}, None, None, MISSING),
        (at("v2", B), {"v3": C}, C, "v3", None),
        (at("w9", C), {"v1": A}, A, "v1", None),  # the settings named another pattern then
    ],
)
def test_an_environment_goes_on_and_never_back(
    environment: Environment, tags: dict[str, str], commit: str | None, ref: str | None, code: str | None
) -> None:
    found = Following.of(environment, {f"refs/tags/{tag}": sha for tag, sha in tags.items()})

    assert (found.commit, found.ref, found.code) == (commit, ref and f"refs/tags/{ref}", code)


def test_a_moved_tag_is_followed_where_the_settings_say_so() -> None:
    found = Following.of(at("v1", A), {"refs/tags/v1": B}, follows_moved_tags=True)

    assert (found.commit, found.code) == (B, None)


def test_a_branch_of_a_pattern_goes_on_by_itself() -> None:
    environment = Environment(
        "prod", "r", ref="refs/heads/release/*", followed="refs/heads/release/1", followed_commit=A, active=A
    )

    assert Following.of(environment, {"refs/heads/release/1": B}).commit == B


class Releases:
    """A repository in which an environment follows tags."""

    def __init__(self, service: SyncService, served: Path, work_tree: Any) -> None:
        self.service = service
        self._served = served
        self._work_tree = work_tree

    def commit(self, message: str, *tags: str) -> str:
        sha: str = self._work_tree.write({"flows/a.yaml": FLOW.format(message=message)})
        self._work_tree.push(self._served)
        self.tag(*tags)
        return sha

    def tag(self, *names: str) -> None:
        for name in names:
            git(self._work_tree.path, "tag", "-f", "-a", name, "-m", "a release")
            git(self._work_tree.path, "push", "-q", "-f", str(self._served), f"refs/tags/{name}")

    def untag(self, name: str) -> None:
        git(self._work_tree.path, "push", "-q", str(self._served), f":refs/tags/{name}")

    def look(self, name: str = "prod") -> RevisionResult:
        found = {each.environment: each for each in self.service.reconcile_repository("r", actor="test")}
        return found[name]


@pytest.fixture(params=["http", "file"])
def releases(
    request: pytest.FixtureRequest, start: Callable[..., SyncService], git_server: Any, work_tree: Any
) -> Releases:
    served = git_server.repository("flows.git")
    url = f"{git_server.url}/flows.git" if request.param == "http" else f"file://{served}"
    service = start(
        EnvironmentSettings(name="prod", repository="r", ref="tags/v*", namespaces=("w",)),
        EnvironmentSettings(name="next", repository="r", ref="tags/v*-rc*", namespaces=("w2",), path="next"),
        repositories=(RepositorySettings(name="r", url=url),),
    )
    return Releases(service, served, work_tree)


def test_the_newest_release_is_active_whatever_else_is_tagged(releases: Releases) -> None:
    releases.commit("one", "v1.9.0", "nightly")
    first = releases.look()
    second = releases.commit("two", "v1.10.0")
    releases.commit("three", "v2.0.0-rc1", "v1.9.1")

    found, candidate = releases.look(), releases.look("next")

    environment = releases.service.environment("prod")
    assert first.outcome is Outcome.ACTIVE
    assert (found.outcome, environment.active) == (Outcome.ACTIVE, second)
    assert (environment.followed, environment.followed_commit) == ("refs/tags/v1.10.0", second)
    assert candidate.outcome is Outcome.UNCHANGED
    assert releases.service.environment("next").followed == "refs/tags/v2.0.0-rc1"


def test_a_tag_that_is_moved_or_taken_back_changes_nothing_and_says_so(releases: Releases) -> None:
    releases.commit("one", "v1.0.0")
    second = releases.commit("two", "v1.1.0")
    releases.look()

    releases.commit("other", "v1.1.0")
    moved, told = releases.look(), releases.service.environment("prod")
    releases.untag("v1.1.0")
    gone, left = releases.look(), releases.service.environment("prod")
    fourth = releases.commit("four", "v1.1.1")
    onward = releases.look()

    assert (moved.outcome, moved.code, told.active, told.state) == (Outcome.FAILED, MOVED, second, "DETACHED")
    assert f"the tag v1.1.0 was moved from {second[:7]} to " in (told.message or "")
    assert (gone.code, left.active) == (MISSING, second)
    assert left.message == f"refs/tags/v1.1.0 is gone; {second[:7]} stays active"
    assert (onward.outcome, onward.active, releases.service.environment("prod").state) == (
        Outcome.ACTIVE,
        fourth,
        "OK",
    )


def test_after_a_rollback_the_environment_follows_its_tag_again(releases: Releases) -> None:
    first = releases.commit("one", "v1.0.0")
    releases.look()
    second = releases.commit("two", "v1.1.0")
    releases.look()

    back = releases.service.stay("prod", None, actor="ann", reason="slow", action="rollback")
    releases.service.resume("prod", actor="ann")

    assert back.active == first
    assert releases.service.environment("prod").active == second


def test_the_server_writes_to_no_environment_of_tags(releases: Releases) -> None:
    releases.commit("one", "v1.0.0")
    releases.look()

    with pytest.raises(AccessError) as caught:
        releases.service.write_flow(FLOW.format(message="two"), actor="ann")

    assert caught.value.code == "environment.writes.refused"
    assert "refs/tags/v*" in caught.value.message


@pytest.mark.parametrize("ref", ["tags/v 1", "refs/tags/..", "refs/notes/*", "heads/*", "refs/heads/mainstem-*"])
def test_a_pattern_that_means_no_branch_or_tag_or_the_reports_is_refused(
    start: Callable[..., SyncService], ref: str
) -> None:
    with pytest.raises(InvalidError) as caught:
        start(EnvironmentSettings(name="prod", repository="hosted", ref=ref))

    assert caught.value.code == "repository.ref.invalid"
