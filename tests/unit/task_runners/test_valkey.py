from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from task_runners.errors import TaskRunnerError
from task_runners.service import Service
from task_runners.supervisor import Supervisor
from task_runners.valkey import EmbeddedValkey, valkey_binary


@pytest.fixture(scope="module")
def supervisor() -> Iterator[Supervisor]:
    with Supervisor() as running:
        yield running


@pytest.fixture
def home() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="home-") as directory:  # short enough for a socket
        yield Path(directory)


@pytest.fixture
def valkey(home: Path, supervisor: Supervisor) -> Iterator[EmbeddedValkey]:
    embedded = EmbeddedValkey(home, supervisor).start()
    yield embedded
    embedded.stop()


def _within(seconds: float, condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def test_a_client_connects_with_the_url(valkey: EmbeddedValkey) -> None:
    with redis.Redis.from_url(valkey.url) as client:
        assert client.set("a", "1")
        assert client.get("a") == b"1"


def test_nobody_connects_without_the_password(valkey: EmbeddedValkey) -> None:
    once = Retry(NoBackoff(), 0)  # the client takes it for a lost connection and would try for seconds
    client = redis.Redis(unix_socket_path=str(valkey.socket_path), retry=once)
    with client, pytest.raises(redis.AuthenticationError):
        client.ping()


def test_the_password_stands_in_one_private_file_only(valkey: EmbeddedValkey, home: Path) -> None:
    password = valkey.url.rpartition("=")[2]

    assert password not in Path(f"/proc/{valkey.pid}/cmdline").read_text()
    assert [path.name for path in home.iterdir() if path.is_file() and password in path.read_text()] == ["valkey.conf"]
    assert (home / "valkey.conf").stat().st_mode & 0o777 == 0o600
    assert valkey.socket_path.stat().st_mode & 0o777 == 0o600


def test_it_listens_on_no_port(valkey: EmbeddedValkey) -> None:
    inodes = {str(entry.readlink()) for entry in Path(f"/proc/{valkey.pid}/fd").iterdir()}
    tables = [Path(f"/proc/net/{name}").read_text().splitlines()[1:] for name in ("tcp", "tcp6")]

    assert [line for table in tables for line in table if f"socket:[{line.split()[9]}]" in inodes] == []


def test_it_comes_back_when_it_is_killed(valkey: EmbeddedValkey) -> None:
    first = valkey.pid
    assert first is not None

    os.kill(first, 9)

    assert _within(60, lambda: valkey.pid not in {None, first} and valkey.answers())


def test_stopping_removes_the_socket(home: Path, supervisor: Supervisor) -> None:
    valkey = EmbeddedValkey(home, supervisor).start()
    pid = valkey.pid

    valkey.stop()

    assert not valkey.socket_path.exists()
    assert not Path(f"/proc/{pid}").exists()


def test_a_home_with_a_long_path_gets_a_private_directory_elsewhere(home: Path, supervisor: Supervisor) -> None:
    long = home / ("x" * 90)
    long.mkdir()
    valkey = EmbeddedValkey(long, supervisor, runtime_dir=home).start()
    try:
        assert len(os.fsencode(valkey.socket_path)) < 100
        assert valkey.socket_path.parent.parent == home
        assert valkey.socket_path.parent.stat().st_mode & 0o777 == 0o700
    finally:
        valkey.stop()


def test_a_directory_that_others_may_write_to_is_refused(home: Path, supervisor: Supervisor) -> None:
    long = home / ("x" * 90)
    long.mkdir()
    valkey = EmbeddedValkey(long, supervisor, runtime_dir=home)
    valkey.socket_path.parent.mkdir()
    valkey.socket_path.parent.chmod(0o777)

    with pytest.raises(TaskRunnerError) as caught:
        valkey.start()

    assert caught.value.code == "valkey.directory.unsafe"


def test_a_leftover_of_the_same_home_is_ended_and_no_other(
    valkey: EmbeddedValkey, home: Path, supervisor: Supervisor
) -> None:
    with tempfile.TemporaryDirectory(prefix="other-") as other:
        leftover = subprocess.Popen(
            [valkey_binary(), "--port", "0", "--unixsocket", f"{other}/valkey.sock", "--save", ""],
            stdout=subprocess.DEVNULL,
            cwd=other,
        )
        try:
            assert _within(60, lambda: Path(other, "valkey.sock").exists())

            ended = EmbeddedValkey(Path(other), supervisor).end_leftover()

            assert ended == leftover.pid
            assert leftover.wait(30) == -9
            assert valkey.answers()
        finally:
            leftover.kill()
            leftover.wait()


def test_a_foreign_program_that_names_our_socket_is_left_alone(home: Path, supervisor: Supervisor) -> None:
    program = "import sys; print('ready', flush=True); sys.stdin.read()"
    foreign = subprocess.Popen(
        [sys.executable, "-c", program, str(home / "valkey.sock")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with foreign:
        assert foreign.stdout is not None
        assert foreign.stdin is not None
        assert foreign.stdout.readline() == b"ready\n"

        assert EmbeddedValkey(home, supervisor).end_leftover() is None
        assert foreign.poll() is None
        foreign.stdin.close()


def test_a_stale_socket_file_is_no_hindrance(home: Path, supervisor: Supervisor) -> None:
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(home / "valkey.sock"))

    valkey = EmbeddedValkey(home, supervisor).start()

    assert valkey.answers()
    valkey.stop()


def test_a_service_that_dies_at_once_is_started_less_and_less_often(supervisor: Supervisor, tmp_path: Path) -> None:
    script = 'echo "start"; exit 1'
    service = Service(supervisor, "crash", ["sh", "-c", script], env={"PATH": "/usr/bin:/bin"}, cwd=tmp_path)
    began = time.monotonic()

    service.start()
    assert _within(60, lambda: service.starts >= 4)
    seconds = time.monotonic() - began
    service.stop()
    starts = service.starts

    assert seconds > 0.2 + 0.4 + 0.8 - 0.1
    assert "start" in service.last_output
    assert service.starts == starts
