"""Previews of change requests: what they hold, for whom they are made, and when they end."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest

from runner.errors import ConflictError, FlowError
from runner.flows.loader import load_value
from runner.store.records import Environment, KeyValue
from runner.store.session import Session
from sync.reviews.previews import rewritten
from tests.servers.review_world import World, flow

github = pytest.mark.parametrize("forge", ["github"], indirect=True)
every_forge = pytest.mark.parametrize("forge", ["github", "gitlab", "gitea", "bitbucket"], indirect=True)
BUSY = """\
id: busy
namespace: w   # of the team
triggers:
  - {id: nightly, type: core.trigger.Schedule, cron: "0 3 * * *"}
tasks:
  - {id: other, type: core.flow.Subflow, namespace: w, flowId: a}
  - {id: far, type: core.flow.Subflow, namespace: elsewhere, flowId: a}
  - {id: own, type: core.flow.Subflow, namespace: "{{ flow.namespace }}", flowId: a}
  - {id: say, type: core.log.Log, message: "on: {{ secret('KEY') }}\\n0o17"}
"""


def _declare(environment: Environment, db: Session) -> None:
    db.environments.declare(environment)


def _put(row: KeyValue, db: Session) -> None:
    db.kv.put(row)


def opened(world: World, files: dict[str, str | None], *, is_fork: bool = False) -> str:
    head = world.commit("topic", files)
    world.forge.open(7, "topic", is_fork=is_fork)
    assert world.look()
    return head


def previews(world: World) -> list[Any]:
    return [each for each in world.service.status() if each.previews is not None]


def flows(world: World) -> dict[str, Any]:
    found = world.service._store.read(lambda db: db.flows.list(prefix="preview"))
    return {f"{each.namespace}.{each.flow_id}": each for each in found}


def test_a_flow_in_a_preview_has_another_namespace_no_triggers_and_calls_its_like() -> None:
    found = load_value(rewritten(BUSY.encode(), "w", 7, {"w"}))

    before = load_value(BUSY)
    assert (found["id"], found["namespace"], "triggers" in found) == ("busy", "preview.pr-7.w", False)
    named = [task.get("namespace") for task in found["tasks"][:3]]
    assert named == ["preview.pr-7.w", "elsewhere", "{{ flow.namespace }}"]
    assert found["tasks"][3] == before["tasks"][3]


def test_a_file_that_holds_no_flow_has_no_preview() -> None:
    for content in (b"", b"# nothing\n", b"[1, 2]"):
        with pytest.raises(FlowError, match="holds no flow"):
            rewritten(content, "w", 7, {"w"})


@every_forge
def test_a_preview_holds_the_namespaces_that_change_and_ends_with_the_change_request(world: World) -> None:
    head = opened(world, {"flows/busy.yaml": BUSY})

    world.command("/mainstem preview")
    [told, *commands] = world.answers()
    [preview] = previews(world)
    held = flows(world)
    followed = world.service._store.read(lambda db: db.environments.of_repository("r"))
    world.forge.pulls[7].state = "closed"
    assert world.look()

    assert f"preview `production.pr-7` of `{head[:12]}`: 3 flows, no triggers, until" in told
    assert "`mainstem exec run preview.pr-7.w.a --wait`" in commands[0]
    assert (preview.active, preview.state, preview.writes, preview.change) == (head, "OK", "refuse", 7)
    assert sorted(held) == ["preview.pr-7.w.a", "preview.pr-7.w.b", "preview.pr-7.w.busy"]
    assert [each.name for each in followed] == ["production"]
    assert world.service._store.read(lambda db: db.triggers.all()) == []
    assert (previews(world), flows(world)) == ([], {})


@github
def test_a_preview_of_a_fork_is_made_of_the_approved_commit_alone(world: World) -> None:
    head = opened(world, {"flows/a.yaml": flow("a", "bye")}, is_fork=True)

    world.command("/mainstem preview")
    [refused] = world.answers()
    before = previews(world)
    world.command("/mainstem approve")
    world.command("/mainstem preview")
    world.answers()

    assert "code of a fork is run for nobody before" in refused
    assert before == []
    assert [(each.name, each.active) for each in previews(world)] == [("production.fork-7", head)]


@github
def test_change_requests_of_one_number_in_two_repositories_share_no_preview(world: World) -> None:
    opened(world, {"flows/a.yaml": flow("a", "bye")})
    theirs = Environment("theirs.pr-7", "s", namespaces=("preview.pr-7",), previews="theirs", change=7)
    other = Environment("theirs.pr-8", "s", namespaces=("preview.pr-8",), previews="theirs", change=8)
    for each in (theirs, other):
        world.service._store.write(partial(_declare, each))

    world.command("/mainstem preview")
    [refused] = world.answers()
    before = [each.name for each in previews(world)]
    world.service._store.write(lambda db: db.environments.delete(theirs.name))
    world.command("/mainstem preview")
    made = world.answers()[1]

    assert "no preview of `production`: change request 7 of another repository has preview.pr-7" in refused
    assert before == ["theirs.pr-7", "theirs.pr-8"]
    assert "preview `production.pr-7` of" in made


@github
def test_a_preview_is_made_anew_and_loses_what_is_gone(world: World) -> None:
    opened(world, {"flows/busy.yaml": BUSY})
    world.command("/mainstem preview")
    world.answers()
    later = world.commit("topic", {"flows/busy.yaml": None, "flows/a.yaml": flow("a", "bye")})
    world.forge.follow(7)
    assert world.look()

    world.command("/mainstem preview")
    world.answers()

    assert [each.active for each in previews(world)] == [later]
    assert sorted(flows(world)) == ["preview.pr-7.w.a", "preview.pr-7.w.b"]
    assert "bye" in flows(world)["preview.pr-7.w.a"].source


@github
def test_of_a_plan_with_errors_there_is_no_preview(world: World) -> None:
    opened(world, {"flows/a.yaml": flow("a", task="Lgo")})

    world.command("/mainstem preview")
    [line] = world.answers()

    assert "no preview of `production`: flows/a.yaml" in line
    assert (previews(world), flows(world)) == ([], {})


@github
def test_a_preview_ends_by_itself_and_takes_no_orders(world: World) -> None:
    opened(world, {"flows/a.yaml": flow("a", "bye")})
    world.command("/mainstem preview")
    world.answers()

    with pytest.raises(ConflictError, match="follows that alone"):
        world.service.plan("production.pr-7")
    world.service.expire_pins()
    before = len(flows(world))
    world.service._previews._clock = lambda: datetime.now(UTC) + timedelta(hours=73)
    world.service.expire_pins()

    assert (before, flows(world), previews(world)) == (2, {}, [])


@github
def test_a_preview_has_the_keys_of_its_commit_in_its_own_namespaces_alone(world: World) -> None:
    opened(world, {"flows/busy.yaml": BUSY, "flows/w/_kv.yaml": "rate: 2\n", "flows/else/_kv.yaml": "far: 1\n"})

    world.command("/mainstem preview")
    world.answers()
    held = world.service._store.read(lambda db: db.kv.list()).items
    world.forge.pulls[7].state = "closed"
    assert world.look()

    assert [(each.namespace, each.key, each.value) for each in held] == [("preview.pr-7.w", "rate", 2)]
    assert world.service._store.read(lambda db: db.kv.list()).items == []


@github
def test_keys_that_runs_have_set_go_with_their_preview_and_no_others(world: World) -> None:
    opened(world, {"flows/a.yaml": flow("a", "bye")})
    world.command("/mainstem preview")
    world.answers()
    now = datetime.now(UTC)
    for namespace in ("preview.pr-7", "preview.pr-7.w", "preview.pr-70.w", "w", "preview"):
        row = KeyValue(namespace, "seen", "NUMBER", 1, now, now)
        world.service._store.write(partial(_put, row))

    world.forge.pulls[7].state = "closed"
    assert world.look()

    left = world.service._store.read(lambda db: db.kv.list()).items
    assert sorted(each.namespace for each in left) == ["preview", "preview.pr-70.w", "w"]


@github
def test_namespace_files_of_a_preview_are_those_of_its_commit(world: World) -> None:
    head = opened(world, {"flows/w/d.yaml": flow("d"), "flows/w/query.sql": "select 2"})
    world.command("/mainstem preview")
    world.answers()

    reader = world.service.file_reader()

    assert reader.read("production.pr-7", head, "preview.pr-7.w", "query.sql") == b"select 2"
    assert reader.list("production.pr-7", head, "preview.pr-7.w") == ["query.sql"]
