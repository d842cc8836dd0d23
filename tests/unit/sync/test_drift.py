from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from runner.errors import InvalidError
from runner.settings import EnvironmentSettings, RepositorySettings
from sync.activation import Outcome
from sync.poller import Poller
from sync.service import SyncService

FLOW = "id: {id}\nnamespace: w\ntasks: [{{id: say, type: core.log.Log, message: {message}}}]\n"


def flow(name: str, message: str = "hello") -> str:
    return FLOW.format(id=name, message=message)


@pytest.fixture
def service(start: Callable[..., SyncService], git_server: Any, work_tree: Any) -> SyncService:
    return followed(start, git_server, work_tree)


def followed(start: Callable[..., SyncService], git_server: Any, work_tree: Any, **options: Any) -> SyncService:
    served = git_server.repository("flows.git")
    work_tree.write({"flows/a.yaml": flow("a"), "flows/b.yaml": "\ufeff" + flow("b"), "flows/c.yaml": flow("c")})
    work_tree.push(served)
    made = start(
        EnvironmentSettings(name="prod", repository="prod", **options),
        repositories=(RepositorySettings(name="prod", url=f"{git_server.url}/flows.git"),),
    )
    assert made.reconcile_repository("prod", actor="poll")[0].outcome is Outcome.ACTIVE
    return made


def by_hand(service: SyncService, statement: str) -> None:
    service._store.write(lambda db: db.connection.driver.execute(statement))


def sources(service: SyncService) -> dict[str, str]:
    return {each.flow_id: each.source for each in service._store.read(lambda db: db.flows.list())}


def drifted(service: SyncService) -> list[tuple[str, str]]:
    plan = service.drift("prod")
    assert plan is not None
    return [(change.flow_id, change.kind) for change in plan.changes]


HANDS = {
    "UPDATE flows SET source = replace(source, 'hello', 'bye') WHERE flow_id = 'a'": ("a", "changed"),
    "UPDATE flows SET blob = 'f' WHERE flow_id = 'b'": ("b", "changed"),
    "DELETE FROM flows WHERE flow_id = 'c'": ("c", "added"),
    "UPDATE flows SET flow_id = 'd', path = 'flows/d.yaml' WHERE flow_id = 'c'": ("d", "removed"),
}


def test_what_was_activated_has_not_drifted(service: SyncService) -> None:
    assert drifted(service) == []
    service.check_drift("prod")
    assert service.environment("prod").state == "OK"


@pytest.mark.parametrize("statement", HANDS)
def test_a_hand_in_the_database_is_found_and_undone(service: SyncService, statement: str) -> None:
    before = sources(service)
    by_hand(service, statement)
    found = drifted(service)

    result = service.heal("prod", actor="ann", reason="a hand")

    assert HANDS[statement] in found
    assert result.outcome is Outcome.ACTIVE
    assert (sources(service), drifted(service)) == (before, [])
    row = service.history("prod", 1)[0]
    assert (row.action, row.actor, row.reason, row.commit) == ("heal", "ann", "a hand", result.active)
    assert service._store.read(lambda db: db.revisions.broken("prod")) is None


def test_drift_is_said_until_a_look_finds_none(service: SyncService) -> None:
    by_hand(service, next(iter(HANDS)))

    service.check_drift("prod")
    service.reconcile_repository("prod", actor="poll")
    said = service.environment("prod")
    by_hand(service, "UPDATE flows SET source = replace(source, 'bye', 'hello') WHERE flow_id = 'a'")
    service.check_drift("prod")

    assert (said.state, said.message) == ("DRIFTED", "w.a is not what git says")
    assert (service.environment("prod").state, service.environment("prod").message) == ("OK", None)


def test_an_environment_that_heals_is_brought_back_by_polling(
    start: Callable[..., SyncService], git_server: Any, work_tree: Any
) -> None:
    service = followed(start, git_server, work_tree, drift="heal")
    by_hand(service, next(iter(HANDS)))

    Poller(service, service._store)._look("prod", "poll")

    assert drifted(service) == []
    row = service.history("prod", 1)[0]
    assert (row.action, row.actor, row.reason) == ("heal", "mainstem", "w.a is not what git says")


def test_an_environment_that_allows_drift_says_nothing(
    start: Callable[..., SyncService], git_server: Any, work_tree: Any
) -> None:
    service = followed(start, git_server, work_tree, drift="allow")
    by_hand(service, next(iter(HANDS)))

    service.check_drift("prod")

    assert service.environment("prod").state == "OK"
    assert drifted(service) == [("a", "changed")]


def test_healing_leaves_a_pin_where_it_is(service: SyncService) -> None:
    service.stay("prod", None, action="suspend", actor="ann", reason="quiet")
    by_hand(service, next(iter(HANDS)))

    service.heal("prod", actor="ann", reason="a hand")

    assert service.environment("prod").state == "PINNED"
    assert service.pin_of("prod") is not None
    assert drifted(service) == []


def test_healing_what_has_not_drifted_writes_nothing(service: SyncService) -> None:
    rows = len(service.history("prod"))

    result = service.heal("prod", actor="ann", reason="to be sure")

    assert result.outcome is Outcome.UNCHANGED
    assert len(service.history("prod")) == rows


def test_what_cannot_be_healed_is_said_once_and_changes_nothing(
    start: Callable[..., SyncService], git_server: Any, work_tree: Any
) -> None:
    service = followed(start, git_server, work_tree, drift="heal")
    by_hand(service, "UPDATE flows SET environment = 'other' WHERE flow_id = 'a'")
    by_hand(service, "UPDATE flows SET blob = 'f' WHERE flow_id = 'b'")
    rows, before = len(service.history("prod")), sources(service)

    for _ in range(2):
        service.check_drift("prod")
        service.reconcile_repository("prod", actor="poll")
    with pytest.raises(InvalidError) as caught:
        service.heal("prod", actor="ann", reason="a hand")

    found = service.environment("prod")
    assert (caught.value.code, found.state) == ("environment.revision.invalid", "DRIFTED")
    assert found.message is not None
    assert found.message.startswith("w.b is not what git says, and cannot be healed: ")
    assert found.message.endswith("flows/a.yaml: w.a belongs to environment other, which has it in flows/a.yaml")
    assert (len(service.history("prod")), sources(service)) == (rows, before)
