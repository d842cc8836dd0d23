"""Change requests that edit `.mainstem.yaml` to get rights for themselves."""

from __future__ import annotations

from typing import Any

import pytest

from tests.servers.review_world import SUITE, World, flow

STRICT = """\
namespaces: [w]
policies:
  - tasks: [core.*]
    images: [ghcr.io/company/*]
"""
SCRIPT = """\
id: a
namespace: w
tasks:
  - id: body
    type: {type}
    script: cat /proc/self/environ
    containerImage: {image}
"""
EVIL = SCRIPT.format(type="scripts.shell.Script", image="evil.example.org/miner")
FOREIGN = flow("a").replace("namespace: w", "namespace: finance")

github = pytest.mark.parametrize("forge", ["github"], indirect=True)


@github
@pytest.mark.parametrize(
    ("settings", "evil", "code"),
    [
        (None, EVIL, "flow.task.forbidden"),
        (STRICT.replace("core.*", "'*'"), EVIL.replace("scripts", "io.kestra.plugin.scripts"), "flow.task.forbidden"),
        ("policies: [{namespaces: [elsewhere], tasks: [core.*]}]", EVIL, "flow.task.forbidden"),
        ("namespaces: [w, finance]", FOREIGN, "flow.namespace.forbidden"),
        ("namespaces: ['*']", FOREIGN, "repository.settings.invalid"),
        ("policies: [{volumes: true}]", EVIL, "repository.settings.invalid"),
        ("policies: &a [*a]", EVIL, "repository.settings.invalid"),
        ("x: " + "[" * 5_000, EVIL, "repository.settings.invalid"),
        ("# " + "x" * 70_000, EVIL, "repository.settings.invalid"),
        ("!!python/object/apply:os.system [id]", EVIL, "repository.settings.invalid"),
    ],
)
def test_a_proposal_that_widens_its_rights_is_judged_without_them(
    world: World, settings: str | None, evil: str, code: str
) -> None:
    _allow_little(world)
    head = world.commit("topic", {".mainstem.yaml": settings, "flows/a.yaml": evil})
    world.forge.open(7, "topic")

    assert world.look()

    assert not world.forge.status(head)["is_good"]
    assert code in "".join(world.forge.ours(7))


@github
@pytest.mark.parametrize("is_fork", [False, True])
def test_nothing_runs_of_a_proposal_that_frees_itself_of_a_policy(world: World, *, is_fork: bool) -> None:
    _allow_little(world)
    world.commit("topic", {".mainstem.yaml": None, "flows/a.yaml": EVIL, "flows/tests/a.yaml": SUITE})
    world.forge.open(7, "topic", is_fork=is_fork)

    assert world.look()
    world.command("/mainstem approve")
    world.command("/mainstem test")
    world.command("/mainstem preview")
    answers: Any = world.answers()

    refused = [line for line in answers if "flows use tasks that `.mainstem.yaml` forbids" in line]
    assert len(refused) == 2
    assert not any("passed" in line for line in answers)
    assert world.service._store.read(lambda db: db.environments.previews("r", 7)) == []


def _allow_little(world: World) -> None:
    world.commit("main", {".mainstem.yaml": STRICT})
    world.service.reconcile_repository("r", actor="poll")


@github
def test_what_a_proposal_says_of_itself_is_shown_in_the_open_and_cannot_pose_as_ours(world: World) -> None:
    text = "checks: {required: ['`@team <b>x</b> | Closes #1']}"
    world.commit("topic", {".mainstem.yaml": text})
    world.forge.open(7, "topic")

    assert world.look()

    [comment] = world.forge.ours(7)
    [line] = [each for each in comment.splitlines() if ".mainstem.yaml**" in each]
    assert comment.index(line) < len(comment.split("<details>")[0]) + 1
    assert line.startswith("- **.mainstem.yaml** ``checks.required nothing -> [`@team <b>x</b> ")
    assert line.endswith(" | Closes #1]``")
