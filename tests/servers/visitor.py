"""Somebody who looks at pages with a browser, without scripts: keeps a session, follows no redirect by itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.servers.application import Api


@dataclass
class Visitor:
    """Asks an application for pages."""

    api: Api
    headers: dict[str, str] = field(default_factory=lambda: {"accept": "text/html"})

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        headers = self.headers | dict(options.pop("headers", None) or {})
        return self.api.loop.run_until_complete(self.api.client.request(method, path, headers=headers, **options))

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.request("GET", path, **options)

    def post(self, path: str, **options: Any) -> httpx.Response:
        return self.request("POST", path, **options)

    def sign_in(self, role: str = "admin") -> Visitor:
        """Begin a session with the token of a role."""
        answer = self.post("/ui/login", data={"token": self.api.tokens[role]})
        assert answer.status_code == 303, answer.text
        self.headers["cookie"] = answer.headers["set-cookie"].split(";")[0]
        return self
