"""What became of one conformance case."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Outcome = Literal["passed", "failed", "skipped", "optional"]


@dataclass(frozen=True, slots=True)
class CaseResult:
    """`name` and `area` are the suite's; `detail` says why a case failed, was skipped, or how an optional one went.

    `optional` cases are counted apart whatever became of them.
    """

    name: str
    area: str
    outcome: Outcome
    detail: str = ""
