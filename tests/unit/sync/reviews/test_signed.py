"""Change requests for an environment that takes signed commits alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from runner.settings import SignatureSettings
from sync.service import SyncService
from tests.servers.git import git
from tests.servers.review_world import World, flow, world_of
from tests.servers.signers import Signers


@pytest.fixture
def signed(
    start: Callable[..., SyncService], git_server: Any, forge: Any, work_tree: Any, ssh_signers: Signers
) -> World:
    policy = SignatureSettings(required=True, keys=(ssh_signers.listed("ann"),))
    return world_of(start, git_server, forge, work_tree, signatures=policy)


def propose(world: World, signers: Signers, number: int, *, is_fork: bool, ssh: str | None) -> str:
    """Open a change request whose newest commit is signed with a key, or with none; return that commit."""
    git(world.work_tree.path, "checkout", "-q", "-B", f"topic{number}", "main")
    commit = signers.write(world.work_tree.path, {"flows/a.yaml": flow("a", f"say {number}")}, ssh=ssh)
    git(world.work_tree.path, "push", "-q", "-f", str(world.forge.bare), f"topic{number}")
    world.forge.open(number, f"topic{number}", is_fork=is_fork)
    return commit


@pytest.mark.parametrize("forge", ["github", "gitlab"], indirect=True)
@pytest.mark.parametrize("is_fork", [False, True])
def test_the_signature_of_the_newest_commit_makes_the_status_and_stands_in_the_comment(
    signed: World, ssh_signers: Signers, *, is_fork: bool
) -> None:
    good = propose(signed, ssh_signers, 7, is_fork=is_fork, ssh="ann")
    unsigned = propose(signed, ssh_signers, 8, is_fork=is_fork, ssh=None)
    strange = propose(signed, ssh_signers, 9, is_fork=is_fork, ssh="ben")

    looked = [signed.look(number) for number in (7, 8, 9)]

    assert looked == [True] * 3
    told = [signed.forge.status(commit) for commit in (good, unsigned, strange)]
    assert [each["is_good"] for each in told] == [True, False, False]
    assert told[1]["summary"] == f"1 problem: - commit {unsigned[:7]} is not signed"
    comments = ["".join(signed.forge.ours(number)) for number in (7, 8, 9)]
    assert "\nSigned by `ann@example.org` (ssh `SHA256:" in comments[0].replace("\u200b", "")
    assert "`signature.missing`" in comments[1]
    assert "`signature.key.unknown`" in comments[2]


@pytest.mark.parametrize("forge", ["github"], indirect=True)
def test_a_commit_that_is_refused_for_its_signature_has_a_red_status_with_the_reason(
    signed: World, ssh_signers: Signers
) -> None:
    git(signed.work_tree.path, "checkout", "-q", "main")
    good = ssh_signers.write(signed.work_tree.path, {"flows/a.yaml": flow("a", "one")}, ssh="ann")
    git(signed.work_tree.path, "push", "-q", str(signed.forge.bare), "main")
    signed.service.reconcile_repository("r", actor="poll")
    signed.service.review("r")
    bad = signed.commit("main", {"flows/a.yaml": flow("a", "two")})
    signed.service.reconcile_repository("r", actor="poll")

    assert signed.service.review("r")

    assert signed.forge.status(good)["is_good"]
    assert signed.forge.status(bad)["is_good"] is False
    assert "is not signed" in signed.forge.status(bad)["summary"]
