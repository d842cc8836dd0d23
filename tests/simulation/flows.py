"""Flows drawn by chance, small enough that many can be tried and odd enough to meet every kind of container."""

from __future__ import annotations

import itertools
import json
import random
from typing import Any

_RETRIES: list[dict[str, Any]] = [
    {"type": "constant", "interval": "PT2S", "maxAttempts": 3},
    {"type": "exponential", "interval": "PT1S", "maxInterval": "PT8S", "maxAttempts": 3},
    {"type": "random", "minInterval": "PT1S", "maxInterval": "PT3S", "maxDuration": "PT10S"},
]


class FlowMaker:
    """Makes the sources of flows; `children` are the flows that Subflow tasks may start."""

    def __init__(self, rng: random.Random, children: list[str]) -> None:
        self._rng = rng
        self._children = children
        self._numbers = itertools.count(1)

    def source(self) -> str:
        """Return the YAML of a flow, without id and namespace."""
        rng = self._rng
        flow: dict[str, Any] = {"tasks": self._tasks(2)}
        if rng.random() < 0.3:
            flow["errors"] = [self._leaf()]
        if rng.random() < 0.3:
            flow["finally"] = [self._leaf()]
        if rng.random() < 0.2:
            flow["afterExecution"] = [
                self._named(type="core.kv.Set", key="k", value="flaky", retry=rng.choice(_RETRIES))
            ]
        if rng.random() < 0.3:
            flow["concurrency"] = {"limit": rng.randint(1, 2), "behavior": rng.choice(["QUEUE", "QUEUE", "FAIL"])}
        if rng.random() < 0.1:
            flow["retry"] = {**rng.choice(_RETRIES), "behavior": "CREATE_NEW_EXECUTION", "maxAttempts": 2}
        if rng.random() < 0.3:
            flow["outputs"] = [{"id": "answer", "type": "STRING", "value": "{{ flow.id }}"}]
        return "\n".join(f"{name}: {json.dumps(value)}" for name, value in flow.items())

    def _tasks(self, depth: int) -> list[dict[str, Any]]:
        return [self._task(depth) for _ in range(self._rng.randint(1, 3))]

    def _task(self, depth: int) -> dict[str, Any]:
        if depth == 0 or self._rng.random() < 0.5:
            return self._leaf()
        return self._container(depth - 1)

    def _named(self, **fields: Any) -> dict[str, Any]:
        return {"id": f"t{next(self._numbers)}", **fields}

    def _body(self, value: str, **fields: Any) -> dict[str, Any]:
        return self._named(type="core.kv.Set", key="k", value=value, **fields)

    def _leaf(self) -> dict[str, Any]:
        rng = self._rng
        task = self._named(**rng.choice(self._leaves()))
        if rng.random() < 0.3 and "Sleep" not in task["type"] and "Pause" not in task["type"]:
            task["retry"] = rng.choice(_RETRIES)
        if rng.random() < 0.15:
            task["allowFailure"] = True
        if rng.random() < 0.05:
            task["runIf"] = "false"
        return task

    def _leaves(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = [
            {"type": "core.debug.Return", "format": "{{ flow.id }}"},
            *({"type": "core.kv.Set", "key": "k", "value": text} for text in ("ok", "ok", "ok", "flaky", "flaky")),
            {"type": "core.kv.Set", "key": "k", "value": self._rng.choice(["fails", "raises"])},
            {"type": "core.flow.Sleep", "duration": "PT3S"},
            {"type": "core.flow.Pause", "delay": "PT4S"},
            {"type": "core.flow.Pause"},
            {"type": "core.flow.Pause", "delay": "PT4S", "onPause": self._body("ok")},
        ]
        for child in self._children:
            options = self._rng.choice([{}, {}, {"wait": False}, {"transmitFailed": False}])
            found += [{"type": "core.flow.Subflow", "namespace": "company.team", "flowId": child, **options}]
        return found

    def _container(self, depth: int) -> dict[str, Any]:
        rng = self._rng
        kinds = ["Sequential", "Parallel", "Parallel", "ForEach", "ForEach", "AllowFailure", "If", "Job", "LoopUntil"]
        kind = rng.choice(kinds)
        if kind == "Job":
            inner = [
                self._named(type="core.kv.Set", key="k", value=rng.choice(["ok", "ok", "flaky"]))
                for _ in range(rng.randint(1, 3))
            ]
            return self._named(type="core.flow.WorkingDirectory", tasks=inner)
        tasks = self._tasks(depth)
        if kind == "If":
            return self._named(type="core.flow.If", condition=rng.choice(["true", "false"]), then=tasks)
        task = self._named(type=f"core.flow.{kind}", tasks=tasks)
        if kind == "Parallel":
            task["concurrent"] = rng.choice([0, 0, 1, 2])
        if kind == "ForEach":
            task |= {
                "values": rng.choice([["x"], ["x", "y"], ["x", "y", "z"]]),
                "concurrencyLimit": rng.choice([0, 1, 2]),
            }
        if kind == "LoopUntil":
            task |= {"condition": "false", "checkFrequency": {"interval": "PT3S", "maxIterations": rng.randint(1, 3)}}
        if rng.random() < 0.3:
            task["errors"] = [self._leaf()]
        if rng.random() < 0.2:
            task["finally"] = [self._leaf()]
        return task
