"""Script triggers of every language: what a look at them runs, and what it takes for the wanted end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from runner.errors import TaskError
from runner.flows.registry import TypeKind, find
from runner.tasks.languages import LANGUAGES
from runner.tasks.script_families import FORMS, script_class
from runner.triggers.polling import Look

if TYPE_CHECKING:
    from tests.unit.runner.tasks.conftest import Bench


def look(bench: Bench, kind: str, memory: dict[str, Any] | None = None, **fields: Any) -> Look:
    cls: Any = find(TypeKind.TRIGGER, kind)
    trigger = cls.model_validate({"id": "w", "type": kind, "taskRunner": {"type": "process"}, **fields})
    stand_in = script_class("ShellCommands").model_validate({"id": "w", "type": "x", "commands": []})
    with bench.context(stand_in) as ctx:
        found: Look = trigger.look(ctx, memory or {})
    return found


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", LANGUAGES)
def test_every_script_task_has_its_trigger(name: str, form: str) -> None:
    task, trigger = (
        find(TypeKind.TASK, f"scripts.{name}.{form}"),
        find(TypeKind.TRIGGER, f"scripts.{name}.{form}Trigger"),
    )

    assert getattr(trigger, "task", None) is task is not None


@pytest.mark.parametrize(
    ("condition", "is_met"), [("exit 3", True), ("EXIT 3", True), ("exit 0", False), ("a.b", True)]
)
def test_an_exit_code_or_what_was_printed_meets_the_condition(bench: Bench, condition: str, is_met: bool) -> None:  # noqa: FBT001 - a column of the table
    script = """print('::{"outputs": {"listing": "a-b"}}::'); raise SystemExit(3)"""

    found = look(bench, "scripts.python.ScriptTrigger", script=script, exitCondition=condition)

    assert (found.outputs is not None, found.memory) == (is_met, {"met": is_met})
    if found.outputs is not None:
        assert {**found.outputs, "timestamp": None} == {
            "timestamp": None,
            "condition": condition,
            "exitCode": 3,
            "vars": {"listing": "a-b"},
        }


def test_the_properties_of_a_language_count_for_its_trigger(bench: Bench, tmp_path: Any, make_wheel: Any) -> None:
    make_wheel(tmp_path, "greeting", "1.0")

    found = look(
        bench,
        "scripts.python.CommandsTrigger",
        dependencies=["greeting"],
        env={"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path)},
        commands=["greeting", "exit 7"],
        exitCondition="exit 7",
    )

    assert found.outputs is not None
    assert ("INFO", "greeting 1.0") in bench.lines


def test_an_installer_that_fails_is_no_end_of_the_script(bench: Bench) -> None:
    with pytest.raises(TaskError) as caught:
        look(
            bench,
            "scripts.python.ScriptTrigger",
            dependencies=["no-such-package"],
            env={"PIP_NO_INDEX": "1"},
            script="1",
            exitCondition="exit 1",
        )

    assert caught.value.code == "task.dependencies.failed"
