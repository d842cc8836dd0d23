"""Results as JUnit XML, the form that nearly every CI system shows."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from xml.etree import ElementTree as ET

# What XML 1.0 cannot carry, not even as a character reference.
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, slots=True)
class Case:
    """One thing that was checked.

    `failure` is the sentence of what was found wrong (None: nothing), `detail` the text below it; `is_error` says that
    the check itself could not be made. `seconds` is how long it took.
    """

    name: str
    group: str
    seconds: float = 0.0
    failure: str | None = None
    detail: str = ""
    is_error: bool = False
    skipped: str | None = None
    output: str = ""
    file: str | None = None
    line: int | None = None


@dataclass(frozen=True, slots=True)
class Suite:
    """Cases that belong together. `at` is when they began, in ISO 8601; `properties` say where they are from."""

    name: str
    cases: Sequence[Case]
    at: str | None = None
    properties: Mapping[str, str] = field(default_factory=dict)


def document(name: str, suites: Sequence[Suite]) -> str:
    """Return the XML document of `suites`, with its declaration and a closing line break."""
    root = ET.Element(
        "testsuites", {"name": _text(name), **_counts([case for suite in suites for case in suite.cases])}
    )
    for suite in suites:
        element = ET.SubElement(root, "testsuite", {"name": _text(suite.name), **_counts(suite.cases)})
        _describe(element, suite)
        for case in suite.cases:
            _add(element, case)
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _describe(element: ET.Element, suite: Suite) -> None:
    if suite.at is not None:
        element.set("timestamp", suite.at)
    if suite.properties:
        properties = ET.SubElement(element, "properties")
        for name, value in suite.properties.items():
            ET.SubElement(properties, "property", {"name": _text(name), "value": _text(value)})


def _counts(cases: Sequence[Case]) -> dict[str, str]:
    wrong = [case for case in cases if case.failure is not None]
    return {
        "tests": str(len(cases)),
        "failures": str(sum(not case.is_error for case in wrong)),
        "errors": str(sum(case.is_error for case in wrong)),
        "skipped": str(sum(case.skipped is not None for case in cases)),
        "time": f"{sum(case.seconds for case in cases):.3f}",
    }


def _add(suite: ET.Element, case: Case) -> None:
    fields = {"name": _text(case.name), "classname": _text(case.group), "time": f"{case.seconds:.3f}"}
    if case.file is not None:
        fields["file"] = _text(case.file)
    if case.line is not None:
        fields["line"] = str(case.line)
    element = ET.SubElement(suite, "testcase", fields)
    if case.failure is not None:
        kind = "error" if case.is_error else "failure"
        ET.SubElement(element, kind, {"message": _text(case.failure)}).text = _text(case.detail or case.failure)
    if case.skipped is not None:
        ET.SubElement(element, "skipped", {"message": _text(case.skipped)})
    if case.output:
        ET.SubElement(element, "system-out").text = _text(case.output)


def _text(text: str) -> str:
    return _NO_XML.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
