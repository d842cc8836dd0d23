from __future__ import annotations

import pytest

from task_runners.lines import MalformedMarker, Marker, MarkerLog, Metric, parse_marker


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('::{"outputs":{"a":1,"b":[true,null]}}::', Marker(outputs={"a": 1, "b": [True, None]})),
        ('  ::{"outputs":{}}::  ', Marker()),
        ("::{}::", Marker()),
        (
            '::{"metrics":[{"name":"n","type":"timer","value":1.5,"tags":{"k":2}}]}::',
            Marker(metrics=(Metric("n", "timer", 1.5, {"k": "2"}),)),
        ),
        (
            '::{"logs":[{"level":"warning","message":"m"},{"message":"n"}]}::',
            Marker(logs=(MarkerLog("WARN", "m"), MarkerLog("INFO", "n"))),
        ),
        ("hello", None),
        ("::hello::", None),
        ('x ::{"outputs":{}}::', None),
        ('::{"outputs":{}}', None),
    ],
)
def test_a_marker_is_one_object_on_a_line_of_its_own(line: str, expected: Marker | None) -> None:
    assert parse_marker(line) == expected


@pytest.mark.parametrize(
    "line",
    [
        "::{nonsense}::",
        '::{"outputs":[1]}::',
        '::{"outputs":{"a":NaN}}::',
        '::{"metrics":[{"name":"n","type":"colour","value":1}]}::',
        '::{"metrics":[{"type":"counter","value":1}]}::',
        '::{"metrics":[{"name":"n","type":"counter","value":"many"}]}::',
        '::{"metrics":3}::',
        '::{"logs":[{"level":"LOUD","message":"m"}]}::',
        '::{"logs":["m"]}::',
        "::{" + '"a":{' * 100_000 + "}::",
    ],
)
def test_what_looks_like_a_marker_and_is_none_says_why(line: str) -> None:
    found = parse_marker(line)

    assert isinstance(found, MalformedMarker)
    assert found.reason
