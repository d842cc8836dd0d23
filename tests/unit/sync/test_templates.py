"""Templates as files of the repository: a change of one is a change of the flows that use it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from sync.activation import Outcome
from sync.comparison import of_folder, plan_between
from sync.layout import Layout, file_index, flow_place, template_place
from tests.unit.sync.test_defaults import SAY, Server

NOTIFY = "id: notify\nnamespace: company.team\ntasks: [{id: told, type: core.log.Log, message: '%s'}]\n"
USES = """\
id: {id}
namespace: company.team
tasks:
  - {{id: t, type: core.flow.Template, namespace: company.team, templateId: notify}}
"""


def message(server: Server, revision: int | None = None) -> Any:
    task = server.catalogue.get("company.team", "uses", revision).tasks[0]
    return task.tasks[0].message if task.tasks else None  # type: ignore[attr-defined]


@pytest.fixture
def server(tmp_path: Path, work_tree: Any) -> Iterator[Server]:
    work_tree.write(
        {
            "flows/company.team/_templates/notify.yaml": NOTIFY % "old",
            "flows/company.team/uses.yaml": USES.format(id="uses"),
            "flows/company.team/say.yaml": SAY,
        }
    )
    found = Server(tmp_path / "home", f"file://{work_tree.path}")
    found.look()
    yield found
    found.sync.close()
    found.store.close()


def test_a_template_belongs_to_the_revision_of_the_flow_that_uses_it(server: Server, work_tree: Any) -> None:
    work_tree.write({"flows/company.team/_templates/notify.yaml": NOTIFY % "new"})

    result = server.look()

    assert result.plan is not None
    assert [(change.flow_id, change.diff) for change in result.plan.changes] == [
        ("uses", ("tasks.told.message old -> new",))
    ]
    assert server.revisions() == {"uses": 2, "say": 1}
    assert [message(server, revision) for revision in (1, 2)] == ["old", "new"]


def test_what_did_not_change_is_not_planned_again(server: Server, work_tree: Any) -> None:
    work_tree.write({"flows/company.team/_templates/other.yaml": NOTIFY.replace("notify", "other") % "x"})

    result = server.look()

    assert (result.plan.changes, result.plan.unchanged, result.plan.files_changed) == ((), 2, 0)


@pytest.mark.parametrize(
    ("text", "place", "code"),
    [
        (None, "flows/company.team/uses.yaml", "template.missing"),
        (NOTIFY.replace("message", "massage") % "x", "flows/company.team/_templates/notify.yaml", None),
        (NOTIFY.replace("id: notify", "id: notfiy") % "x", "flows/company.team/uses.yaml", "template.missing"),
    ],
)
def test_a_revision_without_a_template_that_is_needed_is_kept_out(
    server: Server, work_tree: Any, text: str | None, place: str, code: str | None
) -> None:
    work_tree.write({"flows/company.team/_templates/notify.yaml": text})

    result = server.look()

    assert result.outcome is Outcome.INVALID
    assert (place, code or "task.property.unknown") in [(each.file, each.code) for each in result.plan.errors]
    assert message(server) == "old"


def test_a_plan_of_a_folder_sees_templates_too(tmp_path: Path) -> None:
    for name in ("old", "new"):
        folder = tmp_path / name / "flows" / "company.team"
        (folder / "_templates").mkdir(parents=True)
        (folder / "_templates" / "notify.yml").write_text(NOTIFY % name)
        (folder / "uses.yaml").write_text(USES.format(id="uses"))
    now = datetime(2026, 1, 1, tzinfo=UTC)

    plan = plan_between(of_folder(tmp_path / "old"), of_folder(tmp_path / "new"), None, now=now, zone=ZoneInfo("UTC"))

    assert [change.diff for change in plan.changes] == [("tasks.told.message old -> new",)]
    assert plan.problems == ()


@pytest.mark.parametrize(
    ("path", "namespace"),
    [
        ("flows/_templates/a.yaml", None),
        ("flows/company.team/_templates/a.yml", "company.team"),
        ("flows/_templates/company/team/a.yaml", "company.team"),
        ("flows/company/_flows/_templates/a.yaml", "company"),
    ],
)
def test_the_files_of_a_folder_of_templates_are_templates_and_nothing_else(path: str, namespace: str | None) -> None:
    layout = Layout("flows")

    place = template_place(path, layout)

    assert place is not None
    assert place.namespace == namespace
    assert flow_place(path, layout) is None
    assert file_index([path], layout, {}) == {}


@pytest.mark.parametrize(
    "path",
    [
        "flows/company/templates/a.yaml",  # a namespace may have that name
        "flows/company/_files/_templates/a.yaml",
        "flows/company/_templates/mail.html",
        "elsewhere/_templates/a.yaml",
    ],
)
def test_other_files_are_no_templates(path: str) -> None:
    assert template_place(path, Layout("flows")) is None
