"""Where and as whom the tests of a change request run: what the settings of the server say, and no looser."""

from __future__ import annotations

import os
import subprocess
from contextlib import closing
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from runner.policies import policy_for
from runner.settings import ProcessRunnerSettings, RunnerPolicySettings, Settings
from runner.store.records import Environment
from runner.store.session import Session
from sync.reviews.confinement import Confinement, confinement_of
from sync.reviews.flow_tests import TestRun
from tests.servers.store import fresh_store

NOW = datetime(2026, 11, 2, tzinfo=UTC)
FLOW = """\
id: a
namespace: w
tasks:
  - {id: who, type: scripts.shell.Script, script: 'echo "::{\\"outputs\\":{\\"uid\\":$(id -u)}}::"'}
"""
SUITE = """\
id: users
namespace: w
flowId: a
testCases:
  - id: own
    type: io.kestra.core.tests.flow.UnitTest
    assertions:
      - {value: "{{ execution.state }}", equalTo: SUCCESS}
      - {value: "{{ outputs.who.vars.uid }}", equalTo: {UID}}
"""
RULES = (
    RunnerPolicySettings(
        namespaces=("w",), volumes=True, privileged=True, docker_hosts=("*",), capabilities=("CHOWN",)
    ),
    RunnerPolicySettings(namespaces=("x",), runners=("io.kestra.plugin.ee.kubernetes.runner.Kubernetes", "process")),
    RunnerPolicySettings(namespaces=("y",), runners=("process",)),
)


def told(room: Path, confinement: Confinement, uid: int = 0) -> str:
    """Run the tests of one flow that says under which user its body runs."""
    (room / "flows/w/tests").mkdir(parents=True)
    (room / "flows/w/a.yaml").write_text(FLOW)
    (room / "flows/w/tests/a.yaml").write_text(SUITE.replace("{UID}", str(uid)))
    return TestRun(room, confinement).answer().text


def _declare(environment: Environment, db: Session) -> None:
    db.environments.declare(environment)


def as_read(confinement: Confinement) -> Settings:
    return Settings.model_validate(confinement.settings)


@pytest.fixture
def store(tmp_path: Path) -> Any:
    with closing(fresh_store(f"sqlite:///{tmp_path / 'state.db'}", durability="off")) as opened:
        for name in ("r", "s"):
            environment = Environment(name=name, repository=name)
            opened.write(partial(_declare, environment))
        yield opened


def test_the_policies_of_the_server_count_in_the_tests_of_a_change_request(tmp_path: Path, store: Any) -> None:
    settings = Settings(runner_policies=(RunnerPolicySettings(runners=("docker",)),))

    text = told(tmp_path / "room", confinement_of(settings, store, "r", is_fork=False))

    assert text.startswith("1 failed")
    assert "may not use the task runner" in text


def test_where_several_repositories_have_flows_their_tests_get_no_process_runner(tmp_path: Path, store: Any) -> None:
    before = confinement_of(Settings(), store, "r", is_fork=False).repositories
    for name in ("r", "s"):
        store.write(lambda db, name=name: db.environments.swap_active(name, None, "0" * 40, at=NOW))
    confinement = confinement_of(Settings(), store, "r", is_fork=False)

    text = told(tmp_path / "room", confinement)

    assert (before, confinement.repositories) == (0, 2)
    assert "flows of several repositories run here" in text


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may run bodies as somebody else")
def test_bodies_in_tests_are_not_root_where_the_server_is(tmp_path: Path, store: Any) -> None:
    settings = Settings(process_runner=ProcessRunnerSettings(uid_base=234_000))
    namespaces = [store.write(lambda db, name=name: db.uids.allocate(name)) for name in ("w", "x")]

    confinement = confinement_of(settings, store, "r", is_fork=False)
    text = told(tmp_path / "room", confinement, 234_002)

    assert (namespaces, confinement.uid) == ([0, 1], 234_002)
    assert text == "1 passed"


def test_for_the_code_of_a_fork_every_rule_is_narrowed_to_containers(store: Any) -> None:
    settings = as_read(confinement_of(Settings(runner_policies=RULES), store, "r", is_fork=True))

    found = {name: policy_for(settings, name) for name in ("w", "x", "y", "z")}

    assert [each.runners for each in found.values()] == [
        ("docker", "kubernetes"),
        ("kubernetes",),
        (),
        ("docker", "kubernetes"),
    ]
    assert not any(each.allow_volumes or each.allow_privileged or each.capabilities for each in found.values())
    assert not any(each.docker_hosts for each in found.values())
    assert settings.default_task_runner == "docker"


def test_the_code_of_a_fork_reaches_nothing_of_the_cluster_that_flows_of_its_namespace_may_have(store: Any) -> None:
    listed = RunnerPolicySettings(
        service_accounts=("etl",), secrets=("db",), claims=("home",), csi_drivers=("vault",), networks=("none", "host")
    )

    settings = as_read(confinement_of(Settings(runner_policies=(listed,)), store, "r", is_fork=True))

    policy = policy_for(settings, "w")
    assert (policy.service_accounts, policy.secrets, policy.claims, policy.csi_drivers) == (None, None, None, None)
    assert policy.networks == ("none",)


def test_nothing_secret_goes_to_the_tests(store: Any) -> None:
    given = Settings(admin_token="t", encryption_key="k", globals={"a": "b"}, storage_options={"key": "x"})

    found = confinement_of(given, store, "r", is_fork=False).settings

    assert sorted(found) == [
        "allowPrivateAddresses",
        "defaultTaskRunner",
        "gitMaxMib",
        "processRunner",
        "runnerPolicies",
    ]


def test_what_the_active_commits_forbid_counts_in_tests_and_what_is_proposed_does_not(tmp_path: Path) -> None:
    with closing(fresh_store(f"sqlite:///{tmp_path / 'state.db'}")) as store:
        for name, tasks in (("prod", ["core.*"]), ("next", ["scripts.*"]), ("other", ["x"])):
            environment = Environment(
                name, "r" if name != "other" else "s", rules={"policies": [{"tasks": tasks}], "flows": "x"}
            )
            store.write(partial(_declare, environment))

        found = confinement_of(Settings(), store, "r", is_fork=True).rules

    assert found == {"policies": [{"tasks": ["scripts.*"]}, {"tasks": ["core.*"]}]}


def test_tests_that_are_stopped_while_their_process_begins_end_at_once(
    tmp_path: Path, store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = subprocess.Popen
    room = tmp_path / "room"
    (room / "flows").mkdir(parents=True)
    run = TestRun(room, confinement_of(Settings(), store, "r", is_fork=False))

    def stopped_meanwhile(*given: Any, **named: Any) -> Any:
        process = begin(*given, **named)
        run.stop()  # by another thread, which knows of no process yet
        return process

    monkeypatch.setattr(subprocess, "Popen", stopped_meanwhile)

    found = run.answer()

    assert (found.text, found.is_good) == ("the tests could not be run: the server stopped", False)
