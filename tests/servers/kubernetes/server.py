"""The server as a whole: started on a free port, with a kubeconfig for clients."""

from __future__ import annotations

import asyncio
import json
import secrets
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import docker
import uvicorn
from starlette.applications import Starlette

from tests.servers.kubernetes.api import Api
from tests.servers.kubernetes.gate import Gate
from tests.servers.kubernetes.node import Node
from tests.servers.kubernetes.objects import Object, Objects
from tests.servers.kubernetes.signals import Wakeups
from tests.servers.program import wait_until

__all__ = ["KubernetesServer"]


class KubernetesServer:
    """An API server with one node. `node` and `gate` are where a test makes things go wrong."""

    def __init__(self, docker_host: str, **uvicorn_options: Any) -> None:
        self.objects = Objects()
        self.wakeups = Wakeups()
        self.gate = Gate(secrets.token_urlsafe(12))
        self.exec_protocols: tuple[str, ...] = ("v5.channel.k8s.io", "v4.channel.k8s.io")
        self.frozen_execs = ""
        """A regular expression: commands in which it is found are accepted, and then nothing is carried either way."""
        self.watch_generation = 0
        self.how_watches_end: Callable[[], None] = lambda: None
        self.watches_are_frozen = False
        self.log_generation = 0
        self.followed_logs_end = True
        self.lost_answers = 0
        """How many of the next new pods are made without anybody being told."""
        self._client: Any = docker.APIClient(base_url=docker_host, timeout=60)
        self.node = Node(self.objects, self._client)
        self.objects.on_change(self.wakeups.tell)
        self._uvicorn = uvicorn.Server(
            uvicorn.Config(
                Starlette(routes=Api(self).routes),
                port=0,
                ws="wsproto",
                log_level="critical",
                timeout_graceful_shutdown=1,
                **uvicorn_options,
            )
        )
        self._is_tls = "ssl_certfile" in uvicorn_options
        self._thread = threading.Thread(target=self._serve, name="kubernetes", daemon=True)

    def _serve(self) -> None:
        asyncio.run(self._uvicorn.serve())

    def start(self) -> KubernetesServer:
        """Return when it answers."""
        self._thread.start()
        wait_until(lambda: self._uvicorn.started, "the Kubernetes server", 20)
        return self

    @property
    def url(self) -> str:
        port = self._uvicorn.servers[0].sockets[0].getsockname()[1]
        return f"{'https' if self._is_tls else 'http'}://127.0.0.1:{port}"

    def kubeconfig(self, path: Path, namespace: str = "default") -> Path:
        """Write a kubeconfig for this server and return its path."""
        context = {"cluster": "test", "user": "test", "namespace": namespace}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": {"server": self.url}}],
            "users": [{"name": "test", "user": {"token": self.gate.token}}],
            "contexts": [{"name": "test", "context": context}],
            "current-context": "test",
        }
        path.write_text(json.dumps(config))
        return path

    def pods(self) -> list[Object]:
        """Return all pods."""
        return self.objects.list("pods", None)[1]

    def end_watches(self) -> None:
        """End all watches as the server does when their time is over."""
        self.how_watches_end = lambda: None
        self.watch_generation += 1
        self.wakeups.tell()

    def cut_watches(self) -> None:
        """Break the connections of all watches in the middle."""

        def cut() -> None:
            raise ConnectionAbortedError("the test cuts this watch")

        self.how_watches_end = cut
        self.watch_generation += 1
        self.wakeups.tell()

    def cut_logs(self) -> None:
        """Break the connections of all logs that are followed."""
        self.log_generation += 1
        self.wakeups.tell()

    def stop(self) -> None:
        """End the server and everything that runs in it."""
        self.node.stop()
        self._uvicorn.should_exit = True
        self.end_watches()
        self.cut_logs()
        self._thread.join(10)
        self._client.close()
