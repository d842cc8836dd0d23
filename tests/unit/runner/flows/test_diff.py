"""The difference of two flows, as a plan shows it."""

from __future__ import annotations

import pytest

from runner.flows.diff import diff_flows
from runner.flows.models import Flow
from runner.flows.parse import parse_flow

BASE = """
id: a
namespace: company.team
labels: {team: data}
inputs:
  - {id: day, type: STRING}
tasks:
  - {id: load, type: core.flow.Sleep, duration: PT1S, timeout: PT5M}
  - id: side
    type: core.flow.Parallel
    tasks:
      - {id: left, type: core.log.Log, message: hi}
      - {id: right, type: core.log.Log, message: hi}
  - id: dag
    type: core.flow.Dag
    tasks:
      - task: {id: node, type: core.log.Log, message: hi}
"""


def _flow(source: str) -> Flow:
    return parse_flow(source).require()


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("timeout: PT5M", "timeout: PT2M", ["tasks.load.timeout PT5M -> PT2M"]),
        (", timeout: PT5M", "", ["tasks.load.timeout removed"]),
        ("duration: PT1S,", "duration: PT1S, disabled: true,", ["tasks.load.disabled added"]),
        ("id: right, type: core.log.Log", "id: other, type: core.log.Log",
         ["tasks.other added", "tasks.right removed"]),
        ("{id: node, type: core.log.Log, message: hi}", "{id: node, type: core.log.Log, message: ho}",
         ["tasks.node.message hi -> ho"]),
        ("team: data", "team: web", ["labels.team data -> web"]),
        ("type: STRING", "type: INT", ["inputs.day.type STRING -> INT"]),
        ("- {id: load, type: core.flow.Sleep", "- {id: load, type: io.kestra.plugin.core.flow.Sleep", []),
        ("namespace: company.team", "namespace: company.team\ndescription: what it does",
         ["description added"]),
        ("id: a\n", "id: a\nrevision: 7\n", []),
        ("{id: left, type: core.log.Log, message: hi}\n      - {id: right, type: core.log.Log, message: hi}",
         "{id: right, type: core.log.Log, message: hi}\n      - {id: left, type: core.log.Log, message: hi}",
         ['order of side.tasks ["left", "right"] -> ["right", "left"]']),
    ],
)  # fmt: skip
def test_a_difference_is_named_by_ids_and_properties(old: str, new: str, expected: list[str]) -> None:
    assert old in BASE

    changes = diff_flows(_flow(BASE), _flow(BASE.replace(old, new, 1)))

    assert [str(change) for change in changes] == expected


def test_a_task_that_went_into_a_branch_has_moved() -> None:
    old = _flow("id: a\nnamespace: x\ntasks:\n  - {id: one, type: core.log.Log, message: hi}\n  - {id: box, type: "
                "core.flow.Sequential, tasks: [{id: two, type: core.log.Log, message: hi}]}\n")  # fmt: skip
    new = _flow("id: a\nnamespace: x\ntasks:\n  - {id: box, type: core.flow.Sequential, tasks: [{id: one, type: "
                "core.log.Log, message: hi}, {id: two, type: core.log.Log, message: hi}]}\n")  # fmt: skip

    changes = diff_flows(old, new)

    assert [str(change) for change in changes] == ["tasks.one moved from tasks to box.tasks"]


def test_long_values_are_shortened_to_one_line() -> None:
    old, new = (_flow(BASE.replace("message: hi", f'message: "{word} ' + "x\\n" * 100 + '"', 1)) for word in ("a", "b"))

    text = str(diff_flows(old, new)[0])

    assert "\n" not in text
    assert len(text) < 160
