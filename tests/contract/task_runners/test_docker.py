"""What only containers do: images, their limits, the daemon's own faults, and finding a container again."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import docker.errors as docker_errors
import pytest

from runner.ids import new_id
from task_runners.base import (
    FailureReason,
    JobHandle,
    Limits,
    LogCursor,
    Phase,
    Policy,
    RunnerContext,
    TaskRunnerError,
    WorkDir,
)
from task_runners.docker import Docker
from task_runners.docker_properties import Credentials, FileHandling
from task_runners.docker_pull import login
from task_runners.files import write_file
from task_runners.progress import Progress
from tests.contract.task_runners.conftest import image_of
from tests.servers.program import wait_until
from tests.servers.registry import Registry, holding_back

if TYPE_CHECKING:
    from tests.contract.task_runners.conftest import Bench


def _with(bench: Bench, **properties: Any) -> Bench:
    bench.runner = bench.runner.model_copy(update=properties)
    return bench


def _forget_jobs(bench: Bench) -> None:
    """Leave the runner as if its process had been started anew, while the containers go on."""
    assert isinstance(bench.runner, Docker)
    for job in bench.runner._jobs.values():
        job.detach()
    bench.runner._jobs.clear()


def test_a_missing_image_is_named_at_once_and_leaves_nothing(docker_bench: Bench) -> None:
    spec = replace(docker_bench.spec("true"), image="no-such.invalid/image:1")

    with pytest.raises(TaskRunnerError, match=r"no-such\.invalid/image:1") as caught:
        docker_bench.runner.run(spec, docker_bench.workdir, docker_bench.context())

    assert (caught.value.failure_reason, caught.value.code.split(".")[1]) == (FailureReason.IMAGE_PULL, "image")
    assert list(docker_bench.runner.list_owned(docker_bench.context())) == []


def test_the_policy_never_refuses_to_fetch(docker_bench: Bench) -> None:
    runner = Docker.model_validate({"pullPolicy": "NEVER"})
    spec = replace(docker_bench.spec("true"), image="no-such-image:1")

    with pytest.raises(TaskRunnerError) as caught:
        runner.run(spec, docker_bench.workdir, docker_bench.context())
    runner.close()

    assert caught.value.code == "runner.image.missing"


def test_a_daemon_that_is_not_there_is_named(tmp_path: Path) -> None:
    runner = Docker(host=f"unix://{tmp_path}/none.sock", image="x")
    ctx = RunnerContext(on_line=lambda _line: None)

    with pytest.raises(TaskRunnerError, match=r"none\.sock") as caught:
        list(runner.list_owned(ctx))

    assert (caught.value.code, caught.value.failure_reason) == (
        "runner.daemon.unreachable",
        FailureReason.UNAVAILABLE,
    )


def test_a_body_out_of_memory_is_told_as_such(docker_bench: Bench) -> None:
    result = docker_bench.run("tail /dev/zero", limits=Limits(memory_bytes=32 * 1024**2))

    assert (result.exit_code, result.failure_reason) == (137, FailureReason.OOM_KILLED)
    assert result.message == "out of memory (limit 32 MiB)"


@pytest.mark.parametrize(("given", "words"), [((), "none"), (("SETUID", "FOWNER"), "SETUID, FOWNER")])
def test_what_is_not_permitted_to_root_names_the_key_that_permits_it(
    docker_bench: Bench, given: tuple[str, ...], words: str
) -> None:
    spec = docker_bench.spec("chown", "1000", "/tmp")
    result = docker_bench.runner.run(
        spec, docker_bench.workdir, docker_bench.context(policy=Policy(capabilities=given))
    )

    assert result.failure_reason is FailureReason.APP_EXIT
    assert str(result.message).endswith(f"containers have the `capabilities` that `runnerPolicies` list: {words}")


def test_a_container_has_no_capability_and_no_way_to_get_one(docker_bench: Bench) -> None:
    docker_bench.run("grep -E 'CapEff|NoNewPrivs' /proc/self/status")

    assert [text.split() for text in docker_bench.texts()] == [["CapEff:", "0000000000000000"], ["NoNewPrivs:", "1"]]


@pytest.mark.parametrize(
    ("properties", "code"),
    [
        ({"volumes": ("/:/host",)}, "runner.volumes.refused"),
        ({"privileged": True}, "runner.privileged.refused"),
        ({"network_mode": "host"}, "runner.networkMode.refused"),
        ({"network_mode": "container:other"}, "runner.networkMode.refused"),
        ({"network_mode": "compose_default"}, "runner.networkMode.refused"),
        ({"port_bindings": ("8080:80",)}, "runner.networkMode.refused"),
        ({"file_handling_strategy": FileHandling.MOUNT}, "runner.volumes.refused"),
    ],
)
def test_what_reaches_beyond_the_task_needs_the_operator(
    docker_bench: Bench, properties: dict[str, Any], code: str
) -> None:
    bench = _with(docker_bench, **properties)
    ctx = bench.context()

    with pytest.raises(TaskRunnerError) as caught:
        bench.runner.run(bench.spec("true"), bench.workdir, ctx)

    assert caught.value.code == code


def test_volumes_are_mounted_where_the_operator_allows_them(docker_bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "seen").write_text("from outside")
    bench = _with(docker_bench, volumes=(f"{tmp_path}:/data:ro",))

    bench.runner.run(bench.spec("cat", "/data/seen"), bench.workdir, bench.context(policy=Policy(allow_volumes=True)))

    assert bench.texts() == ["from outside"]


def test_containers_carry_name_labels_and_limits(docker_bench: Bench, daemon: Any) -> None:
    bench = _with(docker_bench, delete=False)
    spec = bench.spec(
        "true", labels={"kestra.io/flow-id": "f" * 70, "namespace": "a.b"}, limits=Limits(memory_bytes=64 * 1024**2)
    )

    result = bench.runner.run(spec, bench.workdir, bench.context())
    found = daemon.inspect_container(result.details["containerId"])

    assert found["Name"] == f"/tr-{spec.task_run_id}-1"
    assert found["Config"]["Labels"]["mainstem.io/flow-id"] == "f" * 63
    assert found["Config"]["Labels"]["kestra.io/taskrun-id"] == spec.task_run_id
    assert (found["HostConfig"]["Memory"], found["HostConfig"]["PidsLimit"]) == (64 * 1024**2, 512)
    # It was to be kept, so nobody may take it for left behind.
    assert found["Id"] not in [handle.id for handle in bench.runner.list_owned(bench.context())]
    daemon.remove_container(found["Id"], force=True)


def test_a_container_that_nobody_waits_for_is_left_behind_only_when_it_has_ended(
    docker_bench: Bench, daemon: Any
) -> None:
    bench, ctx = _with(docker_bench, wait_for_end=False), docker_bench.context()

    result = bench.runner.run(bench.spec("sleep", "100"), bench.workdir, ctx)
    made = result.details["containerId"]
    running = [handle.id for handle in bench.runner.list_owned(ctx)]
    daemon.kill(made)
    wait_until(lambda: not daemon.inspect_container(made)["State"]["Running"], "the end of the container")
    ended = {handle.id: handle for handle in bench.runner.list_owned(ctx)}
    bench.runner.cleanup(ended[made], ctx)

    assert made not in running
    assert not daemon.containers(all=True, filters={"id": made})


def test_nothing_is_left_at_the_daemon(docker_bench: Bench) -> None:
    docker_bench.run("exit 1")

    assert list(docker_bench.runner.list_owned(docker_bench.context())) == []


def test_a_user_of_the_container_can_work_in_its_directory(docker_bench: Bench) -> None:
    write_file(docker_bench.workdir.path, "in/put.txt", b"x")
    bench = _with(docker_bench, user="1234:1234")

    result = bench.run("id -u; echo out > out.txt; echo more >> in/put.txt", output_globs=("**/*.txt",))

    assert (bench.texts(), result.exit_code) == (["1234"], 0)
    assert {name: path.read_text() for name, path in result.output_files.items()} == {
        "in/put.txt": "xmore\n",
        "out.txt": "out\n",
    }


def test_every_file_comes_back_where_tasks_share_a_directory(docker_bench: Bench) -> None:
    docker_bench.run("mkdir d; echo one > d/one.txt; mkdir .mainstem; echo x > .mainstem/y", sync_workdir=True)

    names = sorted(str(path.relative_to(docker_bench.workdir.path)) for path in docker_bench.workdir.path.rglob("*"))
    assert names == ["d", "d/one.txt"]


def test_the_mount_strategy_works_in_the_directory_itself(docker_bench: Bench) -> None:
    bench = _with(docker_bench, file_handling_strategy=FileHandling.MOUNT)
    write_file(bench.workdir.path, "in.txt", b"in\n")
    spec = bench.spec("sh", "-c", "cat in.txt > out.txt", output_globs=("out.txt",))

    result = bench.runner.run(spec, bench.workdir, bench.context(policy=Policy(allow_volumes=True)))

    assert result.output_files["out.txt"].read_text() == "in\n"


def test_a_running_container_is_found_again_with_each_line_once(docker_bench: Bench) -> None:
    bench = docker_bench
    spec = bench.spec("sh", "-c", "for i in $(seq 1 60); do echo $i; sleep 0.05; done; printf end; exit 4")
    first = bench.context()
    handle = bench.runner.submit(spec, bench.workdir, first)
    lines = bench.runner.logs(handle, None, first)
    early = [next(lines) for _ in range(5)]
    _forget_jobs(bench)

    again = Docker()
    last = early[-1]
    cursor = LogCursor(last.timestamp)
    ctx = bench.context(stored_handle=JobHandle.from_json(handle.as_json()), log_cursor=cursor)
    result = again.run(spec, bench.workdir, ctx)

    texts = [line.text for line in early] + bench.texts()
    assert texts == [*(str(number) for number in range(1, 61)), "end"]
    assert (result.status, result.exit_code) == (Phase.FAILED, 4)


def test_a_container_that_another_life_followed_is_told_from_the_next_line_on(docker_bench: Bench) -> None:
    bench = docker_bench
    spec = bench.spec("sh", "-c", "for i in $(seq 20); do echo same; echo $i >&2; sleep 0.05; done")
    first = bench.context()
    handle = bench.runner.submit(spec, bench.workdir, first)
    lines = bench.runner.logs(handle, None, first)
    early = [next(lines) for _ in range(6)]
    progress = Progress().with_lines(early, None, first.capture.state())
    _forget_jobs(bench)

    ctx = bench.context(stored_handle=JobHandle.from_json(handle.as_json()), progress=progress)
    result = Docker().run(spec, bench.workdir, ctx)

    told = [*early, *bench.lines]
    assert [line.text for line in told if line.stream == "stdout"] == ["same"] * 20
    assert [line.text for line in told if line.stream == "stderr"] == [str(number) for number in range(1, 21)]
    assert (result.stdout_lines, result.stderr_lines) == (20, 20)


@pytest.mark.parametrize(("user", "transfers"), [("", 0), ("0:0", 0), ("1000", 1)])
def test_a_body_without_files_waits_for_no_transfer(
    docker_bench: Bench, daemon: Any, user: str, transfers: int
) -> None:
    runner = Docker(network_mode="none", user=user or None)
    since = int(time.time())

    spec = docker_bench.spec("sh", "-c", "ls -A; echo made > out.txt; pwd", output_globs=("out.txt",))
    result = runner.run(spec, docker_bench.workdir, docker_bench.context())

    sent = daemon.events(
        since=since,
        until=int(time.time()) + 1,
        filters={"container": docker_bench.handles[0].id, "event": "extract-to-dir"},
        decode=True,
    )
    assert docker_bench.texts() == [str(docker_bench.workdir.path)]
    assert result.output_files["out.txt"].read_text() == "made\n"
    assert len(list(sent)) == transfers


@pytest.mark.parametrize("strategy", ["VOLUME", "MOUNT"])
def test_a_worker_with_other_folders_finds_the_files_of_a_container(
    docker_bench: Bench, tmp_path: Path, strategy: str
) -> None:
    properties = {"networkMode": "none", "fileHandlingStrategy": strategy}
    first = replace(docker_bench, runner=Docker.model_validate(properties))
    spec = first.spec("sh", "-c", "echo made > out.txt; exit 3", output_globs=("out.txt",))
    handle = first.runner.submit(spec, first.workdir, first.context())
    _forget_jobs(first)
    first.runner.close()

    ctx = first.context(stored_handle=JobHandle.from_json(handle.as_json()), policy=Policy(allow_volumes=True))
    result = Docker.model_validate(properties).run(spec, WorkDir(tmp_path), ctx)

    assert (result.status, result.exit_code, result.failure_reason) == (Phase.FAILED, 3, FailureReason.APP_EXIT)
    assert result.output_files["out.txt"] == tmp_path / "out.txt"
    assert (tmp_path / "out.txt").read_text() == "made\n"


def test_a_container_left_by_the_same_attempt_is_replaced(docker_bench: Bench) -> None:
    spec = docker_bench.spec("sh", "-c", "hostname")
    docker_bench.runner.submit(spec, docker_bench.workdir, docker_bench.context())
    _forget_jobs(docker_bench)

    result = docker_bench.runner.run(spec, docker_bench.workdir, docker_bench.context())

    assert (result.exit_code, len(docker_bench.texts())) == (0, 1)
    assert list(docker_bench.runner.list_owned(docker_bench.context())) == []


def test_an_attempt_of_a_copy_of_a_database_does_not_take_the_place_of_that_of_its_original(
    docker_bench: Bench,
) -> None:
    runner, spec = docker_bench.runner, docker_bench.spec("sleep", "60")
    contexts = [docker_bench.context(installation=name) for name in (None, "copy")]

    handles = [runner.submit(spec, docker_bench.workdir, ctx) for ctx in contexts]
    phases = [runner.poll(handle, ctx).phase for handle, ctx in zip(handles, contexts, strict=True)]
    for handle, ctx in zip(handles, contexts, strict=True):
        runner.cleanup(handle, ctx)

    assert phases == [Phase.RUNNING, Phase.RUNNING]


def test_registry_logins_come_from_credentials_or_config() -> None:
    auths = {"auths": {"ghcr.io": {"auth": "dXNlcjpwYXNz"}}}

    from_map = login("ghcr.io/a/b:1", None, auths)
    from_text = login("ghcr.io/a/b:1", None, json.dumps(auths))
    other = login("quay.io/a/b:1", None, auths)
    given = login("quay.io/a/b", Credentials(username="u", password="p"), None)

    assert from_map is not None
    assert (from_map["username"], from_map["password"], from_map == from_text) == ("user", "pass", True)
    assert other is None
    assert given == {"username": "u", "password": "p", "serveraddress": "quay.io"}


@pytest.mark.parametrize("is_removed", [True, False])
def test_outputs_of_a_container_that_lost_them_are_no_empty_list(
    docker_bench: Bench, daemon: Any, *, is_removed: bool
) -> None:
    runner, ctx = docker_bench.runner, docker_bench.context()
    script = "echo made > out.txt; cd /; rm -rf $WORKING_DIR"
    spec = docker_bench.spec("sh", "-c", "sleep 60" if is_removed else script, output_globs=("out.txt",))
    handle = runner.submit(spec, docker_bench.workdir, ctx)
    if is_removed:
        daemon.remove_container(handle.id, force=True)
    else:
        wait_until(lambda: runner.poll(handle, ctx).phase.is_final, "the end of the body")

    with pytest.raises(TaskRunnerError) as raised:
        runner.collect(spec, docker_bench.workdir, handle, ctx)

    runner.cleanup(handle, ctx)
    assert raised.value.code == "file.outputs.unreadable"


@pytest.fixture
def stalled(daemon: Any) -> Iterator[Registry]:
    """A registry that gives half an image and then nothing more, without a word."""
    busybox = shutil.which("busybox")
    assert busybox is not None  # the test image was made of it
    with holding_back(image_of(Path(busybox), new_id())) as registry:
        yield registry
    with contextlib.suppress(docker_errors.ImageNotFound):
        daemon.remove_image(registry.image, force=True)


def _when_asked(registry: Registry, then: Callable[[], None]) -> None:
    wait_until(lambda: registry.pulls, "the pull")
    then()


def test_a_cancel_while_a_registry_stalls_starts_nothing(docker_bench: Bench, stalled: Registry) -> None:
    spec = replace(docker_bench.spec("true"), image=stalled.image)
    cancel = threading.Thread(target=_when_asked, args=[stalled, docker_bench.cancelled.set])
    cancel.start()

    result = docker_bench.runner.run(spec, docker_bench.workdir, docker_bench.context())

    assert (result.status, result.failure_reason) == (Phase.CANCELLED, FailureReason.CANCELLED)
    assert docker_bench.handles == list(docker_bench.runner.list_owned(docker_bench.context())) == []


def test_the_timeout_counts_while_a_registry_stalls(docker_bench: Bench, stalled: Registry) -> None:
    spec = replace(docker_bench.spec("true"), image=stalled.image, timeout=timedelta(seconds=1))

    result = docker_bench.runner.run(spec, docker_bench.workdir, docker_bench.context())

    assert (result.failure_reason, stalled.pulls) == (FailureReason.DEADLINE, 1)
    assert "timeout of 1 s" in (result.message or "")


@pytest.mark.timeout(60)
def test_the_timeout_counts_while_a_registry_has_not_said_a_word(docker_bench: Bench) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        image = f"127.0.0.1:{silent.getsockname()[1]}/never/answers:1"
        spec = replace(docker_bench.spec("true"), image=image, timeout=timedelta(seconds=1))

        result = docker_bench.runner.run(spec, docker_bench.workdir, docker_bench.context())

    assert result.failure_reason is FailureReason.DEADLINE
    assert "timeout of 1 s" in (result.message or "")


def test_an_image_comes_from_a_registry(docker_bench: Bench, stalled: Registry) -> None:
    spec = replace(docker_bench.spec("echo", "here"), image=stalled.image)
    stalled.gate.set()

    result = docker_bench.runner.run(spec, docker_bench.workdir, docker_bench.context())

    assert (result.status, docker_bench.texts()) == (Phase.SUCCEEDED, ["here"])
