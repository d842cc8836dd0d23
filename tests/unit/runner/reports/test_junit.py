"""A run as JUnit XML, read by a program that others read theirs with."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from junitparser import Error, Failure, JUnitXml, Skipped, TestCase

from runner.reports.junit import run_junit
from runner.states import State

HOSTILE = [
    "]]>",
    "<![CDATA[ x",
    "</failure><testcase name='forged'/>",
    '"/><testcase name="forged"/>',
    "<!ENTITY x SYSTEM 'file:///etc/passwd'>&x;",
    "&amp;&lt;&#0;&unknown;",
    "\x00\x01\x08\x0b\x0c\x1f\x7f\x85",
    "\x1b[31mred\x1b[0m \x1b]8;;http://evil.example\x07link\x1b]8;;\x07",
    "\ud800half\udfff",
    "\ufffe\uffff\U0001fffe",
    "\u202eright to left\u2066",
    "line\r\nline\rline\u2028line\tand",
    "\U0001f7e5é",
    "x" * (1 << 20),
    "]]>" * (1 << 18),
]


def read(text: str) -> dict[str, Any]:
    """Return the cases of a document by name; their names are unique in these tests."""
    document = JUnitXml.fromstring(text.encode())
    return {case.name: case for suite in document for case in suite}


def kinds(case: TestCase) -> list[type]:
    return [type(each) for each in case.result]


def test_a_run_is_a_suite_in_which_each_task_is_a_case(runs: Any) -> None:
    good, bad, left = (
        runs.task("fetch", State.SUCCESS),
        runs.task("chart", value="LGA", error="no rows"),
        runs.task("tell", State.SKIPPED),
    )

    text = run_junit(
        runs.details(runs=(good, bad, left), logs={bad.id: (runs.log(bad, "no rows for LGA"),)}), runs.mask
    )

    document = JUnitXml.fromstring(text.encode())
    assert (document.tests, document.failures, document.errors, document.skipped) == (3, 1, 0, 1)
    suite = next(iter(document))
    assert (suite.name, suite.timestamp) == ("weather.report", "2026-03-01T12:00:00")
    about = {each.name: each.value for each in suite.properties()}
    assert about["execution"] == "01jd8w"
    assert about["commit"] == "4f2c9ab" + "0" * 33
    cases = read(text)
    assert kinds(cases["fetch"]) == []
    assert kinds(cases["tell"]) == [Skipped]
    (failure,) = cases["chart[LGA]"].result
    assert (type(failure), failure.message, failure.text) == (Failure, "no rows", "no rows for LGA")
    assert (cases["fetch"].classname, cases["fetch"].time) == ("weather.report", 2.0)


def test_a_task_that_holds_others_is_no_case(runs: Any) -> None:
    holder = runs.task("each")
    inner = runs.task("chart", parent_id=holder.id)

    cases = read(run_junit(runs.details(runs=(holder, inner)), runs.mask))

    assert list(cases) == ["chart"]


def test_a_run_that_failed_outside_of_its_tasks_is_no_success(runs: Any) -> None:
    details = runs.details(execution=runs.execution(error="no such variable"), runs=(runs.task("a", State.SUCCESS),))

    cases = read(run_junit(details, runs.mask))

    assert kinds(cases["weather.report"]) == [Error]
    assert cases["weather.report"].result[0].message == "no such variable"


def test_secrets_are_hidden_in_names_failures_and_logs(runs: Any) -> None:
    task = runs.task("chart", value="s3cret", error="s3cret")

    text = run_junit(runs.details(runs=(task,), logs={task.id: (runs.log(task, "s3cret"),)}), mask_of("s3cret"))

    assert "s3cret" not in text
    assert text.count("******") == 3


@pytest.mark.parametrize("payload", HOSTILE)
def test_no_text_ends_its_case_or_breaks_the_document(runs: Any, payload: str) -> None:
    task = runs.task("chart", value=payload, error=payload)
    details = runs.details(runs=(task,), logs={task.id: (runs.log(task, payload),) * 3})

    text = run_junit(details, str)

    cases: Iterable[Any] = read(text).values()
    assert [type(result) for case in cases for result in case.result] == [Failure]
    assert len(text) < 100_000
    assert not any(ord(letter) < 32 and letter not in "\n\t" for letter in text)


def test_of_very_many_tasks_those_that_failed_are_there(runs: Any) -> None:
    many = [runs.task(f"task{number}", State.SUCCESS) for number in range(1_500)]
    bad = runs.task("bad")

    cases = read(run_junit(runs.details(runs=(*many, bad)), runs.mask))

    assert len(cases) == 1_000
    assert kinds(cases["bad"]) == [Failure]


def mask_of(secret: str) -> Any:
    return lambda text: text.replace(secret, "******")
