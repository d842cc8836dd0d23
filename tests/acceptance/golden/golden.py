"""The golden flows: for each task type a small flow and the exact states of the execution and of each of its runs."""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from runner.flows.registry import TypeKind, types

FOLDER = Path(__file__).parent / "flows"
NAMESPACE = "company.team"
CHILD = {"id": "child", "namespace": NAMESPACE, "tasks": [{"id": "say", "type": "core.log.Log", "message": "hello"}]}
SLEEPER = {**CHILD, "id": "sleeper", "tasks": [{"id": "sleep", "type": "core.flow.Sleep", "duration": "PT1H"}]}
GREET = """\
id: greet
namespace: company.team
tasks: [{id: say, type: core.debug.Return, format: "hello {{ parent.outputs.args.name }}"}]
"""


@dataclass(frozen=True)
class Golden:
    """A flow that uses a task type, and what becomes of it: `name STATE STATE ...`, in the order of creation."""

    type: str
    flow: Mapping[str, Any]
    states: tuple[str, ...]

    @property
    def flow_id(self) -> str:
        return self.type.replace("io.kestra.core.tasks.", "old.")

    @property
    def source(self) -> str:
        """The flow as a file; JSON is YAML."""
        return json.dumps({"id": self.flow_id, "namespace": NAMESPACE, **self.flow}, indent=1)


def goldens() -> dict[str, Golden]:
    """Return the golden flows by task type; a name with a `*` in the files stands for all types it matches."""
    written = sorted(entries().items(), key=lambda entry: "*" not in entry[0])  # a name counts before a pattern
    return {golden.type: golden for name, body in written for golden in _expanded(name, body)}


def entries() -> dict[str, dict[str, Any]]:
    """Return what the files say, by the name of the type."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(FOLDER.glob("*.yaml")):
        found |= yaml.safe_load(path.read_text(encoding="utf-8"))
    return found


def _expanded(name: str, body: Mapping[str, Any]) -> Iterator[Golden]:
    flow = {key: value for key, value in body.items() if key != "states"}
    named = fnmatch.filter(types(TypeKind.TASK), name) if "*" in name else [name]
    for each in named:
        used = json.loads(json.dumps(flow).replace('"*"', json.dumps(each)))
        yield Golden(each, used, tuple(body.get("states", ())))
