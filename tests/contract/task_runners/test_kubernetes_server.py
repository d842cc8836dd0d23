"""The Kubernetes server of these tests behaves to a published client (lightkube) as a real one does."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import itertools
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

from tests.servers.kubernetes.server import KubernetesServer
from tests.servers.program import wait_until

IMAGE = "mainstem-test/busybox:1"
_numbers = itertools.count(100)


@pytest.fixture(scope="module")
def cluster(docker_host: str) -> Iterator[KubernetesServer]:
    server = KubernetesServer(docker_host).start()
    yield server
    server.stop()


@pytest.fixture
def client(cluster: KubernetesServer, tmp_path: Path, optional: Callable[[str, str], NoReturn]) -> Iterator[Any]:
    if importlib.util.find_spec("lightkube") is None:
        optional("kubernetes", "lightkube is not installed")
    import lightkube
    from lightkube.config.kubeconfig import KubeConfig

    made = lightkube.Client(config=KubeConfig.from_file(cluster.kubeconfig(tmp_path / "config")))
    yield made
    made.close()


@pytest.fixture
def start(cluster: KubernetesServer, client: Any) -> Iterator[Callable[..., str]]:
    """Start a pod with a command and return its name; all are removed at the end."""
    from lightkube.resources.core_v1 import Pod

    names: list[str] = []

    def start(*command: str, name: str = "", labels: dict[str, str] | None = None, **spec: Any) -> str:
        name = name or f"pod-{next(_numbers)}"
        main = {"name": "main", "image": IMAGE, "command": list(command)} | spec.pop("main", {})
        pod = {"metadata": {"name": name, "labels": labels or {}}}
        pod["spec"] = {"restartPolicy": "Never", "containers": [main], **spec}
        client.create(Pod.from_dict(pod))
        names.append(name)
        return name

    yield start
    for name in names:
        _remove(client, name)
    wait_until(lambda: not cluster.pods(), "the end of all pods")


def _remove(client: Any, name: str) -> None:
    from lightkube.core.exceptions import ApiError
    from lightkube.resources.core_v1 import Pod

    with contextlib.suppress(ApiError):  # it is gone
        client.delete(Pod, name, grace_period=0)


def _ended(client: Any, name: str) -> Any:
    from lightkube.resources.core_v1 import Pod

    pod = wait_until(lambda: _in_phase(client.get(Pod, name), {"Succeeded", "Failed"}), f"the end of {name}")
    return pod.status


def _in_phase(pod: Any, phases: set[str]) -> Any:
    return pod if pod.status.phase in phases else None


def _running(client: Any, name: str) -> None:
    from lightkube.resources.core_v1 import Pod

    wait_until(lambda: _in_phase(client.get(Pod, name), {"Running"}), f"the start of {name}")


def _waiting(client: Any, name: str, reason: str) -> Any:
    from lightkube.resources.core_v1 import Pod

    def look() -> Any:
        for status in client.get(Pod, name).status.containerStatuses or []:
            if status.state.waiting and status.state.waiting.reason == reason:
                return status.state.waiting
        return None

    return wait_until(look, f"{name} waiting in {reason}")


def test_a_pod_runs_ends_and_keeps_its_log(client: Any, start: Callable[..., str]) -> None:
    name = start("sh", "-c", "echo out; echo err >&2; printf last; exit 3")

    status = _ended(client, name)
    stamped = list(client.log(name, timestamps=True, newlines=False))

    ended = status.containerStatuses[0].state.terminated
    assert (status.phase, ended.exitCode, ended.reason) == ("Failed", 3, "Error")
    assert sorted(line.partition(" ")[2] for line in stamped) == ["err", "last", "out"]
    assert [line[-1:] for line in client.log(name)][:2] == ["\n", "\n"]


def test_init_containers_run_in_order_and_share_a_volume(client: Any, start: Callable[..., str]) -> None:
    mount = {"image": IMAGE, "volumeMounts": [{"name": "shared", "mountPath": "/data"}]}
    inits = [
        {"name": "first", "command": ["sh", "-c", "echo 1 >> /data/order"]} | mount,
        {"name": "second", "command": ["sh", "-c", "echo 2 >> /data/order"]} | mount,
    ]
    name = start("cat", "/data/order", initContainers=inits, volumes=[{"name": "shared", "emptyDir": {}}], main=mount)

    status = _ended(client, name)

    assert (status.phase, list(client.log(name, container="main", newlines=False))) == ("Succeeded", ["1", "2"])


def test_a_failed_init_container_fails_the_pod(client: Any, start: Callable[..., str]) -> None:
    name = start("echo", "never", initContainers=[{"name": "first", "image": IMAGE, "command": ["false"]}])

    status = _ended(client, name)

    assert (status.phase, status.initContainerStatuses[0].state.terminated.exitCode) == ("Failed", 1)
    assert status.containerStatuses[0].state.waiting.reason == "PodInitializing"


def test_exec_carries_bytes_in_and_out_and_the_exit_code(client: Any, start: Callable[..., str]) -> None:
    name = start("sleep", "60")
    _running(client, name)
    content = bytes(range(256)) * 20_000
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as made:
        member = tarfile.TarInfo("big")
        member.size = len(content)
        made.addfile(member, io.BytesIO(content))

    put = client.exec(name, command=["tar", "-x", "-C", "/tmp"], stdin=io.BytesIO(archive.getvalue()), stderr=True)
    got = io.BytesIO()
    client.exec(name, command=["cat", "/tmp/big"], stdout=got)
    failed = client.exec(name, command=["sh", "-c", "echo no >&2; exit 5"], stderr=True)

    assert put.exit_code == 0
    assert got.getvalue() == content
    assert (failed.exit_code, failed.stderr) == (5, "no\n")


def test_a_command_ends_with_the_container_it_runs_in(client: Any, start: Callable[..., str]) -> None:
    from lightkube.core.exceptions import ApiError

    name = start("sh", "-c", "until [ -e /over ]; do sleep 0.01; done", shareProcessNamespace=True)
    _running(client, name)
    began_at = time.monotonic()

    with contextlib.suppress(ApiError):  # how it ended, nobody may know
        client.exec(name, command=["sh", "-c", ": > /over; sleep 60"], stdin=io.BytesIO(b""), stderr=True)

    assert time.monotonic() - began_at < 20
    assert _ended(client, name).phase == "Succeeded"


def test_an_older_server_cannot_close_standard_input(
    cluster: KubernetesServer, client: Any, start: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from lightkube.core.exceptions import ApiError

    monkeypatch.setattr(cluster, "exec_protocols", ("v4.channel.k8s.io",))
    name = start("sleep", "60")
    _running(client, name)

    with pytest.raises(ApiError, match=r"v5\.channel"):
        client.exec(name, command=["cat"], stdin=b"x")

    assert client.exec(name, command=["echo", "x"], stdout=True).stdout == "x\n"


def test_lists_are_selected_and_come_in_pages(client: Any, start: Callable[..., str]) -> None:
    from lightkube.resources.core_v1 import Pod

    for number in range(3):
        start("true", name=f"listed-{number}", labels={"number": str(number), "kind": "x"})

    def names(**options: Any) -> list[str]:
        return [pod.metadata.name for pod in client.list(Pod, **options)]

    assert names(chunk_size=2) == ["listed-0", "listed-1", "listed-2"]
    assert names(labels={"number": ["0", "2"]}) == ["listed-0", "listed-2"]
    assert names(labels={"kind": "y"}) == []
    assert names(fields={"metadata.name": "listed-1"}) == ["listed-1"]


def test_a_watch_goes_on_from_a_version_until_that_is_forgotten(
    cluster: KubernetesServer, client: Any, start: Callable[..., str]
) -> None:
    from lightkube.core.exceptions import ApiError
    from lightkube.resources.core_v1 import Pod

    before = str(cluster.objects.version)
    name = start("true")
    _ended(client, name)

    seen = [pod.status.phase for _, pod in _until_ended(client.watch(Pod, resource_version=before))]
    cluster.objects.forget_history()
    with pytest.raises(ApiError) as caught:
        next(client.watch(Pod, resource_version=before))

    assert (seen[0], seen[-1]) == ("Pending", "Succeeded")
    assert caught.value.status.code == 410


def _until_ended(events: Iterator[Any]) -> Iterator[Any]:
    for kind, pod in events:
        yield kind, pod
        if pod.status.phase in {"Succeeded", "Failed"}:
            return


@pytest.mark.parametrize(
    ("image", "policy", "reason"),
    [
        ("no-such.invalid/image:1", "Always", "ImagePullBackOff"),
        ("no-such-image:1", "Never", "ErrImageNeverPull"),
        ("UPPER case", "Always", "InvalidImageName"),
    ],
)
def test_an_image_that_cannot_be_had_is_a_waiting_reason_and_an_event(
    cluster: KubernetesServer, client: Any, start: Callable[..., str], image: str, policy: str, reason: str
) -> None:
    from lightkube.resources.core_v1 import Event

    name = start("true", main={"image": image, "imagePullPolicy": policy})

    waiting = _waiting(client, name, reason)

    assert image in waiting.message
    uid = cluster.objects.get("pods", "default", name)["metadata"]["uid"]
    about = {"involvedObject.uid": uid, "type": "Warning"}  # the kubelet writes it after the status
    wait_until(lambda: any(image in event.message for event in client.list(Event, fields=about)), "a warning")


def test_a_private_image_needs_the_secret_of_its_registry(
    cluster: KubernetesServer, client: Any, start: Callable[..., str]
) -> None:
    from lightkube.resources.core_v1 import Secret

    cluster.node.private_images["registry.test/private:1"] = ("ann", "pass")
    cluster.node.aliases["registry.test/private:1"] = IMAGE
    config = '{"auths": {"registry.test": {"auth": "YW5uOnBhc3M="}}}'
    secret = {"metadata": {"name": "login"}, "type": "kubernetes.io/dockerconfigjson"}
    client.create(Secret.from_dict(secret | {"data": {".dockerconfigjson": _base64(config)}}))

    refused = start("true", name="without", main={"image": "registry.test/private:1"})
    _waiting(client, refused, "ErrImagePull")
    allowed = start(
        "true", name="with", main={"image": "registry.test/private:1"}, imagePullSecrets=[{"name": "login"}]
    )

    assert _ended(client, allowed).phase == "Succeeded"
    client.delete(Secret, "login")


def _base64(text: str) -> str:
    import base64

    return base64.b64encode(text.encode()).decode()


def test_a_pod_that_fits_nowhere_stays_pending_and_says_why(client: Any, start: Callable[..., str]) -> None:
    from lightkube.resources.core_v1 import Event, Pod

    name = start("true", nodeSelector={"gpu": "yes"})

    event = wait_until(lambda: next(iter(client.list(Event, fields={"involvedObject.name": name})), None), "an event")
    conditions = {each.type: each for each in client.get(Pod, name).status.conditions}

    assert event.reason == "FailedScheduling"
    assert (conditions["PodScheduled"].status, conditions["PodScheduled"].reason) == ("False", "Unschedulable")


def test_a_container_out_of_memory_is_named_so(client: Any, start: Callable[..., str]) -> None:
    name = start("tail", "/dev/zero", main={"resources": {"limits": {"memory": "32Mi"}}})

    ended = _ended(client, name).containerStatuses[0].state.terminated

    assert (ended.exitCode, ended.reason) == (137, "OOMKilled")


def test_a_program_that_is_missing_is_an_error_of_the_start(client: Any, start: Callable[..., str]) -> None:
    name = start("no-such-program")

    ended = _ended(client, name).containerStatuses[0].state.terminated

    assert (ended.exitCode, ended.reason) == (128, "StartError")
    assert "no-such-program" in ended.message


def test_a_deadline_and_an_eviction_fail_the_pod(
    cluster: KubernetesServer, client: Any, start: Callable[..., str]
) -> None:
    late = start("sleep", "60", name="late", activeDeadlineSeconds=1)
    evicted = start("sleep", "60", name="evicted")
    _running(client, evicted)

    cluster.node.evict("default", evicted)

    assert (_ended(client, late).reason, _ended(client, evicted).reason) == ("DeadlineExceeded", "Evicted")


def test_dollars_are_read_as_references(client: Any, start: Callable[..., str]) -> None:
    env = [{"name": "A", "value": "x"}, {"name": "B", "value": "$(A)$$(A)$(C)"}]
    name = start("sh", "-c", 'printf "%s\n" "$B" \'$(A) $$ $(C)\'', main={"env": env})

    _ended(client, name)

    assert list(client.log(name, newlines=False)) == ["x$(A)$(C)", "x $ $(C)"]


def test_deletion_gives_the_grace_that_was_asked_for(
    cluster: KubernetesServer, client: Any, start: Callable[..., str]
) -> None:
    from lightkube.resources.core_v1 import Pod

    name = start("sh", "-c", "trap 'echo term; exit 0' TERM; echo up; while :; do sleep 0.05; done")
    _running(client, name)
    wait_until(lambda: list(client.log(name)) == ["up\n"], "the first line")

    client.delete(Pod, name, grace_period=20)
    started = time.monotonic()
    lines = list(client.log(name, follow=True, newlines=False))
    wait_until(lambda: not cluster.pods(), "the end of the pod")

    assert lines == ["up", "term"]
    assert time.monotonic() - started < 10


def test_what_is_not_granted_is_forbidden_and_faults_come_as_ordered(cluster: KubernetesServer, client: Any) -> None:
    from lightkube.core.exceptions import ApiError
    from lightkube.resources.core_v1 import Pod, Secret

    cluster.gate.grant([{"resources": ["pods"], "verbs": ["list"]}])
    try:
        assert list(client.list(Pod)) == []
        with pytest.raises(ApiError, match="cannot list resource") as forbidden:
            list(client.list(Secret))
    finally:
        cluster.gate.granted = None
    cluster.gate.fail(1, 429, "TooManyRequests", "GET .*/pods", retry_after=2)
    with pytest.raises(ApiError) as throttled:
        list(client.list(Pod))

    assert forbidden.value.status.code == 403
    assert (throttled.value.response.status_code, throttled.value.response.headers["Retry-After"]) == (429, "2")
    assert list(client.list(Pod)) == []
