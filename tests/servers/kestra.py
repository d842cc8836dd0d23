"""What a Kestra server answers to those who ask for its flows, over a real socket."""

from __future__ import annotations

import base64
import json
import threading
import zipfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit


@dataclass
class KestraServer:
    """A server with flows by (namespace, id).

    `tenant` None is a server of before 0.23, without tenants in its paths; `has_export` False one that has no export.
    """

    flows: dict[tuple[str, str], str]
    tenant: str | None = "main"
    has_export: bool = True
    login: tuple[str, str] | None = None
    url: str = ""
    asked: list[str] = field(default_factory=list)

    @property
    def prefix(self) -> str:
        return f"/api/v1/{self.tenant}" if self.tenant else "/api/v1"

    def answer(self, path: str, query: dict[str, list[str]]) -> tuple[int, str, bytes]:
        if path in {"/", "/ui"} or path.startswith("/ui/"):
            return 200, "text/html", b"<!doctype html><title>Kestra</title>"
        if path == f"{self.prefix}/flows/export/by-query" and self.has_export:
            return 200, "application/octet-stream", self._zip()
        if path == f"{self.prefix}/flows/search":
            return 200, "application/json", self._page(query)
        parts = [unquote(part) for part in path.removeprefix(f"{self.prefix}/flows/").split("/")]
        if path.startswith(f"{self.prefix}/flows/") and len(parts) == 2 and (parts[0], parts[1]) in self.flows:
            source = self.flows[parts[0], parts[1]]
            flow = {"id": parts[1], "namespace": parts[0], "revision": 1, "deleted": False}
            with_source = {"source": source} if query.get("source") == ["true"] else {}
            return 200, "application/json", json.dumps(flow | with_source).encode()
        return 404, "application/json", json.dumps({"message": "Not Found", "_embedded": {}}).encode()

    def _page(self, query: dict[str, list[str]]) -> bytes:
        page, size = (int(query.get(name, [default])[0]) for name, default in (("page", "1"), ("size", "10")))
        keys = sorted(self.flows)[(page - 1) * size : page * size]
        results = [{"namespace": namespace, "id": name, "revision": 1} for namespace, name in keys]
        return json.dumps({"results": results, "total": len(self.flows)}).encode()

    def _zip(self) -> bytes:
        packed = BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            for (namespace, name), source in sorted(self.flows.items()):
                archive.writestr(f"{namespace}.{name}.yml", source)
        return packed.getvalue()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one packet: two would wait for each other
    server: Any

    def do_GET(self) -> None:
        state: KestraServer = self.server.state
        parts = urlsplit(self.path)
        state.asked.append(parts.path)
        status, kind, body = 401, "text/plain", b""
        if state.login is None or self.headers.get("Authorization") == _basic(*state.login):
            status, kind, body = state.answer(parts.path, parse_qs(parts.query))
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's
        pass


def _basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def kestra_server(flows: dict[tuple[str, str], str], **options: Any) -> AbstractContextManager[KestraServer]:
    """Serve flows on a free port of the loopback interface."""
    return serving(KestraServer(flows, **options))


@contextmanager
def serving(state: KestraServer) -> Iterator[KestraServer]:
    """Let a server answer on a free port of the loopback interface."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        server.daemon_threads = True
        server.state = state  # type: ignore[attr-defined] # read by the handler
        state.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield state
        finally:
            server.shutdown()
            thread.join(timeout=5)
