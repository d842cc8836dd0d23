"""Start, memory, and what the process runner adds to a body."""

from __future__ import annotations

import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.flows import flow
from bench.kestra01 import quantile
from bench.server import PROGRAM, Server

TIMES = 5
IDLE_S = 20.0
BODIES = 100
WARM_BODIES = 10


def coldstart(**_: Any) -> dict[str, Any]:
    """Seconds from the start of the process to ready, and of `mainstem --version`."""
    ready, version = [], []
    for _number in range(TIMES):
        with Server() as server:
            ready.append(server.ready_s)
        started = time.monotonic()
        subprocess.run(
            [*PROGRAM, "--version"],
            check=True,
            capture_output=True,
        )
        version.append(time.monotonic() - started)
    return {
        "bench": "coldstart",
        "ready_p50_s": round(statistics.median(ready), 2),
        "ready_max_s": round(max(ready), 2),
        "version_p50_ms": round(statistics.median(version) * 1e3),
    }


def memory(**_: Any) -> dict[str, Any]:
    """Proportional resident memory and CPU of all processes of an idle server with a hundred flows."""
    with Server() as server:
        server.push({f"flow{number}.yaml": flow(number) for number in range(100)})
        time.sleep(3)
        before = server.cpu_seconds()
        time.sleep(IDLE_S)
        percent = (server.cpu_seconds() - before) / IDLE_S * 100
        return {
            "bench": "memory",
            "resident_mb": round(server.resident_mb(), 1),
            "idle_cpu_percent": round(percent, 2),
            "processes": len(server.processes()),
        }


def runner(**_: Any) -> dict[str, Any]:
    """Milliseconds that the process runner adds to a shell body over bare `subprocess`, same user."""
    import tempfile

    from task_runners.base import RunnerContext, TaskSpec, WorkDir
    from task_runners.process import Process

    process = Process(type="core.runner.Process")

    def ours() -> None:
        with tempfile.TemporaryDirectory() as folder:
            spec = TaskSpec(command=("/bin/sh", "-c", "echo hi"), task_run_id="bench", attempt=1)
            result = process.run(spec, WorkDir(Path(folder)), RunnerContext(on_line=lambda _line: None))
            assert result.exit_code == 0

    def bare() -> None:
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run(["/bin/sh", "-c", "echo hi"], cwd=folder, capture_output=True, check=True)

    for body in (ours, bare) * WARM_BODIES:
        seconds(body)
    # In turns, so that both meet the same machine.
    pairs = [(seconds(bare), seconds(ours)) for _ in range(BODIES)]
    bare_s, ours_s = (quantile(list(column), 0.5) for column in zip(*pairs, strict=True))
    return {
        "bench": "runner",
        "bare_p50_ms": round(bare_s * 1e3, 2),
        "process_p50_ms": round(ours_s * 1e3, 2),
        "added_p50_ms": round((ours_s - bare_s) * 1e3, 2),
    }


def seconds(body: Callable[[], None]) -> float:
    """Return how long a body takes."""
    started = time.perf_counter()
    body()
    return time.perf_counter() - started
