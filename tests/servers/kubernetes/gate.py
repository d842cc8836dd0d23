"""What a request has to pass: a token, rights, and the faults that a test asked for."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.servers.kubernetes.answers import Refusal

__all__ = ["Fault", "Gate", "Right"]


@dataclass(frozen=True, order=True)
class Right:
    """A verb on a resource, as a role grants it (`create`, `pods/exec`)."""

    verb: str
    resource: str


@dataclass
class Fault:
    """So many answers that are refused: those to a method and path that match."""

    times: int
    refusal: Refusal
    matching: re.Pattern[str]


class Gate:
    """Decides for each request; keeps what was asked for, so that a test can tell which rights a client needs."""

    def __init__(self, token: str) -> None:
        self.token = token
        self.granted: set[Right] | None = None
        """The rights that there are; None: all."""
        self.used: set[Right] = set()
        self.requests: list[str] = []
        """Method and path of each request, with its query."""
        self._faults: list[Fault] = []

    def grant(self, rules: Sequence[Mapping[str, Any]]) -> None:
        """Grant what the rules of a role do, and no more."""
        self.granted = {Right(verb, name) for rule in rules for name in rule["resources"] for verb in rule["verbs"]}

    def fail(self, times: int, code: int, reason: str, matching: str = "", retry_after: float | None = None) -> None:
        """Refuse the next `times` requests whose `METHOD /path?query` has `matching` in it, a regular expression."""
        refusal = Refusal(code, reason, f"{reason} by order of the test", retry_after)
        self._faults.append(Fault(times, refusal, re.compile(matching)))

    def pass_through(self, line: str, authorization: str, right: Right | None, namespace: str) -> None:
        """Let a request pass. Raises `Refusal`."""
        self.requests.append(line)
        for fault in self._faults:
            if fault.times > 0 and fault.matching.search(line):
                fault.times -= 1
                raise fault.refusal
        if authorization != f"Bearer {self.token}":
            raise Refusal(401, "Unauthorized", "Unauthorized")
        if right is None:
            return
        self.used.add(right)
        if self.granted is not None and right not in self.granted:
            user = "system:serviceaccount:default:mainstem"
            message = f'{right.resource} is forbidden: User "{user}" cannot {right.verb} resource "{right.resource}"'
            raise Refusal(403, "Forbidden", f'{message} in API group "" in the namespace "{namespace}"')
