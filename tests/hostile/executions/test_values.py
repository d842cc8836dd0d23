"""Values that are too large, too deep or no text at all, from bodies, inputs and loops: stored, or refused in words."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from runner.errors import InvalidError, NotFoundError, TaskError
from runner.executions.models import Execution, TaskRun
from runner.executions.outputs import INLINE_BYTES, MOST_BYTES, kept, restored
from runner.states import State
from runner.store.columns import dump

if TYPE_CHECKING:
    from tests.hostile.executions.conftest import Lab

Shell = Callable[..., str]


def marker(code: str) -> str:
    """A script whose Python prints an outputs marker; `code` is the value of the output `a`, as Python."""
    return f"""python3 - <<'END'
import json
print('::' + '{{"outputs": {{"a": ' + ({code}) + '}}}}' + '::')
END"""


READ = '  - {id: r, type: core.debug.Return, format: "{{ outputs.s.vars.a | length }}"}\n'


def test_large_outputs_lie_in_storage_and_read_like_small_ones(lab: Lab, shell: Shell) -> None:
    ended = lab.run(shell(marker("json.dumps('x' * 300_000)"), after=READ))

    assert ended.state is State.SUCCESS
    (address,) = lab.rows(ended)["s"].values()
    assert len(json.dumps(lab.rows(ended)["s"])) < 500
    assert lab.host.storage.size(str(address)) > 300_000
    assert lab.outputs(ended)["s"]["vars"]["a"] == "x" * 300_000
    assert lab.outputs(ended)["r"] == {"value": "300000"}


def test_large_outputs_of_instant_tasks_lie_in_storage_too(lab: Lab) -> None:
    source = """
tasks:
  - {id: s, type: core.debug.Return, format: "{{ range(1, 50000) | join(',') }}"}
  - {id: r, type: core.debug.Return, format: "{{ outputs.s.value | length }}"}
"""

    ended = lab.run(source)

    assert list(lab.rows(ended)["s"]) == ["$stored"]
    assert lab.outputs(ended)["r"] == {"value": str(len(lab.outputs(ended)["s"]["value"]))}


@pytest.mark.parametrize("size", [INLINE_BYTES - 10, INLINE_BYTES + 10])
def test_outputs_move_to_storage_at_64_kib(lab: Lab, size: int) -> None:
    execution, run = _row(lab)

    row = kept(lab.host.storage, execution, run, {"a": "x" * (size - len('{"a":""}'))})

    assert ("$stored" in row) is (size > INLINE_BYTES)
    assert len(restored(lab.host.storage, {"r": row})["r"]["a"]) == size - 8


def test_outputs_beyond_all_measure_are_refused(lab: Lab) -> None:
    execution, run = _row(lab)

    with pytest.raises(TaskError, match="16777216"):
        kept(lab.host.storage, execution, run, {"a": "x" * MOST_BYTES})


def test_outputs_whose_file_was_purged_are_empty(lab: Lab) -> None:
    execution, run = _row(lab)
    row = kept(lab.host.storage, execution, run, {"a": "x" * INLINE_BYTES})

    lab.host.storage.delete(row["$stored"])

    with pytest.raises(NotFoundError):
        lab.host.storage.open(row["$stored"])
    assert restored(lab.host.storage, {"r": row}) == {"r": {}}


def _row(lab: Lab) -> tuple[Execution, TaskRun]:
    now = lab.host.clock()
    execution = Execution("e1", "company.team", "flow", 1, State.RUNNING, now)
    return execution, TaskRun("r1", "e1", "t", State.RUNNING, now, attempts=1)


@pytest.mark.parametrize("depth", [300, 900])
def test_outputs_nested_too_deeply_fail_the_task_in_words(lab: Lab, shell: Shell, depth: int) -> None:
    failed = lab.run(shell(marker(f"'[' * {depth} + ']' * {depth}")))

    assert failed.state is State.FAILED
    assert "nested" in str(lab.run_of(failed, "s").error)


def test_outputs_nested_to_the_limit_can_be_handed_on(lab: Lab, shell: Shell) -> None:
    after = """
  - {id: v, type: core.execution.SetVariables, variables: {deep: "{{ outputs.s.vars.a }}"}}
  - {id: o, type: core.output.OutputValues, values: {deep: "{{ outputs.s.vars.a }}"}}
outputs: [{id: deep, type: JSON, value: "{{ outputs.s.vars.a }}"}]
"""

    ended = lab.run(shell(marker("'[' * 240 + ']' * 240"), after=after))

    assert ended.state is State.SUCCESS


@pytest.mark.parametrize(
    ("text", "expected"),
    [("a\\u0000b", "a\ufffdb"), ("a\\ud800b", "a\ufffdb"), ("\\u202e\\u0007", "\u202e\x07")],
)
def test_characters_that_are_none_become_the_replacement_character(
    lab: Lab, shell: Shell, text: str, expected: str
) -> None:
    after = """
  - {id: r, type: core.debug.Return, format: "{{ outputs.s.vars.a }}"}
  - id: l
    type: core.flow.ForEach
    values: ["{{ outputs.s.vars.a }}"]
    tasks: [{id: z, type: core.log.Log, message: "<{{ taskrun.value }}>"}]
"""

    ended = lab.run(shell(f"""printf '%s\\n' '::{{"outputs": {{"a": "{text}"}}}}::'""", after=after))

    assert ended.state is State.SUCCESS
    assert lab.run_of(ended, "z").value == expected
    assert lab.messages(ended)[-1] == f"<{expected}>"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"a": float("nan"), "b": [float("inf")], "c": 2**70}, '{"a": null, "b": [null], "c": 1180591620717411303424}'),
        ({1: "x", None: "y"}, '{"1": "x", "None": "y"}'),
    ],
)
def test_what_is_no_json_is_stored_so_that_it_can_be_read_again(value: Any, text: str) -> None:
    assert dump(value) == text


def test_a_value_that_holds_itself_is_refused() -> None:
    value: list[Any] = []
    value.append(value)

    with pytest.raises(InvalidError, match="too deeply"):
        dump({1: value})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "Invalid input for `number`, missing required input"),
        ({"number": "many"}, "Invalid input for `number`"),
        ({"number": 3.5}, "Invalid input for `number`"),
        ({"number": 99}, "it must be less than"),
        ({"number": 1, "form": "[" * 5000 + "]" * 5000}, "Invalid input for `form`"),
    ],
)
def test_inputs_that_do_not_fit_are_refused_and_nothing_starts(lab: Lab, given: dict[str, Any], message: str) -> None:
    source = """
inputs:
  - {id: number, type: INT, max: 10}
  - {id: form, type: JSON, required: false}
tasks: [{id: r, type: core.debug.Return}]
"""

    with pytest.raises(InvalidError) as refused:
        lab.start(source, inputs=given)

    assert message in refused.value.message
    assert lab.store.read(lambda db: db.executions.count_by_state()) == {}


def test_unknown_inputs_are_left_out(lab: Lab) -> None:
    ended = lab.run(
        "inputs: [{id: a, type: STRING}]\ntasks: [{id: r, type: core.debug.Return}]", inputs={"a": "x", "b": 1}
    )

    assert ended.inputs == {"a": "x"}


@pytest.mark.parametrize("property_", ["format: '{{ nowhere.to.be.found }}'", "format: '{{ outputs.r2.value }}'"])
def test_a_template_that_names_nothing_says_which(lab: Lab, property_: str) -> None:
    failed = lab.run(f"tasks: [{{id: r, type: core.debug.Return, {property_}}}]")

    error = str(lab.run_of(failed, "r").error)
    assert failed.state is State.FAILED
    assert ("nowhere" in error) or ("r2" in error)
    assert [entry.task_id for entry in lab.logs(failed) if entry.level == "ERROR"] == ["r"]


def test_five_thousand_labels_are_kept(lab: Lab) -> None:
    many = {f"label-{number}": "x" * 50 for number in range(5000)}
    source = 'inputs: [{id: m, type: JSON}]\ntasks: [{id: l, type: core.execution.Labels, labels: "{{ inputs.m }}"}]'

    ended = lab.run(source, inputs={"m": many}, typed_inputs=True)

    assert ended.state is State.SUCCESS
    assert len(ended.labels) == 5001


def test_a_deep_pile_of_containers_is_walked_to_its_bottom(lab: Lab) -> None:
    task = "{id: leaf, type: core.debug.Return, format: bottom}"
    for number in range(20):
        task = f"{{id: c{number}, type: core.flow.Sequential, tasks: [{task}]}}"

    ended = lab.run(f"tasks: [{task}]")

    assert (ended.state, len(lab.runs(ended))) == (State.SUCCESS, 21)
