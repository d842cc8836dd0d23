"""Parsed flows of a store: what is looked up again, and what is parsed at all."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from runner.executions.flow_index import FlowIndex
from runner.flows.catalogue import Catalogue
from runner.store import Store
from runner.store.records import FlowDraft, FlowVersion
from runner.triggers.models import FlowTrigger, Schedule
from tests.servers.store import fresh_store

AT = datetime(2026, 11, 22, tzinfo=UTC)
TASKS = "tasks:\n  - {id: say, type: core.log.Log, message: hello}\n"
AFTER = "triggers:\n  - {id: after, type: core.trigger.Flow}\n"
DAILY = "triggers:\n  - {id: daily, type: core.trigger.Schedule, cron: '0 6 * * *'}\n"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = fresh_store(f"sqlite:///{tmp_path / 'mainstem.db'}", durability="off")
    yield opened
    opened.close()


def put(store: Store, name: str, rest: str, *, blob: str = "b", commit: str = "c1") -> None:
    source = f"id: {name}\nnamespace: company\n{TASKS}{rest}"
    store.write(lambda db: db.flows.put(FlowDraft("company", name, blob, source, AT, "prod", commit, f"{name}.yaml")))


def test_a_named_revision_runs_with_the_files_of_the_commit_that_it_has_now(store: Store) -> None:
    put(store, "load", "")
    catalogue = Catalogue(store)
    before = catalogue.version("company", "load", 1).commit

    store.write(lambda db: db.flows.pin("prod", "c2"))

    assert (before, catalogue.version("company", "load", 1).commit) == ("c1", "c2")


@pytest.mark.parametrize(
    "trigger",
    [
        AFTER,
        'triggers: [{id: after, type: "io.kestra.plugin.core.trigger.Flow"}]\n',
        '"trigg\\u0065rs": [{"id": "after", "type": "core.trigger.\\x46low"}]\n',
        "triggers:\n  - id: after\n    type: &type core.trigger.Flow\n",
    ],
)
def test_a_trigger_is_found_however_it_is_written(store: Store, trigger: str) -> None:
    put(store, "quiet", DAILY)
    put(store, "listener", trigger)

    found = Catalogue(store).triggers(FlowTrigger)

    assert [(flow.id, each.id) for flow, each in found] == [("listener", "after")]


def test_the_trigger_behind_a_draft_is_found_though_the_draft_has_none(store: Store) -> None:
    put(store, "load", AFTER)
    put(store, "load", "draft: true\n", blob="b2")

    found = Catalogue(store).triggers(FlowTrigger)

    assert [(flow.revision, each.id) for flow, each in found] == [(1, "after")]


def test_triggers_follow_the_flows_and_each_class_is_asked_for_by_itself(store: Store) -> None:
    put(store, "load", AFTER)
    catalogue = Catalogue(store)
    before = len(catalogue.triggers(FlowTrigger)), len(catalogue.triggers(Schedule))

    put(store, "load", DAILY, blob="b2")

    assert before == (1, 0)
    assert (len(catalogue.triggers(FlowTrigger)), len(catalogue.triggers(Schedule))) == (0, 1)


class Counting(Catalogue):
    """Remembers what it was asked to parse."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.asked: list[str] = []

    def index_of(self, version: FlowVersion) -> FlowIndex:
        self.asked.append(version.flow_id)
        return super().index_of(version)


def test_looking_for_triggers_parses_no_flow_without_any(store: Store) -> None:
    put(store, "quiet", DAILY)
    put(store, "plain", "")
    put(store, "listener", AFTER)
    catalogue = Counting(store)

    catalogue.triggers(FlowTrigger)

    assert catalogue.asked == ["listener"]
