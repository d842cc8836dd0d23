"""Keys that git puts into the key-value store: created, changed, removed and left alone with the revision."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from runner.flows.catalogue import Catalogue
from runner.settings import EnvironmentSettings, RepositorySettings, Settings
from runner.store.records import KeyValue
from runner.stored_key_values import StoredKeyValues
from sync.activation import Outcome, RevisionResult
from sync.comparison import of_folder, plan_between
from sync.needs import is_known
from sync.plan import Plan, plan_of
from sync.plan_text import body_lines
from sync.service import SyncService
from tests.servers.store import fresh_store

NOW = datetime(2026, 11, 26, 9, tzinfo=UTC)
FLOW = "id: say\nnamespace: team\ntasks: [{id: s, type: core.log.Log, message: \"{{ kv('rate') }}\"}]\n"


class Server:
    """A server with two environments over one work tree: `prod`, and `lab` for the namespace of the same name."""

    def __init__(self, home: Path, url: str) -> None:
        environment = EnvironmentSettings(name="prod", repository="r", ref="refs/heads/main", namespaces=("team",))
        lab = EnvironmentSettings(name="lab", repository="r", ref="refs/heads/main", path="lab", namespaces=("*",))
        settings = Settings(
            home=home, repositories=(RepositorySettings(name="r", url=url),), environments=(environment, lab)
        )
        home.mkdir()
        self.now = NOW
        self.store = fresh_store(settings.database_url, durability="off")
        self.kv = StoredKeyValues(self.store, self.clock)
        self.sync = SyncService(
            self.store,
            Catalogue(self.store),
            settings,
            clock=self.clock,
            holds=lambda kind, namespace, key: is_known(None, self.kv, kind, namespace, key),  # type: ignore[arg-type]
        )
        self.sync.ensure_declared()

    def clock(self) -> datetime:
        return self.now

    def look(self) -> RevisionResult:
        found = {each.environment: each for each in self.sync.reconcile_repository("r", actor="test", reason="api")}
        return found["prod"]

    def row(self, key: str) -> KeyValue:
        found = self.store.read(lambda db: db.kv.get("team", key, self.now))
        assert found is not None
        return found

    def values(self) -> dict[str, Any]:
        rows = self.store.read(lambda db: db.kv.list(now=self.now)).items
        return {f"{row.namespace}.{row.key}": row.value for row in rows}


@pytest.fixture
def server(tmp_path: Path, work_tree: Any) -> Iterator[Server]:
    found = Server(tmp_path / "home", f"file://{work_tree.path}")
    yield found
    found.sync.close()
    found.store.close()


def shown(plan: Plan | None) -> list[str]:
    assert plan is not None
    return [line for line in body_lines(plan) if " kv " in line]


def test_keys_come_change_and_go_with_the_file_that_holds_them(server: Server, work_tree: Any) -> None:
    seeds = "flows/team/_kv.yaml"
    work_tree.write({"flows/team/say.yaml": FLOW, seeds: "rate: 0.07\nold: 1\nlong: %s\n" % ("x" * 99)})
    first = server.look()
    work_tree.write({seeds: "rate: '0.08'\nlong: %s\nnew: true\n" % ("y" * 99)})
    second = server.look()

    assert (first.outcome, second.outcome) == (Outcome.ACTIVE, Outcome.ACTIVE)
    assert shown(first.plan) == [
        "  + kv team.long  new      STRING",
        "  + kv team.old   new      NUMBER",
        "  + kv team.rate  new      NUMBER",
    ]
    assert shown(second.plan) == [
        "  ~ kv team.long  changed  STRING",
        "  + kv team.new   new      BOOLEAN",
        "  - kv team.old   removed",
        '  ~ kv team.rate  changed  NUMBER -> STRING 0.07 -> "0.08"',
    ]
    assert server.values() == {"team.long": "y" * 99, "team.new": True, "team.rate": "0.08"}
    assert server.store.read(lambda db: db.audit.list())[0].detail["keys"][0] == "changed kv team.long"


def test_what_a_flow_wrote_stays_unless_git_insists(server: Server, work_tree: Any) -> None:
    seeds = "flows/team/_kv.yaml"
    work_tree.write({"flows/team/say.yaml": FLOW, seeds: "rate: 1\nlimit: 1\ngone: 1\n"})
    server.look()
    for key in ("rate", "limit", "gone"):
        server.kv.put("team", key, 5)
    work_tree.write({seeds: "rate: 2\nlimit: {value: 2, overwrite: true}\n"})
    result = server.look()

    assert shown(result.plan) == [
        "  ~ kv team.limit  changed  replaces what was written at run time",  # its value is nobody's who reads a plan
        "  . kv team.rate   kept     written at run time; `overwrite: true` would replace it",
    ]
    assert server.values() == {"team.rate": 5, "team.limit": 2, "team.gone": 5}


def test_a_key_deleted_at_run_time_or_over_comes_back_with_the_next_revision(server: Server, work_tree: Any) -> None:
    seeds = "rate: 1\nsoon: {value: 2, ttl: PT1H}\n"
    work_tree.write({"flows/team/say.yaml": FLOW, "flows/team/_kv.yaml": seeds})
    server.look()
    server.kv.delete("team", "rate")
    server.now += timedelta(hours=2)
    left = server.values()
    work_tree.write({"flows/team/more.yaml": FLOW.replace("id: say", "id: more")})
    server.look()

    assert left == {}
    assert server.values() == {"team.rate": 1, "team.soon": 2}
    assert server.row("soon").expires_at == server.now + timedelta(hours=1)


def test_what_a_flow_writes_between_plan_and_activation_stays(server: Server, work_tree: Any) -> None:
    commit = work_tree.write({"flows/team/say.yaml": FLOW, "flows/team/_kv.yaml": "rate: 1\nother: 1\n"})
    source = server.sync.repository("r")
    source.fetch("refs/heads/main", commit)
    plan = server.sync._planner.plan(source, "prod", commit)
    server.kv.put("team", "rate", 5)
    server.sync._activation.apply(plan, actor="test", seconds=lambda: 0.0)

    assert server.values() == {"team.rate": 5, "team.other": 1}


def test_an_unchanged_file_writes_nothing(server: Server, work_tree: Any) -> None:
    seeds = 'rate: {value: {b: 1, a: [2]}, ttl: PT1H, description: "why\\0"}\n'
    work_tree.write({"flows/team/say.yaml": FLOW, "flows/team/_kv.yaml": seeds})
    server.look()
    server.now += timedelta(minutes=5)
    work_tree.write({"README.md": "hello"})
    result = server.look()

    assert result.outcome is Outcome.UNCHANGED
    assert server.row("rate").revision == 1


def test_a_rollback_puts_the_keys_of_that_revision_back(server: Server, work_tree: Any) -> None:
    seeds = "flows/team/_kv.yaml"
    first = work_tree.write({"flows/team/say.yaml": FLOW, seeds: "rate: 1\nold: 1\nlive: 1\n"})
    server.look()
    work_tree.write({seeds: "rate: 2\nnew: 2\nlive: 2\n"})
    server.look()
    server.kv.put("team", "live", 9)
    server.sync.stay("prod", first, action="rollback", actor="ann", reason="it breaks")

    assert server.values() == {"team.rate": 1, "team.old": 1, "team.live": 9}


def test_a_lost_commit_is_rolled_back_to_with_the_keys_as_they_are(server: Server, work_tree: Any) -> None:
    first = work_tree.write({"flows/team/say.yaml": FLOW, "flows/team/_kv.yaml": "rate: 1\n"})
    server.look()
    work_tree.write({"flows/team/_kv.yaml": "rate: 2\n"})
    server.look()
    row = server.store.read(lambda db: db.revisions.of_commit("prod", first))
    assert row is not None
    lost = server.sync.repository("r")
    planner = server.sync._planner
    known = planner.recall(lost, "prod", row)
    unknown = planner.recall(lost, "prod", type(row)(**{**_fields(row), "commit": "0" * 40}))

    assert shown(known) == ["  ~ kv team.rate  changed  NUMBER 2 -> 1"]
    assert (unknown.seeds, unknown.unchecked) == (
        None,
        ("the keys and secrets that git wants", "the dashboards that git wants"),
    )


def _fields(row: Any) -> dict[str, Any]:
    return {name: getattr(row, name) for name in row.__slots__}


def test_a_mistake_in_the_file_keeps_the_revision_out_and_all_keys_as_they_are(server: Server, work_tree: Any) -> None:
    work_tree.write({"flows/team/say.yaml": FLOW, "flows/team/_kv.yaml": "rate: 1\n"})
    server.look()
    work_tree.write({"flows/team/_kv.yaml": "rate: 2\nday: {value: x, type: DATE}\n"})
    result = server.look()

    assert result.outcome is Outcome.INVALID
    assert result.plan is not None
    assert [(each.code, each.file, each.line) for each in result.plan.errors] == [
        ("kv.value.invalid", "flows/team/_kv.yaml", 2)
    ]
    assert server.values() == {"team.rate": 1}


def test_an_environment_seeds_its_own_namespaces_and_no_key_of_another(server: Server, work_tree: Any) -> None:
    work_tree.write({"lab/team/_kv.yaml": "rate: 1\nlab: 1\n", "flows/team/say.yaml": FLOW})
    server.look()
    secret = KeyValue("finance", "x", "NUMBER", 98_765, NOW, NOW)
    server.store.write(lambda db: db.kv.put(secret))
    foreign, owned = "x: {value: 1, overwrite: true}\n", "rate: {value: 2, overwrite: true}\n"
    work_tree.write({"flows/finance/_kv.yaml": foreign, "flows/team/_kv.yaml": owned})
    result = server.look()

    assert result.plan is not None
    assert [(each.code, each.file) for each in result.plan.errors] == [
        ("seed.namespace.foreign", "flows/finance/_kv.yaml"),
        ("seed.key.owned", "flows/team/_kv.yaml"),
    ]
    assert shown(result.plan) == [], "what others hold is nobody's business"
    assert server.values() == {"team.rate": 1, "team.lab": 1, "finance.x": 98_765}


def test_what_an_environment_that_is_no_more_has_left_is_taken_over(server: Server, work_tree: Any) -> None:
    work_tree.write({"lab/team/_kv.yaml": "rate: 1\nlab: 1\n", "flows/team/say.yaml": FLOW})
    server.look()
    server.store.write(lambda db: db.environments.delete("lab"))
    work_tree.write({"flows/team/_kv.yaml": "rate: 1\n"})
    result = server.look()
    work_tree.write({"flows/team/_kv.yaml": "more: 1\n"})
    server.look()

    assert shown(result.plan) == ["  + kv team.rate  new      NUMBER"]
    assert server.values() == {"team.lab": 1, "team.more": 1}


def test_two_files_may_not_give_one_key(server: Server, work_tree: Any) -> None:
    work_tree.write({"flows/team/_kv.yaml": "rate: 1\n", "flows/team/_kv.yml": "other: 1\nrate: 2\n"})

    result = server.look()

    assert result.plan is not None
    assert [(each.code, each.file, each.line) for each in result.plan.errors] == [
        ("seed.key.duplicate", "flows/team/_kv.yml", 2)
    ]


def test_a_key_that_a_flow_reads_is_there_once_git_gives_it_and_missing_once_it_goes(
    server: Server, work_tree: Any
) -> None:
    work_tree.write({"flows/team/deep/say.yaml": FLOW.replace("team", "team.deep"), "flows/team/_kv.yaml": "rate: 1\n"})
    given = server.look()
    work_tree.write({"flows/team/deep/say.yaml": FLOW.replace("team", "team.deep") + "# x\n"})
    work_tree.write({"flows/team/_kv.yaml": "other: 1\n"})
    taken = server.look()

    assert given.plan is not None
    assert taken.plan is not None
    assert given.plan.problems == ()
    assert [each.code for each in taken.plan.problems] == ["flow.kv.missing"]


def test_a_plan_of_two_folders_says_the_same_of_keys(tmp_path: Path) -> None:
    for name, text in (("old", "rate: 1\ngone: 1\n"), ("new", "rate: 2\ncame: 1\n")):
        (tmp_path / name / "flows/team").mkdir(parents=True)
        (tmp_path / name / "flows/team/say.yaml").write_text(FLOW.replace("rate", "came") + f"# {name}\n")
        (tmp_path / name / "flows/team/_kv.yaml").write_text(text)

    plan = plan_between(of_folder(tmp_path / "old"), of_folder(tmp_path / "new"), None, now=NOW, zone=ZoneInfo("UTC"))

    assert shown(plan) == [
        "  + kv team.came  new      NUMBER",
        "  - kv team.gone  removed",
        "  ~ kv team.rate  changed  NUMBER 1 -> 2",
    ]
    assert plan.unchecked == ()
    assert plan_of(plan.as_json()).seedings == plan.seedings


def test_files_of_keys_are_neither_flows_nor_namespace_files(server: Server, work_tree: Any) -> None:
    work_tree.write({"flows/team/say.yaml": FLOW, "flows/team/_kv.yaml": "rate: 1\n", "flows/team/a.txt": "x"})
    commit = server.look().commit

    assert server.sync.file_reader().list("prod", commit, "team") == ["a.txt"]
