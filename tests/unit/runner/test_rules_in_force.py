"""A task is judged by what the active commit says when it starts, whichever commit its flow is of."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runner.executions.creation import NewExecution
from runner.executions.models import Execution
from runner.key_values import MemoryKeyValues
from runner.local import LocalEngine
from runner.rules_in_force import RulesInForce
from runner.services import Host
from runner.settings import Settings
from runner.states import State
from runner.store.records import Environment
from tests.servers.place import Place
from tests.servers.store import fresh_store

LOG = "id: told\nnamespace: team\ntasks:\n  - {id: body, type: core.log.Log, message: hello}\n"
GROUP = """\
id: grouped
namespace: team
tasks:
  - {id: body, type: scripts.shell.Commands, commands: [echo hello], workerGroup: {key: gpu}}
"""
JOB = """\
id: job
namespace: team
tasks:
  - id: job
    type: core.flow.WorkingDirectory
    tasks:
      - {id: body, type: scripts.shell.Commands, commands: [echo hello]}
"""


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    settings = Settings(home=tmp_path / "home", work=tmp_path / "work")
    store = fresh_store(f"sqlite:///{tmp_path / 'state.db'}")
    store.write(lambda db: db.environments.declare(Environment("default", "hosted")))
    host = Host.open(settings, MemoryKeyValues(), environment={"PATH": os.environ["PATH"]})
    opened: list[LocalEngine] = []
    yield Place(store, replace(host, rules_of=RulesInForce(store)), tmp_path, opened)
    for local in opened:
        local.close()
    store.close()


def say(place: Place, *policies: dict[str, Any]) -> None:
    """Have the active commit say these policies."""
    place.store.write(lambda db: db.environments.set_rules("default", {"policies": list(policies)}))


def run(place: Place, flow_id: str) -> Execution:
    with place.engine() as local:
        ended = local.engine.wait(local.engine.create(NewExecution("team", flow_id)).id, 20)
    assert ended is not None
    return ended


def test_a_task_that_a_later_commit_forbids_fails_with_the_reason_before_it_starts(place: Place) -> None:
    flows = [place.flow(place.says("begun")), place.deploy(LOG, "told"), place.deploy(JOB, "job")]
    say(place, {"namespaces": ["team"], "tasks": ["core.flow.*"]})

    ended = [run(place, flow) for flow in flows]

    bodies = [each for execution in ended for each in place.runs_of(execution) if each.task_id == "body"]
    assert [execution.state for execution in ended] == [State.FAILED] * 3
    assert [(body.error or "").split(" the task ")[0] for body in bodies] == ["flows of this namespace may not use"] * 3
    assert place.said() == []


def test_a_task_asks_for_no_worker_group_that_its_repository_does_not_list(place: Place) -> None:
    flow = place.deploy(GROUP, "grouped")
    say(place, {"workerGroups": ["cpu"]})

    ended = run(place, flow)

    (body,) = place.runs_of(ended)
    assert (ended.state, body.error) == (
        State.FAILED,
        "flows of this namespace may not use the worker group 'gpu'",
    )


def test_what_is_for_another_namespace_or_allows_the_task_lets_it_run(place: Place) -> None:
    flow = place.deploy(LOG, "told")
    say(place, {"namespaces": ["other"], "tasks": []}, {"namespaces": ["*"], "tasks": ["io.kestra.plugin.core.log.*"]})

    ended = run(place, flow)

    assert ended.state is State.SUCCESS


def test_rules_are_read_again_once_they_are_a_second_old(place: Place) -> None:
    now = [0.0]
    rules = RulesInForce(place.store, lambda: now[0])
    before = rules("default")
    say(place, {"tasks": ["core.*"]})

    within = rules("default")
    now[0] = 1.0
    after = rules("default")

    assert (before.policies, within.policies, [rule.tasks for rule in after.policies]) == ((), (), [("core.*",)])


def test_a_preview_is_judged_by_what_its_base_says(place: Place) -> None:
    preview = Environment("default-1", "hosted", previews="default", change=1, rules={"policies": []})
    place.store.write(lambda db: db.environments.put(preview))
    say(place, {"tasks": ["core.*"]})

    found = RulesInForce(place.store)("default-1")

    assert [rule.tasks for rule in found.policies] == [("core.*",)]
