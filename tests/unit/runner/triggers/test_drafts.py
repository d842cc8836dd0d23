"""Drafts over a real engine: started by who names their revision, skipped by everybody else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.errors import ConflictError
from runner.executions.creation import NewExecution
from runner.states import State
from runner.triggers import webhook
from runner.triggers.models import FlowTrigger
from tests.unit.runner.triggers.test_starting import RETURN, Server, on
from tests.unit.runner.triggers.test_starting import server as _server

DRAFT = "draft: true\n"


def _triggers(server: Server, flow_id: str) -> list[str]:
    return [row.trigger_id for row in server.store.read(lambda db: db.triggers.of_flow("a.b", flow_id))]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    yield from _server.__wrapped__(tmp_path)  # type: ignore[attr-defined]  # that module's fixture, as it is


def test_a_draft_is_skipped_by_who_names_no_revision(server: Server) -> None:
    server.deploy(RETURN % "first", "f")
    server.deploy(RETURN % "second" + DRAFT, "f")
    server.deploy(RETURN % "third" + DRAFT, "f")
    engine = server.local.engine

    unnamed, named = (engine.create(NewExecution("a.b", "f", revision)) for revision in (None, 2))

    assert (unnamed.flow_revision, named.flow_revision) == (1, 2)
    ended = engine.wait(named.id, 60)
    assert ended is not None
    assert ended.state is State.SUCCESS


def test_of_a_flow_of_drafts_alone_nothing_starts_unless_it_is_named(server: Server) -> None:
    server.deploy(RETURN % "x" + DRAFT, "f")
    engine = server.local.engine

    with pytest.raises(ConflictError) as raised:
        engine.create(NewExecution("a.b", "f"))

    assert raised.value.code == "flow.draft"
    assert raised.value.hint == "a draft runs for who names its revision, which is 1"
    assert engine.create(NewExecution("a.b", "f", 1)).flow_revision == 1


def test_a_subflow_task_takes_what_is_no_draft_or_fails_with_the_reason(server: Server) -> None:
    call = "tasks:\n  - {{id: s, type: core.flow.Subflow, namespace: a.b, flowId: child{more}}}\n"
    server.deploy(RETURN % "x" + DRAFT, "child")
    server.deploy(call.format(more=""), "unnamed")
    server.deploy(call.format(more=", revision: 1"), "named")

    states = {name: server.run(name).state for name in ("unnamed", "named")}

    assert states == {"unnamed": State.FAILED, "named": State.SUCCESS}


def test_the_triggers_before_a_draft_stay_and_those_of_a_draft_do_not_fire(server: Server) -> None:
    other = RETURN % "x" + "triggers:\n  - {id: hook, type: core.trigger.Webhook, key: secret}\n"
    server.deploy(RETURN % "x", "up")
    server.deploy(other, "kept")
    server.deploy(RETURN % "x" + DRAFT, "kept")
    server.deploy(RETURN % "x" + on("") + DRAFT, "never")
    server.deploy(other + DRAFT, "closed")
    catalogue = server.local.engine.catalogue

    rows = {name: _triggers(server, name) for name in ("kept", "never", "closed")}
    found = [webhook.find(server.local.engine, catalogue.get("a.b", name), "secret") for name in ("kept", "closed")]

    assert rows == {"kept": ["hook"], "never": [], "closed": []}
    assert [each is not None for each in found] == [True, False]
    assert catalogue.triggers(FlowTrigger) == []


def test_a_flow_that_was_deleted_before_its_draft_does_not_come_back(server: Server) -> None:
    server.deploy(RETURN % "old", "f")
    server.store.write(lambda db: db.flows.remove("a.b", "f", server.local.engine.host.clock(), None))
    server.deploy(RETURN % "new" + DRAFT, "f")

    with pytest.raises(ConflictError, match="drafts"):
        server.local.engine.create(NewExecution("a.b", "f"))
