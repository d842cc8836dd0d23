"""Whatever stands in a flow file, parsing it ends with a flow or with problems."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.flows.parse import parse_flow

_SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(min_value=-(10**40), max_value=10**40),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(["x", "", "{{ inputs.x | }}", "{{ outputs.a.b }}", "PT5S", "PT", "core.log.Log", "core.flow.If"]),
    st.text(max_size=8),
)
_NAMES = (
    "id type namespace tasks triggers inputs outputs labels errors finally then else cases defaults retry timeout "
    "pluginDefaults values forced runner docker taskRunner conditions cron dependsOn task message condition "
    "value labels"
)
_TYPE_NAMES = (
    "core.log.Log core.flow.If core.flow.Dag core.flow.Switch core.flow.ForEach core.flow.WorkingDirectory "
    "core.trigger.Schedule core.trigger.Flow core.condition.Not scripts.shell.Commands core.runner.Process "
    "STRING"
)
_WORDS = st.sampled_from(_NAMES.split())
_TYPES = st.sampled_from(_TYPE_NAMES.split())
_VALUES = st.recursive(
    _SCALARS | _TYPES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_WORDS, inner, max_size=5),
    max_leaves=20,
)
_FLOWS = st.fixed_dictionaries(
    {},
    optional={
        "id": st.just("a") | _VALUES,
        "namespace": st.just("x") | _VALUES,
        "tasks": st.lists(
            st.fixed_dictionaries({"id": st.just("one") | _SCALARS, "type": _TYPES}) | _VALUES, max_size=3
        ),
        "triggers": _VALUES,
        "inputs": _VALUES,
        "labels": _VALUES,
        "pluginDefaults": _VALUES,
        "retry": _VALUES,
        "errors": _VALUES,
    },
)


@settings(max_examples=150, deadline=None)
@given(tree=_FLOWS, strict=st.booleans())
def test_any_tree_is_a_flow_or_has_problems(tree: dict[str, Any], *, strict: bool) -> None:
    parsed = parse_flow(yaml.safe_dump(tree, allow_unicode=True), file="any.yaml", strict=strict)

    assert parsed.flow is not None or parsed.problems
    assert all(problem.line and problem.column for problem in parsed.problems)


@settings(max_examples=150, deadline=None)
@given(text=st.text(alphabet="ab:-[]{}'\"|>#&*!%@`\n\t ,?.<~1", max_size=60))
def test_any_text_is_a_flow_or_has_problems(text: str) -> None:
    parsed = parse_flow(text, file="any.yaml")

    assert parsed.flow is None
    assert parsed.problems


RICH = """\
id: rich
namespace: company.team
labels: {team: a}
variables: {x: 1}
inputs:
  - {id: count, type: INT, min: 1, max: 9, defaults: 5}
  - {id: kinds, type: MULTISELECT, values: [a, b], dependsOn: {inputs: [count], condition: "{{ inputs.count > 1 }}"}}
concurrency: {limit: 2, behavior: QUEUE}
retry: {type: exponential, interval: PT1S, maxInterval: PT9S, maxAttempts: 3}
sla: [{id: soon, type: MAX_DURATION, behavior: FAIL, duration: PT1H, labels: {late: true}}]
checks: [{when: "{{ true }}", message: no}]
pluginDefaults: [{type: core.log.Log, values: {level: INFO}}]
tasks:
  - id: dag
    type: core.flow.Dag
    tasks:
      - task: {id: one, type: core.log.Log, message: "{{ inputs.count }}"}
      - {dependsOn: [one], task: {id: two, type: core.debug.Return, format: x}}
  - id: choice
    type: core.flow.Switch
    value: "{{ outputs.two.value }}"
    cases: {x: [{id: three, type: core.flow.Subflow, namespace: company, flowId: other, inputs: {a: 1}}]}
    defaults: [{id: four, type: core.flow.Sleep, duration: PT1S}]
  - id: each
    type: core.flow.ForEach
    values: [1, 2]
    tasks:
      - {id: if, type: core.flow.If, condition: "{{ true }}", then: [{id: five, type: core.log.Log, message: z}]}
  - id: room
    type: core.flow.WorkingDirectory
    tasks:
      - id: script
        type: scripts.shell.Commands
        taskRunner: {type: core.runner.Process}
        commands: [echo]
  - id: ask
    type: core.flow.Pause
    onResume: [{id: reason, type: STRING}]
  - {id: old, type: scripts.python.Script, runner: DOCKER, docker: {image: python}, script: "print(1)"}
triggers:
  - {id: daily, type: core.trigger.Schedule, cron: "0 9 * * *", timezone: UTC, conditions: [{type: core.condition.Not,
     conditions: [{type: core.condition.Weekend, date: "{{ trigger.date }}"}]}]}
  - {id: after, type: core.trigger.Flow, conditions: [{type: core.condition.ExecutionFlow, namespace: a, flowId: b}]}
outputs: [{id: all, type: STRING, value: "{{ outputs.two.value }}"}]
errors: [{id: six, type: core.log.Log, message: x}]
finally: [{id: seven, type: core.log.Log, message: x}]
"""


def _paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield (*path, key)
        yield from _paths(value[key], (*path, key))


def _changed(tree: Any, path: tuple[Any, ...], new: Any) -> str:
    changed = holder = copy.deepcopy(tree)
    for key in path[:-1]:
        holder = holder[key]
    if new == "gone":
        del holder[path[-1]]
    else:
        holder[path[-1]] = new
    return yaml.safe_dump(changed)


@pytest.mark.parametrize("new", ["gone", None, 5, "x", [], {}, [{}], {"x": 1}], ids=str)
def test_any_part_of_a_flow_may_be_missing_or_of_another_kind(new: Any) -> None:
    tree = yaml.safe_load(RICH)

    for path in _paths(tree):
        parsed = parse_flow(_changed(tree, path, new), file="rich.yaml")

        assert parsed.flow is not None or parsed.problems, path
        assert not any("cannot be read" in problem.message for problem in parsed.problems), path


def test_the_flow_whose_parts_are_changed_is_a_good_one() -> None:
    assert parse_flow(RICH).problems == ()
