"""Template strings: faults and doubtful references, at the place inside the string."""

from __future__ import annotations

import pytest

from runner.errors import Severity
from runner.flows.parse import parse_flow

HEAD = "id: a\nnamespace: company.team\ninputs:\n  - {id: day, type: STRING}\ntasks:\n"


def _found(tasks: str) -> list[tuple[str, int | None, int | None, str | None]]:
    return [(p.code, p.line, p.column, p.hint) for p in parse_flow(HEAD + tasks).problems]


def test_an_unknown_filter_is_an_error_at_its_column() -> None:
    found = _found("  - id: one\n    type: core.log.Log\n    message: 'Hi {{ inputs.day | uper }}'\n")

    assert [(code, line, column) for code, line, column, _ in found] == [("expression.filter.unknown", 8, 34)]


def test_a_place_in_a_block_of_text_is_the_line_and_column_of_the_file() -> None:
    found = _found("  - id: one\n    type: core.log.Log\n    message: |\n      first\n      then {{ nope( }}\n")

    assert [(code, line) for code, line, _, _ in found] == [("expression.syntax", 10)]


def test_outputs_of_no_task_and_inputs_of_no_name_are_warned_about() -> None:
    parsed = parse_flow(
        HEAD + "  - id: load\n    type: core.log.Log\n"
        "    message: \"{{ outputs.laod.value }} {{ inputs['dya'] }} {{ outputs['load'].x }} {{ inputs.day }}\"\n"
    )

    assert parsed.flow is not None
    assert [(p.code, p.severity, p.line, p.column, p.hint) for p in parsed.problems] == [
        ("expression.outputs.unknown", Severity.WARNING, 8, 18, "did you mean 'load'?"),
        ("expression.inputs.unknown", Severity.WARNING, 8, 43, "did you mean 'day'?"),
    ]


def test_the_parts_of_a_for_each_item_have_outputs() -> None:
    found = _found(
        "  - {id: all, type: core.flow.ForEachItem, items: x, namespace: company.team, flowId: one}\n"
        "  - {id: say, type: core.log.Log, message: '{{ outputs.all_merge.subflowOutputs }}{{ outputs.all_part.x }}'}\n"
    )

    assert [(code, line, column) for code, line, column, _ in found] == [("expression.outputs.unknown", 7, 86)]


def test_inputs_triggers_and_outputs_of_the_flow_are_no_tasks() -> None:
    found = _found(
        "  - {id: load, type: core.log.Log, message: '{{ outputs.day.x }}'}\n"
        "triggers: [{id: daily, type: core.trigger.Webhook, key: k}]\n"
        "outputs: [{id: total, type: STRING, value: '{{ outputs.nothing }}'}]\n"
    )

    assert [(code, hint) for code, _, _, hint in found] == [
        ("expression.outputs.unknown", "the flow has the tasks load"),
        ("expression.outputs.unknown", "the flow has the tasks load"),
    ]


@pytest.mark.parametrize(
    "message",
    [
        "{{ trigger.outputs.other.x }}",
        "{{ fromJson(trigger.body).inputs.other }}",
        "{{ 'outputs.other' }}",
        "{{ vars | jq('.inputs.other') }}",
        "outputs.other is no expression",
        "{% for row in [1] %}{{ row }}{% endfor %}",
        "{% set mine = 1 %}{{ mine }}",
        "{{ parent.outputs.other }}",
        "{% raw %}{{ inputs.other | nope }}{% endraw %}",
    ],
)
def test_what_only_looks_like_a_reference_is_left_alone(message: str) -> None:
    assert _found(f'  - id: one\n    type: core.log.Log\n    message: "{message}"\n') == []


def test_a_mistyped_root_is_answered_with_the_right_one() -> None:
    found = _found("  - {id: one, type: core.log.Log, message: '{{ exection.id }}'}\n")

    assert found == [("expression.name.unknown", 6, 48, "did you mean 'execution'?")]


def test_templates_are_checked_even_when_the_flow_has_other_problems() -> None:
    found = _found("  - {id: one, type: core.log.Lgo, message: '{{ 1 | nope }}'}\n")

    assert [code for code, *_ in found] == ["task.type.unknown", "expression.filter.unknown"]


def test_a_fault_in_a_plugin_default_points_at_the_default() -> None:
    parsed = parse_flow(
        "id: a\nnamespace: x\npluginDefaults:\n  - type: core.log.Log\n    values:\n      message: '{{ 1 | nope }}'\n"
        "tasks:\n  - {id: one, type: core.log.Log}\n  - {id: two, type: core.log.Log}\n"
    )

    assert [(p.code, p.line, p.column) for p in parsed.problems] == [("expression.filter.unknown", 6, 24)]
