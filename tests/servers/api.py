"""What a person does with a server: write flows, start executions, ask."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import httpx


@dataclass(frozen=True)
class Api:
    """The API of a server, with the admin's rights."""

    url: str
    token: str

    def client(self) -> httpx.Client:
        headers = {"authorization": f"Bearer {self.token}"}
        return httpx.Client(base_url=f"{self.url}/api/v1/main", headers=headers, timeout=30)

    def get(self, path: str, **parameters: str) -> Any:
        with self.client() as client:
            answer = client.get(path, params=parameters)
            answer.raise_for_status()
            return answer.json()

    def post(self, path: str, **options: Any) -> Any:
        with self.client() as client:
            answer = client.post(path, **options)
            assert answer.is_success, answer.text
            return answer.json() if answer.content else None

    def deploy(self, *sources: str) -> None:
        """Write flows, each of which becomes a commit."""
        for source in sources:
            self.post("/flows", content=source, headers={"content-type": "application/x-yaml"})

    def execute(self, flow_ids: Iterable[str], namespace: str = "crash") -> list[str]:
        """Start executions, several at a time, and return the ids of those that the server acknowledged."""

        def one(flow_id: str) -> str:
            answer = client.post(f"/executions/{namespace}/{flow_id}")
            assert answer.status_code == 200, answer.text
            return str(answer.json()["id"])

        with self.client() as client, ThreadPoolExecutor(4) as threads:
            return list(threads.map(one, flow_ids))
