"""Counts results by area, for people and for the file that the floor is judged by."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

from tests.conformance.expressions import AREA as RENDERING
from tests.conformance.result import CaseResult, Outcome

OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)


def counts_of(results: Iterable[CaseResult]) -> dict[str, dict[str, int]]:
    """Return the number of cases by area and outcome, areas sorted by name."""
    counts: dict[str, Counter[str]] = {}
    for result in results:
        counts.setdefault(result.area, Counter())[result.outcome] += 1
    return {area: {outcome: counts[area][outcome] for outcome in OUTCOMES} for area in sorted(counts)}


def lines_of(results: Sequence[CaseResult]) -> list[str]:
    """Return the closing lines: a table of areas, what is counted apart, the rates and the sum."""
    counts = counts_of(results)
    width = max((len(area) for area in counts), default=4)
    lines = [f"{'area':{width}}  passed  failed  skipped", *(_row(area, row, width) for area, row in counts.items())]
    apart = {name: [result for result in results if result.outcome == name] for name in ("optional", "told")}
    passed = sum(result.detail == "passed" for result in apart["optional"])
    lines.append(f"optional, counted apart: {len(apart['optional'])}, of which {passed} hold")
    lines.append(f"told, counted apart: {len(apart['told'])}")
    groups = {"expressions": [RENDERING], "executions": [area for area in counts if area != RENDERING]}
    lines += [line for name, areas in groups.items() for line in _rate(name, [counts[a] for a in areas if a in counts])]
    total = Counter(result.outcome for result in results)
    return [*lines, f"{total['passed']} passed, {total['failed']} failed, {total['skipped']} skipped"]


def write(path: Path, results: Sequence[CaseResult]) -> None:
    """Write the counts by area and every result as JSON."""
    content: dict[str, Any] = {"areas": counts_of(results), "cases": [asdict(result) for result in results]}
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _row(area: str, row: Mapping[str, int], width: int) -> str:
    return f"{area:{width}}  {row['passed']:6}  {row['failed']:6}  {row['skipped']:7}"


def _rate(name: str, rows: Sequence[Mapping[str, int]]) -> list[str]:
    passed, failed = sum(row["passed"] for row in rows), sum(row["failed"] for row in rows)
    return [f"{name}: {passed} of {passed + failed} = {passed / (passed + failed):.1%}"] if passed + failed else []
