"""A registry of images on a free port: pull of one image by the published HTTP API (v2, schema 2), its layer held back.

A Docker daemon trusts registries on 127.0.0.0/8 without TLS.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from tests.servers.stand_in import serving

_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
_CONFIG = "application/vnd.docker.container.image.v1+json"
_LAYER = "application/vnd.docker.image.rootfs.diff.tar"


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


@dataclass
class Registry:
    """What a daemon asked for, and the gate before the second half of the layer."""

    layer: bytes
    asked: list[str] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)
    address: str = ""

    def __post_init__(self) -> None:
        config = {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Env": ["PATH=/bin"]},
            "rootfs": {"type": "layers", "diff_ids": [_digest(self.layer)]},
        }
        self._blobs = {_digest(blob): blob for blob in (json.dumps(config).encode(), self.layer)}
        described = [{"digest": digest, "size": len(blob)} for digest, blob in self._blobs.items()]
        manifest = {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": {"mediaType": _CONFIG, **described[0]},
            "layers": [{"mediaType": _LAYER, **described[1]}],
        }
        self._manifest = json.dumps(manifest).encode()

    @property
    def image(self) -> str:
        return f"{self.address}/held/back:1"

    @property
    def pulls(self) -> int:
        """How often the layer was asked for."""
        return self.asked.count(_digest(self.layer))

    @property
    def application(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/v2/", self._version),
                Route("/v2/held/back/manifests/{name}", self._describe),
                Route("/v2/held/back/blobs/{digest}", self._give),
            ]
        )

    async def _version(self, _: Request) -> Response:
        return JSONResponse({}, headers={"docker-distribution-api-version": "registry/2.0"})

    async def _describe(self, request: Request) -> Response:
        if request.path_params["name"] not in {"1", _digest(self._manifest)}:
            return JSONResponse({"errors": [{"code": "MANIFEST_UNKNOWN", "message": "unknown"}]}, status_code=404)
        headers = {"docker-content-digest": _digest(self._manifest)}
        return Response(self._manifest, media_type=_MANIFEST, headers=headers)

    async def _give(self, request: Request) -> Response:
        digest = request.path_params["digest"]
        self.asked.append(digest)
        blob = self._blobs[digest]
        pieces = self._held(blob) if blob is self.layer else self._whole(blob)
        return StreamingResponse(pieces, headers={"content-length": str(len(blob))})

    @staticmethod
    async def _whole(blob: bytes) -> Any:
        yield blob

    async def _held(self, blob: bytes) -> Any:
        half = len(blob) // 2
        yield blob[:half]
        await run_in_threadpool(self.gate.wait, 120)
        yield blob[half:]


@contextmanager
def holding_back(layer: bytes) -> Iterator[Registry]:
    """Give a registry with one image of one layer, a plain tar archive; nobody waits for it after the block."""
    registry = Registry(layer)
    with serving(registry.application, "registry") as url:
        registry.address = url.removeprefix("http://")
        try:
            yield registry
        finally:
            registry.gate.set()
