"""What one value of a loop costs, in a short loop and in a long one: CPU must not grow with the number of values.

For each kind of loop with a task that the engine runs, for one whose second task reads what the first put out, for one
whose tasks are processes, and for one without a limit, whose runs all wait for a worker at the same time.
"""

from __future__ import annotations

import sqlite3
import time
from typing import Any

from bench.server import Server

SHORT = 100
LONG = {"instant": 10_000, "outputs": 10_000, "loop": 10_000, "parallel": 10_000, "shell": 1_000, "wide": 2_000}
QUICK = {"instant": 2_000, "outputs": 2_000, "loop": 2_000, "parallel": 2_000, "shell": 300, "wide": 1_000}
REPEATS = 3  # of the short loop, whose whole CPU is little
PATIENCE_S = 900.0
POLL_S = 0.25
SAY = '{id: each, type: core.debug.Return, format: "{{ taskrun.value }}"}'
AGAIN = '{id: again, type: core.debug.Return, format: "{{ %s.value }}"}'
LOOPS = {
    "instant": ("ForEach", SAY),
    "outputs": ("ForEach", SAY + ", " + AGAIN % "outputs.each[taskrun.value]"),
    "loop": ("Loop", SAY + ", " + AGAIN % "outputs.each"),
    "parallel": ("EachParallel", SAY),
    "shell": ("ForEach", "{id: each, type: scripts.shell.Commands, commands: [exit 0]}"),
    "wide": ("ForEach", '{id: each, type: core.kv.Set, key: last, value: "{{ taskrun.value }}"}'),
}
AT_ONCE = {"wide": 0}  # 0: all of them
FLOW = """\
id: {kind}
namespace: company.team
inputs: [{{id: count, type: INT}}]
tasks:
  - id: loop
    type: core.flow.{type}
    {values}: "{{{{ range(1, inputs.count) }}}}"
    {limit}: {at_once}
    tasks: [{tasks}]
"""


def _flow(kind: str) -> str:
    type_, tasks = LOOPS[kind]
    values, limit = ("value", "concurrent") if type_ == "EachParallel" else ("values", "concurrencyLimit")
    at_once = AT_ONCE.get(kind, 4)
    return FLOW.format(kind=kind, type=type_, values=values, limit=limit, at_once=at_once, tasks=tasks)


def run(*, quick: bool = False) -> dict[str, Any]:
    """Milliseconds of CPU for each value, and by how many MB a server grows with the long loops."""
    figures: dict[str, Any] = {"bench": "foreach"}
    with Server() as server:
        server.push({f"{kind}.yaml": _flow(kind) for kind in LOOPS})
        for kind in LOOPS:
            _loop(server, kind, SHORT)  # warm
            before = server.resident_mb()
            short = sum(_loop(server, kind, SHORT) for _ in range(REPEATS)) / REPEATS
            count = (QUICK if quick else LONG)[kind]
            long = _loop(server, kind, count)
            figures |= {
                f"{kind}_values": count,
                f"{kind}_short_ms": round(short, 2),
                f"{kind}_long_ms": round(long, 2),
                f"{kind}_ratio": round(long / short, 2),
                f"{kind}_grown_mb": round(server.resident_mb() - before, 1),
            }
    return figures


def _loop(server: Server, kind: str, count: int) -> float:
    """Run the loop over `count` values to its end; return the milliseconds of CPU for each of its values."""
    before = server.cpu_seconds()
    deadline = time.monotonic() + PATIENCE_S
    with server.client() as client:
        path = f"/executions/company.team/{kind}"
        execution_id = client.post(path, files={"count": (None, str(count))}).raise_for_status().json()["id"]
    # Seen in the store itself: the API would spend CPU on a list of all runs each time.
    database = sqlite3.connect(f"file:{server.home / 'state.db'}?mode=ro", uri=True)
    state, ended = "CREATED", None
    while ended is None and time.monotonic() < deadline:
        time.sleep(POLL_S)
        found = "SELECT state, ended_at FROM executions WHERE id = ?"
        state, ended = database.execute(found, (execution_id,)).fetchone()
    database.close()
    if state != "SUCCESS":
        raise SystemExit(f"the loop over {count} values is {state}")
    return (server.cpu_seconds() - before) * 1e3 / count
