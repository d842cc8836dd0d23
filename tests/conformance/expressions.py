"""Runs the expression cases of a suite; the format is described in the suite's own README."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from runner.errors import MainstemError
from runner.expressions import render, render_deep, render_typed
from tests.conformance.matching import mismatch
from tests.conformance.result import CaseResult
from tests.conformance.services import scope_of

AREA = "rendering"
_ZONE = ZoneInfo("UTC")


def run(suite: Path, is_wanted: Callable[[str], bool] = lambda _name: True) -> Iterator[CaseResult]:
    """Yield what became of each wanted case of `suite/expressions.json`, in its order; nothing without such a file."""
    path = suite / "expressions.json"
    if path.is_file():
        cases = json.loads(path.read_text(encoding="utf-8"))
        yield from (run_case(case) for case in cases if is_wanted(case["id"]))


def run_case(case: dict[str, Any]) -> CaseResult:
    """Return what became of one case."""
    result = CaseResult(case["id"], AREA, "passed")
    if case.get("unsupported"):
        return replace(result, outcome="skipped", detail=str(case["unsupported"]))
    try:
        problem = _problem(case)
    except Exception as error:  # noqa: BLE001 - one case must not end the run
        problem = f"the runner failed: {type(error).__name__}: {error}"
    if case.get("optional"):
        return replace(result, outcome="optional", detail=problem or "passed")
    return result if problem is None else replace(result, outcome="failed", detail=problem)


def _problem(case: dict[str, Any]) -> str | None:
    expected = case["expect"]
    error_expected = isinstance(expected, dict) and "error" in expected
    try:
        actual = _rendered(case)
    except MainstemError as error:
        if not error_expected:
            return f"unexpected error: {error.message}"
        return None if expected["error"] in error.message else f"the error says {error.message!r}"
    if error_expected:
        return f"expected an error, got {actual!r}"
    return mismatch(expected, actual, datetime.now(UTC).astimezone(_ZONE))


def _rendered(case: dict[str, Any]) -> Any:
    scope, template = scope_of(case, _ZONE), case["template"]
    if case.get("kind") == "typed":
        return render_typed(template, scope)
    return render(template, scope) if isinstance(template, str) else render_deep(template, scope)
