"""What runs in the preview of a change request: its bounds, its secrets, and that nothing outside of it hears of it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from runner.errors import ConflictError, ExpressionError
from runner.executions.creation import NewExecution
from runner.secrets.base import Secrets
from runner.settings import PreviewSettings
from runner.states import State
from runner.store.records import FlowDraft

if TYPE_CHECKING:
    from runner.executions.models import Execution
    from runner.services import Host
    from tests.unit.runner.executions.conftest import Hand

PREVIEW = "preview.pr-7.company.team"
NOTHING = "tasks: [{id: a, type: core.log.Log, message: hello}]"


class Chest:
    """Secrets by namespace, exactly; `is_namespaced` as a test says."""

    def __init__(self, secrets: Mapping[tuple[str, str], str], *, is_namespaced: bool) -> None:
        self._secrets = secrets
        self.is_namespaced = is_namespaced

    def get(self, namespace: str, key: str) -> str | None:
        return self._secrets.get((namespace, key))

    def keys(self, namespace: str) -> list[str]:
        return [key for space, key in self._secrets if space == namespace]

    def values(self) -> Any:
        return iter(self._secrets.values())


def deploy(hand: Hand, source: str, flow_id: str = "flow", environment: str = "default.pr-7") -> None:
    text = f"id: {flow_id}\nnamespace: {PREVIEW}\n{source}"
    blob = hashlib.sha1(text.encode()).hexdigest()
    draft = FlowDraft(PREVIEW, flow_id, blob, text, hand.now, environment=environment)
    hand.store.write(lambda db: db.flows.put(draft))


def bounded(hand: Hand, **limits: Any) -> None:
    settings = hand.engine.host.settings.model_copy(update={"previews": PreviewSettings(**limits)})
    hand.engine.host = replace(hand.engine.host, settings=settings)


def start(hand: Hand, flow_id: str = "flow") -> Execution:
    return hand.engine.create(NewExecution(PREVIEW, flow_id))


def test_a_preview_has_so_many_executions_and_no_more(hand: Hand) -> None:
    deploy(hand, NOTHING)
    bounded(hand, max_executions=2)
    for _ in range(2):
        start(hand)
        hand.turn()

    with pytest.raises(ConflictError, match="has had 2 executions"):
        start(hand)
    hand.deploy(NOTHING)
    assert hand.create().state is State.CREATED


def test_a_preview_runs_so_many_executions_at_once(hand: Hand) -> None:
    deploy(hand, NOTHING)
    bounded(hand, max_running=1)
    start(hand)

    with pytest.raises(ConflictError, match="as many as may run at once"):
        start(hand)
    hand.turn()
    assert start(hand).state is State.CREATED


def test_a_flow_of_a_preview_starts_no_flow_that_is_active(hand: Hand) -> None:
    deploy(hand, "tasks: [{id: c, type: core.flow.Subflow, namespace: company.team, flowId: child}]")
    hand.deploy(NOTHING, "child")

    execution = start(hand)
    hand.turn()

    [run] = hand.runs(execution)
    assert (hand.states(execution), hand.children(execution)) == ("FAILED", [])
    assert "may not start flows of 'company.team'" in (run.error or "")


def test_no_flow_that_is_active_listens_to_a_preview(hand: Hand) -> None:
    hand.deploy("triggers: [{id: any, type: core.trigger.Flow}]\n" + NOTHING, "listener")
    deploy(hand, NOTHING)
    hand.deploy(NOTHING, "heard")

    start(hand)
    hand.turn()
    before = hand.store.read(lambda db: db.executions.last_of_flow("company.team", "listener", 5))
    hand.create("heard")
    hand.turn()
    after = hand.store.read(lambda db: db.executions.last_of_flow("company.team", "listener", 5))

    assert (len(before), len(after)) == (0, 1)


@pytest.mark.parametrize(
    ("environment", "allows", "sees"),
    [("default.pr-7", False, False), ("default.pr-7", True, True), ("default.fork-7", True, False)],
)
def test_a_preview_sees_secrets_of_its_base_where_that_is_allowed_and_it_is_of_no_fork(
    hand: Hand, environment: str, *, allows: bool, sees: bool
) -> None:
    deploy(hand, NOTHING, environment=environment)
    bounded(hand, secrets=allows)
    base, own = {("company.team", "KEY"): "base"}, {("preview", "OWN"): "own", ("company.team", "FILE"): "file"}
    secrets = Secrets([Chest(own, is_namespaced=True), Chest(base, is_namespaced=False)])
    execution = start(hand)
    host: Host = replace(hand.engine.host, secrets=secrets)
    services = host.expression_services(hand.engine.catalogue.get(PREVIEW, "flow"), execution)

    ask: Callable[[str], str] = services.secret
    found = []
    for key in ("KEY", "FILE"):
        try:
            found.append(ask(key))
        except ExpressionError:
            found.append("")

    assert services.secret("OWN", "preview") == "own"
    assert found == (["base", "file"] if sees else ["", ""])


def test_code_of_a_fork_does_not_run_in_the_process_runner(hand: Hand) -> None:
    deploy(hand, "tasks: [{id: a, type: scripts.shell.Script, script: env}]", environment="default.fork-7")

    execution = start(hand)
    hand.turn()
    [run] = hand.runs(execution)
    hand.worker.work(run.id, run.epoch)
    hand.turn()

    [run] = hand.runs(execution)
    assert hand.states(execution) == "FAILED"
    assert "code of a fork does not run in the process runner" in (run.error or "")
