"""How a worker finds a cluster and says who it is, and what it says when it cannot."""

from __future__ import annotations

import base64
import ssl
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from task_runners.base import FailureReason, RunnerContext, TaskRunnerError
from task_runners.kubernetes.cluster import forget_clusters
from task_runners.kubernetes.connection import connect
from task_runners.kubernetes.properties import Config
from task_runners.kubernetes.runner import Kubernetes
from tests.servers.kubernetes.certificates import Authority
from tests.servers.kubernetes.server import KubernetesServer

if TYPE_CHECKING:
    from tests.contract.task_runners.conftest import Bench


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


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture(scope="module")
def guarded(
    docker_host: str, authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[KubernetesServer]:
    """Give a server that speaks TLS and demands a certificate of each client."""
    folder = tmp_path_factory.mktemp("tls")
    paths = {name: folder / name for name in ("authority", "certificate", "key")}
    for path, text in zip(paths.values(), (authority.certificate, *authority.issue("server")), strict=True):
        path.write_text(text)
    server = KubernetesServer(
        docker_host,
        ssl_certfile=str(paths["certificate"]),
        ssl_keyfile=str(paths["key"]),
        ssl_ca_certs=str(paths["authority"]),
        ssl_cert_reqs=ssl.CERT_REQUIRED,
    ).start()
    yield server
    forget_clusters()
    server.stop()


@pytest.mark.parametrize("form", ["pem", "base64", "file", "passphrase"])
def test_certificates_say_who_both_sides_are(
    guarded: KubernetesServer, authority: Authority, tmp_path: Path, form: str
) -> None:
    certificate, key = authority.issue("worker", "open sesame" if form == "passphrase" else None)
    texts = {"caCert": authority.certificate, "clientCert": certificate, "clientKey": key}
    values: dict[str, Any] = {"masterUrl": guarded.url, "oauthToken": guarded.gate.token}
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
        given = base64.b64encode(text.encode()).decode() if form == "base64" else text
        values |= {f"{name}File": str(tmp_path / name)} if form == "file" else {f"{name}Data": given}
    values |= {"clientKeyPassphrase": "open sesame"} if form == "passphrase" else {}

    runner = Kubernetes.model_validate({"config": values})

    assert list(runner.list_owned(RunnerContext(on_line=print))) == []


@pytest.mark.parametrize("more", [{}, {"caCertData": True}, {"trustCerts": True}])
def test_a_side_without_its_certificate_is_refused(
    guarded: KubernetesServer, authority: Authority, more: dict[str, Any]
) -> None:
    if more.get("caCertData"):
        more = {"caCertData": authority.certificate}
    values = {"masterUrl": guarded.url, "oauthToken": guarded.gate.token, **more}

    with pytest.raises(TaskRunnerError) as caught:
        list(Kubernetes.model_validate({"config": values}).list_owned(RunnerContext(on_line=print)))

    assert caught.value.code == "runner.cluster.unreachable"


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
