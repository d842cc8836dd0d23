"""Plugin defaults: who wins, how deep, and where a value came from."""

from __future__ import annotations

from typing import Any

import pytest

from runner.flows.inherited import Inherited
from runner.flows.parse import parse_flow
from runner.flows.plugin_defaults import Default, defaults_of, inject


def _filled(task: dict[str, Any], *defaults: Default, known: frozenset[str] | None = None) -> dict[str, Any]:
    tree, _ = inject({"tasks": [task]}, defaults, lambda _: known)
    filled = tree["tasks"][0]
    assert isinstance(filled, dict)
    return filled


LOG = "io.kestra.plugin.core.log.Log"


@pytest.mark.parametrize(
    ("default_type", "task_type", "matches"),
    [
        (LOG, LOG, True),
        ("core.log.Log", LOG, True),
        (LOG, "core.log.Log", True),
        ("io.kestra.core.tasks.log.Log", LOG, True),
        ("io.kestra.plugin.core", LOG, True),
        ("io.kestra.plugin.co", LOG, True),
        ("io.kestra", "core.log.Log", True),
        ("core.debug", LOG, False),
        ("io.kestra.plugin.core.log.Logger", LOG, False),
    ],
)
def test_a_default_applies_to_types_that_start_with_its_own(
    default_type: str, task_type: str, *, matches: bool
) -> None:
    filled = _filled({"type": task_type}, Default(default_type, {"level": "WARN"}))

    assert ("level" in filled) is matches


@pytest.mark.parametrize(
    ("own", "default", "merged", "forced"),
    [
        ({}, {"a": 1}, {"a": 1}, {"a": 1}),
        ({"a": 2}, {"a": 1}, {"a": 2}, {"a": 1}),
        ({"a": {"x": 1}}, {"a": {"x": 0, "y": 2}}, {"a": {"x": 1, "y": 2}}, {"a": {"x": 0, "y": 2}}),
        ({"a": [3]}, {"a": [1, 2]}, {"a": [1, 2, 3]}, {"a": [3, 1, 2]}),
        ({"a": None}, {"a": 1}, {"a": 1}, {"a": 1}),
        ({"a": 1}, {"a": None}, {"a": 1}, {"a": 1}),
        ({"a": "text"}, {"a": {"x": 1}}, {"a": "text"}, {"a": {"x": 1}}),
    ],
)
def test_maps_merge_deeply_and_lists_are_joined(
    own: dict[str, Any], default: dict[str, Any], merged: dict[str, Any], forced: dict[str, Any]
) -> None:
    assert _filled({"type": LOG, **own}, Default(LOG, default)) == {"type": LOG, **merged}
    assert _filled({"type": LOG, **own}, Default(LOG, default, forced=True)) == {"type": LOG, **forced}


def test_the_earlier_default_wins_and_of_forced_ones_the_later() -> None:
    near, far = Default(LOG, {"a": "near", "b": "near"}), Default("core", {"a": "far", "c": "far"})

    assert _filled({"type": LOG}, near, far) == {"type": LOG, "a": "near", "b": "near", "c": "far"}

    forced = (Default(LOG, {"a": "near"}, forced=True), Default(LOG, {"a": "far"}, forced=True))
    assert _filled({"type": LOG, "a": "own"}, *forced)["a"] == "far"


def test_nested_plugins_are_filled_too() -> None:
    task = {"type": "x.Outer", "taskRunner": {"type": "y.Runner"}, "tasks": [{"type": "y.Inner"}]}

    filled = _filled(task, Default("y", {"deep": True}))

    assert filled["taskRunner"] == {"type": "y.Runner", "deep": True}
    assert filled["tasks"] == [{"type": "y.Inner", "deep": True}]
    assert "deep" not in filled


def test_a_default_for_a_family_gives_a_member_only_what_it_knows() -> None:
    filled = _filled({"type": LOG}, Default("core.log", {"level": "WARN", "other": 1}), known=frozenset({"level"}))

    assert filled == {"type": LOG, "level": "WARN"}


def test_the_defaults_of_the_flow_itself_are_left_as_they_are() -> None:
    tree = {"pluginDefaults": [{"type": LOG, "values": {"type": LOG, "level": "WARN"}}], "tasks": []}

    filled, _ = inject(tree, defaults_of(tree), lambda _: None)

    assert filled == tree


def test_a_required_property_may_come_from_a_default_of_the_flow_or_of_its_namespace() -> None:
    task = "tasks:\n  - {id: one, type: core.log.Log}\n"
    outside = Inherited((Default("core.log.Log", {"message": "from outside"}),))

    inside = parse_flow(
        "id: a\nnamespace: x\npluginDefaults:\n  - {type: core.log.Log, values: {message: inside}}\n" + task,
        inherited=outside,
    )

    assert inside.require().tasks[0].model_dump()["message"] == "inside"
    alone = parse_flow("id: a\nnamespace: x\n" + task, inherited=outside)
    assert alone.require().tasks[0].model_dump()["message"] == "from outside"


def test_a_wrong_value_in_a_default_is_reported_at_the_default_and_own_items_where_they_stand() -> None:
    parsed = parse_flow(
        "id: a\nnamespace: x\n"
        "pluginDefaults:\n"
        "  - type: core.flow.Parallel\n"
        "    values:\n"
        "      concurrent: many\n"  # 6
        "      errors:\n"
        "        - {id: shared, type: core.log.Log, message: hi}\n"
        "tasks:\n"
        "  - id: one\n"
        "    type: core.flow.Parallel\n"
        "    errors:\n"
        "      - {id: own, type: core.log.Lgo, message: hi}\n"  # 13
        "    tasks: [{id: two, type: core.log.Log, message: hi}]\n"
    )

    assert [(problem.line, problem.column, problem.code) for problem in parsed.problems] == [
        (6, 19, "task.property.invalid"),
        (13, 25, "task.type.unknown"),
    ]
