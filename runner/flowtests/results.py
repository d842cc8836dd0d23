"""What came of a case and of its assertions."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic.alias_generators import to_camel

from runner.expressions import to_text
from runner.flowtests.assertions import NAMES
from runner.flowtests.models import Case
from runner.flowtests.suites import LocatedSuite


@dataclass(frozen=True, slots=True)
class Finding:
    """An assertion that does not hold, or what kept the case from being judged.

    `expression` is the template as it is written (None: the case as a whole), `operator` a key of `NAMES`. `reason`
    says why there is no value to compare; `note` is the author's own message.
    """

    line: int
    column: int
    expression: str | None = None
    operator: str | None = None
    expected: Any = None
    actual: Any = None
    reason: str | None = None
    note: str | None = None

    @property
    def sentence(self) -> str:
        """What is wrong, with the expression and both values."""
        if self.expression is None:
            told = str(self.reason)
        else:
            relation = f"{NAMES[self.operator]} {shown(self.expected)}" if self.operator else "have a value"
            but = f"but {self.reason}" if self.reason else f"but it is {shown(self.actual)}"
            told = f"{self.expression} should {relation}, {but}"
        return f"{self.note}: {told}" if self.note else told

    def as_json(self) -> dict[str, Any]:
        """Return the fields for machines."""
        return {
            "line": self.line,
            "column": self.column,
            "expression": self.expression,
            "operator": self.operator and to_camel(self.operator.rstrip("_")),
            "expected": self.expected,
            "actual": self.actual,
            "message": self.sentence,
        }


@dataclass(frozen=True, slots=True)
class Touched:
    """What one case ran: ids of tasks, those replaced by fixtures, and (owner, branch) of lists that began."""

    tasks: frozenset[str] = frozenset()
    doubles: frozenset[str] = frozenset()
    branches: frozenset[tuple[str | None, str]] = frozenset()


@dataclass(frozen=True, slots=True)
class CaseResult:
    """What came of one case. `is_error` means that it could not be run; `logs` are the lines of its execution."""

    located: LocatedSuite
    case: Case
    seconds: float = 0.0
    state: str | None = None
    execution_id: str | None = None
    assertions: int = 0
    findings: tuple[Finding, ...] = ()
    is_error: bool = False
    touched: Touched = field(default_factory=Touched)
    logs: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The suite and the case."""
        return f"{self.located.suite.id} / {self.case.id}"

    @property
    def file(self) -> Path:
        """Where the suite stands."""
        return self.located.file

    @property
    def is_skipped(self) -> bool:
        """Whether the case or its suite is disabled."""
        return self.case.disabled or self.located.suite.disabled

    @property
    def outcome(self) -> str:
        """One of `passed failed error skipped`."""
        if self.is_skipped:
            return "skipped"
        return ("error" if self.is_error else "failed") if self.findings else "passed"


_LONGEST = 200


def shown(value: Any) -> str:
    """Return a value as reports show it: texts in quotes, everything else as expressions print it, shortened."""
    text = repr(value) if isinstance(value, str) else "null" if value is None else to_text(value)
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "…"
