"""The script in the container of a cloud job, in every shell and with every program that can move its files."""

from __future__ import annotations

import io
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import NoReturn

import pytest

from runner.ids import new_id
from task_runners.archives import pack, unpack
from task_runners.errors import TaskRunnerError
from task_runners.files import FileLimits, write_file
from task_runners.spec import TaskSpec
from task_runners.staging.object_store import BucketStage, open_object_store
from task_runners.staging.wrapper import REPORT, Report, Wrapped, bare, job_files, script, staged
from tests.servers.object_stores import azurite_server, gcs_server, make_bucket, moto_server, options_for  # noqa: F401 - fixtures

HOUR = timedelta(hours=1)
END = "mainstem-end-abc"
TOOLS = ("mkdir", "rm", "rmdir", "mv", "cat", "tar", "grep", "sleep", "wc", "env", "chmod", "head", "seq", "od")
SERVERS = {"s3": "moto_server", "gs": "gcs_server", "az": "azurite_server"}
# What moves the files, the shell that runs the script, and the kind of store.
WAYS = [
    ("curl", "dash", "s3"),
    ("curl", "bash", "az"),
    ("python3", "dash", "s3"),
    ("python3", "dash", "az"),
    ("wget", "dash", "s3"),
    ("wget", "busybox", "az"),
    ("wget", "bash", "gs"),
    ("nc", "busybox", "az"),
    ("nc", "dash", "s3"),
]


@dataclass
class Container:
    """A folder of programs that stands for an image, and room in a bucket."""

    programs: Path
    shell: list[str]
    stage: BucketStage
    root: Path
    home: Path
    limits: FileLimits | None = None

    def prepare(self, spec: TaskSpec, *, files: bool = True) -> Wrapped:
        push = self.stage.upload("out.tar", HOUR, 0) if files else None
        first = job_files(spec, str(self.root), push, self.stage.upload(REPORT, HOUR, 0), self.limits)
        with pack(self.home, 0, first=first) as archive:
            self.stage.put("in.tar", archive)
        return staged(str(self.root), END, self.stage.download("in.tar", HOUR) or "")

    def start(self, wrapped: Wrapped) -> subprocess.Popen[bytes]:
        env = {**wrapped.env, "PATH": str(self.programs), "TMPDIR": str(self.root.parent / "tmp")}
        command = [*self.shell, *wrapped.command[1:]]
        return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd="/")

    def run(self, spec: TaskSpec) -> tuple[int, bytes, bytes]:
        process = self.start(self.prepare(spec))
        out, err = process.communicate(timeout=60)
        return process.returncode, out, err

    def report(self) -> Report:
        with self.stage.open(REPORT) as file:
            return Report.parse(file.read())

    def outputs(self, into: Path) -> dict[str, bytes]:
        into.mkdir()
        with self.stage.open("out.tar") as file:
            names = unpack(iter(lambda: file.read(65536), b""), into)
        return {name: (into / name).read_bytes() for name in names}


def _image(folder: Path, tool: str) -> Path:
    folder.mkdir()
    busybox = shutil.which("busybox") or ""
    for name in TOOLS:
        (folder / name).symlink_to(busybox)
    (folder / "sh").symlink_to(shutil.which("dash") or "")
    if tool in {"nc", "wget of busybox"}:
        (folder / "wget").symlink_to(busybox)
    if tool == "nc":
        (folder / "nc").symlink_to(busybox)
    elif tool in {"curl", "wget", "python3"}:
        (folder / tool).symlink_to(shutil.which(tool, path="/usr/bin:/bin") or "")
    return folder


@pytest.fixture
def make(
    request: pytest.FixtureRequest, tmp_path: Path, optional: Callable[[str, str], NoReturn]
) -> Iterator[Callable[[str, str, str], Container]]:
    for program in ("dash", "bash", "busybox", "curl", "wget"):
        if shutil.which(program) is None:
            optional("shells", f"{program} is not on PATH")
    closing = []

    def made(tool: str, shell: str, kind: str) -> Container:
        options = options_for(kind, request.getfixturevalue(SERVERS[kind]))
        make_bucket(kind, "staging", options)
        store = open_object_store(f"{kind}://staging/{new_id()}", options)
        closing.append(store)
        program = shutil.which(shell) or ""
        home = tmp_path / "home"
        home.mkdir()
        stage = BucketStage(store, "job")
        image = _image(tmp_path / "image", tool)
        return Container(image, [program, "sh"] if shell == "busybox" else [program], stage, tmp_path / "w" / "d", home)

    yield made
    for store in closing:
        store.close()


def spec(*command: str) -> TaskSpec:
    return TaskSpec(command=command, task_run_id="r", env={"GREETING": "hi ü"})


@pytest.mark.parametrize(("tool", "shell", "kind"), WAYS)
def test_files_travel_there_and_back_and_the_end_is_reported(
    make: Callable[[str, str, str], Container], tmp_path: Path, tool: str, shell: str, kind: str
) -> None:
    container = make(tool, shell, kind)
    write_file(container.home, "deep/in.txt", b"content\n")
    write_file(container.home, "tool.sh", b"#!/bin/sh\necho tool runs\n", mode=0o755)

    body = 'cat deep/in.txt; ./tool.sh; echo "$GREETING|$WORKING_DIR"; echo x >out.txt; echo e >&2; exit 7'
    code, out, err = container.run(spec("sh", "-c", body))

    assert out.decode() == f"content\ntool runs\nhi ü|{container.root}\n{END}-1\n"
    assert (code, err) == (7, f"e\n{END}-2\n".encode())
    report = container.report()
    assert (report.exit_code, report.files, report.fault) == (7, "kept", "")
    assert container.outputs(tmp_path / "back") == {
        "deep/in.txt": b"content\n",
        "out.txt": b"x\n",
        "tool.sh": b"#!/bin/sh\necho tool runs\n",
    }


def test_a_file_that_is_larger_than_any_output_may_be_is_left_out_and_named(
    make: Callable[[str, str, str], Container], tmp_path: Path
) -> None:
    container = make("curl", "dash", "s3")
    (container.programs / "find").symlink_to(shutil.which("busybox") or "")
    container.limits = FileLimits(file_bytes=1 << 20)

    code, _, _ = container.run(spec("sh", "-c", "head -c 2000000 /dev/zero >large; echo x >out.txt"))

    assert (code, container.report().files) == (0, "kept")
    with pytest.raises(TaskRunnerError, match="'large'"):
        container.outputs(tmp_path / "back")
    assert (tmp_path / "back" / "out.txt").read_text() == "x\n"


@pytest.mark.parametrize("shell", ["dash", "busybox", "bash"])
def test_an_archive_that_grows_too_large_is_given_up_and_reported(
    make: Callable[[str, str, str], Container], shell: str
) -> None:
    container = make("curl", shell, "s3")
    container.limits = FileLimits(total_bytes=1)
    (container.programs / "find").symlink_to(shutil.which("busybox") or "")
    body = "mkdir deep; head -c 9000 /dev/zero >small; head -c 3000000 /dev/zero >'deep/large 1'"

    code, _, err = container.run(spec("sh", "-c", body))

    assert (code, container.report().files, container.report().largest) == (0, "large", "deep/large 1")
    assert err == f"mainstem: the working directory is too large to be handed in\n{END}-2\n".encode()
    with pytest.raises(TaskRunnerError, match=r"there is no out\.tar"):
        container.stage.open("out.tar")


def test_an_archive_that_is_too_large_is_not_fetched(make: Callable[[str, str, str], Container]) -> None:
    container = make("curl", "dash", "s3")
    container.stage.put("out.tar", io.BytesIO(b"x" * 2000))

    with pytest.raises(TaskRunnerError, match="2000 bytes, 1999 are allowed") as caught:
        BucketStage(container.stage._store, "job", 1999).open("out.tar")

    assert caught.value.code == "file.outputs.too_large"


@pytest.mark.parametrize("shell", ["dash", "busybox", "bash"])
def test_hostile_arguments_and_values_arrive_as_they_are(
    make: Callable[[str, str, str], Container], shell: str
) -> None:
    container = make("curl", shell, "s3")
    arguments = [
        "", " ", "a b", "'", '"', "\\", "$(reboot)", "`id`", "${HOME}", "Ref::x", "$(WORKING_DIR)", "*", "~", "-n",
        "--", "line\nbreak\n", "\ttab", "ü🚀", "a;b|c&d<e>f", "!x", "%s%n", "#", "$'\\x41'", "x" * 100_000,
    ]  # fmt: skip
    env = {"PLAIN": 'it\'s $(x) `y` "z"\n\\', "odd.name-1": "v = 1", "EMPTY": ""}
    program = 'import os, sys; print(sys.argv[1:], [os.environ.get(n) for n in ("PLAIN", "odd.name-1", "EMPTY")])'

    code, out, _ = container.run(replace(spec("/usr/bin/python3", "-c", program, *arguments), env=env))

    assert (code, out.decode().splitlines()[0]) == (0, f"{arguments} {list(env.values())}")


def test_the_addresses_do_not_reach_the_body(make: Callable[[str, str, str], Container]) -> None:
    container = make("curl", "dash", "s3")

    _, out, _ = container.run(spec("sh", "-c", "env"))

    assert b"X-Amz" not in out
    assert b"MAINSTEM" not in out


def test_a_request_to_end_reaches_the_body_and_its_files_come_back(
    make: Callable[[str, str, str], Container], tmp_path: Path
) -> None:
    container = make("curl", "dash", "s3")
    body = "trap 'echo ending; echo saved >state; exit 9' TERM; echo begun; while :; do sleep 0.1; done"
    process = container.start(container.prepare(spec("sh", "-c", body)))
    assert process.stdout is not None
    assert process.stderr is not None
    with process, process.stdout as out, process.stderr:
        assert out.readline() == b"begun\n"
        process.send_signal(signal.SIGTERM)
        assert out.readline() == b"ending\n"

        assert process.wait(20) == 9
    assert container.report().exit_code == 9
    assert container.outputs(tmp_path / "back") == {"state": b"saved\n"}


@pytest.mark.parametrize("shell", ["dash", "busybox", "bash"])
def test_a_body_that_the_request_ends_counts_as_its_signal(
    make: Callable[[str, str, str], Container], shell: str
) -> None:
    container = make("curl", shell, "s3")
    process = container.start(container.prepare(spec("sh", "-c", "echo begun; exec sleep 60")))
    assert process.stdout is not None
    assert process.stderr is not None
    with process, process.stdout as out, process.stderr:
        assert out.readline() == b"begun\n"
        started = time.monotonic()
        process.send_signal(signal.SIGTERM)

        assert process.wait(20) == 143
        assert process.stderr.read() == f"{END}-2\n".encode()  # and not that the shell says `Terminated`
    assert time.monotonic() - started < 10
    assert container.report().exit_code == 143


def test_an_image_that_cannot_hand_in_is_told_before_the_body_runs(make: Callable[[str, str, str], Container]) -> None:
    container = make("wget of busybox", "dash", "s3")

    code, out, err = container.run(spec("sh", "-c", "echo ran"))

    assert (code, out) == (125, f"{END}-1\n".encode())
    assert b"none of curl, GNU wget and python3" in err


def test_an_image_that_cannot_fetch_says_so(make: Callable[[str, str, str], Container]) -> None:
    code, _, err = make("", "dash", "s3").run(spec("echo", "ran"))

    assert code == 125
    assert b"none of curl, wget and python3" in err


def test_a_big_file_travels_whole(make: Callable[[str, str, str], Container], tmp_path: Path) -> None:
    container = make("curl", "busybox", "gs")
    content = os.urandom(1_000_000) * 50
    write_file(container.home, "big", content)

    code, _, err = container.run(spec("sh", "-c", "cat big big >twice"))

    assert (code, err) == (0, f"{END}-2\n".encode())
    assert container.outputs(tmp_path / "back")["twice"] == content * 2


def test_a_job_without_files_needs_no_store() -> None:
    with tempfile.TemporaryDirectory(prefix="bare-") as folder:
        wrapped = bare(spec("sh", "-c", "pwd; exit 3"), f"{folder}/w", END)
        env = {**wrapped.env, "PATH": os.environ["PATH"], "TMPDIR": folder}

        done = subprocess.run(wrapped.command, env=env, capture_output=True, check=False)

        assert (done.returncode, done.stdout.decode()) == (3, f"{folder}/w\n{END}-1\n")
        assert not [path for path in Path(folder).iterdir() if path.name != "w"]


def test_the_script_holds_nothing_that_a_cloud_replaces() -> None:
    assert "Ref::" not in script()
    assert "$$" not in script()
    assert len(script()) < 6000  # descriptions of jobs are limited to 24 KiB
    assert Report.parse(b"exit=7\nfiles=kept\noom=\npeak=12\ncpu=1500000\n") == Report(7, "", "kept", 0, 12, 1.5)
    assert Report.parse(io.BytesIO(b"\xff=\n\nexit=x").read()) == Report()
