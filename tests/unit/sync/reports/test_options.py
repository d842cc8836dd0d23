from __future__ import annotations

from typing import Any

import pytest

from runner.settings import ReportSettings
from runner.store.records import Environment
from sync.reports.options import options_of, reports


def environment(said: dict[str, Any] | None, **fields: Any) -> Environment:
    return Environment("prod", "r", rules=None if said is None else {"reports": said}, **fields)


@pytest.mark.parametrize(
    ("operator", "said", "expected"),
    [
        (True, None, True),
        (True, {}, True),
        (True, {"enabled": True}, True),
        (True, {"enabled": False}, False),
        (False, {"enabled": True}, False),
    ],
)
def test_runs_are_reported_when_operator_and_repository_want_it(
    *, operator: bool, said: dict[str, Any] | None, expected: bool
) -> None:
    assert reports(environment(said, reports=operator)) is expected


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ([None], (30, 2_000, "all")),
        ([{"retentionDays": 7}], (7, 2_000, "all")),
        ([{"retentionDays": 900, "maxPages": 9_000, "include": "all"}], (30, 2_000, "all")),
        ([{"retentionDays": 7, "include": "default"}, {"retentionDays": 3, "maxPages": 5}], (3, 5, "default")),
    ],
)
def test_of_the_operator_and_all_environments_of_a_branch_the_least_counts(
    said: list[dict[str, Any] | None], expected: tuple[int, int, str]
) -> None:
    found = options_of(ReportSettings(include="all"), [environment(each) for each in said])

    assert (found.retention_days, found.max_pages, found.include) == expected


def test_on_a_branch_of_several_repositories_none_decides_for_the_others() -> None:
    strict = {"reports": {"retentionDays": 1, "maxPages": 0, "include": "default"}}
    environments = [Environment("red", "red", rules=strict), Environment("blue", "blue")]

    found = options_of(ReportSettings(include="all"), environments)

    assert (found.retention_days, found.max_pages, found.include) == (30, 2_000, "all")
