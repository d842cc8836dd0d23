"""What a plan says of secrets, keys, and flows elsewhere that a change breaks."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from runner.flows.head import FlowHead
from runner.flows.needs import Need, needs_of
from runner.flows.outline import Outline
from runner.flows.parse import parse_flow
from runner.key_values import MemoryKeyValues
from runner.secrets.base import Secrets
from runner.secrets.environment import EnvironmentSecrets
from runner.store.records import ActiveFlow
from sync.needs import is_known, unknown, with_needs, with_outsiders
from sync.plan import Change, ChangeKind, Plan
from sync.sifting import Facts

AT = datetime(2026, 11, 22, tzinfo=UTC)
SOURCE = """\
id: load
namespace: company.team
tasks:
  - id: say
    type: core.log.Log
    message: "{{ secret('DB') }} and {{ kv('rate') }}"
"""


def change(source: str, kind: ChangeKind = ChangeKind.ADDED, diff: tuple[str, ...] = ()) -> Change:
    flow = parse_flow(source).require()
    return Change(
        kind,
        flow.namespace,
        flow.id,
        "flows/load.yaml",
        "b",
        diff,
        head=FlowHead.of(flow),
        source=source,
        read=lambda: flow,
    )


def plan(*changes: Change) -> Plan:
    return Plan("prod", "refs/heads/main", "flows", None, "c" * 40, changes=changes)


@pytest.mark.parametrize(
    ("expression", "needs"),
    [
        ("secret('A')", [Need("secret", "company.team", "A")]),
        ("secret(key='A', subkey='user')", [Need("secret", "company.team", "A")]),
        ("secret('A', namespace='company')", [Need("secret", "company", "A")]),
        ("secret('A', null)", [Need("secret", "company.team", "A")]),
        ("secret('A', namespace=flow.id)", []),
        ("secret(flow.id)", []),
        ("kv('a') ~ kv('a') ~ secret('B')", [Need("kv", "company.team", "a"), Need("secret", "company.team", "B")]),
        ("kv('a', errorOnMissing=false)", []),
        ("kv('own')", []),
        ("'secret(' ~ flow.id", []),
    ],
)
def test_a_flow_needs_what_its_expressions_name_plainly(expression: str, needs: list[Need]) -> None:
    own = "  - {id: set, type: core.kv.Set, key: own, value: x}\n"
    flow = parse_flow(SOURCE.replace("secret('DB') }} and {{ kv('rate')", expression) + own).require()

    found = needs_of(flow)

    assert found == needs


def test_secrets_and_keys_that_are_not_there_are_warnings_at_their_line() -> None:
    found = with_needs(plan(change(SOURCE)), lambda _kind, _namespace, key: key == "DB")

    assert [(each.code, each.file, each.line, each.column, each.severity.value) for each in found.problems] == [
        ("flow.kv.missing", "flows/load.yaml", 6, 41, "warning")
    ]
    assert "neither company.team nor a namespace around it" in found.problems[0].message
    assert found.is_valid


def test_without_a_server_a_plan_names_what_it_could_not_look_up() -> None:
    found = with_needs(plan(change(SOURCE)), unknown)

    assert found.unchecked == ("kv('rate') of company.team", "secret('DB') of company.team")
    assert found.problems == ()


def test_a_server_knows_names_in_any_case_and_keys_of_namespaces_around() -> None:
    secrets, values = Secrets([EnvironmentSecrets({"DB": "x"})]), MemoryKeyValues({"company": {"rate": 1}})

    answers = [
        is_known(secrets, values, *need)
        for need in (("secret", "a", "db"), ("secret", "a", "no"), ("kv", "company.team", "rate"), ("kv", "a", "rate"))
    ]

    assert answers == [True, False, True, False]


CALLER = """\
id: caller
namespace: sales
tasks:
  - {id: call, type: core.flow.Subflow, namespace: company.team, flowId: load, inputs: {day: x}}
triggers:
  - id: after
    type: core.trigger.Flow
    preconditions: {id: p, flows: [{namespace: company.team, flowId: load}]}
"""


@pytest.mark.parametrize(
    ("planned", "said"),
    [
        (
            Change(ChangeKind.REMOVED, "company.team", "load", "flows/load.yaml"),
            [
                "task 'call' calls the flow company.team.load, which is removed",
                "trigger 'after' waits for the flow company.team.load, which is removed",
            ],
        ),
        (
            change(SOURCE, ChangeKind.CHANGED, ("inputs.day removed",)),
            ["task 'call' gives the flow company.team.load an input 'day', which it does not have"],
        ),
        (change(SOURCE, ChangeKind.CHANGED, ("tasks.say.message a -> b",)), []),
    ],
)
def test_flows_of_other_environments_that_a_change_breaks_are_named(planned: Any, said: list[str]) -> None:
    other = ActiveFlow("sales", "caller", 1, "b", environment="sales", path="flows/caller.yaml")

    found = with_outsiders(plan(planned), [other], lambda _row: Facts(Outline.of(parse_flow(CALLER).require())))

    prefix = "sales.caller of environment sales: "
    assert [each.message for each in found.problems] == [prefix + text for text in said]
    assert {each.code for each in found.problems} <= {"flow.dependent.broken"}
