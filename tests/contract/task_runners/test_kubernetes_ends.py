"""How a pod ends that is told to, or that others end: soon, whatever does not answer, and with its last words."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import IO, TYPE_CHECKING
from urllib.parse import unquote_plus

import pytest

from task_runners.base import FailureReason, LogLine, Phase
from task_runners.files import write_file
from task_runners.staging.folder import FolderStage
from tests.servers.kubernetes.server import KubernetesServer
from tests.servers.program import wait_until

if TYPE_CHECKING:
    from tests.contract.task_runners.conftest import Bench


@pytest.fixture(autouse=True)
def healthy(kubernetes: KubernetesServer) -> Iterator[None]:
    """Undo what a test did to the server."""
    yield
    kubernetes.frozen_execs, kubernetes.followed_logs_end = "", True
    kubernetes.wakeups.tell()


@pytest.mark.parametrize(
    ("command", "size"), [("/wish", 1), ("brought.tar", 1), ("brought.tar", 32 * 1024 * 1024), ("/ended", 1)]
)
def test_a_command_in_a_pod_that_never_ends_holds_up_no_kill(
    kubernetes_bench: Bench, kubernetes: KubernetesServer, command: str, size: int
) -> None:
    bench = kubernetes_bench
    write_file(bench.workdir.path, "in.bin", os.urandom(size))
    kubernetes.frozen_execs = command
    spec = bench.spec("true", output_globs=("*",))
    with ThreadPoolExecutor(1) as thread:
        running = thread.submit(bench.runner.run, spec, bench.workdir, bench.context())
        wait_until(lambda: is_asked(kubernetes, command), f"the command with {command}", 30)

        killed_at = time.monotonic()
        bench.cancelled.set()
        running.result(120)
        took_s = time.monotonic() - killed_at

    assert took_s < 8
    wait_until(lambda: kubernetes.pods() == [], "the end of the pod", 10)


def is_asked(kubernetes: KubernetesServer, command: str) -> bool:
    (pod,) = kubernetes.pods() or [{"metadata": {"name": "none yet"}}]
    asked = [unquote_plus(line) for line in kubernetes.gate.requests if f"/{pod['metadata']['name']}/exec" in line]
    return any(command in line for line in asked)


def test_a_command_in_a_container_that_has_ended_is_not_waited_for(
    kubernetes_bench: Bench, kubernetes: KubernetesServer
) -> None:
    bench = kubernetes_bench
    write_file(bench.workdir.path, "in.txt", b"x")
    kubernetes.frozen_execs = "/wish"
    with ThreadPoolExecutor(1) as thread:
        running = thread.submit(bench.runner.run, bench.spec("true"), bench.workdir, bench.context())
        wait_until(lambda: is_asked(kubernetes, "/wish"), "the first question to the pod", 30)

        evicted_at = time.monotonic()
        (pod,) = kubernetes.pods()
        kubernetes.node.evict(pod["metadata"]["namespace"], pod["metadata"]["name"])
        result = running.result(120)
        took_s = time.monotonic() - evicted_at

    assert (result.failure_reason, took_s < 8) == (FailureReason.EVICTED, True)


def test_what_a_body_says_within_its_grace_is_in_the_log(kubernetes_bench: Bench) -> None:
    bench = kubernetes_bench

    def on_line(line: LogLine) -> None:
        bench.lines.append(line)
        bench.cancelled.set()

    script = "trap 'sleep 0.3; echo cleaned up; exit 3' TERM; echo begun; while :; do sleep 0.1; done"
    spec = bench.spec("sh", "-c", script, grace=timedelta(seconds=10))
    result = bench.runner.run(spec, bench.workdir, bench.context(on_line=on_line))

    assert (result.status, result.exit_code, bench.texts()) == (Phase.CANCELLED, 3, ["begun", "cleaned up"])


class Torn(FolderStage):
    """A stage whose storage is lost while an archive is read for the first time."""

    is_torn = False

    def open(self, name: str) -> IO[bytes]:
        if self.is_torn:
            return super().open(name)
        self.is_torn = True
        return Path("/proc/self/mem").open("rb")  # whoever reads from its beginning gets an error


def test_files_that_break_off_on_their_way_to_a_pod_are_brought_again_at_once(
    kubernetes_bench: Bench, tmp_path: Path
) -> None:
    bench = kubernetes_bench
    bench.stage = Torn(tmp_path)
    write_file(bench.workdir.path, "in.txt", b"whole")
    began_at = time.monotonic()

    result = bench.run("cat in.txt; echo")

    assert (result.exit_code, bench.texts(), time.monotonic() - began_at < 30) == (0, ["whole"], True)


def killed_after_s(bench: Bench, kubernetes: KubernetesServer, script: str, grace_s: float = 1) -> float:
    """Run a body, kill it as soon as it has made the file `ready`, and return how many seconds that took."""
    spec = bench.spec("sh", "-c", script, grace=timedelta(seconds=grace_s))
    with ThreadPoolExecutor(1) as thread:
        running = thread.submit(bench.runner.run, spec, bench.workdir, bench.context())
        wait_until(lambda: any(kubernetes.node.folder.glob("pod-*/*/ready")), "a body that is ready", 30)
        killed_at = time.monotonic()
        bench.cancelled.set()
        running.result(120)
        return time.monotonic() - killed_at


def test_a_body_that_has_said_nothing_yet_is_killed_at_once_and_its_last_words_are_told(
    kubernetes_bench: Bench, kubernetes: KubernetesServer
) -> None:
    script = "trap 'sleep 0.3; echo cleaned up; exit 3' TERM; : > ready; while :; do sleep 0.1; done"

    took_s = killed_after_s(kubernetes_bench, kubernetes, script, grace_s=10)

    assert (kubernetes_bench.texts(), took_s < 8) == (["cleaned up"], True)


def test_a_log_that_does_not_end_with_its_body_is_given_up_with_each_line_once(
    kubernetes_bench: Bench, kubernetes: KubernetesServer
) -> None:
    kubernetes.followed_logs_end = False

    took_s = killed_after_s(kubernetes_bench, kubernetes, "echo begun; : > ready; exec sleep 60")

    assert (kubernetes_bench.texts(), took_s < 12) == (["begun"], True)


def test_a_body_that_says_much_within_its_grace_is_told_whole(
    kubernetes_bench: Bench, kubernetes: KubernetesServer
) -> None:
    says = "awk 'BEGIN { for (i = 1; i <= 3000; i++) printf(\"%02000d\\n\", i) }'"  # 6 MB
    script = f'trap "says; exit 3" TERM; says() {{ {says}; }}; : > ready; while :; do sleep 0.1; done'

    killed_after_s(kubernetes_bench, kubernetes, script, grace_s=30)

    assert kubernetes_bench.texts() == [f"{number:02000}" for number in range(1, 3001)]
