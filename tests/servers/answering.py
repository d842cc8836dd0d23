"""A server that answers every path with what it was told to, however odd that is."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest


@dataclass
class Answering:
    """What is answered to a path by its last part, and to all others; a status, a kind of content, and the content.

    `headers` come with every answer.
    """

    url: str = ""
    by_end: dict[str, tuple[int, str, bytes]] = field(default_factory=dict)
    otherwise: tuple[int, str, bytes] = (404, "application/json", b"{}")
    headers: dict[str, str] = field(default_factory=dict)

    def say(self, end: str, content: Any, status: int = 200) -> None:
        """Answer with JSON to paths that end so."""
        self.by_end[end] = status, "application/json", json.dumps(content).encode()


@pytest.fixture
def answering() -> Iterator[Answering]:
    found = Answering()

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            self.rfile.read(int(self.headers.get("content-length") or 0))
            end = self.path.partition("?")[0].rpartition("/")[2]
            status, kind, content = found.by_end.get(end, found.otherwise)
            self.send_response(status)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(content)))
            for name, text in found.headers.items():
                self.send_header(name, text)
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _answer  # noqa: N815 - names of the library

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    found.url = f"http://127.0.0.1:{server.server_port}"
    yield found
    server.shutdown()
    thread.join()
    server.server_close()
