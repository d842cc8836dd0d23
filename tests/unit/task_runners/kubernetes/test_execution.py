"""Commands in pods, at an API server that stops answering in their midst."""

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
from tests.servers.program import wait_until

_WEBSOCKET = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, 1.3


@contextmanager
def silent_server() -> Iterator[str]:
    """Give the address of a server that takes one command and then says nothing, nor that the connection is over."""
    listener, over = socket.create_server(("127.0.0.1", 0)), threading.Event()

    def serve() -> None:
        with suppress(OSError):
            connection, _ = listener.accept()
            with connection:
                request = b""
                while b"\r\n\r\n" not in request:
                    request += connection.recv(4096)
                connection.sendall(_accepted(request))
                over.wait()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
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
    with silent_server() as address, httpx2.Client(base_url=address) as client:
        api = Api(Connection(client, "default", address), "default")
        before = set(threading.enumerate())

        with pytest.raises(ApiError, match="not waited for any more"):
            execute(api, "pod", "main", ("true",), is_over=lambda: True)

        wait_until(lambda: set(threading.enumerate()) <= before, "the end of the threads of the command", 20)
