from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from sync.hook_check import check_hook


class _Other(BaseHTTPRequestHandler):
    """Something else than a receiver: what a proxy in front may say."""

    server: Any

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        status, headers, body = self.server.answer
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Keep the output of the tests quiet."""


@pytest.fixture
def other() -> Iterator[Any]:
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), _Other)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ((200, {}, b"<html>welcome"), "somebody else answers there"),
        ((200, {}, b"[]"), "somebody else answers there"),
        ((301, {"location": "https://x.example/"}, b""), "it is sent on to https://x.example/"),
        ((401, {}, b"login"), "it is answered with 401"),
        ((401, {}, b'{"code": "hook.unproven"}'), "the signature is not believed"),
        ((413, {}, b'{"code": "request.body.large"}'), "it is answered with 413 request.body.large"),
        ((502, {}, b""), "it is answered with 502"),
    ],
)
def test_what_answers_in_place_of_the_receiver_is_told(other: Any, answer: Any, problem: str) -> None:
    other.answer = answer

    check = check_hook(f"http://127.0.0.1:{other.server_port}/hooks/team", "secret")

    assert (check.problem, check.status) == (problem, answer[0])
    assert check.advice


def test_an_address_where_nobody_listens_is_told() -> None:
    check = check_hook("http://127.0.0.1:1/hooks/team", "secret")

    assert check.status is None
    assert check.problem is not None
    assert check.problem.startswith("nobody answers there: ")
