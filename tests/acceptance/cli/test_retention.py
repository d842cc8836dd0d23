"""A server that forgets: what is old leaves while it works, and its figures say so."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

FLOW = "id: hello\nnamespace: company.team\ntasks:\n  - {id: say, type: core.log.Log, message: hello}\n"
SETTINGS = "retention: {executionsDays: 0.00001, intervalS: 0.2}\n"


def test_ended_executions_leave_by_themselves(
    tmp_path: Path, shell_in: Callable[..., Any], up: Callable[..., Any]
) -> None:
    user = shell_in(tmp_path)
    (tmp_path / "mainstem.yaml").write_text(SETTINGS)

    with up(user) as server, contextlib.ExitStack() as stack:
        token = (tmp_path / ".mainstem/token").read_text().strip()
        client = stack.enter_context(
            httpx.Client(base_url=server.url, headers={"authorization": f"Bearer {token}"}, timeout=20)
        )
        client.post("/api/v1/main/flows", content=FLOW, headers={"content-type": "application/x-yaml"})
        started = client.post("/api/v1/main/executions/company.team/hello").json()
        deadline = time.monotonic() + 60
        while client.get(f"/api/v1/main/executions/{started['id']}").status_code != 404:
            assert time.monotonic() < deadline, "the execution is still there"
            time.sleep(0.05)
        figures = client.get("/metrics").text

    assert "mainstem_process_retention_removed_executions 1\n" in figures
