from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from runner.errors import InvalidError
from webhooks.filters import (
    CHOICE_OPS,
    DATE_OPS,
    LABEL_OPS,
    PLAIN_OPS,
    RANGE_OPS,
    TEXT_OPS,
    holds,
    in_order,
    parse_filters,
)
from webhooks.problems import RequestError

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
OPERATIONS = {
    "namespace": TEXT_OPS,
    "flowId": TEXT_OPS,
    "state": CHOICE_OPS,
    "labels": LABEL_OPS,
    "startDate": DATE_OPS,
    "timeRange": RANGE_OPS,
    "q": PLAIN_OPS,
}
ROW: dict[str, Any] = {
    "namespace": "company.team",
    "flowId": "etl",
    "state": "SUCCESS",
    "labels": {"team": "data", "tier": "1"},
    "startDate": NOW - timedelta(hours=2),
    "timeRange": NOW - timedelta(hours=2),
    "q": "company.team etl",
}


@pytest.mark.parametrize(
    ("query", "passes"),
    [
        ([], True),
        ([("filters[namespace][EQUALS]", "company.team")], True),
        ([("filters[namespace][PREFIX]", "company")], True),
        ([("filters[namespace][PREFIX]", "comp")], False),
        ([("filters[namespace][STARTS_WITH]", "comp")], True),
        ([("filters[namespace][REGEX]", "^company\\.t.*m$")], True),
        ([("filters[state][IN]", "FAILED,SUCCESS")], True),
        ([("filters[state][NOT_IN]", "FAILED,SUCCESS")], False),
        ([("filters[labels][EQUALS][team]", "data")], True),
        ([("filters[labels][EQUALS][team]", "ops")], False),
        ([("filters[labels][NOT_EQUALS][team]", "ops")], True),
        ([("filters[labels][EQUALS]", "team:data")], True),
        ([("filters[startDate][GREATER_THAN]", "2026-11-22T09:00:00Z")], True),
        ([("filters[startDate][LESS_THAN]", "2026-11-22T09:00:00Z")], False),
        ([("filters[timeRange][EQUALS]", "PT3H")], True),
        ([("filters[timeRange][EQUALS]", "PT1H")], False),
        ([("filters[q][EQUALS]", "ETL")], True),
        ([("filters[flowId][EQUALS]", "etl"), ("filters[state][EQUALS]", "FAILED")], False),
        ([("filters[or][0][flowId][EQUALS]", "other"), ("filters[or][1][flowId][EQUALS]", "etl")], True),
        ([("filters[and][0][or][0][flowId][IN]", "a,etl")], True),
        ([("page", "1"), ("size", "5")], True),
    ],
)
def test_a_row_passes_when_every_filter_holds(query: list[tuple[str, str]], *, passes: bool) -> None:
    filters = parse_filters(query, OPERATIONS)

    assert holds(filters, ROW.get, NOW) is passes


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("filters[colour][EQUALS]", "red"),
        ("filters[state][REGEX]", ".*"),
        ("filters[namespace][REGEX]", "(unclosed"),
        ("filters[namespace]", "x"),
        ("filters[namespace][EQUALS'; DROP TABLE executions; --]", "x"),
    ],
)
def test_an_unknown_field_or_operation_is_a_malformed_request(name: str, value: str) -> None:
    with pytest.raises(RequestError) as caught:
        parse_filters([(name, value)], OPERATIONS)

    assert caught.value.status == 400
    assert caught.value.code == "request.filter.invalid"


def test_every_wrong_filter_is_named_at_once() -> None:
    with pytest.raises(RequestError) as caught:
        parse_filters([("filters[colour][EQUALS]", "red"), ("filters[state][REGEX]", "x")], OPERATIONS)

    assert "colour" in caught.value.message
    assert "REGEX" in caught.value.message


def test_rows_without_a_value_come_last_in_both_directions() -> None:
    rows = [{"n": 2}, {"n": None}, {"n": 1}]

    up = in_order(rows, [("n", True)], {"n": lambda row: row["n"]})
    down = in_order(rows, [("n", False)], {"n": lambda row: row["n"]})

    assert [row["n"] for row in up] == [1, 2, None]
    assert [row["n"] for row in down] == [2, 1, None]


def test_a_field_that_cannot_be_sorted_by_is_named() -> None:
    with pytest.raises(InvalidError) as caught:
        in_order([], [("n; --", True)], {"n": lambda row: row})

    assert caught.value.code == "request.sort.invalid"
