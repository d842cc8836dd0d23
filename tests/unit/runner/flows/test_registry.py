"""Type names: every spelling finds its class, and every listed class can be imported."""

from __future__ import annotations

import pytest

from runner.flows.registry import BASES, TypeKind, canonical, find, nearest, suggestion, types


@pytest.mark.parametrize(
    ("spelled", "full"),
    [
        ("core.log.Log", "core.log.Log"),
        ("io.kestra.plugin.core.log.Log", "core.log.Log"),
        ("io.kestra.core.tasks.log.Log", "core.log.Log"),
        ("io.kestra.core.tasks.debugs.Return", "core.debug.Return"),
        ("io.kestra.core.tasks.executions.Counts", "core.execution.Count"),
        ("io.kestra.core.tasks.flows.Flow", "core.flow.Subflow"),
        ("io.kestra.core.tasks.flows.Worker", "core.flow.WorkingDirectory"),
        ("io.kestra.plugin.core.flow.WaitFor", "core.flow.LoopUntil"),
        ("io.kestra.core.tasks.storages.Purge", "core.execution.PurgeExecutions"),
        ("io.kestra.core.models.triggers.types.Schedule", "core.trigger.Schedule"),
        ("io.kestra.core.models.conditions.types.DayWeekCondition", "core.condition.DayWeek"),
        ("io.kestra.plugin.core.condition.VariableCondition", "core.condition.Expression"),
        ("io.kestra.plugin.core.condition.MultipleCondition", "core.condition.MultipleCondition"),
        ("io.kestra.plugin.core.condition.FlowNamespaceCondition", "core.condition.FlowNamespaceCondition"),
        ("io.kestra.plugin.fs.http.Request", "core.http.Request"),
    ],
)
def test_a_type_has_one_canonical_name(spelled: str, full: str) -> None:
    assert canonical(spelled) == f"io.kestra.plugin.{full}"


@pytest.mark.parametrize("kind", TypeKind)
def test_every_listed_type_is_a_class_of_its_kind(kind: TypeKind) -> None:
    for name in types(kind):
        found = find(kind, name)

        assert found is not None, name
        assert issubclass(found, BASES[kind]), name


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("core.flow.Sequentail", "core.flow.Sequential"),
        ("io.kestra.plugin.core.flow.sequential", "io.kestra.plugin.core.flow.Sequential"),
        ("WorkingDirectory", "core.flow.WorkingDirectory"),
        ("something.entirely.Different", None),
    ],
)
def test_an_unknown_type_is_answered_with_the_nearest(wrong: str, meant: str | None) -> None:
    assert nearest(TypeKind.TASK, wrong) == meant


def test_a_type_of_kestra_that_is_not_there_yet_is_called_so_and_not_mistyped() -> None:
    assert suggestion(TypeKind.TASK, "io.kestra.plugin.core.flow.Approval") == (
        "this type of Kestra is not there yet; docs/compatibility.md lists those that are"
    )
    assert suggestion(TypeKind.TASK, "core.flow.Swich") == "did you mean 'core.flow.Switch'?"
    assert suggestion(TypeKind.TASK, "acme.Rocket") is None
