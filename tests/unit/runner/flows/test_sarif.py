"""The SARIF log: what its schema requires, and what code scanning shows."""

from __future__ import annotations

import json
from typing import Any

import jsonschema

from runner.errors import Problem, Severity
from runner.flows.sarif import as_sarif

# The parts of the format's schema that a log of ours uses: required properties, closed objects, allowed words.
_TEXT = {
    "type": "object",
    "required": ["text"],
    "properties": {"text": {"type": "string"}},
    "additionalProperties": False,
}


def _closed(required: list[str], **properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": required, "properties": properties, "additionalProperties": False}


_REGION = _closed([], startLine={"type": "integer", "minimum": 1}, startColumn={"type": "integer", "minimum": 1})
_ARTIFACT = _closed([], uri={"type": "string", "format": "uri-reference"}, uriBaseId={"type": "string"})
_PLACE = _closed([], artifactLocation=_ARTIFACT, region=_REGION)
_RESULT = _closed(
    ["message"],
    ruleId={"type": "string"},
    ruleIndex={"type": "integer", "minimum": 0},
    level={"enum": ["none", "note", "warning", "error"]},
    message=_TEXT,
    locations={"type": "array", "items": _closed([], physicalLocation=_PLACE)},
    partialFingerprints={"type": "object", "additionalProperties": {"type": "string"}},
)
# `fullDescription` is what GitHub asks for beyond the schema.
_RULE = _closed(
    ["id", "fullDescription"],
    id={"type": "string"},
    name={"type": "string", "pattern": "^([A-Z][a-zA-Z]*)+$"},
    shortDescription=_TEXT,
    fullDescription=_TEXT,
    help=_TEXT,
)
_DRIVER = _closed(
    ["name"],
    name={"type": "string"},
    semanticVersion={"type": "string"},
    rules={"type": "array", "items": _RULE, "uniqueItems": True},
)
_RUN = _closed(
    ["tool"],
    tool=_closed(["driver"], driver=_DRIVER),
    columnKind={"enum": ["utf16CodeUnits", "unicodeCodePoints"]},
    results={"type": "array", "items": _RESULT},
)
_LOG = _closed(
    ["version", "runs"],
    **{"$schema": {"type": "string"}, "version": {"const": "2.1.0"}, "runs": {"type": "array", "items": _RUN}},
)

PROBLEMS = [
    Problem("task.type.unknown", "no such type", file="flows/a b.yaml", line=4, column=20, hint="did you mean x?"),
    Problem("yaml.key.duplicate", "twice", file="flows/c.yaml", line=2, column=1),
    Problem("task.type.unknown", "no such type", Severity.WARNING, "flows/c.yaml"),
    Problem("own.code", "of a plugin", Severity.INFO, "/elsewhere/d.yaml", 1, 1),
]


def test_the_log_has_what_the_schema_requires_and_nothing_else() -> None:
    jsonschema.Draft7Validator(_LOG).validate(json.loads(as_sarif(PROBLEMS)))
    jsonschema.Draft7Validator(_LOG).validate(json.loads(as_sarif([])))


def test_each_result_names_its_rule_level_and_place() -> None:
    run = json.loads(as_sarif(PROBLEMS))["runs"][0]

    rules = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    assert rules == ["own.code", "task.type.unknown", "yaml.key.duplicate"]
    assert [(rules[result["ruleIndex"]], result["level"]) for result in run["results"]] == [
        ("task.type.unknown", "error"),
        ("yaml.key.duplicate", "error"),
        ("task.type.unknown", "warning"),
        ("own.code", "note"),
    ]
    assert run["results"][0]["message"]["text"] == "no such type; did you mean x?"
    assert run["results"][0]["locations"][0]["physicalLocation"] == {
        "artifactLocation": {"uri": "flows/a%20b.yaml", "uriBaseId": "%SRCROOT%"},
        "region": {"startLine": 4, "startColumn": 20},
    }
    assert "region" not in run["results"][2]["locations"][0]["physicalLocation"]
    assert run["results"][3]["locations"][0]["physicalLocation"]["artifactLocation"] == {
        "uri": "file:///elsewhere/d.yaml"
    }


def test_a_rule_says_what_the_code_means() -> None:
    rules = json.loads(as_sarif(PROBLEMS))["runs"][0]["tool"]["driver"]["rules"]

    assert rules[0] == {"id": "own.code", "name": "OwnCode", "fullDescription": {"text": "own.code"}}
    assert rules[2]["shortDescription"]["text"].startswith("The same key stands twice in one map")
    assert rules[2]["help"]["text"].startswith("Example: id: a")


def test_results_have_fingerprints_of_their_own() -> None:
    results = json.loads(as_sarif([PROBLEMS[1], PROBLEMS[1]]))["runs"][0]["results"]

    assert len({result["partialFingerprints"]["mainstem/v1"] for result in results}) == 2
