"""What only clusters do: places, images, evictions, watches that break, and finding a pod again."""

from __future__ import annotations

import http.server
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from task_runners.base import FailureReason, Limits, LogLine, Phase, TaskResult, TaskRunnerError
from task_runners.files import write_file
from task_runners.kubernetes import scripts
from task_runners.kubernetes.cluster import Cluster, cluster_of, forget_clusters
from task_runners.kubernetes.runner import Kubernetes
from task_runners.progress import Note, Progress
from task_runners.remote import Job
from task_runners.staging.folder import FolderStage
from task_runners.staging.port import SignedUpload
from tests.servers.kubernetes.gate import Right
from tests.servers.kubernetes.server import KubernetesServer
from tests.servers.program import wait_until

if TYPE_CHECKING:
    from tests.contract.task_runners.conftest import Bench

IMAGE = "mainstem-test/busybox:1"
ROLE = Path(__file__).parents[3] / "charts" / "mainstem" / "files" / "task-role.yaml"


@pytest.fixture(autouse=True)
def healthy(request: pytest.FixtureRequest) -> Iterator[None]:
    """Undo what a test did to the server."""
    yield
    if "kubernetes" in request.fixturenames:
        server: KubernetesServer = request.getfixturevalue("kubernetes")
        server.gate.granted, server.watches_are_frozen, server.node.is_lost = None, False, False
        server.exec_protocols = ("v5.channel.k8s.io", "v4.channel.k8s.io")


def given(bench: Bench, **properties: Any) -> Kubernetes:
    bench.runner = bench.runner.model_copy(update=properties)
    assert isinstance(bench.runner, Kubernetes)
    return bench.runner


def shared(bench: Bench) -> Cluster:
    return cluster_of(None, None, bench.environment)


class Told:
    """What an attempt stores: lines, notes, and how far it is."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.notes: list[str] = []
        self.progress = Progress()

    def __call__(self, items: Any, progress: Progress) -> None:
        self.lines += [item.text for item in items if isinstance(item, LogLine)]
        self.notes += [item.text for item in items if isinstance(item, Note)]
        self.progress = Progress.from_json(json.loads(json.dumps(progress.as_json())))


def when_running(kubernetes: KubernetesServer, act: Callable[[str, str], object]) -> Callable[[object], None]:
    """Return what acts on the one pod at the first line of its body."""
    done = threading.Event()

    def on_line(_line: object) -> None:
        if not done.is_set():
            done.set()
            (pod,) = kubernetes.pods()
            act(pod["metadata"]["namespace"], pod["metadata"]["name"])

    return on_line


def run_until_it_speaks(bench: Bench, on_line: Callable[[object], None], **options: Any) -> TaskResult:
    spec = bench.spec("sh", "-c", "echo begun; sleep 60", **options)
    return bench.runner.run(spec, bench.workdir, bench.context(on_line=on_line))


# --- what does not start ----------------------------------------------------------------------------------------------


def test_an_image_that_does_not_exist_ends_the_task_in_seconds_with_its_event(
    kubernetes_bench: Bench, kubernetes: KubernetesServer
) -> None:
    told = Told()
    spec = replace(kubernetes_bench.spec("true"), image="no-such.invalid/image:1")
    started = time.monotonic()

    result = kubernetes_bench.runner.run(spec, kubernetes_bench.workdir, kubernetes_bench.context(on_progress=told))

    assert (result.status, result.failure_reason) == (Phase.FAILED, FailureReason.IMAGE_PULL)
    assert "no-such.invalid/image:1" in str(result.message)
    assert any(note.startswith("Failed: Failed to pull image") for note in told.notes)
    assert time.monotonic() - started < 8
    wait_until(lambda: kubernetes.pods() == [], "the removal of the pod")


def test_a_pod_without_a_place_says_why_until_its_time_is_over(kubernetes_bench: Bench) -> None:
    told = Told()
    runner = given(kubernetes_bench, node_selector={"gpu": "yes"}, wait_until_running=timedelta(seconds=1))

    result = runner.run(
        kubernetes_bench.spec("true"), kubernetes_bench.workdir, kubernetes_bench.context(on_progress=told)
    )

    assert (result.status, result.failure_reason) == (Phase.FAILED, FailureReason.UNSCHEDULABLE)
    assert "node affinity/selector" in str(result.message)
    assert any("node affinity/selector" in note for note in told.notes)


def test_a_private_image_is_fetched_with_a_secret_that_does_not_stay(
    kubernetes_bench: Bench, kubernetes: KubernetesServer
) -> None:
    kubernetes.node.private_images["registry.test/secret:1"] = ("ann", "pass")
    kubernetes.node.aliases["registry.test/secret:1"] = IMAGE
    login = Kubernetes.model_validate({"credentials": {"username": "ann", "password": "pass"}}).credentials
    spec = replace(kubernetes_bench.spec("echo", "in"), image="registry.test/secret:1")

    refused = kubernetes_bench.runner.run(spec, kubernetes_bench.workdir, kubernetes_bench.context())
    allowed = given(kubernetes_bench, credentials=login).run(
        replace(spec, attempt=2), kubernetes_bench.workdir, kubernetes_bench.context()
    )

    assert (refused.failure_reason, allowed.status) == (FailureReason.IMAGE_PULL, Phase.SUCCEEDED)
    assert kubernetes.objects.list("secrets", None)[1] == []


# --- how a body ends --------------------------------------------------------------------------------------------------


def test_a_body_out_of_memory_is_told_with_its_limit(kubernetes_bench: Bench) -> None:
    result = kubernetes_bench.run("exec tail /dev/zero", limits=Limits(memory_bytes=32 * 1024**2))

    assert (result.exit_code, result.failure_reason) == (137, FailureReason.OOM_KILLED)
    assert result.message == "out of memory (limit 32 MiB)"


def test_an_evicted_body_is_no_failure_of_its_own(kubernetes_bench: Bench, kubernetes: KubernetesServer) -> None:
    result = run_until_it_speaks(kubernetes_bench, when_running(kubernetes, kubernetes.node.evict))

    assert (result.status, result.failure_reason) == (Phase.FAILED, FailureReason.EVICTED)
    assert "low on resource: memory" in str(result.message)


def test_a_preempted_body_is_told_as_such(kubernetes_bench: Bench, kubernetes: KubernetesServer) -> None:
    result = run_until_it_speaks(kubernetes_bench, when_running(kubernetes, kubernetes.node.preempt))

    assert (result.status, result.failure_reason) == (Phase.FAILED, FailureReason.PREEMPTED)


def test_a_lost_node_is_waited_for_until_the_cluster_gives_it_up(
    kubernetes_bench: Bench, kubernetes: KubernetesServer
) -> None:
    def lose(_namespace: str, _name: str) -> None:
        kubernetes.node.lose()
        threading.Timer(0.6, kubernetes.node.give_up_lost).start()

    result = run_until_it_speaks(kubernetes_bench, when_running(kubernetes, lose))

    assert (result.status, result.failure_reason) == (Phase.FAILED, FailureReason.NODE_LOST)


def test_a_pod_removed_by_somebody_else_is_lost(kubernetes_bench: Bench, kubernetes: KubernetesServer) -> None:
    def remove(namespace: str, name: str) -> None:
        kubernetes.objects.remove("pods", namespace, name)

    result = run_until_it_speaks(kubernetes_bench, when_running(kubernetes, remove))

    assert (result.status, result.failure_reason) == (Phase.LOST, FailureReason.LOST)


def test_a_container_beside_the_task_s_can_fail_it(kubernetes_bench: Bench) -> None:
    side = {"name": "side", "image": IMAGE, "imagePullPolicy": "IfNotPresent", "command": ["sh", "-c", "exit 5"]}
    given(kubernetes_bench, pod_spec={"containers": [side]})

    result = kubernetes_bench.run("echo well")

    assert (result.status, result.exit_code) == (Phase.FAILED, 5)
    assert result.message == "the container side failed with exit code 5"


# --- found again ------------------------------------------------------------------------------------------------------


def test_a_running_pod_is_found_again_with_each_line_once(kubernetes_bench: Bench) -> None:
    bench, told = kubernetes_bench, Told()
    spec = bench.spec("sh", "-c", "for i in $(seq 1 40); do echo $i; sleep 0.05; done; printf end; exit 4")
    first, runner = bench.context(on_progress=told), given(bench)
    job = runner.begin(spec, bench.workdir, first)
    wait_until(lambda: runner.look(job, first).status is None and len(told.lines) > 5, "some lines")
    forget_clusters()

    stored = Job.from_json(json.loads(json.dumps(job.as_json())))
    again = bench.context(
        on_progress=told,
        progress=told.progress,
        stored_handle=stored.handle,
        stored_watch=stored.watch.as_json(),
    )
    result = Kubernetes.model_validate(bench.runner.model_dump()).run(spec, bench.workdir, again)

    assert told.lines == [*(str(number) for number in range(1, 41)), "end"]
    assert (result.status, result.exit_code) == (Phase.FAILED, 4)


def test_a_pod_left_by_the_same_attempt_is_replaced(kubernetes_bench: Bench, kubernetes: KubernetesServer) -> None:
    bench = kubernetes_bench
    spec = bench.spec("sh", "-c", "echo once")
    bench.runner.submit(bench.spec("sleep", "60"), bench.workdir, bench.context())

    result = bench.runner.run(spec, bench.workdir, bench.context())

    assert (result.exit_code, bench.texts()) == (0, ["once"])
    wait_until(lambda: kubernetes.pods() == [], "the removal of the pod")


def test_the_lost_answer_to_a_request_starts_no_second_body(
    kubernetes_bench: Bench, kubernetes: KubernetesServer
) -> None:
    kubernetes.lost_answers = 1

    result = kubernetes_bench.run("echo once")

    created = [line for line in kubernetes.gate.requests if line.startswith("POST") and "/pods?" in line]
    assert (result.exit_code, kubernetes_bench.texts(), len(created) >= 2) == (0, ["once"], True)


def test_labels_find_one_pod_and_never_one_of_several(kubernetes_bench: Bench) -> None:
    bench = kubernetes_bench
    for attempt in (1, 2):
        bench.runner.submit(replace(bench.spec("sleep", "60"), attempt=attempt), bench.workdir, bench.context())
    task_run = bench.spec("x").task_run_id

    one = bench.runner.find({"taskrun-id": task_run, "taskrun-attempt": "2"}, bench.context())
    several = bench.runner.find({"taskrun-id": task_run}, bench.context())

    assert one is not None
    assert several is None
    assert bench.runner.find({"taskrun-id": "another"}, bench.context()) is None
    assert {handle.id for handle in bench.runner.list_owned(bench.context())} > {one.id}


def test_a_pod_may_stay_and_then_ends_by_itself(kubernetes_bench: Bench, kubernetes: KubernetesServer) -> None:
    given(kubernetes_bench, delete=False)

    result = kubernetes_bench.run("echo x > x", output_globs=("x",))

    assert list(result.output_files) == ["x"]
    wait_until(lambda: [pod["status"]["phase"] for pod in kubernetes.pods()] == ["Succeeded"], "the end of the pod")
    given(kubernetes_bench, delete=True)


# --- an API server that is not well -----------------------------------------------------------------------------------


class Away(FolderStage):
    """A stage whose storage cannot be reached any more when a job is removed."""

    def remove(self) -> None:
        raise TaskRunnerError("staging.archive.unremoved", "the storage is away")


def test_a_storage_that_is_away_lets_no_pod_run_on(
    kubernetes_bench: Bench, kubernetes: KubernetesServer, tmp_path: Path
) -> None:
    kubernetes_bench.stage = Away(tmp_path)
    runner, ctx = kubernetes_bench.runner, kubernetes_bench.context()
    handle = runner.submit(kubernetes_bench.spec("sleep", "60"), kubernetes_bench.workdir, ctx)

    with pytest.raises(TaskRunnerError, match="away"):
        runner.cleanup(handle, ctx)

    wait_until(lambda: kubernetes.pods() == [], "the end of the pod", 30)


def test_one_watch_tells_of_all_pods_whatever_happens_to_it(
    kubernetes_bench: Bench, kubernetes: KubernetesServer
) -> None:
    bench = kubernetes_bench
    spec = bench.spec("sh", "-c", "for i in 1 2 3 4 5 6; do echo $i; sleep 0.4; done")

    def harm(line: LogLine) -> None:
        bench.lines.append(line)
        if line.text == "2":
            kubernetes.end_watches()
        elif line.text == "3":
            kubernetes.cut_watches()
        elif line.text == "4":
            kubernetes.objects.forget_history()
            kubernetes.cut_watches()

    before = len(kubernetes.gate.requests)
    result = bench.runner.run(spec, bench.workdir, bench.context(on_line=harm))

    asked = [line for line in kubernetes.gate.requests[before:] if line.startswith("GET") and "/log" not in line]
    own = [line for line in asked if bench.handles[0].id in line and "watch" not in line]
    informer = shared(bench).informer
    assert (result.exit_code, bench.texts()) == (0, ["1", "2", "3", "4", "5", "6"])
    assert (informer.lists, informer.watches >= 3) == (2, True)
    assert len(own) <= 5  # while the watch was not there yet; without it there would be one for each look


def test_without_the_right_to_watch_each_look_asks(kubernetes_bench: Bench, kubernetes: KubernetesServer) -> None:
    rules = yaml.safe_load(ROLE.read_text())
    rules[0]["verbs"] = ["create", "get", "list", "delete"]
    kubernetes.gate.grant(rules)

    result = kubernetes_bench.run("echo seen")

    assert (result.exit_code, kubernetes_bench.texts()) == (0, ["seen"])


def test_refusals_that_pass_are_waited_out(kubernetes_bench: Bench, kubernetes: KubernetesServer) -> None:
    kubernetes.gate.fail(2, 429, "TooManyRequests", r"POST .*/pods\?", retry_after=0.3)
    kubernetes.gate.fail(2, 500, "InternalError", "GET .*/log")
    kubernetes.gate.fail(2, 503, "ServiceUnavailable", r"DELETE .*/pods/")

    result = kubernetes_bench.run("seq 100; exit 3")

    assert (result.exit_code, kubernetes_bench.texts()) == (3, [str(number) for number in range(1, 101)])


def test_missing_rights_are_named(kubernetes_bench: Bench, kubernetes: KubernetesServer) -> None:
    kubernetes.gate.grant([{"resources": ["pods"], "verbs": ["get", "list", "watch"]}])

    with pytest.raises(TaskRunnerError, match='cannot create resource "pods"') as caught:
        kubernetes_bench.run("echo never")

    assert (caught.value.code, caught.value.failure_reason) == ("runner.cluster.denied", FailureReason.DENIED)


def test_the_role_of_the_chart_is_enough_and_no_more_than_that(
    kubernetes_bench: Bench, kubernetes: KubernetesServer
) -> None:
    bench, gate = kubernetes_bench, kubernetes.gate
    gate.grant(yaml.safe_load(ROLE.read_text()))
    gate.used.clear()
    login = Kubernetes.model_validate({"credentials": {"username": "u", "password": "p"}}).credentials
    write_file(bench.workdir.path, "in.txt", b"in\n")

    done = given(bench, credentials=login).run(
        bench.spec("sh", "-c", "cat in.txt > out.txt", output_globs=("out.txt",)), bench.workdir, bench.context()
    )
    missing = replace(bench.spec("true"), image="no-such:1", attempt=2)
    bench.runner.run(missing, bench.workdir, bench.context())
    left = list(bench.runner.list_owned(bench.context()))
    bench.runner.attach(missing, bench.context(stored_handle=bench.handles[0]))

    assert (done.status, left) == (Phase.SUCCEEDED, [])
    assert gate.used == gate.granted
    assert Right("create", "secrets") in gate.used


# --- files ------------------------------------------------------------------------------------------------------------


def test_files_travel_where_a_server_cannot_end_a_stream(kubernetes_bench: Bench, kubernetes: KubernetesServer) -> None:
    kubernetes.exec_protocols = ("v4.channel.k8s.io",)
    content = bytes(range(256)) * 4000
    write_file(kubernetes_bench.workdir.path, "deep/in.bin", content)

    result = kubernetes_bench.run("cp deep/in.bin out.bin; sha256sum < out.bin", output_globs=("out.bin",))

    assert result.output_files["out.bin"].read_bytes() == content


def test_files_that_belong_to_another_user_travel(kubernetes_bench: Bench) -> None:
    write_file(kubernetes_bench.workdir.path, "in/put.txt", b"x")
    given(kubernetes_bench, container_spec={"securityContext": {"runAsUser": 1234, "runAsGroup": 1234}})

    result = kubernetes_bench.run("id -u; echo more >> in/put.txt; umask 077; echo o > o", output_globs=("**",))

    assert (kubernetes_bench.texts(), result.exit_code) == (["1234"], 0)
    assert {name: path.read_text() for name, path in result.output_files.items()} == {
        "in/put.txt": "xmore\n",
        "o": "o\n",
    }


class Doors(FolderStage):
    """A stage whose archives a small HTTP server gives and takes."""

    def __init__(self, folder: Path, address: str) -> None:
        super().__init__(folder)
        self.address = address
        self.requests: list[str] = []
        """What pods asked for, and what became of it."""

    def download(self, name: str, _lifetime: timedelta) -> str:
        return f"{self.address}/{name}"

    def upload(self, name: str, _lifetime: timedelta, _max_bytes: int) -> SignedUpload:
        return SignedUpload(f"{self.address}/{name}", {"X-Test": "a b"})


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Doors]:
    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_PUT(self) -> None:
            assert self.headers["X-Test"] == "a b"
            (tmp_path / self.path.lstrip("/")).write_bytes(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(201)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the standard library
            stage.requests.append(format % args)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=tmp_path))
    stage = Doors(tmp_path, f"http://127.0.0.1:{server.server_port}")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield stage
    server.shutdown()
    server.server_close()


def test_pods_that_reach_the_server_fetch_and_hand_in_their_files_themselves(
    kubernetes_bench: Bench, kubernetes: KubernetesServer, door: Doors, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scripts, "_NOTHING_CAME_S", 600)  # a laden machine is no network that drops what it is sent
    kubernetes_bench.stage = door
    content = bytes(range(256)) * 4000
    write_file(kubernetes_bench.workdir.path, "in.bin", content)
    before = len(kubernetes.gate.requests)

    result = kubernetes_bench.run("cp in.bin out.bin; exit 3", output_globs=("out.bin",))

    commands = [line for line in kubernetes.gate.requests[before:] if "/exec?" in line]
    assert result.exit_code == 3
    assert result.output_files["out.bin"].read_bytes() == content
    by_hand = [line for line in commands if "brought.tar" in line or "kept.tar" in line]
    assert not by_hand, door.requests


def test_an_address_that_pods_do_not_reach_costs_time_but_no_files(kubernetes_bench: Bench, door: Doors) -> None:
    door.address = "http://127.0.0.1:9"
    kubernetes_bench.stage = door
    write_file(kubernetes_bench.workdir.path, "in.txt", b"in")

    result = kubernetes_bench.run("cat in.txt")

    assert (result.status, kubernetes_bench.texts()) == (Phase.SUCCEEDED, ["in"])
