from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from runner.errors import InvalidError
from runner.executions.models import Execution, TriggerInfo
from runner.flows.models import Flow
from runner.states import State
from runner.storage.access import may_read
from runner.tasks.log import Log

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def execution(name: str, *, namespace: str = "company.team", flow_id: str = "flow", **fields: Any) -> Execution:
    return Execution(name, namespace, flow_id, 1, State.RUNNING, NOW, **fields)


def flow(namespace: str = "company.team", name: str = "flow") -> Flow:
    return Flow(id=name, namespace=namespace, tasks=(Log(id="t", type="core.log.Log", message="x"),))


def caused_by(variables: Mapping[str, Any]) -> TriggerInfo:
    return TriggerInfo("t", "core.trigger.Flow", dict(variables))


PARENT = {"namespace": "company.team", "flowId": "parent", "executionId": "up"}


@pytest.mark.parametrize(
    ("uri", "fields", "allowed"),
    [
        ("kestra:///company/team/flow/executions/me/tasks/t/r/a", {}, True),
        ("kestra:///company/team/flow/executions/other/tasks/t/r/a", {}, False),
        ("kestra:///company/team/flow/executions/meagre/a", {}, False),
        ("kestra:///company/other/flow/executions/me/tasks/t/r/a", {}, False),
        ("kestra:///company/team/flow/executions/first/a", {"original_id": "first"}, True),
        ("kestra:///company/team/flow/executions/before/a", {"parent_id": "before"}, True),
        ("kestra:///company/team/parent/executions/up/a", {"trigger": caused_by(PARENT)}, True),
        ("kestra:///company/team/parent/executions/else/a", {"trigger": caused_by(PARENT)}, False),
        ("kestra:///company/team/parent/executions/up/a", {"trigger": caused_by({**PARENT, "namespace": None})}, False),
        ("kestra:///company/team/parent/executions/up/a", {"trigger": caused_by({"body": "x"})}, False),
        ("kestra:///company/team/_files/a.sql", {}, True),
        ("kestra:///company/_files/a.sql", {}, True),
        ("kestra:///company/te/_files/a.sql", {}, False),
        ("kestra:///company/team/below/_files/a.sql", {}, False),
        ("kestra:///", {}, None),
        ("kestra:///company/team/flow/executions/me/../other/a", {}, None),
    ],
)
def test_an_execution_reads_its_own_files_those_of_its_cause_and_of_its_namespace(
    uri: str,
    fields: dict[str, Any],
    allowed: bool | None,  # noqa: FBT001 - a column of the table
) -> None:
    me = execution("me", **fields)

    if allowed is None:
        with pytest.raises(InvalidError):
            may_read(uri, me, flow())
    else:
        assert may_read(uri, me, flow()) is allowed


def test_a_tree_of_subflows_shares_its_files_and_nobody_else_sees_them() -> None:
    executions = {
        one.id: one
        for one in (
            execution("top", flow_id="top"),
            execution("middle", flow_id="middle", parent_execution_id="top"),
            execution("leaf", namespace="elsewhere", flow_id="leaf", parent_execution_id="middle"),
            execution("stranger", flow_id="top"),
        )
    }

    def reads(reader: str, uri: str) -> bool:
        one = executions[reader]
        return may_read(uri, one, flow(one.namespace, one.flow_id), lookup=executions.get)

    assert reads("top", "kestra:///elsewhere/leaf/executions/leaf/a")
    assert reads("leaf", "kestra:///company/team/top/executions/top/a")
    assert not reads("stranger", "kestra:///elsewhere/leaf/executions/leaf/a")
    assert not reads("top", "kestra:///elsewhere/other/executions/leaf/a")


def test_who_asks_by_way_of_an_execution_gets_no_file_of_a_namespace_that_is_hidden_from_them() -> None:
    me = execution("me", trigger=caused_by({**PARENT, "namespace": "hidden"}))
    uris = ("kestra:///hidden/parent/executions/up/a", "kestra:///company/_files/a.sql")
    own = "kestra:///company/team/flow/executions/me/a"

    for_the_flow = [may_read(uri, me, flow()) for uri in (*uris, own)]
    for_somebody = [may_read(uri, me, flow(), sees="company.team".__eq__) for uri in (*uris, own)]

    assert for_the_flow == [True, True, True]
    assert for_somebody == [False, False, True]
