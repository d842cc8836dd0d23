"""Checks that a repository requires before a commit is activated."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from runner.errors import AccessError
from runner.store.records import Repository
from sync.activation import Outcome, RevisionResult
from sync.forges.api import ForgeApi
from sync.forges.check_states import CheckState, states_of
from tests.servers.review_world import World, flow

REQUIRED = "checks: {required: [ci/build, lint]}\n"

github = pytest.mark.parametrize("forge", ["github"], indirect=True)
every_forge = pytest.mark.parametrize("forge", ["github", "gitlab", "gitea", "bitbucket"], indirect=True)


def push(world: World, message: str = "bye", **settings: str | None) -> str:
    """Push a flow and perhaps other settings; return the commit."""
    files = {".mainstem.yaml": settings["said"]} if settings else {}
    return world.commit("main", {**files, "flows/a.yaml": flow("a", message)})


def look(world: World) -> RevisionResult:
    [result] = world.service.reconcile_repository("r", actor="test")
    return result


def green(world: World, commit: str, *names: str) -> None:
    world.forge.results.update({(commit, name): "green" for name in names})


@every_forge
def test_a_commit_waits_until_all_its_checks_are_green(world: World) -> None:
    commit = push(world, said=REQUIRED)
    world.forge.results.update({(commit, "ci/build"): "open", (commit, "other"): "red"})
    outcomes = [look(world).outcome, look(world).outcome]
    waiting = world.service.environment("production")
    world.forge.results[commit, "ci/build"] = "red"
    failed = look(world)
    green(world, commit, "ci/build", "lint")

    passed = look(world)

    assert outcomes == [Outcome.WAITING] * 2
    assert waiting.state == "WAITING"
    assert (waiting.message or "").endswith("UTC: ci/build is open, lint is open")
    assert (failed.message or "").endswith("UTC: ci/build is red, lint is open")
    assert (passed.outcome, passed.active) == (Outcome.ACTIVE, commit)
    assert [row.result for row in world.service.history("production")][:2] == ["ACTIVE", "WAITING"]
    assert world.service.environment("production").state == "OK"


@github
def test_a_check_run_counts_like_a_status_and_the_worst_of_one_name_decides(world: World) -> None:
    commit = push(world, said=REQUIRED)
    world.forge.results.update({(commit, "ci/build"): "run green", (commit, "lint"): "run open"})
    first = look(world)
    world.forge.results[commit, "lint"] = "run red"
    second = look(world)
    world.forge.results[commit, "lint"] = "run green"

    assert (first.message or "").endswith("UTC: lint is open")
    assert (second.message or "").endswith("UTC: lint is red")
    assert look(world).outcome is Outcome.ACTIVE
    assert states_of({"a"}, [("a", CheckState.GREEN), ("a", CheckState.RED)]) == {"a": CheckState.RED}


@github
def test_after_its_time_a_commit_is_not_asked_about_again_unless_somebody_says_so(world: World) -> None:
    commit = push(world, said=REQUIRED)
    look(world)
    checks = world.service._checks
    world.service._checks = replace(checks, clock=lambda: checks.clock() + timedelta(seconds=3_601))
    over, state = look(world), world.service.environment("production").state
    world.forge.calls.clear()
    green(world, commit, "ci/build", "lint")

    settled = look(world)
    calls = list(world.forge.calls)
    [forced] = world.service.reconcile_repository("r", actor="ann", reason="manual")

    assert (over.outcome, state) == (Outcome.UNCHECKED, "DEGRADED")
    assert over.message == f"revision {commit[:7]} not activated: after 3600 s ci/build is open, lint is open"
    assert (settled.outcome, calls) == (Outcome.UNCHANGED, [])
    assert forced.outcome is Outcome.ACTIVE


@every_forge
def test_a_commit_that_waits_is_pending_at_its_forge_and_red_once_its_time_is_over(world: World) -> None:
    commit = push(world, said=REQUIRED)
    world.service.review("r", [look(world)])
    waiting = dict(world.forge.status(commit))
    checks = world.service._checks
    world.service._checks = replace(checks, clock=lambda: checks.clock() + timedelta(seconds=3_601))

    world.service.review("r", [look(world)])

    over = world.forge.status(commit)
    assert (waiting["is_good"], waiting["summary"]) == (None, "waits for its required checks: 1 changed")
    assert (over["is_good"], over["summary"]) == (
        False,
        "not active, its required checks are not green: 1 changed",
    )


@github
def test_who_drops_a_required_check_has_it_green_once_more(world: World) -> None:
    first = push(world, said=REQUIRED)
    green(world, first, "ci/build", "lint")
    look(world)

    second = push(world, "free", said="{}")
    dropped = look(world)
    green(world, second, "ci/build", "lint")
    active = look(world)
    third = push(world, "freed")
    freed = look(world)

    assert (dropped.outcome, active.outcome, freed.outcome) == (Outcome.WAITING, Outcome.ACTIVE, Outcome.ACTIVE)
    assert freed.active == third


@github
def test_an_order_needs_no_checks_and_the_server_writes_nothing_that_none_have_seen(world: World) -> None:
    first = push(world, said=REQUIRED)
    green(world, first, "ci/build", "lint")
    look(world)
    urgent = push(world, "urgent")
    look(world)

    pinned = world.service.stay("production", urgent, actor="ann", reason="now", action="pin")
    world.service.resume("production", actor="ann")
    with pytest.raises(AccessError) as caught:
        world.service.write_flow(flow("c"), actor="ann")

    assert (pinned.outcome, pinned.active) == (Outcome.ACTIVE, urgent)
    assert caught.value.code == "environment.writes.unchecked"


@github
def test_a_forge_that_is_down_keeps_a_commit_waiting(world: World) -> None:
    commit = push(world, said=REQUIRED)
    world.forge.failures.extend([(502, {})] * 4)
    down = look(world)
    green(world, commit, "ci/build", "lint")

    assert down.outcome is Outcome.WAITING
    assert "ci/build, lint cannot be asked for: " in (down.message or "")
    assert look(world).outcome is Outcome.ACTIVE


@github
def test_a_busy_forge_does_not_keep_the_repository_locked_for_long(world: World) -> None:
    commit = push(world, said=REQUIRED)
    waits: list[float] = []
    checks = world.service._checks

    def counted(repository: Repository) -> ForgeApi | None:
        api = checks.api(repository)
        if api is not None:
            api._sleep = waits.append
        return api

    world.service._checks = replace(checks, api=counted)
    world.forge.failures.extend([(429, {"retry-after": "25"}), (502, {}), (502, {}), (502, {})])
    first, second = look(world), look(world)
    green(world, commit, "ci/build", "lint")

    assert (first.outcome, second.outcome) == (Outcome.WAITING, Outcome.WAITING)
    assert sum(waits) < 5
    assert look(world).outcome is Outcome.ACTIVE


@github
def test_without_a_forge_to_ask_the_commit_is_refused_with_the_reason(world: World) -> None:
    world.service._checks = replace(world.service._checks, api=lambda _repository: None)
    push(world, said=REQUIRED)

    found = look(world)

    assert found.outcome is Outcome.UNCHECKED
    assert "repository r has no forge with an API, or there is no token for it" in (found.message or "")
