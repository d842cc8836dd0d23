"""Drafts in a repository: planned and stored like all flows, and nothing that was in force changes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.sync.test_defaults import Server

FLOW = """\
id: load
namespace: team
tasks: [{id: say, type: core.log.Log, message: '%s'}]
triggers: [{id: daily, type: core.trigger.Schedule, cron: '0 6 * * *'}]
"""


@pytest.fixture
def server(tmp_path: Path, work_tree: Any) -> Iterator[Server]:
    work_tree.write({"flows/team/load.yaml": FLOW % "old"})
    found = Server(tmp_path / "home", f"file://{work_tree.path}")
    found.look()
    yield found
    found.sync.close()
    found.store.close()


def test_a_draft_becomes_a_revision_and_the_one_before_stays_in_force(server: Server, work_tree: Any) -> None:
    before = server.store.read(lambda db: db.triggers.get("team", "load", "daily"))
    work_tree.write({"flows/team/load.yaml": FLOW.replace("6", "7") % "new" + "draft: true\n"})

    result = server.look()

    (change,) = result.plan.changes
    assert change.note == "a draft, for who names its revision"
    assert "draft added" in change.diff
    assert server.revisions() == {"load": 2}
    assert server.catalogue.version("team", "load").revision == 1
    assert server.store.read(lambda db: db.triggers.get("team", "load", "daily")) == before


def test_what_is_a_draft_no_longer_is_in_force_with_its_triggers(server: Server, work_tree: Any) -> None:
    work_tree.write({"flows/team/load.yaml": FLOW.replace("6", "7") % "new" + "draft: true\n"})
    server.look()
    work_tree.write({"flows/team/load.yaml": FLOW.replace("6", "7") % "new"})

    result = server.look()

    row = server.store.read(lambda db: db.triggers.get("team", "load", "daily"))
    assert result.plan.changes[0].note.startswith("runs next ")
    assert server.catalogue.version("team", "load").revision == 3
    assert row is not None
    assert row.next_at is not None
    assert row.next_at.hour == 7


def test_what_is_in_force_behind_a_draft_follows_its_files(server: Server, work_tree: Any) -> None:
    first = server.catalogue.version("team", "load").commit
    work_tree.write({"flows/team/load.yaml": FLOW % "new" + "draft: true\n"})
    server.look()
    with_draft = server.catalogue.version("team", "load").commit
    pushed = work_tree.write({"flows/team/query.sql": "select 2"})

    server.look()

    in_force = server.catalogue.version("team", "load")
    newest = server.store.read(lambda db: db.flows.active("team", "load"))
    assert with_draft == first, "the files are those that it ran with"
    assert (in_force.revision, in_force.commit) == (1, pushed)
    assert newest is not None
    assert (newest.revision, newest.commit) == (2, pushed)


def test_only_the_newest_version_before_a_draft_follows_files(server: Server, work_tree: Any) -> None:
    work_tree.write({"flows/team/load.yaml": FLOW % "second"})
    server.look()
    work_tree.write({"flows/team/load.yaml": FLOW % "third" + "draft: true\n"})
    server.look()
    pushed = work_tree.write({"flows/team/query.sql": "select 2"})

    server.look()

    revisions = server.store.read(lambda db: db.flows.revisions("team", "load"))
    assert [each.commit == pushed for each in revisions] == [False, True, True]
