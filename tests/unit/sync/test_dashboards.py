"""Dashboards that git holds: created, changed, removed and left alone with the revision."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from runner.flows.catalogue import Catalogue
from runner.settings import EnvironmentSettings, RepositorySettings, Settings
from runner.store.records import StoredDashboard
from sync.activation import Outcome, RevisionResult
from sync.comparison import of_folder, plan_between
from sync.plan import Plan, plan_of
from sync.plan_text import body_lines
from sync.service import SyncService
from tests.servers.store import fresh_store

NOW = datetime(2026, 11, 26, 9, tzinfo=UTC)
FLOW = "id: say\nnamespace: team\ntasks: [{id: s, type: core.log.Log, message: hi}]\n"
TOP = "flows/_dashboards/night.yaml"
TEAM = "flows/team/_dashboards/team.yaml"


def board(name: str, title: str = "Runs") -> str:
    return f"title: {title}\nid: {name}\ncharts:\n  - {{id: a, type: core.dashboard.chart.Markdown, content: hi}}\n"


class Server:
    """A server with two environments over one work tree: `prod` for all, and `lab` for the namespace `lab`."""

    def __init__(self, home: Path, url: str) -> None:
        prod = EnvironmentSettings(name="prod", repository="r", ref="refs/heads/main", namespaces=("*",))
        lab = EnvironmentSettings(name="lab", repository="r", ref="refs/heads/main", path="lab", namespaces=("lab",))
        repositories = (RepositorySettings(name="r", url=url),)
        settings = Settings(home=home, repositories=repositories, environments=(prod, lab))
        home.mkdir()
        self.now = NOW
        self.store = fresh_store(settings.database_url, durability="off")
        self.sync = SyncService(self.store, Catalogue(self.store), settings, clock=lambda: self.now)
        self.sync.ensure_declared()

    def look(self, environment: str = "prod") -> RevisionResult:
        found = {each.environment: each for each in self.sync.reconcile_repository("r", actor="test", reason="api")}
        return found[environment]

    def rows(self) -> dict[str, StoredDashboard]:
        return {row.id: row for row in self.store.read(lambda db: db.dashboards.all())}

    def titles(self) -> dict[str, str]:
        return {row.id: row.title for row in self.rows().values()}


@pytest.fixture
def server(tmp_path: Path, work_tree: Any) -> Iterator[Server]:
    found = Server(tmp_path / "home", f"file://{work_tree.path}")
    yield found
    found.sync.close()
    found.store.close()


def shown(plan: Plan | None) -> list[str]:
    assert plan is not None
    return [line for line in body_lines(plan) if " dashboard " in line]


def errors(plan: Plan | None) -> list[tuple[str, str | None, int | None]]:
    assert plan is not None
    return [(each.code, each.file, each.line) for each in plan.errors]


def test_dashboards_come_change_and_go_with_their_files(server: Server, work_tree: Any) -> None:
    work_tree.write({"flows/team/say.yaml": FLOW, TOP: board("night"), TEAM: board("team")})
    first = server.look()
    server.now += timedelta(hours=1)
    work_tree.write({TOP: board("night", "Nights"), TEAM: None, "flows/_global/dashboards/all.yml": board("all")})
    second = server.look()

    assert (first.outcome, second.outcome) == (Outcome.ACTIVE, Outcome.ACTIVE)
    assert shown(first.plan) == ["  + dashboard night  new      'Runs'", "  + dashboard team   new      'Runs'"]
    assert shown(second.plan) == [
        "  + dashboard all    new      'Runs'",
        "  ~ dashboard night  changed  'Runs' -> 'Nights'",
        "  - dashboard team   removed",
    ]
    assert server.titles() == {"all": "Runs", "night": "Nights"}
    assert (server.rows()["night"].created_at, server.rows()["night"].updated_at) == (NOW, server.now)
    assert server.store.read(lambda db: db.audit.list())[0].detail["dashboards"] == [
        "added all",
        "changed night",
        "removed team",
    ]


def test_a_dashboard_is_of_the_namespace_whose_folder_holds_it(server: Server, work_tree: Any) -> None:
    nested = "flows/company/sales/_dashboards/deep/s.yaml"
    work_tree.write({"flows/team/say.yaml": FLOW, TOP: board("night"), TEAM: board("team"), nested: board("sales")})
    server.look()

    assert {name: row.namespace for name, row in server.rows().items()} == {
        "night": None,
        "team": "team",
        "sales": "company.sales",
    }


def test_an_unchanged_file_writes_nothing(server: Server, work_tree: Any) -> None:
    work_tree.write({"flows/team/say.yaml": FLOW, TOP: board("night")})
    server.look()
    server.now += timedelta(minutes=5)
    work_tree.write({"README.md": "hello"})
    result = server.look()

    assert result.outcome is Outcome.UNCHANGED
    assert server.rows()["night"].updated_at == NOW


def test_a_rollback_puts_the_dashboards_of_that_revision_back(server: Server, work_tree: Any) -> None:
    first = work_tree.write({"flows/team/say.yaml": FLOW, TOP: board("night"), TEAM: board("old")})
    server.look()
    work_tree.write({TOP: board("night", "Later"), TEAM: board("new")})
    server.look()
    server.sync.stay("prod", first, action="rollback", actor="ann", reason="it confuses")

    assert server.titles() == {"night": "Runs", "old": "Runs"}


def test_a_lost_commit_is_rolled_back_to_with_the_dashboards_as_they_are(server: Server, work_tree: Any) -> None:
    first = work_tree.write({"flows/team/say.yaml": FLOW, TOP: board("night")})
    server.look()
    work_tree.write({TOP: board("night", "Later")})
    server.look()
    row = server.store.read(lambda db: db.revisions.of_commit("prod", first))
    assert row is not None
    source, planner = server.sync.repository("r"), server.sync._planner
    fields = {name: getattr(row, name) for name in row.__slots__}
    lost = planner.recall(source, "prod", type(row)(**{**fields, "commit": "0" * 40}))

    assert shown(planner.recall(source, "prod", row)) == ["  ~ dashboard night  changed  'Later' -> 'Runs'"]
    assert lost.dashboards is None
    assert "the dashboards that git wants" in lost.unchecked


def test_every_mistake_keeps_the_revision_out_and_the_dashboards_as_they_are(server: Server, work_tree: Any) -> None:
    work_tree.write({"flows/team/say.yaml": FLOW, TOP: board("night")})
    server.look()
    bad = board("night", "''").replace("chart.Markdown", "chart.Text")
    work_tree.write({TOP: bad, TEAM: "id: team\ncharts: 7\n"})
    result = server.look()

    assert result.outcome is Outcome.INVALID
    assert errors(result.plan) == [
        ("dashboard.property.invalid", TOP, 1),
        ("dashboard.chart.unknown", TOP, 4),
        ("dashboard.property.missing", TEAM, 1),
        ("dashboard.property.invalid", TEAM, 2),
    ]
    assert server.titles() == {"night": "Runs"}


def test_one_id_is_one_dashboard_within_and_across_environments(server: Server, work_tree: Any) -> None:
    work_tree.write({"lab/lab/_dashboards/a.yaml": board("taken"), "flows/team/say.yaml": FLOW})
    server.look()
    work_tree.write({TOP: board("taken"), TEAM: board("twice"), "flows/team/_dashboards/b.yaml": board("twice")})
    doubled = server.look()
    work_tree.write({"flows/team/_dashboards/b.yaml": None})
    owned = server.look()

    assert errors(doubled.plan) == [("dashboard.id.duplicate", TEAM, 2)]
    assert errors(owned.plan) == [("dashboard.id.owned", TOP, 2)]
    assert server.titles() == {"taken": "Runs"}


def test_what_another_environment_brought_between_plan_and_activation_stays(server: Server, work_tree: Any) -> None:
    commit = work_tree.write({"flows/team/say.yaml": FLOW, TOP: board("night"), TEAM: board("team")})
    source = server.sync.repository("r")
    source.fetch("refs/heads/main", commit)
    plan = server.sync._planner.plan(source, "prod", commit)
    theirs = StoredDashboard("night", "Theirs", board("night", "Theirs"), "lab", "lab/x.yaml", NOW, NOW)
    server.store.write(lambda db: db.dashboards.put(theirs))
    server.sync._activation.apply(plan, actor="test", seconds=lambda: 0.0)

    assert server.titles() == {"night": "Theirs", "team": "Runs"}


def test_a_title_cannot_speak_for_the_terminal(server: Server, work_tree: Any) -> None:
    work_tree.write({"flows/team/say.yaml": FLOW, TOP: board("night", '"\\e[2Jgone"')})

    assert shown(server.look().plan) == ["  + dashboard night  new      '\\x1b[2Jgone'"]


def test_an_environment_brings_dashboards_of_its_own_namespaces_alone(server: Server, work_tree: Any) -> None:
    work_tree.write({"lab/team/_dashboards/a.yaml": board("a"), "lab/_dashboards/b.yaml": board("b")})

    result = server.look("lab")

    assert errors(result.plan) == [
        ("dashboard.namespace.foreign", "lab/_dashboards/b.yaml", 2),
        ("dashboard.namespace.foreign", "lab/team/_dashboards/a.yaml", 2),
    ]
    assert result.plan is not None
    assert result.plan.errors[0].hint == "put it into a folder of one: lab/_dashboards/"


def test_what_an_environment_that_is_no_more_has_left_is_taken_over(server: Server, work_tree: Any) -> None:
    work_tree.write({"lab/lab/_dashboards/a.yaml": board("a"), "flows/team/say.yaml": FLOW})
    server.look()
    server.store.write(lambda db: db.environments.delete("lab"))
    work_tree.write({TOP: board("a", "Ours")})
    server.look()

    assert (server.rows()["a"].environment, server.rows()["a"].title) == ("prod", "Ours")


def test_a_flow_among_dashboards_is_told_where_flows_go(server: Server, work_tree: Any) -> None:
    work_tree.write({TEAM: FLOW})

    result = server.look()

    assert errors(result.plan) == [("dashboard.file.invalid", TEAM, 1)]


def test_a_plan_of_two_folders_says_the_same_of_dashboards(tmp_path: Path) -> None:
    for name in ("old", "new"):
        for path, text in ((TOP, board("night", name)), (f"flows/team/_dashboards/{name}.yaml", board(name, name))):
            (tmp_path / name / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name / path).write_text(text)

    plan = plan_between(of_folder(tmp_path / "old"), of_folder(tmp_path / "new"), None, now=NOW, zone=ZoneInfo("UTC"))

    assert shown(plan) == [
        "  + dashboard new    new      'new'",
        "  ~ dashboard night  changed  'old' -> 'new'",
        "  - dashboard old    removed",
    ]
    assert plan_of(plan.as_json()).dashboard_changes == plan.dashboard_changes
