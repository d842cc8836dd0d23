"""Commands in pods, at an API server that stops answering in their midst, or gives what they did not say."""

from __future__ import annotations

import base64
import hashlib
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import httpx2
import pytest

from task_runners.kubernetes.api import Api, ApiError
from task_runners.kubernetes.connection import Connection
from task_runners.kubernetes.execution import execute
from task_runners.kubernetes.transfer import ask_how_files_left, is_wanted
from tests.servers.program import wait_until

_WEBSOCKET = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, 1.3


@contextmanager
def silent_server(*frames: bytes) -> Iterator[Api]:
    """Give a server that takes one command, sends these frames and says no more, nor that the connection is over."""
    listener, over = socket.create_server(("127.0.0.1", 0)), threading.Event()

    def serve() -> None:
        with suppress(OSError):
            connection, _ = listener.accept()
            with connection:
                request = b""
                while b"\r\n\r\n" not in request:
                    request += connection.recv(4096)
                connection.sendall(_accepted(request))
                connection.sendall(b"".join(bytes([0x82, len(frame)]) + frame for frame in frames))
                over.wait()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with httpx2.Client(base_url=address) as client:
            yield Api(Connection(client, "default", address), "default")
    finally:
        over.set()
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def _accepted(request: bytes) -> bytes:
    match = re.search(rb"(?i)sec-websocket-key: (\S+)", request)
    assert match is not None
    proof = base64.b64encode(hashlib.sha1(match[1] + _WEBSOCKET, usedforsecurity=False).digest()).decode()
    lines = ["HTTP/1.1 101 Switching Protocols", "upgrade: websocket", "connection: upgrade"]
    lines += [f"sec-websocket-accept: {proof}", "sec-websocket-protocol: v5.channel.k8s.io", "", ""]
    return "\r\n".join(lines).encode()


def test_a_command_that_is_given_up_leaves_no_thread_at_a_server_that_does_not_answer() -> None:
    with silent_server() as api:
        before = set(threading.enumerate())

        with pytest.raises(ApiError, match="not waited for any more"):
            execute(api, "pod", "main", ("true",), is_over=lambda: True)

        wait_until(lambda: set(threading.enumerate()) <= before, "the end of the threads of the command", 20)


STOPPED = b"cannot exec in a stopped state: unknown\r\n"  # what a runtime says of a container that has just ended


@pytest.mark.parametrize(
    ("said", "wanted", "left"),
    [
        (b"wanted\n", True, ""),
        (b"kept\n", False, "kept"),
        (b"sent\n", False, "sent"),
        (b"", False, ""),
        (STOPPED, False, ""),
    ],
)
def test_only_what_a_container_answers_itself_is_its_answer(said: bytes, left: str, *, wanted: bool) -> None:
    frames = (b"\x01" + said, b'\x03{"status": "Success"}')

    with silent_server(*frames) as api:
        found_wanted = is_wanted(api, "pod", lambda: False)
    with silent_server(*frames) as api:
        found_left = ask_how_files_left(api, "pod", lambda: False)

    assert (found_wanted, found_left) == (wanted, left)
