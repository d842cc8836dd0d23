from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from webhooks.guard import DEFAULT, Guard, Traffic, refuse_path, traffic_of

Serving = Callable[[ASGIApp], int]


async def echo_size(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        while True:
            kind = (await receive())["type"].removeprefix("lifespan.")
            await send({"type": f"lifespan.{kind}.complete"})
            if kind == "shutdown":
                return
    size, more = 0, True
    while more:
        message = await receive()
        size += len(message.get("body", b""))
        more = message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(size).encode()})


async def refuse_unread(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        await echo_size(scope, receive, send)
    body = b"who are you"
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 401, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def exchange(port: int, *parts: bytes, timeout: float = 30.0) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=timeout) as connection:
        for part in parts:
            connection.sendall(part)
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
            if answer.startswith(b"HTTP/1.1 200") and answer.endswith(b"0\r\n\r\n"):
                break
    return answer


@pytest.mark.parametrize(
    ("path", "is_refused"),
    [
        ("/api/v1/main/flows", False),
        ("/api/v1/main/executions/webhook/a/b/k3y", False),
        ("//api/v1/main/flows", True),
        ("/api/../health/live", True),
        ("/api/v1/main/./flows", True),
        ("/api/v1/main/flows;/health", True),
        ("/api\\v1", True),
        ("/api/v1/\x00", True),
        ("/" + "a" * 5000, True),
    ],
)
def test_paths_that_proxies_read_differently_are_refused(path: str, *, is_refused: bool) -> None:
    assert (refuse_path(path, path.encode()) is not None) is is_refused


@pytest.mark.parametrize(
    ("method", "path", "name"),
    [
        ("POST", "/hooks/hosted", "hooks"),
        ("POST", "/git/flows.git/git-receive-pack", "git"),
        ("GET", "/health/live", "health"),
        ("GET", "/", "api"),
        ("OPTIONS", "*", "api"),
        ("GET", "/api/v1/main/executions/x/follow", "streams"),
        ("GET", "/api/v1/main/executions/x/follow-dependencies", "streams"),
        ("POST", "/api/v1/main/namespaces/company.team/files", "uploads"),
        ("POST", "/api/v1/main/executions/a.b/c", "files"),
        ("POST", "/api/v1/main/executions/webhook/a/b/key", "webhooks"),
        ("PUT", "/api/v1/main/flows/a/b", "api"),
    ],
)
def test_each_class_of_requests_has_its_own_limits(method: str, path: str, name: str) -> None:
    assert traffic_of(method, path).name == name


def test_a_body_announced_too_large_is_answered_without_being_read(serving: Serving) -> None:
    port = serving(Guard(echo_size))

    answer = exchange(port, b"POST /x HTTP/1.1\r\nhost: x\r\ncontent-length: 10737418240\r\n\r\n")

    assert answer.startswith(b"HTTP/1.1 413")
    assert b"request.body.large" in answer


def test_a_chunked_body_without_end_is_stopped_at_the_limit(serving: Serving) -> None:
    port = serving(Guard(echo_size))
    chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"

    answer = exchange(port, b"POST /x HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n", *[chunk] * 18)

    assert answer.startswith(b"HTTP/1.1 413")


def test_a_body_that_stops_coming_is_given_up(serving: Serving) -> None:
    port = serving(Guard(echo_size, classes=(Traffic("api", DEFAULT.max_bytes, 0.3, 10),)))
    before = time.monotonic()

    answer = exchange(port, b"POST /x HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n", b"x")

    assert answer.startswith(b"HTTP/1.1 408")
    assert time.monotonic() - before < 15


def test_a_head_that_stops_coming_is_given_up(serving: Serving) -> None:
    port = serving(Guard(echo_size))
    before = time.monotonic()

    answer = exchange(port, b"POST /x HTTP/1.1\r\nhost: x\r\nx-slow: ")

    assert answer.startswith(b"HTTP/1.1 408")
    assert time.monotonic() - before < 20


def test_a_head_of_many_headers_is_refused(serving: Serving) -> None:
    port = serving(Guard(echo_size))
    headers = b"".join(b"x-%d: y\r\n" % number for number in range(10_000))

    answer = exchange(port, b"GET /x HTTP/1.1\r\nhost: x\r\n" + headers)

    assert answer.startswith(b"HTTP/1.1 431")


def test_a_request_over_the_number_at_once_is_told_when_to_come_back(serving: Serving) -> None:
    port = serving(Guard(echo_size, classes=(Traffic("api", DEFAULT.max_bytes, 30.0, 1),)))
    with socket.create_connection(("127.0.0.1", port), timeout=30) as first:
        first.sendall(b"POST /x HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\na")

        answers: list[bytes] = []
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and not any(item.startswith(b"HTTP/1.1 503") for item in answers):
            answers.append(exchange(port, b"GET /x HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"))
        first.sendall(b"b")
        served = first.recv(65536)

    assert answers[-1].startswith(b"HTTP/1.1 503")
    assert b"retry-after: 1" in answers[-1]
    assert served.startswith(b"HTTP/1.1 200")


def test_a_sender_refused_before_its_body_was_read_still_gets_the_answer(serving: Serving) -> None:
    port = serving(Guard(refuse_unread))

    answer = exchange(port, b"POST /x HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\n", b"x" * 1_000_000)

    assert answer.startswith(b"HTTP/1.1 401")
    assert answer.endswith(b"who are you")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (b"host: x\r\ncontent-encoding: gzip\r\ncontent-length: 0\r\n", b"415"),
        (b"host: x\r\nauthorization: Bearer a\r\nauthorization: Bearer b\r\n", b"400"),
        (b"host: x\r\ncontent-type: a/b\r\ncontent-type: c/d\r\n", b"400"),
    ],
)
def test_ambiguous_heads_are_refused(serving: Serving, headers: bytes, status: bytes) -> None:
    port = serving(Guard(echo_size))

    answer = exchange(port, b"POST /x HTTP/1.1\r\n" + headers + b"connection: close\r\n\r\n")

    assert answer.split(b" ", 2)[1] == status


def test_silent_connections_do_not_keep_others_from_being_served(serving: Serving) -> None:
    port = serving(Guard(echo_size))
    silent = [socket.create_connection(("127.0.0.1", port), timeout=30) for _ in range(200)]
    answers: list[bytes] = []

    def ask() -> None:
        answers.append(exchange(port, b"GET /x HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"))

    asking = [threading.Thread(target=ask) for _ in range(4)]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join(30)
    for connection in silent:
        connection.close()

    assert [answer.split(b" ", 2)[1] for answer in answers] == [b"200"] * 4


def test_endless_senders_hold_no_memory(serving: Serving) -> None:
    port = serving(Guard(echo_size))
    chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    before = resident_mib()
    answers: list[bytes] = []

    def send() -> None:
        with contextlib.suppress(OSError):  # whoever goes on sending after the answer is cut off
            answers.append(
                exchange(port, b"POST /x HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n", *[chunk] * 100)
            )

    senders = [threading.Thread(target=send) for _ in range(20)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join(20)

    assert answers
    assert all(answer.startswith(b"HTTP/1.1 413") for answer in answers)
    assert resident_mib() - before < 50


def resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
