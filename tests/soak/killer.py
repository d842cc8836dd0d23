"""Starts executions and kills each at a moment drawn from a seed: before its body runs, meanwhile, just after it."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.servers.api import Api

_TERMINAL = frozenset({"KILLED", "SUCCESS", "FAILED", "WARNING", "CANCELLED"})
_LONGEST_S = 90.0
_AT_ONCE = 12


@dataclass(frozen=True)
class Kill:
    """One kill to come: where, how long the body runs if nobody kills it, when it is killed, and whether twice."""

    place: str
    body_s: float
    after_s: float
    is_doubled: bool


@dataclass
class Tally:
    """What became of the kills, by place."""

    states: defaultdict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    steps: defaultdict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    slowest_s: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    problems: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, place: str, step: str, state: str, seconds: float) -> None:
        """Count a kill that came at a step of the task and ended in a state after so many seconds."""
        with self._lock:
            self.states[place][state] += 1
            self.steps[place][step] += 1
            self.slowest_s[place] = max(self.slowest_s[place], seconds)

    def lines(self) -> list[str]:
        """Return a line for each place."""
        return [
            f"{place:<14} {dict(states)} at {dict(self.steps[place])}, slowest {self.slowest_s[place]:.1f} s"
            for place, states in sorted(self.states.items())
        ]


def plan(places: Sequence[str], count: int, seed: int, spans: Mapping[str, float]) -> list[Kill]:
    """Return `count` kills, spread evenly over the places; `spans` says how long a task takes to begin there."""
    draw = random.Random(seed)
    kills = []
    for number in range(count):
        place = places[number % len(places)]
        body_s = round(draw.uniform(0.0, 2.0), 1)
        kills.append(Kill(place, body_s, draw.uniform(0.0, spans.get(place, 2.0) + body_s), draw.random() < 0.2))
    draw.shuffle(kills)
    return kills


def carry_out(api: Api, kills: Sequence[Kill]) -> Tally:
    """Carry all kills out, some at a time; each is over when its execution has ended."""
    tally = Tally()
    with api.client() as client, ThreadPoolExecutor(_AT_ONCE) as threads:
        list(threads.map(lambda kill: _one(client, kill, tally), kills))
    return tally


def _one(client: httpx.Client, kill: Kill, tally: Tally) -> None:
    inputs = {"seconds": str(kill.body_s)}
    answer = client.post(f"/executions/soak/{kill.place}", files={key: (None, text) for key, text in inputs.items()})
    assert answer.status_code == 200, answer.text
    execution_id = answer.json()["id"]
    time.sleep(kill.after_s)
    step = _step(client.get(f"/executions/{execution_id}").json())
    began = time.monotonic()
    for _ in range(2 if kill.is_doubled else 1):
        client.delete(f"/executions/{execution_id}/kill")  # one that has just ended refuses, and is no less ended
    execution = _ended(client, execution_id)
    state = execution["state"]["current"]
    tally.add(kill.place, step, state, time.monotonic() - began)
    if state not in {"KILLED", "SUCCESS"}:
        attempts = [run.get("attempts") for run in execution.get("taskRunList") or []]
        tally.problems.append(f"{kill}: execution {execution_id} is {state}: {attempts}")


def _step(execution: dict[str, Any]) -> str:
    runs = execution.get("taskRunList") or []
    return str(runs[0]["state"]["current"]) if runs else str(execution["state"]["current"])


def _ended(client: httpx.Client, execution_id: str) -> dict[str, Any]:
    deadline = time.monotonic() + _LONGEST_S
    while True:
        execution: dict[str, Any] = client.get(f"/executions/{execution_id}").json()
        if execution["state"]["current"] in _TERMINAL:
            return execution
        assert time.monotonic() < deadline, f"not ended {_LONGEST_S:g} s after its kill: {execution}"
        time.sleep(0.1)
