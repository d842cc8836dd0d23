"""Git's own HTTP backend, as a forge would serve a repository."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

_BACKEND = subprocess.run(["git", "--exec-path"], capture_output=True, text=True, check=True).stdout.strip()


@dataclass
class GitServer:
    """Git's own HTTP backend in front of a folder, as a forge would serve it."""

    root: Path
    url: str
    stop: Callable[[], None]
    """Connections are refused from then on."""
    authorization: str | None = None
    requests: list[tuple[str, str, bytes]] = field(default_factory=list)
    is_open: threading.Event = field(default_factory=threading.Event)
    """Requests wait while this is cleared."""

    def repository(self, name: str, *, allow_filter: bool = True) -> Path:
        path = self.root / name
        git(self.root, "init", "-q", "--bare", "-b", "main", str(path))
        git(path, "config", "http.receivepack", "true")
        git(path, "config", "uploadpack.allowFilter", "true" if allow_filter else "false")
        return path

    def fsck(self, name: str) -> str:
        return git(self.root / name, "fsck", "--strict", "--no-dangling")


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=Ann", "-c", "user.email=ann@example.org", "-c", "protocol.file.allow=always"]
    done = subprocess.run(["git", *identity, *arguments], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


class _Bridge(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Head and body leave together: a body by itself waits 40 ms until the client has acknowledged its head.
    wbufsize = -1
    server: Any

    def do_GET(self) -> None:
        self._answer(b"")

    def do_POST(self) -> None:
        self._answer(self._body())

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _answer(self, body: bytes) -> None:
        state: GitServer = self.server.state
        state.requests.append((self.command, self.path, body))
        state.is_open.wait(60)
        if state.authorization and self.headers.get("Authorization") != state.authorization:
            self._send(401, {"WWW-Authenticate": 'Basic realm="git"'}, b"")
            return
        path, _, query = self.path.partition("?")
        environ = {
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": str(state.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "REMOTE_USER": "ann",
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": "safe.directory",
            "GIT_CONFIG_VALUE_0": "*",
        }
        done = subprocess.run(
            [f"{_BACKEND}/git-http-backend"], input=body, env=environ, capture_output=True, check=True
        )
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        self._send(int(headers.pop("Status", "200").split()[0]), headers, content)

    def _send(self, status: int, headers: dict[str, str], content: bytes) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Keep the output of the tests quiet."""


@contextmanager
def serving(root: Path) -> Iterator[GitServer]:
    """Serve the repositories of a folder, which is created, while the context lasts."""
    root.mkdir()
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), _Bridge)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    server.state = GitServer(root, f"http://127.0.0.1:{server.server_port}", stop)
    server.state.is_open.set()
    thread.start()
    yield server.state
    stop()


@pytest.fixture
def git_server(tmp_path: Path) -> Iterator[GitServer]:
    with serving(tmp_path / "served") as server:
        yield server
