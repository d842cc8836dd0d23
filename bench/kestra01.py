"""Webhook to two instant tasks: latency when idle, and how many a minute are carried with a median below 100 ms."""

from __future__ import annotations

import sqlite3
import time
from typing import Any

import httpx

from bench.load import Sent, open_loop
from bench.server import Server

FLOW = """\
id: hello
namespace: company.team
tasks:
  - id: concat
    type: core.output.OutputValues
    values:
      message: "Hello {{ trigger.body.repository.name }} from {{ flow.namespace }}.{{ flow.id }}"
  - id: log
    type: core.log.Log
    message: "{{ execution.id }}: {{ outputs.concat['values'].message }} by {{ trigger.body.pusher.name }}"
triggers:
  - id: hook
    type: core.trigger.Webhook
    key: bench
"""
BODY = (
    b'{"repository": {"name": "flows"}, "after": "0123abcd", "pusher": {"name": "ada"}, "pad": "' + b"x" * 800 + b'"}'
)
IDLE_RUNS = 200
RATES = (50, 100, 170, 250, 330, 420, 500)
STEP_S = 10.0
SETTLE_S = 20.0
LIMIT_S = 0.1  # the median from request to durable end


def quantile(values: list[float], share: float) -> float:
    """Return the value below which `share` of the sorted values lie."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


def ended(server: Server, sent: Sent, settle_s: float = SETTLE_S) -> list[float]:
    """Return the seconds from each request to the durable end of its execution; waits until all have ended."""
    deadline = time.monotonic() + settle_s
    database = sqlite3.connect(f"file:{server.home / 'state.db'}?mode=ro", uri=True)
    try:
        while True:
            rows = database.execute("SELECT id, ended_at FROM executions WHERE state = 'SUCCESS'").fetchall()
            found = {each: at for each, at in rows if each in sent.at}
            if len(found) == len(sent.at) or time.monotonic() > deadline:
                return [at / 1e6 - sent.at[each] for each, at in found.items()]
            time.sleep(0.2)
    finally:
        database.close()


def idle(server: Server, url: str) -> list[float]:
    """Return seconds from request to end, one at a time with a pause between."""
    sent = Sent()
    with httpx.Client() as client:
        for _ in range(IDLE_RUNS):
            time.sleep(0.02)
            moment = time.time()
            sent.at[client.post(url, content=BODY, headers={"Content-Type": "application/json"}).json()["id"]] = moment
    return ended(server, sent)


def run(*, quick: bool = False) -> dict[str, Any]:
    """Measure and return the figures."""
    with Server() as server:
        server.push({"hello.yaml": FLOW})
        url = f"{server.url}/api/v1/main/executions/webhook/company.team/hello/bench"
        idle(server, url)  # warm
        alone = idle(server, url)
        best: dict[str, Any] = {"executions_per_minute": 0}
        steps = []
        for rate in RATES[:3] if quick else RATES:
            before = server.cpu_seconds()
            sent = open_loop(url, BODY, rate, STEP_S)
            took = ended(server, sent)
            figures = {
                "rate": rate,
                "p50_ms": round(quantile(took, 0.5) * 1e3, 1),
                "p99_ms": round(quantile(took, 0.99) * 1e3, 1),
                "accept_p50_ms": round(quantile(sent.accepted_s, 0.5) * 1e3, 1),
                "cpu_ms_per_execution": round((server.cpu_seconds() - before) * 1e3 / len(took), 2),
                "ended": len(took),
                "sent": len(sent.at),
                "refused": sent.refused,
            }
            steps.append(figures)
            if figures["p50_ms"] > LIMIT_S * 1e3 or len(took) < rate * STEP_S:
                break
            best = {"executions_per_minute": rate * 60, **figures}
    return {
        "bench": "kestra01",
        "executions_per_minute": best["executions_per_minute"],
        "p50_ms": round(quantile(alone, 0.5) * 1e3, 1),
        "p99_ms": round(quantile(alone, 0.99) * 1e3, 1),
        "cpu_ms_per_execution": best.get("cpu_ms_per_execution"),
        "sustained_p50_ms": best.get("p50_ms"),
        "sustained_p99_ms": best.get("p99_ms"),
        "store": "sqlite",
        "durability": "full",
        "reports": True,
        "steps": steps,
    }
