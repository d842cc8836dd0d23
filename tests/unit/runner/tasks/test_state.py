from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from runner.errors import TaskError
from runner.tasks.state import Delete, Get, Set, merge

if TYPE_CHECKING:
    from tests.unit.runner.tasks.conftest import Bench


def build(kind: Any, **fields: Any) -> Any:
    return kind.model_validate({"id": "t", "type": "x", **fields})


def test_a_state_grows_with_what_is_set_and_is_gone_when_deleted(bench: Bench) -> None:
    first = bench.run(build(Set, data={"seen": [1], "by": {"a": 1}}))
    second = bench.run(build(Set, data={"seen": [2], "by": {"b": "{{ 1 + 1 }}"}}))

    found = bench.run(build(Get))
    deleted = [bench.run(build(Delete)), bench.run(build(Delete))]

    assert (first["count"], second["count"], second["key"]) == (2, 2, first["key"])
    assert found["data"] == {"seen": [1, 2], "by": {"a": 1, "b": "2"}}
    assert deleted == [{"deleted": True}, {"deleted": False}]
    assert bench.run(build(Get)) == {"count": 0, "data": {}}


def test_states_are_kept_apart_by_name_and_by_whom_they_belong_to(bench: Bench) -> None:
    bench.run(build(Set, data={"a": 1}))

    assert bench.run(build(Get, name="other"))["count"] == 0
    assert bench.run(build(Get, namespace=True))["count"] == 0


def test_each_value_of_a_loop_has_a_state_of_its_own_unless_told_otherwise(bench: Bench) -> None:
    task = build(Set, data={"a": 1})
    context = bench.context(task)
    context.task_run = replace(context.task_run, value="north")

    task.run(context)

    assert build(Get).run(context)["count"] == 1
    assert build(Get, taskrunValue=False).run(context)["count"] == 0


@pytest.mark.parametrize("kind", [Get, Delete])
def test_a_missing_state_fails_a_task_that_asks_for_it(bench: Bench, kind: Any) -> None:
    with pytest.raises(TaskError, match="Unable to find the state"):
        bench.run(build(kind, errorOnMissing=True))


def test_a_null_leaves_what_is_there() -> None:
    assert merge({"a": 1, "b": {"c": 2}}, {"a": None, "b": {"c": 3}}) == {"a": 1, "b": {"c": 3}}
