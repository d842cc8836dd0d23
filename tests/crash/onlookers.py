"""Who looks at the log of an execution while servers are killed: one who follows it, one who reads it afterwards."""

from __future__ import annotations

import threading

from tests.servers.api import Api


class Follower:
    """Somebody who looks on: the lines of one execution as the server tells them."""

    def __init__(self, api: Api, execution_id: str) -> None:
        self.lines: list[str] = []
        self._thread = threading.Thread(target=self._follow, args=[api, execution_id], daemon=True)
        self._thread.start()

    def _follow(self, api: Api, execution_id: str) -> None:
        with api.client() as client, client.stream("GET", f"/logs/{execution_id}/follow", timeout=300) as answer:
            self.lines += [line for line in answer.iter_lines() if line.startswith("data: ") and '"line ' in line]

    def count(self) -> int:
        """Return how many lines of the body came, once the execution has ended."""
        self._thread.join(120)
        return len(self.lines)


def body_lines(api: Api, execution_id: str) -> list[str]:
    """Return the lines of the body so far."""
    return [line["message"] for line in api.get(f"/logs/{execution_id}") if line["message"].startswith("line ")]
