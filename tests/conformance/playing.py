"""A case while it is being played: the executions it has named, and what its placeholders stand for."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from runner.flows.models import Flow
from tests.conformance.cases import Case
from tests.conformance.server import CaseServer
from tests.conformance.views import View

_POLL_S = 0.03
_FILLED = re.compile(
    r"\{\{\s*(?P<root>root\.execution\.id|child\.execution\.id)\s*\}\}"
    r"|\{\{taskrun\.id:(?P<run>[^}]+)\}\}"
    r"|\{\{out:(?P<out>[^}]+)\}\}"
    r"|\{\{sequence\[(?P<place>\d+)\]\.execution\.id\}\}"
    r"|\{(?P<name>[A-Z]\w*)\.(?:(?P<id>id)|inputs\.(?P<input>\w+)|taskrun:(?P<address>[^}]+))\}"
)


class CaseFailedError(AssertionError):
    """A case does not hold; the message says why."""


@dataclass(slots=True)
class Named:
    """An execution that a step named. `before` is how it looked before the last verb on it, `answer` what that gave.

    States at or before `mark` in its history are older than the last verb.
    """

    id: str
    answer: View | None = None
    before: View | None = None
    mark: int = 0


@dataclass
class Playing:
    """One case on one server. What has ended is asked again for `patience_s` until it is as expected."""

    case: Case
    server: CaseServer
    patience_s: float
    flow: Flow | None = None
    stub_url: str = ""
    since: datetime = field(default_factory=lambda: datetime.now(UTC))
    named: dict[str, Named] = field(default_factory=dict)
    started: list[str] = field(default_factory=list)
    sent_dates: dict[str, datetime] = field(default_factory=dict)

    def fill(self, value: Any, of: View | None = None) -> Any:
        """Return `value` with its placeholders replaced; `of` is the execution that addresses are of."""
        if isinstance(value, str):
            return _FILLED.sub(lambda match: self._meaning(match, of), value).replace("{{STUB}}", self.stub_url)
        if isinstance(value, Mapping):
            return {self.fill(key, of): self.fill(item, of) for key, item in value.items()}
        return [self.fill(item, of) for item in value] if isinstance(value, list) else value

    def _meaning(self, match: re.Match[str], of: View | None) -> str:
        found = match.groupdict()
        if found["root"]:
            return self._root(found["root"])
        if found["place"]:
            return self.started[int(found["place"])]
        if found["run"] or found["out"]:
            view = of or self.server.view(self.started[-1])
            return str(view.run(found["run"])["id"] if found["run"] else view.output(found["out"]))
        named = self.name(found["name"])
        if found["id"]:
            return named.id
        view = self.server.view(named.id)
        return str(view.body["inputs"][found["input"]] if found["input"] else view.run(found["address"])["id"])

    def _root(self, text: str) -> str:
        if text.startswith("root"):
            return self.started[0]
        children = self.server.children(self.started[0])
        if not children:
            raise CaseFailedError("there is no child execution")
        return children[0]

    def name(self, name: str) -> Named:
        """Return what a step named."""
        if name not in self.named:
            raise CaseFailedError(f"no execution is named {name}")
        return self.named[name]

    def note_start(self, name: str, execution_id: str, answer: View) -> None:
        """Remember an execution that a step started."""
        self.started.append(execution_id)
        self.named[name] = Named(execution_id, answer)

    def flow_name(self) -> str:
        """Return `namespace.id` of the case's own flow."""
        if self.flow is None:
            raise CaseFailedError("the case has no flow")
        return f"{self.flow.namespace}.{self.flow.id}"


def until(problem: Callable[[], str | None], within_s: float) -> None:
    """Ask again until there is no problem. Raises `CaseFailedError` with the last one after `within_s` seconds."""
    end = time.monotonic() + within_s
    while True:
        found = problem()
        if found is None:
            return
        if time.monotonic() >= end:
            raise CaseFailedError(found)
        time.sleep(_POLL_S)


def near(one: datetime, other: datetime) -> bool:
    """Return whether two times are the same but for what a clock's rounding loses."""
    return abs(one - other) < timedelta(milliseconds=2)
