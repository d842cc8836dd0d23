"""An execution as an answer of the API shows it, with the addresses by which a case names its task runs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

_ADDRESS = re.compile(
    r"(?P<task>[^.\[#]+)(?P<values>(?:\[[^\]]*\])*)(?:#(?P<place>\d+|last))?(?:\.(?P<path>.*))?$", re.DOTALL
)
_VALUE = re.compile(r"\[([^\]]*)\]")
_STEP = re.compile(r"\['([^']*)'\]|\[\"([^\"]*)\"\]|\[(\d+)\]|([^.\[\]]+)")


class AddressError(LookupError):
    """An address names nothing in the execution."""


@dataclass(frozen=True)
class View:
    """The JSON of an execution: `body` is the API's, with all task runs."""

    body: Mapping[str, Any]

    @property
    def id(self) -> str:
        """Return the execution's id."""
        return str(self.body["id"])

    @property
    def state(self) -> str:
        """Return the current state."""
        return str(self.body["state"]["current"])

    @property
    def history(self) -> list[str]:
        """Return the states the execution went through."""
        return states_of(self.body)

    @property
    def labels(self) -> dict[str, str]:
        """Return the labels by key."""
        return {label["key"]: label["value"] for label in self.body["labels"]}

    @cached_property
    def runs(self) -> list[Mapping[str, Any]]:
        """Return the task runs in the order in which they were created."""
        return list(self.body.get("taskRunList") or ())

    @cached_property
    def _by_id(self) -> dict[str, Mapping[str, Any]]:
        return {run["id"]: run for run in self.runs}

    def runs_of(self, task_id: str) -> list[Mapping[str, Any]]:
        """Return the runs of a task."""
        return [run for run in self.runs if run["taskId"] == task_id]

    def find(self, address: str) -> Mapping[str, Any] | None:
        """Return the first run that an address without a path names, None when there is none."""
        found = self._matching(_parsed(address))
        return found[0] if found else None

    def run(self, address: str) -> Mapping[str, Any]:
        """Return the run an address names. Raises `AddressError`."""
        found = self.find(address)
        if found is None:
            raise AddressError(f"no task run {address!r}; there are {[run['taskId'] for run in self.runs]}")
        return found

    def output(self, address: str) -> Any:
        """Return the output an address names; None when the path leads nowhere. Raises `AddressError` without a run."""
        parts = _parsed(address)
        found = self._matching(parts)
        if not found:
            raise AddressError(f"no task run for {address!r}; there are {[run['taskId'] for run in self.runs]}")
        outputs = found[0].get("outputs") or {}
        return dig(outputs, parts["path"]) if parts["path"] else outputs or None

    def _matching(self, parts: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        runs = self.runs_of(parts["task"])
        wanted = _VALUE.findall(parts["values"])
        if wanted:
            runs = [run for run in runs if wanted in (self._values(run), _without_repeats(self._values(run)))]
        if parts["place"] == "last":
            return runs[-1:]
        return runs[int(parts["place"]) :] if parts["place"] else runs

    def _values(self, run: Mapping[str, Any] | None) -> list[str]:
        values: list[str] = []
        while run is not None:
            if run["value"] is not None:
                values.append(str(run["value"]))
            run = self._by_id.get(run.get("parentTaskRunId") or "")
        return values[::-1]


def states_of(body: Mapping[str, Any]) -> list[str]:
    """Return the history of an execution or task run."""
    return [entry["state"] for entry in body["state"]["histories"]]


def dig(value: Any, path: str) -> Any:
    """Return what a path like `iterations.CREATED`, `uris['a.txt']` or `[2].x` leads to, None when it leads nowhere."""
    for match in _STEP.finditer(path):
        quoted, double, index, name = match.groups()
        key = quoted if quoted is not None else double if double is not None else name
        if index is not None and isinstance(value, list):
            value = value[int(index)] if int(index) < len(value) else None
        elif isinstance(value, Mapping):
            value = value.get(key if key is not None else index)
        else:
            return None
    return value


def _parsed(address: str) -> Mapping[str, Any]:
    match = _ADDRESS.match(address)
    if match is None:
        raise AddressError(f"{address!r} is no address")
    return match.groupdict()


def _without_repeats(values: list[str]) -> list[str]:
    """Return the values without those that a run merely has from the container around it."""
    return [value for number, value in enumerate(values) if number == 0 or values[number - 1] != value]
