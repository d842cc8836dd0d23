from __future__ import annotations

from typing import Any

import pytest

from task_runners.kubernetes.merging import merged


@pytest.mark.parametrize(
    ("defaults", "specific", "expected"),
    [
        ({}, {"a": 1}, {"a": 1}),
        ({"a": 1, "b": 1}, {"a": 2}, {"a": 2, "b": 1}),
        ({"a": {"x": 1, "y": 1}}, {"a": {"y": 2}}, {"a": {"x": 1, "y": 2}}),
        (
            {"tolerations": [{"key": "a"}]},
            {"tolerations": [{"key": "b"}]},
            {"tolerations": [{"key": "a"}, {"key": "b"}]},
        ),
        # Of entries with one name the specific one is left.
        (
            {"env": [{"name": "A", "value": "1"}, {"name": "B", "value": "1"}]},
            {"env": [{"name": "A", "value": "2"}]},
            {"env": [{"name": "B", "value": "1"}, {"name": "A", "value": "2"}]},
        ),
        # Mounts have the name of their volume, of which there may be several.
        (
            {"volumeMounts": [{"name": "v", "mountPath": "/a"}]},
            {"volumeMounts": [{"name": "v", "mountPath": "/b"}]},
            {"volumeMounts": [{"name": "v", "mountPath": "/a"}, {"name": "v", "mountPath": "/b"}]},
        ),
        # A command is one thing, no list to add to.
        ({"command": ["a", "b"]}, {"command": ["c"]}, {"command": ["c"]}),
        ({"args": ["a"]}, {"args": []}, {"args": []}),
        ({"a": [1, 2]}, {"a": [2, 3]}, {"a": [1, 2, 3]}),
        ({"a": {"x": 1}}, {"a": None}, {"a": None}),
        ({"a": [1]}, {"a": "text"}, {"a": "text"}),
    ],
)
def test_pieces_of_a_pod_are_laid_over_one_another(
    defaults: dict[str, Any], specific: dict[str, Any], expected: dict[str, Any]
) -> None:
    assert merged(defaults, specific) == expected
