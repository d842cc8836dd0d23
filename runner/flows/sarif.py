"""Problems as SARIF 2.1.0, which GitHub code scanning, Azure DevOps and many editors read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from runner import __version__
from runner.errors import Problem, Severity
from runner.flows.codes import Explanation, explanations
from runner.flows.fingerprints import fingerprints

_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_LEVELS: Mapping[Severity, str] = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "note"}


def as_sarif(problems: Sequence[Problem]) -> str:
    """Return one run of `mainstem validate` as a SARIF log; paths are relative to the root of the sources."""
    codes = sorted({problem.code for problem in problems})
    numbers = {code: number for number, code in enumerate(codes)}
    known = explanations()
    run = {
        "tool": {
            "driver": {
                "name": "mainstem",
                "semanticVersion": __version__,
                "rules": [_rule(code, known.get(code)) for code in codes],
            }
        },
        "columnKind": "unicodeCodePoints",
        "results": [
            _result(problem, numbers[problem.code], mark)
            for problem, mark in zip(problems, fingerprints(problems), strict=True)
        ],
    }
    return json.dumps({"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2, ensure_ascii=False)


def _rule(code: str, explanation: Explanation | None) -> dict[str, Any]:
    name = "".join(part[:1].upper() + part[1:] for part in code.split("."))
    if explanation is None:  # of a plugin
        return {"id": code, "name": name, "fullDescription": {"text": code}}
    remedy = f"What to do: {explanation.remedy}." if explanation.remedy else ""
    return {
        "id": code,
        "name": name,
        "shortDescription": {"text": explanation.meaning},
        "fullDescription": {"text": f"{explanation.meaning} {remedy}".rstrip()},
        "help": {"text": f"Example: {explanation.example}\n{remedy}".rstrip()},
    }


def _result(problem: Problem, rule: int, fingerprint: str) -> dict[str, Any]:
    result: dict[str, Any] = {
        "ruleId": problem.code,
        "ruleIndex": rule,
        "level": _LEVELS[problem.severity],
        "message": {"text": problem.sentence},
        "partialFingerprints": {"mainstem/v1": fingerprint},
    }
    if problem.file is not None:
        place: dict[str, Any] = {"artifactLocation": _artifact(problem.file)}
        if problem.line is not None:
            place["region"] = {"startLine": problem.line, "startColumn": problem.column or 1}
        result["locations"] = [{"physicalLocation": place}]
    return result


def _artifact(file: str) -> dict[str, str]:
    if file.startswith("/"):
        return {"uri": f"file://{quote(file)}"}
    return {"uri": quote(file), "uriBaseId": "%SRCROOT%"}
