"""The operators: what holds, what does not, what cannot be compared."""

from __future__ import annotations

from typing import Any

import pytest

from runner.flowtests.assertions import NAMES, holds
from runner.flowtests.models import Assertion

HOLD: list[tuple[str, Any, Any]] = [
    ("equal_to", "200", 200),
    ("equal_to", 3575.0, 3575),
    ("equal_to", True, "true"),
    ("equal_to", {"a": [1, "2"]}, {"a": ["1", 2]}),
    ("equal_to", "a text\n", "a text"),
    ("equal_to", None, None),
    ("not_equal_to", "1", True),
    ("not_equal_to", None, ""),
    ("not_equal_to", [1], [1, 2]),
    ("contains", "a long text", "long"),
    ("contains", ["a", 2], "2"),
    ("contains", {"key": 1}, "key"),
    ("contains", ["MY-PRODUCT"], "PRODUCT"),
    ("not_contains", ["a"], "b"),
    ("starts_with", "prod-7", "prod-"),
    ("ends_with", "a.json", ".json"),
    ("matches", "order 17", r"\d+$"),
    ("greater_than", "10", 9),
    ("greater_than", "2026-02-01", "2026-01-31"),
    ("greater_than_or_equal_to", 5, "5"),
    ("less_than", 99.5, 100),
    ("less_than_or_equal_to", 20, 20),
    ("in_", "201", [200, 201]),
    ("not_in", 500, [200, 201]),
    ("is_null", None, True),
    ("is_null", 0, False),
    ("is_not_null", "", True),
]
FAIL: list[tuple[str, Any, Any]] = [
    ("equal_to", 1, True),
    ("equal_to", {"a": 1}, {"a": 1, "b": 2}),
    ("not_equal_to", 200.0, "200"),
    ("contains", "text", "other"),
    ("not_contains", "a b", "b"),
    ("starts_with", "x-prod", "prod"),
    ("ends_with", "a.json.gz", ".json"),
    ("matches", "order", r"^\d"),
    ("greater_than", 9, "10"),
    ("greater_than_or_equal_to", 4, 5),
    ("less_than", 5, 5),
    ("less_than_or_equal_to", 6, 5),
    ("in_", 5, [1, 2]),
    ("not_in", 1, ["1"]),
    ("is_null", "null", True),
    ("is_not_null", None, True),
]


@pytest.mark.parametrize(("operator", "actual", "expected"), HOLD)
def test_what_holds(operator: str, actual: Any, expected: Any) -> None:
    assert holds(operator, actual, expected)


@pytest.mark.parametrize(("operator", "actual", "expected"), FAIL)
def test_what_does_not_hold(operator: str, actual: Any, expected: Any) -> None:
    assert not holds(operator, actual, expected)


@pytest.mark.parametrize(
    ("operator", "actual", "expected", "sentence"),
    [
        ("greater_than", "many", 5, "'many' is no number"),
        ("less_than", [1], {}, "they have no order"),
        ("in_", 5, "5", "take a list"),
    ],
)
def test_what_cannot_be_compared_says_why(operator: str, actual: Any, expected: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        holds(operator, actual, expected)


def test_every_operator_is_a_property_of_assertions_and_is_tried_here() -> None:
    other = {"value", "task_id", "description", "error_message"}

    assert NAMES.keys() == Assertion.model_fields.keys() - other
    assert NAMES.keys() == {name for name, _, _ in HOLD} == {name for name, _, _ in FAIL}
