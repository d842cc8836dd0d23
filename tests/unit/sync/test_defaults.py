"""Plugin defaults and variables as files of the repository: a change of them is one of the flows that they touch."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from runner.flows.catalogue import Catalogue
from runner.settings import EnvironmentSettings, RepositorySettings, Settings
from sync.activation import Outcome
from sync.comparison import of_folder, plan_between
from sync.service import SyncService
from tests.servers.store import fresh_store

ASK = """\
id: {id}
namespace: {namespace}
tasks:
  - {{id: ask, type: core.http.Request{more}}}
"""
SAY = "id: say\nnamespace: company.team\ntasks: [{id: s, type: core.log.Log, message: hello}]\n"
URI = "pluginDefaults:\n  - {type: core.http.Request, values: {uri: 'https://%s.example.org'}}\n"


def ask(name: str, namespace: str = "company.team", more: str = "") -> str:
    return ASK.format(id=name, namespace=namespace, more=more)


class Server:
    """The parts of a server over a work tree that is followed in place."""

    def __init__(self, home: Path, url: str) -> None:
        settings = Settings(
            home=home,
            repositories=(RepositorySettings(name="r", url=url),),
            environments=(EnvironmentSettings(name="prod", repository="r", ref="refs/heads/main"),),
        )
        home.mkdir()
        self.store = fresh_store(settings.database_url, durability="off")
        self.catalogue = Catalogue(self.store)
        self.sync = SyncService(self.store, self.catalogue, settings)
        self.sync.ensure_declared()

    def look(self) -> Any:
        return self.sync.reconcile_repository("r", actor="test")[0]

    def uri(self, name: str, namespace: str = "company.team") -> Any:
        return self.catalogue.get(namespace, name).tasks[0].uri  # type: ignore[attr-defined]

    def revisions(self) -> dict[str, int]:
        versions = self.store.read(lambda db: db.flows.list())
        return {version.flow_id: version.revision for version in versions}


@pytest.fixture
def server(tmp_path: Path, work_tree: Any) -> Iterator[Server]:
    found = Server(tmp_path / "home", f"file://{work_tree.path}")
    yield found
    found.sync.close()
    found.store.close()


def test_the_nearest_namespace_wins_and_flows_win_over_all(server: Server, work_tree: Any) -> None:
    work_tree.write(
        {
            "flows/_defaults.yaml": URI % "every",
            "flows/company/_defaults.yaml": URI % "company",
            "flows/anywhere/_defaults.yml": "namespace: company.team\n" + URI % "team",
            "flows/company/team/a.yaml": ask("a"),
            "flows/company/team/deep/b.yaml": ask("b", "company.team.deep"),
            "flows/company/c.yaml": ask("c", "company"),
            "flows/other/d.yaml": ask("d", "other"),
            "flows/other/e.yaml": ask("e", "other", ", uri: 'https://own.example.org'"),
        }
    )

    result = server.look()

    assert result.outcome is Outcome.ACTIVE, result.plan and result.plan.problems
    spaces = {"a": "company.team", "b": "company.team.deep", "c": "company", "d": "other", "e": "other"}
    found = {name: server.uri(name, namespace).split("/")[2].split(".")[0] for name, namespace in spaces.items()}
    assert found == {"a": "team", "b": "team", "c": "company", "d": "every", "e": "own"}


def test_a_change_of_defaults_is_planned_for_the_flows_it_touches(server: Server, work_tree: Any) -> None:
    work_tree.write(
        {
            "flows/company.team/_defaults.yaml": URI % "old",
            "flows/company.team/a.yaml": ask("a"),
            "flows/company.team/say.yaml": SAY,
            "flows/other/d.yaml": ask("d", "other", ", uri: 'https://own.example.org'"),
        }
    )
    server.look()
    work_tree.write({"flows/company.team/_defaults.yaml": URI % "new"})

    result = server.look()

    assert result.plan is not None
    touched = {change.flow_id: (change.kind.value, change.diff) for change in result.plan.changes}
    assert touched["a"] == ("changed", ("tasks.ask.uri https://old.example.org -> https://new.example.org",))
    assert "d" not in touched
    assert server.uri("a") == "https://new.example.org"
    assert server.revisions()["a"] == 2
    assert server.catalogue.get("company.team", "a", 1).tasks[0].uri == "https://old.example.org"  # type: ignore[attr-defined]


def test_what_did_not_change_is_not_planned_again(server: Server, work_tree: Any) -> None:
    work_tree.write({"flows/company.team/_defaults.yaml": URI % "old", "flows/company.team/a.yaml": ask("a")})
    server.look()
    work_tree.write({"flows/company.team/note.txt": "x"})

    result = server.look()

    assert result.plan is not None
    assert (result.plan.changes, result.plan.unchanged) == ((), 1)
    assert server.revisions() == {"a": 1}


def test_defaults_that_go_take_the_flows_that_need_them_along(server: Server, work_tree: Any) -> None:
    work_tree.write({"flows/company.team/_defaults.yaml": URI % "old", "flows/company.team/a.yaml": ask("a")})
    server.look()
    work_tree.write({"flows/company.team/_defaults.yaml": None})

    result = server.look()

    assert result.outcome is Outcome.INVALID
    assert result.plan is not None
    assert [(problem.code, problem.file) for problem in result.plan.errors] == [
        ("task.property.missing", "flows/company.team/a.yaml")
    ]
    assert server.uri("a") == "https://old.example.org"


@pytest.mark.parametrize(
    ("text", "code", "line"),
    [
        ("pluginDefaults:\n  - {type: core.http.Request, values: {urk: x}}\n", "default.property.unknown", 2),
        ("pluginDefaults:\n  - {type: core.http.Request, values: {}}\n", "default.value.missing", 2),
        ("pluginDefaults:\n  - {values: {uri: x}}\n", "flow.property.missing", 2),
        ("pluginDefaults: {a: b}\n", "defaults.file.invalid", 1),
        ("- a\n", "defaults.file.invalid", 1),
        ("other: 1\npluginDefaults: []\n", "defaults.file.invalid", 1),
        ("{}\n", "defaults.file.invalid", 1),
        ("description: [x]\n", "defaults.file.invalid", 1),
        ("description: x\nvariables: [region]\n", "defaults.variables.invalid", 2),
        (f"description: x\nvariables: {{a: {'x' * 70_000}}}\n", "defaults.variables.invalid", 2),
        ("namespace: [x]\npluginDefaults: []\n", "defaults.file.invalid", 1),
        ("pluginDefaults: [\n", "yaml.syntax.invalid", 2),
    ],
)
def test_what_is_wrong_with_defaults_keeps_the_revision_out(
    server: Server, work_tree: Any, text: str, code: str, line: int
) -> None:
    work_tree.write({"flows/company.team/say.yaml": SAY})
    before = server.look().commit
    work_tree.write({"flows/company.team/_defaults.yaml": text})

    result = server.look()

    assert result.outcome is Outcome.INVALID
    assert result.plan is not None
    errors = [(each.code, each.file, each.line) for each in result.plan.errors]
    assert (code, "flows/company.team/_defaults.yaml", line) in errors, errors
    assert result.active == before


def test_two_files_for_one_namespace_are_one_too_many(server: Server, work_tree: Any) -> None:
    work_tree.write(
        {
            "flows/company.team/_defaults.yaml": URI % "a",
            "flows/company/team/_defaults.yaml": URI % "b",
            "flows/company.team/a.yaml": ask("a"),
        }
    )

    result = server.look()

    assert result.plan is not None
    assert [problem.code for problem in result.plan.errors] == ["defaults.file.duplicate"]


def test_a_write_of_the_api_may_lean_on_defaults(
    server: Server, work_tree: Any, git_server: Any, tmp_path: Path
) -> None:
    repository = git_server.repository("flows.git")
    work_tree.write({"flows/company.team/_defaults.yaml": URI % "team", "flows/company.team/a.yaml": ask("a")})
    work_tree.push(repository)
    other = Server(tmp_path / "other", f"{git_server.url}/flows.git")
    other.look()

    version = other.sync.write_flow(ask("b"), actor="ann")
    uri = other.uri("b")
    other.sync.close()
    other.store.close()

    assert version.revision == 1
    assert uri == "https://team.example.org"


def test_a_plan_of_two_folders_shows_what_a_change_of_defaults_does(tmp_path: Path) -> None:
    for name in ("old", "new"):
        folder = tmp_path / name / "flows" / "company.team"
        folder.mkdir(parents=True)
        (folder / "_defaults.yaml").write_text(URI % name)
        (folder / "a.yaml").write_text(ask("a"))
        (folder / "b.yaml").write_text(ask("b", more=", uri: 'https://own.example.org'"))
    now = datetime(2026, 3, 10, tzinfo=UTC)

    plan = plan_between(of_folder(tmp_path / "old"), of_folder(tmp_path / "new"), None, now=now, zone=ZoneInfo("UTC"))

    assert plan.errors == ()
    assert [(each.flow_id, each.diff) for each in plan.changes if each.diff] == [
        ("a", ("tasks.ask.uri https://old.example.org -> https://new.example.org",))
    ]


def test_variables_of_the_nearest_namespace_win_and_maps_merge(server: Server, work_tree: Any) -> None:
    variables = "variables: {region: %s, db: {host: %s, ports: [%s]}, %s: here}\n"
    work_tree.write(
        {
            "flows/_defaults.yaml": variables % ("every", "every", 1, "all"),
            "flows/company/_defaults.yaml": variables % ("company", "company", 2, "own") + URI % "company",
            "flows/company/team/_defaults.yaml": "variables: {db: {host: team}}\n",
            "flows/company/team/a.yaml": SAY,
        }
    )

    result = server.look()

    assert result.outcome is Outcome.ACTIVE, result.plan and result.plan.problems
    assert server.catalogue.get("company.team", "say").namespace_variables == {
        "region": "company",
        "db": {"host": "team", "ports": [2]},
        "all": "here",
        "own": "here",
    }


def test_a_change_of_variables_is_a_revision_of_the_flows_below(server: Server, work_tree: Any) -> None:
    folder = "flows/company.team"
    work_tree.write(
        {
            f"{folder}/_defaults.yaml": "variables: {region: eu}\n",
            f"{folder}/a.yaml": SAY,
            "flows/other/d.yaml": ask("d", "other", ", uri: 'https://own.example.org'"),
        }
    )
    server.look()
    work_tree.write({f"{folder}/_defaults.yaml": "variables: {region: us, zone: b}\n"})

    result = server.look()

    assert result.plan is not None
    assert {each.flow_id: each.diff for each in result.plan.changes} == {
        "say": ("namespace.region eu -> us", "namespace.zone added")
    }
    before, after = (server.catalogue.get("company.team", "say", number) for number in (1, 2))
    assert (before.namespace_variables, after.namespace_variables) == ({"region": "eu"}, {"region": "us", "zone": "b"})


def test_a_name_that_no_namespace_has_is_told_when_it_is_pushed(server: Server, work_tree: Any) -> None:
    work_tree.write(
        {
            "flows/company/_defaults.yaml": "variables: {region: eu}\n",
            "flows/company/team/a.yaml": SAY.replace("hello", "'{{ namespace.region }} {{ namespace.regoin }}'"),
        }
    )

    result = server.look()

    assert result.plan is not None
    told = [(each.code, each.severity.value, each.column, each.hint) for each in result.plan.problems]
    assert told == [("expression.namespace.unknown", "warning", 73, "did you mean 'region'?")]
    assert result.outcome is Outcome.ACTIVE
