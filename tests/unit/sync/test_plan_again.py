"""A planner that remembers what it has seen says what a new one says, whatever happened before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import pytest

from runner.flows.catalogue import Catalogue
from runner.settings import RunnerPolicySettings, Settings
from runner.store import Store
from runner.store.rows import Rows
from sync.activation import Outcome
from sync.plan import Plan
from sync.plan_text import plan_lines
from sync.service import SyncService
from tests.servers.store import fresh_store
from tests.unit.sync.test_service import flow, follow

AT = datetime(2026, 11, 22, tzinfo=UTC)
NAMES = "abcde"
STEPS = 10
HEAD = "id: {id}\nnamespace: w\ndescription: '{note}'\ntasks:\n"
TASKS = (
    "  - {{id: say, type: core.log.Log, message: '{note}'}}\n",
    "  - {{id: give, type: core.debug.Return, format: '{note}'}}\n",
    "  - {{id: call, type: core.flow.Subflow, namespace: w, flowId: {other}, inputs: {{day: '{note}'}}}}\n",
    "  - {{id: use, type: core.flow.Template, namespace: w, templateId: shared}}\n",
    "  - {{id: run, type: scripts.shell.Commands, commands: [ls]}}\n",
    "  - {{id: bad, type: core.log.Logg}}\n",
)
RESTS = (
    "",
    "inputs:\n  - {{id: day, type: STRING}}\n",
    "inputs:\n  - {{id: hour, type: INT, defaults: 1}}\n",
    "triggers:\n  - {{id: hourly, type: core.trigger.Schedule, cron: '0 * * * *'}}\n",
    "triggers:\n  - {{id: after, type: core.trigger.Flow, dependsOn: [{{namespace: w, flowId: {other}}}]}}\n",
    "draft: true\n",
    "labels: [\n",
)
AROUND: dict[str, tuple[str | None, ...]] = {
    "flows/_defaults.yaml": (
        None,
        "pluginDefaults:\n  - {type: scripts.shell, values: {taskRunner: {type: docker}, containerImage: alpine}}\n",
        "variables: {rate: 1}\n",
        "pluginDefaults: 1\n",
    ),
    "flows/_templates/shared.yaml": (
        "id: shared\nnamespace: w\ntasks:\n  - {id: in, type: core.log.Log, message: x}\n",
        "id: shared\nnamespace: w\ntasks:\n  - {id: in, type: core.flow.Subflow, namespace: w, flowId: none}\n",
    ),
    ".mainstem.yaml": (
        None,
        "namespaces: [w]\n",
        "namespaces: [v]\n",
        "policies:\n  - tasks: ['core.log.*', 'core.flow.*']\n",
        "nonsense: 1\n",
    ),
}


def flow_text(chance: Random, name: str) -> str:
    [own] = chance.choices((name, chance.choice(NAMES)), (9, 1))
    words = {"id": own, "other": chance.choice(NAMES), "note": chance.randrange(3)}
    [tasks] = chance.choices(TASKS, (3, 3, 4, 3, 6, 1))
    [rest] = chance.choices(RESTS, (4, 4, 4, 4, 4, 2, 1))
    return (HEAD + tasks + rest).format(**words)


def edits(chance: Random, present: dict[str, str]) -> dict[str, str | None]:
    """Return files with their new texts, None for one that goes: flows that come, change, move and go, and others."""
    if not present:
        plain = HEAD + TASKS[-2] + RESTS[0]
        return {f"flows/w/{name}.yaml": plain.format(id=name, note=0) for name in NAMES}
    around, name = chance.choice(list(AROUND)), chance.choice(NAMES)
    path = f"flows/w/{name}.yaml"
    match chance.randrange(8):
        case 0 if path in present:
            return {path: None}
        case 1 if path in present:
            return {path: None, f"flows/w/moved-{name}.yaml": present[path]}
        case 2 | 3:
            return {path: flow_text(chance, name), f"flows/w/moved-{name}.yaml": None}
        case _:
            [text] = chance.choices(AROUND[around], range(len(AROUND[around]), 0, -1))
            return {around: text}


class World:
    """A repository, its environment, and services over one store of which each remembers what it alone has seen."""

    def __init__(self, home: Path, work_tree: Any, on_invalid: str) -> None:
        environment, repository = follow("prod", work_tree.path, on_invalid=on_invalid)
        rules = (RunnerPolicySettings(namespaces=("*",), runners=("docker",)),)
        self.settings = Settings(
            home=home, environments=(environment,), repositories=(repository,), runner_policies=rules
        )
        home.mkdir()
        self.store: Store = fresh_store(self.settings.database_url, durability="off")

    def service(self) -> SyncService:
        made = SyncService(self.store, Catalogue(self.store), self.settings, clock=lambda: AT)
        made.ensure_declared()
        return made


def said(plan: Plan) -> tuple[Any, ...]:
    return plan.as_json(), plan_lines(plan)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("on_invalid", ["block", "quarantine"])
def test_a_planner_that_remembers_says_what_a_new_one_says(
    tmp_path: Path, work_tree: Any, on_invalid: str, seed: int
) -> None:
    chance = Random(f"{seed} {on_invalid}")
    present: dict[str, str] = {}
    world = World(tmp_path / "home", work_tree, on_invalid)
    service = world.service()
    outcomes = set()

    for _ in range(STEPS):
        changed = {path: text for path, text in edits(chance, present).items() if text != present.get(path)}
        present = {path: text for path, text in {**present, **changed}.items() if text is not None}
        if changed:
            work_tree.write(changed)
            another = world.service()
            assert said(service.plan("prod")) == said(another.plan("prod"))
            another.close()
            plan = service.plan("prod")
            outcomes.add(service.apply(plan, actor="test", allow_deletes=True).outcome)

    service.close()
    world.store.close()
    assert outcomes & {Outcome.ACTIVE, Outcome.QUARANTINED}, "no step was activated: the edits prove little"


def test_a_look_that_finds_nothing_new_reads_no_list_of_changes(
    start: Callable[..., SyncService], git_server: Any, work_tree: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    work_tree.write({"flows/a.yaml": flow("w.a")})
    work_tree.push(git_server.repository("flows.git"))
    environment, repository = follow("prod", f"{git_server.url}/flows.git")
    service = start(environment, repositories=(repository,))
    [result] = service.reconcile_repository("prod", actor="poll")
    decode, read = Rows.decode, list[str]()

    def decoding(self: Rows[Any], values: Sequence[Any]) -> Any:
        read.append(self.table.name)
        return decode(self, values)

    monkeypatch.setattr(Rows, "decode", decoding)
    [idle] = service.reconcile_repository("prod", actor="poll")

    assert result.plan is not None
    assert [(each.flow_id, each.source, each.head) for each in result.plan.changes] == [("a", None, None)]
    assert result.revisions == {("w", "a"): 1}
    assert (idle.outcome, idle.active) == (Outcome.UNCHANGED, result.commit)
    assert "environments" in read
    assert "revisions" not in read
