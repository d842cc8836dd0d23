from __future__ import annotations

from collections.abc import Callable
from typing import Any

from runner.settings import EnvironmentSettings, RepositorySettings
from sync.activation import Outcome
from sync.service import SyncService

FLOW = """\
id: {id}
namespace: {namespace}
tasks:
  - {{id: say, type: core.log.Log, message: hello}}
"""


def flow(key: str) -> str:
    namespace, _, name = key.rpartition(".")
    return FLOW.format(id=name, namespace=namespace)


def test_tests_of_flows_are_no_namespace_files_and_a_namespace_may_be_called_like_them(
    start: Callable[..., SyncService], git_server: Any, work_tree: Any
) -> None:
    served = git_server.repository("flows.git")
    work_tree.write({"flows/w/a.yaml": flow("w.a"), "flows/w/tests/a.yaml": "id: t", "flows/w/x.csv": "1"})
    work_tree.push(served)
    repository = RepositorySettings(name="r", url=f"{git_server.url}/flows.git")
    service = start(EnvironmentSettings(name="prod", repository="r"), repositories=(repository,))
    service.reconcile_repository("r", actor="poll")
    work_tree.write({"flows/w/tests/a.yaml": "id: other", "flows/w/tests/data.csv": "2"})
    work_tree.push(served)

    [result] = service.reconcile_repository("r", actor="poll")
    written = service.write_flow(flow("tests.b"), actor="ann")

    assert (result.outcome, result.plan and result.plan.files_changed) == (Outcome.UNCHANGED, 0)
    assert written.path == "flows/tests.b.yaml"
    assert [each.flow_id for each in service._store.read(lambda db: db.flows.list())] == ["b", "a"]
