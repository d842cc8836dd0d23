from __future__ import annotations

import asyncio
import signal
import socket
import time
from collections.abc import Callable

import httpx
import pytest
import uvloop
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from runner.errors import ConflictError
from webhooks.server import address_of, bind, serve


async def hello(_request: Request) -> PlainTextResponse:
    return PlainTextResponse("hello")


APP = Starlette(routes=[Route("/", hello)])


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_a_server_serves_until_it_is_told_to_stop(new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    async def main() -> str:
        stop = asyncio.Event()
        listener = bind("127.0.0.1", 0)
        serving = asyncio.create_task(serve(APP, "127.0.0.1", 0, stop, listener=listener))
        async with httpx.AsyncClient(timeout=60) as client:
            answer = await client.get(f"http://127.0.0.1:{address_of(listener)[1]}/")
        stop.set()
        await asyncio.wait_for(serving, 30)
        return answer.text

    loop = new_loop()
    try:
        text = loop.run_until_complete(main())
    finally:
        loop.close()

    assert text == "hello"


def test_signals_are_left_to_the_program() -> None:
    before = (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT))

    async def main() -> tuple[object, object]:
        stop = asyncio.Event()
        listener = bind("127.0.0.1", 0)
        serving = asyncio.create_task(serve(APP, "127.0.0.1", 0, stop, listener=listener))
        async with httpx.AsyncClient(timeout=60) as client:
            await client.get(f"http://127.0.0.1:{address_of(listener)[1]}/")
        during = (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT))
        stop.set()
        await serving
        return during

    assert asyncio.run(main())[0] == before[0]


def test_a_taken_address_is_named_before_anything_starts() -> None:
    with bind("127.0.0.1", 0) as taken:
        port = address_of(taken)[1]

        with pytest.raises(ConflictError, match=f"127.0.0.1:{port}"):
            bind("127.0.0.1", port)


def test_connections_are_taken_as_soon_as_the_socket_is_bound() -> None:
    with bind("127.0.0.1", 0) as listener, socket.create_connection(address_of(listener), timeout=30) as connection:
        assert connection.getpeername() == address_of(listener)


def test_an_answer_in_two_pieces_does_not_wait_for_an_acknowledgement() -> None:
    with bind("127.0.0.1", 0) as listener, socket.create_connection(address_of(listener), timeout=30):
        listener.setblocking(True)
        accepted, _ = listener.accept()

        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_one_connection_serves_many_requests_also_pipelined(serving: Callable[[ASGIApp], int]) -> None:
    port = serving(APP)
    request = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"

    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(request * 3)
        answer = b""
        deadline = time.monotonic() + 30
        while answer.count(b"hello") < 3 and time.monotonic() < deadline:
            answer += connection.recv(65536)
        connection.sendall(request)
        answer += connection.recv(65536)

    assert answer.count(b"HTTP/1.1 200") == 4


def test_a_connection_kept_alive_may_be_silent_for_longer_than_a_head(
    serving: Callable[[ASGIApp], int],
) -> None:
    port = serving(APP)
    request = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"

    with socket.create_connection(("127.0.0.1", port), timeout=8) as connection:
        connection.sendall(request)
        first = b""
        while not first.endswith(b"hello"):  # the head and the body may come in two pieces
            first += connection.recv(65536)
        connection.settimeout(6)
        with pytest.raises(TimeoutError):
            connection.recv(1)  # nothing comes and nobody hangs up
        connection.sendall(request)
        second = connection.recv(65536)

    assert first.startswith(b"HTTP/1.1 200")
    assert second.startswith(b"HTTP/1.1 200")
