"""Flow triggers and webhooks over a real engine: what one execution or request starts."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from runner.errors import ExpressionError
from runner.executions.creation import CORRELATION, NewExecution
from runner.executions.models import Execution
from runner.key_values import MemoryKeyValues
from runner.local import LocalEngine
from runner.services import Host
from runner.settings import Settings
from runner.states import State
from runner.store import Store
from runner.store.records import FlowDraft
from runner.triggers import webhook
from runner.triggers.activation import activated
from runner.triggers.control import switched
from tests.servers.store import fresh_store


@dataclass
class Server:
    """A running engine with what tests ask of it."""

    store: Store
    local: LocalEngine

    def deploy(self, source: str, flow_id: str) -> None:
        text = f"id: {flow_id}\nnamespace: a.b\n{source}"
        now = datetime.now(UTC)
        draft = FlowDraft("a.b", flow_id, hashlib.sha1(text.encode()).hexdigest(), text, now)
        self.store.write(lambda db: db.flows.put(draft))
        flow = self.local.engine.catalogue.get("a.b", flow_id)
        self.store.write(lambda db: activated(db, [flow], [], now, ZoneInfo("UTC")))

    def run(self, flow_id: str, **labels: str) -> Execution:
        execution = self.local.engine.create(NewExecution("a.b", flow_id, labels=labels))
        ended = self.local.engine.wait(execution.id, 60)
        assert ended is not None
        return ended

    def started(self, flow_id: str, count: int, within_s: float = 10) -> list[Execution]:
        """Return the executions of a flow once there are `count` ended ones, or what there is after the time."""
        deadline = time.monotonic() + within_s
        while True:
            found = self.store.read(lambda db: db.executions.last_of_flow("a.b", flow_id, 50))
            ended = [each for each in found if each.state.is_terminal]
            if len(ended) >= count or time.monotonic() > deadline:
                return ended
            time.sleep(0.01)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    settings = Settings(home=tmp_path / "home", work=tmp_path / "work", url="http://127.0.0.1:1")
    settings.home.mkdir()
    store = fresh_store(settings.database_url, durability="off")
    host = Host.open(settings, MemoryKeyValues(), environment={}, log=lambda entry: store.logs.append([entry]))
    with LocalEngine(store, host) as local:
        yield Server(store, local)
    store.close()


RETURN = "tasks:\n  - {id: t, type: core.debug.Return, format: '%s'}\n"
UP = RETURN % "x" + "outputs:\n  - {id: n, type: INT, value: '3'}\n"


def on(more: str) -> str:
    return (
        "triggers:\n  - id: on\n    type: core.trigger.Flow\n"
        "    conditions: [{type: core.condition.ExecutionFlow, namespace: a.b, flowId: up}]\n" + more
    )


def test_a_flow_starts_after_another_with_inputs_from_its_outputs(server: Server) -> None:
    server.deploy(UP, "up")
    down = "inputs:\n  - {id: n, type: INT}\n" + RETURN % "{{ inputs.n }} of {{ trigger.flowId }}"
    server.deploy(
        down + on("    inputs: {n: '{{ trigger.outputs.n }}'}\n    labels: {by: '{{ trigger.state }}'}\n"), "down"
    )

    first = server.run("up")
    started = server.started("down", 1)

    assert [(each.state, each.inputs) for each in started] == [(State.SUCCESS, {"n": 3})]
    assert started[0].labels == {CORRELATION: first.labels[CORRELATION], "by": "SUCCESS"}
    assert started[0].trigger is not None
    assert started[0].trigger.variables["executionId"] == first.id


def test_a_flow_trigger_whose_inputs_do_not_render_starts_nothing_and_harms_no_other(server: Server) -> None:
    server.deploy(UP, "up")
    server.deploy(RETURN % "x" + on("    inputs: {n: '{{ nowhere.n }}'}\n"), "broken")
    server.deploy(RETURN % "x" + on(""), "fine")

    server.run("up")

    assert len(server.started("fine", 1)) == 1
    assert server.started("broken", 0) == []


def test_a_flow_that_refuses_its_inputs_harms_no_other_and_one_that_maps_none_may_lack_them(server: Server) -> None:
    server.deploy(UP, "up")
    needy = "inputs:\n  - {id: n, type: INT}\n" + RETURN % "x"
    server.deploy(needy + on("    inputs: {n: many}\n"), "a-refuses")
    server.deploy(needy + on(""), "b-lacks")

    server.run("up")

    assert [each.inputs for each in server.started("b-lacks", 1)] == [{}]
    assert server.started("a-refuses", 0) == []


def test_two_flows_that_end_together_complete_the_preconditions_once(server: Server) -> None:
    server.deploy(UP, "one")
    server.deploy(UP, "two")
    flows = "[{namespace: a.b, flowId: one}, {namespace: a.b, flowId: two}]"
    server.deploy(
        RETURN % "x"
        + f"triggers:\n  - {{id: on, type: core.trigger.Flow, preconditions: {{id: p, flows: {flows}}}}}\n",
        "both",
    )

    for _ in range(3):
        server.run("one")
        server.run("two")
    started = server.started("both", 3)

    assert len(started) == 3


def test_a_flow_trigger_that_is_switched_off_starts_nothing(server: Server) -> None:
    server.deploy(UP, "up")
    server.deploy(RETURN % "x" + on(""), "off")
    server.deploy(RETURN % "x" + on(""), "on")
    row = server.store.read(lambda db: db.triggers.get("a.b", "off", "on"))
    assert row is not None
    now = datetime.now(UTC)
    server.store.write(lambda db: db.triggers.put(switched(row, now, disabled=True)))

    server.run("up")

    assert len(server.started("on", 1)) == 1
    assert server.started("off", 0) == []


HOOK = (
    RETURN % "{{ trigger.body.n }}"
    + "triggers:\n  - id: hook\n    type: core.trigger.Webhook\n    key: '{{ vars.key }}'\n"
    + "    conditions: [{type: core.condition.Expression, expression: \"{{ trigger.body.hello == 'world' }}\"}]\n"
    + "variables: {key: ' letmein '}\n"
)


def test_a_request_with_the_right_key_starts_an_execution(server: Server) -> None:
    server.deploy(HOOK, "hooked")
    engine = server.local.engine
    flow = engine.catalogue.get("a.b", "hooked")
    seen = webhook.variables(json.dumps({"hello": "world", "n": 1}).encode(), [("X-A", "1"), ("X-A", "2")], [("q", "")])

    found = webhook.find(engine, flow, "letmein")
    assert found is not None
    wanted = webhook.request_for(flow, found[0], seen, found[1])

    assert webhook.find(engine, flow, "other") is None
    assert wanted is not None
    assert wanted.trigger is not None
    assert wanted.trigger.variables == {
        "body": {"hello": "world", "n": 1},
        "headers": {"X-A": ["1", "2"]},
        "parameters": {"q": [""]},
    }
    assert engine.create(wanted).trigger == wanted.trigger


def test_conditions_refuse_a_request(server: Server) -> None:
    server.deploy(HOOK, "hooked")
    flow = server.local.engine.catalogue.get("a.b", "hooked")
    found = webhook.find(server.local.engine, flow, "letmein")
    assert found is not None

    assert webhook.request_for(flow, found[0], webhook.variables(b'{"hello": "you"}', [], []), found[1]) is None
    with pytest.raises(ExpressionError):
        webhook.request_for(flow, found[0], webhook.variables(b"", [], []), found[1])


def test_a_webhook_that_is_switched_off_or_whose_key_does_not_render_is_not_found(server: Server) -> None:
    server.deploy(HOOK, "hooked")
    server.deploy(HOOK.replace("'{{ vars.key }}'", "\"{{ secret('NONE') }}\""), "secretive")
    engine = server.local.engine
    row = server.store.read(lambda db: db.triggers.get("a.b", "hooked", "hook"))
    flow = engine.catalogue.get("a.b", "hooked")
    assert row is not None
    off = switched(row, datetime.now(UTC), disabled=True)
    server.store.write(lambda db: db.triggers.put(off))

    assert webhook.find(engine, flow, "letmein") is None
    assert webhook.find(engine, engine.catalogue.get("a.b", "secretive"), "") is None


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'[{"a": 1}]', [{"a": 1}]),
        (b"bla", "bla"),
        (b"\xff", "\ufffd"),
        (b"3", 3),
        (b"[" * 100_000, "[" * 100_000),
        (b"9" * 30, 1e30),
        (rb'"\ud800"', r'"\ud800"'),
    ],
)
def test_a_body_is_json_or_text(body: bytes, expected: object) -> None:
    assert webhook.variables(body, [], [])["body"] == expected


def test_an_empty_body_is_absent() -> None:
    assert webhook.variables(b"", [], []) == {"headers": {}, "parameters": {}}


def test_a_webhook_is_switched_off_by_an_end_it_names_until_somebody_switches_it_on(server: Server) -> None:
    fails = "tasks:\n  - {id: no, type: core.execution.Fail}\n"
    server.deploy(f"{fails}triggers:\n  - {{id: on, type: core.trigger.Webhook, key: k, stopAfter: [FAILED]}}\n", "f")
    flow = server.local.engine.catalogue.get("a.b", "f")

    def off() -> bool:
        row = server.store.read(lambda db: db.triggers.get("a.b", "f", "on"))
        return row is not None and row.disabled

    found = webhook.find(server.local.engine, flow, "k")
    assert found is not None
    new = webhook.request_for(flow, found[0], {}, found[1])
    assert new is not None
    server.local.engine.wait(server.local.engine.create(new).id, 60)
    deadline = time.monotonic() + 60
    while not off() and time.monotonic() < deadline:
        time.sleep(0.01)

    assert off()
    assert webhook.find(server.local.engine, flow, "k") is None


@pytest.mark.parametrize(
    ("trigger", "states"),
    [
        ("dependsOn: [{flowId: up, namespace: a.b}], inputs: {n: '{{ nothing.at.all }}'}", [State.FAILED]),
        ("failOnTriggerError: true, inputs: {n: '{{ nothing.at.all }}'}", [State.FAILED]),
        ("failOnTriggerError: true, when: '{{ nothing.at.all }}'", [State.FAILED]),
        ("when: '{{ nothing.at.all }}'", []),
        ("inputs: {n: '{{ nothing.at.all }}'}", []),
    ],
)
def test_a_flow_trigger_that_cannot_start_leaves_a_failed_execution_where_it_is_told(
    server: Server, trigger: str, states: list[State]
) -> None:
    up = "conditions: [{type: core.condition.ExecutionFlow, namespace: a.b, flowId: up}]"
    listens = f"triggers:\n  - {{id: on, type: core.trigger.Flow, states: [SUCCESS], {up}, {trigger}}}\n"
    server.deploy(UP, "up")
    server.deploy("inputs: [{id: n, type: STRING, required: false}]\n" + RETURN % "x" + listens, "down")
    server.deploy(
        RETURN % "x" + "triggers:\n  - {id: on, type: core.trigger.Flow, dependsOn: [{flowId: up}]}\n", "last"
    )

    server.run("up")
    server.started("last", 1)

    found = server.started("down", len(states))
    assert [each.state for each in found] == states
    assert all(each.error and each.trigger is not None and "up" in str(each.trigger.variables) for each in found)


def test_what_preconditions_have_seen_survives_a_restart(server: Server) -> None:
    both = "preconditions: {id: p, flows: [{namespace: a.b, flowId: one}, {namespace: a.b, flowId: two}]}"
    server.deploy(RETURN % "x", "one")
    server.deploy(RETURN % "x", "two")
    server.deploy(RETURN % "x" + f"triggers:\n  - {{id: on, type: core.trigger.Flow, {both}}}\n", "down")
    server.run("one")
    deadline = time.monotonic() + 60
    while not server.store.read(lambda db: db.triggers.get("a.b", "down", "on").memory.get("windows")):  # type: ignore[union-attr]  # the row is there since it was deployed
        assert time.monotonic() < deadline
        time.sleep(0.01)
    server.local.close()

    with LocalEngine(server.store, server.local.engine.host) as again:
        restarted = Server(server.store, again)
        restarted.run("two")
        found = restarted.started("down", 1)

    assert [each.state for each in found] == [State.SUCCESS]
