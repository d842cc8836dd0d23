"""What became of one conformance case."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Outcome = Literal["passed", "failed", "skipped", "optional", "told"]


@dataclass(frozen=True, slots=True)
class CaseResult:
    """`name` and `area` are the suite's; `detail` says why a case failed, was skipped, or how an optional one went.

    `optional` cases are counted apart whatever became of them, and so are `told` ones, which have nothing to run.
    """

    name: str
    area: str
    outcome: Outcome
    detail: str = ""
    seconds: float = 0.0
