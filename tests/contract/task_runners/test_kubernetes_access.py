"""How a worker finds a cluster and says who it is, and what it says when it cannot."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from task_runners.base import FailureReason, TaskRunnerError
from task_runners.kubernetes.connection import connect
from task_runners.kubernetes.properties import Config

if TYPE_CHECKING:
    from tests.contract.task_runners.conftest import Bench
    from tests.servers.kubernetes.server import KubernetesServer


def test_a_flow_may_name_its_own_server(
    kubernetes_bench: Bench, kubernetes: KubernetesServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = Config.model_validate({"masterUrl": kubernetes.url, "oauthToken": kubernetes.gate.token})
    monkeypatch.setattr(kubernetes_bench, "environment", {})
    runner = kubernetes_bench.runner.model_copy(update={"config": config, "namespace": "other"})

    result = runner.run(kubernetes_bench.spec("echo", "there"), kubernetes_bench.workdir, kubernetes_bench.context())

    assert (result.exit_code, kubernetes_bench.texts()) == (0, ["there"])
    assert kubernetes_bench.handles[0].node == "other"


def test_a_server_that_is_named_by_a_flow_gets_no_credentials_of_ours(
    kubernetes_bench: Bench, kubernetes: KubernetesServer
) -> None:
    runner = kubernetes_bench.runner.model_copy(update={"config": Config(master_url=kubernetes.url)})

    with pytest.raises(TaskRunnerError) as caught:
        runner.run(kubernetes_bench.spec("true"), kubernetes_bench.workdir, kubernetes_bench.context())

    assert caught.value.code == "runner.cluster.denied"


@pytest.mark.parametrize(
    ("config", "code", "words"),
    [
        ({"masterUrl": "ftp://x"}, "runner.property.invalid", "masterUrl"),
        ({"oauthTokenProvider": {"output": "x"}}, "runner.property.invalid", "oauthTokenProvider"),
        ({"keyStoreFile": "/x"}, "runner.property.invalid", "keyStoreFile"),
        ({"caCertFile": "/no/such/file"}, "runner.kubernetes.config", "No such file"),
        ({"caCertData": "no base64!"}, "runner.property.invalid", "caCertData"),
        ({"caCertData": "bm8gUEVN"}, "runner.kubernetes.config", "API server"),
    ],
)
def test_a_configuration_that_cannot_work_is_named(config: dict[str, Any], code: str, words: str) -> None:
    with pytest.raises(TaskRunnerError, match=words) as caught:
        connect(Config.model_validate(config), {})

    assert caught.value.code == code


def test_a_machine_without_a_cluster_is_told_what_to_set(tmp_path: Path) -> None:
    with pytest.raises(TaskRunnerError, match="not found") as caught:
        connect(None, {"KUBECONFIG": str(tmp_path / "none")})

    assert caught.value.code == "runner.kubernetes.config"
    assert "KUBECONFIG" in str(caught.value.hint)


def test_an_address_where_nobody_answers_is_named(kubernetes_bench: Bench) -> None:
    runner = kubernetes_bench.runner.model_copy(update={"config": Config(master_url="http://127.0.0.1:9")})

    with pytest.raises(TaskRunnerError, match=r"127\.0\.0\.1:9") as caught:
        list(runner.list_owned(kubernetes_bench.context()))

    assert (caught.value.code, caught.value.failure_reason) == (
        "runner.cluster.unreachable",
        FailureReason.UNAVAILABLE,
    )


def test_the_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lightkube.config", None)

    with pytest.raises(TaskRunnerError) as caught:
        connect(None, {})

    assert caught.value.code == "runner.kubernetes.missing"
    assert "mainstem[kubernetes]" in str(caught.value.hint)
