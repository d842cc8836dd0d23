"""Commits with files that have errors, in environments that let the others pass."""

from __future__ import annotations

from typing import Any

import pytest

from runner.errors import FlowError
from runner.settings import EnvironmentSettings
from sync.activation import Outcome
from sync.service import SyncService
from tests.unit.sync.test_service import Start, flow, flows_of, follow


def with_one_apart(start: Start, work_tree: Any) -> tuple[SyncService, str, str]:
    """Return a service, its first commit, and the active one, which broke one of two flows and changed the other."""
    first = work_tree.write({"flows/a.yaml": flow("w.a"), "flows/b.yaml": flow("w.b")})
    environment, repository = follow("prod", work_tree.path, on_invalid="quarantine")
    service = start(environment, repositories=(repository,))
    service.reconcile_repository("prod", actor="poll")
    apart = work_tree.write({"flows/a.yaml": "id: a\ntasks: 1", "flows/b.yaml": flow("w.b", "x")})
    service.reconcile_repository("prod", actor="poll")
    return service, first, apart


def test_with_quarantine_the_good_files_of_a_commit_are_active_and_the_broken_ones_stay(
    start: Start, work_tree: Any
) -> None:
    first = work_tree.write({"flows/a.yaml": flow("w.a"), "flows/b.yaml": flow("w.b"), "flows/w/x.txt": "1"})
    environment, repository = follow("prod", work_tree.path, on_invalid="quarantine")
    service = start(environment, repositories=(repository,))
    service.reconcile_repository("prod", actor="poll")

    second = work_tree.write(
        {"flows/a.yaml": "id: a\ntasks: 1", "flows/b.yaml": flow("w.b", "x"), "flows/w/x.txt": "2"}
    )
    [result] = service.reconcile_repository("prod", actor="poll")
    [idle] = service.reconcile_repository("prod", actor="poll")
    apart = service.environment("prod")
    commits = {each.flow_id: each.commit for each in service._store.read(lambda db: db.flows.list())}
    work_tree.write({"flows/a.yaml": flow("w.a", "mended")})
    [mended] = service.reconcile_repository("prod", actor="poll")

    assert (result.outcome, idle.outcome, mended.outcome) == (Outcome.QUARANTINED, Outcome.UNCHANGED, Outcome.ACTIVE)
    assert (apart.state, apart.active) == ("QUARANTINED", second)
    assert apart.message == "in quarantine, as the file has errors: w.a"
    assert commits == {"a": first, "b": second}, "a flow in quarantine keeps the files that it ran with"
    assert result.lines[-1].endswith("1 in quarantine")
    assert flows_of(service) == {"w.a": 2, "w.b": 2}
    assert (service.environment("prod").state, [row.result for row in service.history("prod")]) == (
        "OK",
        ["ACTIVE", "QUARANTINED", "ACTIVE"],
    )


def test_a_quarantine_outlives_pins_and_is_what_a_rollback_comes_back_to(start: Start, work_tree: Any) -> None:
    service, first, apart = with_one_apart(start, work_tree)
    sources = {each.flow_id: each.blob for each in service._store.read(lambda db: db.flows.list())}
    suspended = service.stay("prod", None, action="suspend", actor="ann", reason="look")
    commits = {each.flow_id: each.commit for each in service._store.read(lambda db: db.flows.list())}
    service.resume("prod", actor="ann")
    resumed = service.environment("prod").state
    work_tree.write({"flows/a.yaml": flow("w.a", "mended")})
    service.reconcile_repository("prod", actor="poll")

    service.stay("prod", None, action="rollback", actor="ann", reason="worse")

    assert (suspended.outcome, resumed) == (Outcome.UNCHANGED, "QUARANTINED")
    assert commits == {"a": first, "b": apart}, "a flow in quarantine keeps the files that it ran with"
    assert service.environment("prod").active == apart
    assert {each.flow_id: each.blob for each in service._store.read(lambda db: db.flows.list())} == sources


def test_a_write_with_errors_is_refused_whatever_is_in_quarantine(start: Start) -> None:
    service = start(EnvironmentSettings(name="default", repository="hosted", on_invalid="quarantine"))

    edits = {"flows/a.yaml": b"id: a\ntasks: 1"}

    with pytest.raises(FlowError) as caught:
        service._writes.commits.commit(
            service.environment("default"), lambda _source, _head: edits, actor="ann", message="write"
        )

    assert caught.value.code == "flow.invalid"


def test_a_file_in_quarantine_is_no_drift(start: Start, work_tree: Any) -> None:
    work_tree.write({"flows/a.yaml": flow("w.a"), "flows/b.yaml": flow("w.b")})
    environment, repository = follow("prod", work_tree.path, on_invalid="quarantine", drift="heal")
    service = start(environment, repositories=(repository,))
    service.reconcile_repository("prod", actor="poll")
    work_tree.write({"flows/a.yaml": "id: a\ntasks: 1"})
    service.reconcile_repository("prod", actor="poll")

    service.check_drift("prod")

    found = service.drift("prod")
    assert found is not None
    assert found.changes == ()
    assert [row.action for row in service.history("prod")] == ["sync", "sync"]
    assert service.environment("prod").state == "QUARANTINED"


@pytest.mark.parametrize(
    ("path", "broken"),
    [
        ("flows/team2/backup.yaml", "id: backup\ntasks: 1"),
        ("flows/team2/backup.yaml", "tasks: ["),
        ("flows/top.yaml", "id: backup\nnamespace: team2\ntasks: 1"),
        ("flows/team1/other.yaml", "id: backup\nnamespace: team2\ntasks: 1"),
    ],
)
def test_a_broken_file_of_another_namespace_keeps_no_flow_of_the_same_id(
    start: Start, work_tree: Any, path: str, broken: str
) -> None:
    work_tree.write({"flows/team1/backup.yaml": flow("team1.backup"), "flows/b.yaml": flow("w.b")})
    environment, repository = follow("prod", work_tree.path, on_invalid="quarantine")
    service = start(environment, repositories=(repository,))
    service.reconcile_repository("prod", actor="poll")
    work_tree.write({path: broken})
    [apart] = service.reconcile_repository("prod", actor="poll")
    work_tree.write({"flows/team1/backup.yaml": None})

    service.reconcile_repository("prod", actor="poll")

    assert apart.outcome is Outcome.QUARANTINED
    assert flows_of(service) == {"w.b": 1}
    assert service.environment("prod").message == "in quarantine, as the file has errors: team2.backup"


def test_a_second_file_of_a_flow_is_apart_by_its_path_and_the_flow_goes_on(start: Start, work_tree: Any) -> None:
    work_tree.write({"flows/a.yaml": flow("w.a"), "flows/w/x.txt": "1"})
    environment, repository = follow("prod", work_tree.path, on_invalid="quarantine")
    service = start(environment, repositories=(repository,))
    service.reconcile_repository("prod", actor="poll")

    second = work_tree.write({"flows/copy.yaml": flow("w.a", "copied"), "flows/w/x.txt": "2"})
    [result] = service.reconcile_repository("prod", actor="poll")
    [idle] = service.reconcile_repository("prod", actor="poll")

    message = service.environment("prod").message
    active = [(each.path, each.commit) for each in service._store.read(lambda db: db.flows.list())]
    rows = [(row["flowId"], row["path"], row["note"], row["namedBy"]) for row in service.history("prod", 1)[0].changes]
    assert (result.outcome, idle.outcome) == (Outcome.QUARANTINED, Outcome.UNCHANGED)
    assert active == [("flows/a.yaml", second)], "the flow follows its namespace files"
    assert message == "in quarantine, as the file has errors: flows/copy.yaml"
    assert rows == [("a", "flows/copy.yaml", "is not active: flows/a.yaml has its name", "flows/a.yaml")]


def test_a_second_rollback_to_a_quarantine_brings_back_what_stood_there(start: Start, work_tree: Any) -> None:
    service, first, apart = with_one_apart(start, work_tree)
    stood = {each.flow_id: (each.blob, each.commit) for each in service._store.read(lambda db: db.flows.list())}
    work_tree.write({"flows/a.yaml": flow("w.a", "mended")})
    service.reconcile_repository("prod", actor="poll")
    service.stay("prod", apart, action="rollback", actor="ann", reason="worse")
    service.resume("prod", actor="ann")

    again = service.stay("prod", apart, action="rollback", actor="ann", reason="still worse")

    assert again.outcome is Outcome.QUARANTINED
    assert {key: commit for key, (_, commit) in stood.items()} == {"a": first, "b": apart}
    active = service._store.read(lambda db: db.flows.list())
    assert {each.flow_id: (each.blob, each.commit) for each in active} == stood
    found = service.drift("prod")
    assert found is not None
    assert found.changes == ()


def test_who_follows_a_quarantine_again_after_a_rollback_sees_it(start: Start, work_tree: Any) -> None:
    work_tree.write({"flows/a.yaml": flow("w.a"), "flows/b.yaml": flow("w.b")})
    environment, repository = follow("prod", work_tree.path, on_invalid="quarantine")
    service = start(environment, repositories=(repository,))
    service.reconcile_repository("prod", actor="poll")
    apart = work_tree.write({"flows/a.yaml": "id: a\ntasks: 1"})
    service.reconcile_repository("prod", actor="poll")
    work_tree.write({"flows/a.yaml": flow("w.a", "mended")})
    service.reconcile_repository("prod", actor="poll")
    service.stay("prod", apart, action="rollback", actor="ann", reason="worse")
    work_tree.reset(apart)

    service.resume("prod", actor="ann")

    assert service.environment("prod").active == apart
    assert service.environment("prod").state == "QUARANTINED"
