"""Checks that a repository requires before a commit is activated."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from datetime import timedelta

import pytest

from runner.errors import AccessError
from runner.store.records import Repository
from sync.activation import Outcome, RevisionResult
from sync.forges.api import ForgeApi
from sync.forges.check_states import CheckState, states_of
from sync.sources import FetchError
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


def meanwhile(world: World, happens: Callable[[], object]) -> None:
    """Let something happen each time that the forge is asked for checks, before it answers."""
    checks = world.service._checks

    def opened(repository: Repository) -> ForgeApi | None:
        api = checks.api(repository)
        assert api is not None
        ask = api.check_states

        def later(commit: str, names: Collection[str]) -> Mapping[str, CheckState]:
            happens()
            return ask(commit, names)

        api.check_states = later  # type: ignore[method-assign]  # the forge is as slow as what happens
        return api

    world.service._checks = replace(checks, api=opened)


def planned_beside(world: World, commit: str) -> list[str]:
    """Return the list of what others could plan in five seconds in which the forge did not answer."""
    plans: list[str] = []

    def plan() -> None:
        beside = threading.Thread(target=lambda: plans.append(world.service.plan("production", commit).commit))
        beside.start()
        beside.join(5)

    meanwhile(world, plan)
    return plans


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
def test_a_busy_forge_does_not_keep_a_look_waiting_for_long(world: World) -> None:
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


@github
def test_a_slow_forge_keeps_nobody_else_from_the_repository(world: World) -> None:
    commit = push(world, said=REQUIRED)
    green(world, commit, "ci/build", "lint")
    plans = planned_beside(world, commit)

    found = look(world)

    assert plans == [commit]
    assert (found.outcome, found.active) == (Outcome.ACTIVE, commit)


@github
def test_a_commit_that_its_ref_names_no_more_once_the_forge_has_answered_is_not_activated(world: World) -> None:
    before = world.service.environment("production").active
    green(world, push(world, said=REQUIRED), "ci/build", "lint")
    newer: list[str] = []
    meanwhile(world, lambda: newer.extend([] if newer else [push(world, "newer")]))

    found = look(world)

    assert (found.outcome, found.commit) == (Outcome.WAITING, newer[0])
    assert world.service.environment("production").active == before
    assert [row.commit for row in world.service.history("production")][:2] == [newer[0], before]


@github
def test_a_pin_that_is_set_while_the_forge_is_asked_counts(world: World) -> None:
    green(world, push(world, said=REQUIRED), "ci/build", "lint")
    meanwhile(world, lambda: world.service.stay("production", None, actor="ann", reason="no", action="suspend"))

    found = look(world)

    assert found.outcome is Outcome.PINNED


@github
def test_a_branch_that_moves_all_the_time_is_asked_about_in_bounds_and_nothing_is_written_down(world: World) -> None:
    green(world, push(world, said=REQUIRED), "ci/build", "lint")
    rows = len(world.service.history("production"))
    pushed: list[str] = []
    meanwhile(world, lambda: pushed.append(push(world, str(len(pushed)))))

    found = look(world)

    assert (found.outcome, found.commit, len(pushed)) == (Outcome.WAITING, pushed[-1], 3)
    assert (found.message or "").endswith("waits: its checks are asked for")
    assert len(world.service.history("production")) == rows


@github
def test_consent_to_deletions_asks_the_forge_outside_the_lock_too(world: World) -> None:
    said = {".mainstem.yaml": REQUIRED, "flows/a.yaml": None, "flows/b.yaml": None}
    commit = world.commit("main", said)
    look(world)
    green(world, commit, "ci/build", "lint")
    plans = planned_beside(world, commit)

    found = world.service.allow_deletes("production", commit, "ann")

    assert plans == [commit]
    assert (found.outcome, found.active) == (Outcome.ACTIVE, commit)


@github
def test_an_environment_that_needs_no_checks_is_looked_at_once_while_another_waits_for_the_forge(world: World) -> None:
    dev = world.commit("dev", {"other/c.yaml": flow("c")})
    staging = replace(world.service.environment("production"), name="staging", ref="refs/heads/dev", path="other")
    world.service._store.write(lambda db: db.environments.declare(staging))
    green(world, push(world, said=REQUIRED), "ci/build", "lint")

    found = world.service.reconcile_repository("r", actor="test")

    assert [(each.environment, each.outcome) for each in found] == [
        ("production", Outcome.ACTIVE),
        ("staging", Outcome.ACTIVE),
    ]
    assert world.service.environment("staging").active == dev


@github
def test_a_source_that_goes_away_while_the_forge_is_asked_leaves_what_was_ordered_meanwhile(world: World) -> None:
    before = world.service.environment("production").active
    green(world, push(world, said=REQUIRED), "ci/build", "lint")
    source = world.service.repository("r")

    def heads(refs: Collection[str]) -> dict[str, str]:
        raise FetchError("repository.unreachable", "it does not answer")

    def order() -> None:
        world.service.stay("production", None, actor="ann", reason="no", action="suspend")
        source.heads = heads  # type: ignore[method-assign]  # the network is gone

    meanwhile(world, order)

    found = look(world)

    left = world.service.environment("production")
    assert (found.outcome, found.active) == (Outcome.FAILED, before)
    assert (left.state, left.message) == ("PINNED", "repository.unreachable: it does not answer")


@github
def test_an_environment_that_leaves_during_a_look_takes_nothing_from_those_before_it(world: World) -> None:
    commit = push(world)
    gone = replace(world.service.environment("production"), name="staging", path="other", namespaces=("other",))
    world.service._store.write(lambda db: db.environments.declare(gone))
    listed = world.service._store.read(lambda db: db.environments.of_repository("r"))
    assert [each.name for each in listed] == ["production", "staging"]
    source = world.service.repository("r")
    ask = source.heads

    def heads(refs: Collection[str]) -> dict[str, str]:
        world.service._store.write(lambda db: db.environments.delete("staging"))
        return ask(refs)

    source.heads = heads  # type: ignore[method-assign]  # it leaves at this moment

    found = world.service.reconcile_repository("r", actor="test")

    assert [(each.environment, each.outcome) for each in found] == [
        ("production", Outcome.ACTIVE),
        ("staging", Outcome.FAILED),
    ]
    assert (found[0].active, world.service.environment("production").message) == (commit, None)
