"""Inputs: every type, every rule, and the sentences of the refusals."""

from __future__ import annotations

import io
from typing import Any

import pytest

from runner.errors import ExpressionError, InvalidError
from runner.flows.inputs import FileInput, cast_outputs, nested, resolve_inputs, validate_inputs
from runner.flows.models import Input, Output


def declared(**properties: Any) -> Input:
    return Input.model_validate({"id": "x", **properties})


def scripted(answers: dict[str, Any]) -> Any:
    """Return a renderer that knows a few templates and records the scope it was given."""

    def render(template: str, scope: Any) -> Any:
        answer = answers.get(template, template)
        return answer(scope) if callable(answer) else answer

    return render


def resolve(inputs: list[Input], given: dict[str, Any], answers: dict[str, Any] | None = None, **options: Any) -> Any:
    render = scripted(answers or {})
    return resolve_inputs(
        inputs, given, render=render, render_text=lambda text, scope: str(render(text, scope)), **options
    )


@pytest.mark.parametrize(
    ("type_name", "raw", "stored"),
    [
        ("STRING", "text", "text"),
        ("STRING", 12, "12"),
        ("STRING", True, "true"),
        ("INT", "42", 42),
        ("INT", 42, 42),
        ("INT", 42.0, 42),
        ("INT", "-7", -7),
        ("FLOAT", "42.42", 42.42),
        ("FLOAT", 1, 1.0),
        ("BOOL", "TRUE", True),
        ("BOOL", "yes", False),
        ("BOOL", False, False),
        ("BOOLEAN", "true", True),
        ("JSON", '{"a": [1]}', {"a": [1]}),
        ("ION", "{a: [1, two]}", {"a": [1, "two"]}),
        ("ION", "{a: 1} {a: 2}", [{"a": 1}, {"a": 2}]),
        ("ION", {"a": 1}, {"a": 1}),
        ("TABLE", '[{"a": 1}, {"a": 2}]', [{"a": 1}, {"a": 2}]),
        ("TABLE", [{"a": 1}], [{"a": 1}]),
        ("JSON", {"a": 1}, {"a": 1}),
        ("URI", "https://example.org/path?x=1", "https://example.org/path?x=1"),
        ("EMAIL", "", ""),
        ("EMAIL", "ann@example.org", "ann@example.org"),
        ("DATETIME", "2019-10-06T18:27:49Z", "2019-10-06T18:27:49Z"),
        ("DATETIME", "2019-10-06T20:27:49.5+02:00", "2019-10-06T18:27:49.500Z"),
        ("DATETIME", "2013-09-08T16:19:12.123456789Z", "2013-09-08T16:19:12.123456Z"),
        ("DATE", "2024-04-12", "2024-04-12"),
        ("TIME", "10:15:30", "10:15:30"),
        ("TIME", "10:15:00", "10:15"),
        ("DURATION", "PT5M6S", "PT5M6S"),
        ("DURATION", "PT90M", "PT1H30M"),
        ("ARRAY", "[1, 2]", ["1", "2"]),
        ("MULTISELECT", '["a"]', ["a"]),
        ("SELECT", "free", "free"),
    ],
)
def test_a_raw_value_becomes_a_value_of_its_type(type_name: str, raw: Any, stored: Any) -> None:
    values = resolve([declared(type=type_name)], {"x": raw})

    assert values == {"x": stored}
    assert type(values["x"]) is type(stored)


REFUSALS = [
    ({"type": "STRING"}, None, "missing required input, but received `null`"),
    ({"type": "STRING", "validator": r"A\d+"}, "foo", r"it must match the pattern `A\d+`, but received `foo`"),
    ({"type": "STRING", "validator": r"\d"}, "12", r"it must match the pattern `\d`, but received `12`"),
    ({"type": "INT", "min": 10}, "9", "it must be more than `10`, but received `9`"),
    ({"type": "INT", "max": 20}, 21, "it must be less than `20`, but received `21`"),
    ({"type": "FLOAT", "min": 0.1}, "0.01", "it must be more than `0.1`, but received `0.01`"),
    ({"type": "DATE", "after": "2023-01-01"}, "2022-01-01", "it must be after `2023-01-01`, but received `2022-01-01`"),
    ({"type": "TIME", "before": "11:59:59"}, "14:00", "it must be before `11:59:59`, but received `14:00`"),
    (
        {"type": "DATETIME", "after": "2023-01-01T00:00:00Z"},
        "2022-01-01T00:00:00Z",
        "it must be after `2023-01-01T00:00:00Z`, but received `2022-01-01T00:00:00Z`",
    ),
    ({"type": "DURATION", "min": "PT10S"}, "PT1S", "It must be more than `PT10S`, but received `PT1S`"),
    ({"type": "URI"}, "http:/bla", "Expected `URI` but received `http:/bla`, but received `http:/bla`"),
    ({"type": "EMAIL"}, "nobody", "The input must be a valid email, but received `nobody`"),
    ({"type": "ENUM", "values": ["A", "B"]}, "C", "it must match the values `[A, B]`, but received `C`"),
    ({"type": "SELECT", "values": ["A"]}, "C", "it must match the values `[A]`, but received `C`"),
    ({"type": "MULTISELECT", "values": ["A"]}, ["A", "C"], 'it must match the values `[A]`, but received `["A","C"]`'),
    (
        {"type": "ARRAY", "itemType": "INT"},
        '["s1"]',
        'Unable to parse array element as `INT` on `s1`, but received `["s1"]`',
    ),
    ({"type": "SECRET"}, "s3cr3t", "encryption is not configured, but received `******`"),
]


@pytest.mark.parametrize(("properties", "raw", "sentence"), REFUSALS)
def test_a_refusal_names_the_input_the_rule_and_the_value(properties: dict[str, Any], raw: Any, sentence: str) -> None:
    with pytest.raises(InvalidError) as caught:
        resolve([declared(**properties)], {"x": raw})

    assert caught.value.code == "input.invalid"
    assert caught.value.message.startswith("Invalid input for `x`, ")
    assert caught.value.message.endswith(sentence)


@pytest.mark.parametrize(
    ("type_name", "raw"),
    [
        ("INT", "4.5"),
        ("INT", True),
        ("INT", "1_000"),
        ("INT", str(2**63)),
        ("INT", []),
        ("FLOAT", {"a": 1}),
        ("FLOAT", "nan"),
        ("FLOAT", "x"),
        ("JSON", "{"),
        ("ION", "{a:"),
        ("TABLE", "[1]"),
        ("TABLE", "rows"),
        ("TABLE", {"a": 1}),
        ("JSON", "[" * 100_000),
        ("JSON", r'"\ud800"'),
        ("ARRAY", "[" * 100_000),
        ("YAML", "[" * 100_000),
        ("YAML", "a: 1\na: 2"),
        ("DATETIME", "2019-10-06T18:27:49"),
        ("DATE", "soon"),
        ("DURATION", "PT"),
        ("ARRAY", "{}"),
        ("FORM", "x"),
    ],
)
def test_what_is_no_value_of_the_type_is_refused(type_name: str, raw: Any) -> None:
    with pytest.raises(InvalidError, match="Invalid input for `x`"):
        resolve([declared(type=type_name)], {"x": raw})


def test_limits_include_their_bounds() -> None:
    values = resolve([declared(type="INT", min=1, max=3)], {"x": 3})

    assert values == {"x": 3}


def test_a_default_satisfies_required_and_keeps_its_declared_type() -> None:
    inputs = [declared(type="INT", defaults=0), declared(id="y", type="STRING", defaults="{{ now() }}")]

    values = resolve(inputs, {"unknown": "ignored"}, {"{{ now() }}": "today"})

    assert values == {"x": 0, "y": "today"}


def test_what_the_caller_sends_is_never_rendered() -> None:
    values = resolve([declared(type="STRING")], {"x": "{{ secret('A') }}"}, {"{{ secret('A') }}": "leaked"})

    assert values == {"x": "{{ secret('A') }}"}


def test_an_optional_input_without_a_value_is_null() -> None:
    reading = declared(id="y", type="STRING", defaults="{{ inputs.x }}", dependsOn={"inputs": ["x"]})
    inputs = [declared(type="INT", required=False), reading]

    values = resolve(inputs, {}, {"{{ inputs.x }}": lambda known: repr(known["inputs"]["x"])})

    assert values == {"x": None, "y": "None"}


def test_an_optional_input_that_does_not_count_is_absent() -> None:
    switch = declared(type="BOOL")
    hidden = declared(id="y", type="INT", required=False, dependsOn={"inputs": ["x"], "condition": "{{ inputs.x }}"})

    assert resolve([switch, hidden], {"x": False}, {"{{ inputs.x }}": "false"}) == {"x": False}


def test_a_trigger_without_inputs_may_leave_required_ones_out() -> None:
    assert resolve([declared(type="INT")], {}, missing_allowed=True) == {}


def test_dotted_ids_are_read_flat_or_nested_and_come_out_nested() -> None:
    inputs = [declared(id="a.b", type="INT"), declared(id="a.c.d", type="STRING")]

    values = resolve(inputs, {"a.b": "1", "a": {"c": {"d": "deep"}}})

    assert values == {"a": {"b": 1, "c": {"d": "deep"}}}


@pytest.mark.parametrize("flat", [{"a": 1, "a.b": 2}, {"a.b": 2, "a": 1}, {"a": {"x": 1}, "a.b": 2}])
def test_an_id_that_is_both_a_value_and_a_prefix_is_a_conflict(flat: dict[str, Any]) -> None:
    with pytest.raises(InvalidError, match="Conflict at key: a"):
        nested(flat)


def test_a_disabled_input_is_dropped_and_so_is_what_depends_on_it() -> None:
    inputs = [
        declared(id="one", type="STRING"),
        declared(id="two", type="INT", dependsOn={"inputs": ["one"], "condition": "{{ cond }}"}),
        declared(id="three", type="STRING", dependsOn={"inputs": ["two"]}),
    ]
    answers = {"{{ cond }}": lambda scope: scope["inputs"]["one"] == "yes"}

    disabled = resolve(inputs, {"one": "no", "two": "not a number", "three": "x"}, answers)
    enabled = resolve(inputs, {"one": "yes", "two": "2", "three": "x"}, answers)

    assert disabled == {"one": "no"}
    assert enabled == {"one": "yes", "two": 2, "three": "x"}


def test_a_condition_that_is_not_exactly_true_disables() -> None:
    inputs = [
        declared(id="one", type="STRING"),
        declared(type="STRING", dependsOn={"inputs": ["one"], "condition": "c"}),
    ]

    assert resolve(inputs, {"one": "1", "x": "2"}, {"c": 1.5}) == {"one": "1"}


def test_dependencies_are_resolved_before_whatever_their_order() -> None:
    inputs = [
        declared(id="late", type="SELECT", expression="{{ e }}", dependsOn={"inputs": ["early"]}),
        declared(id="early", type="STRING", defaults="fr"),
    ]
    answers = {"{{ e }}": lambda scope: [scope["inputs"]["early"] + "-1"]}

    assert resolve(inputs, {"late": "fr-1"}, answers) == {"late": "fr-1", "early": "fr"}


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        ("text", "Invalid expression result. Expected a list of strings, but received text"),
        ({"a": 1}, 'Invalid expression result. Expected a list of strings, but received {"a":1}'),
    ],
)
def test_an_expression_that_gives_no_list_is_named(answer: Any, sentence: str) -> None:
    with pytest.raises(InvalidError) as caught:
        resolve([declared(type="SELECT", expression="{{ e }}")], {"x": "1"}, {"{{ e }}": answer})

    assert sentence in caught.value.message


def test_an_expression_that_fails_is_named() -> None:
    def fail(_scope: Any) -> Any:
        raise ExpressionError("expression.undefined", "no such key")

    with pytest.raises(InvalidError, match=r"Cannot render .expression.\. Cause: no such key"):
        resolve([declared(type="SELECT", expression="{{ e }}")], {"x": "1"}, {"{{ e }}": fail})


def test_select_can_take_its_first_value_and_options_with_labels() -> None:
    first = declared(type="SELECT", values=[{"label": "One", "value": "1"}, "2"], autoSelectFirst=True)
    many = declared(id="y", type="MULTISELECT", values=["a", "b"], autoSelectFirst=True)

    assert resolve([first, many], {}) == {"x": "1", "y": ["a"]}


def test_custom_values_and_optional_selections_are_free() -> None:
    free = declared(type="SELECT", values=["a"], allowCustomValue=True)
    optional = declared(id="y", type="SELECT", values=["a"], required=False)

    assert resolve([free, optional], {"x": "z", "y": "z"}) == {"x": "z", "y": "z"}


def test_a_file_is_stored_and_its_uri_kept() -> None:
    stored: dict[str, bytes] = {}

    def store(input_id: str, upload: FileInput) -> str:
        stored[input_id] = upload.source.read()
        return f"kestra:///inputs/{upload.name}"

    values = resolve([declared(type="FILE")], {"x": FileInput("a.csv", io.BytesIO(b"1,2"))}, store_file=store)

    assert values == {"x": "kestra:///inputs/a.csv"}
    assert stored == {"x": b"1,2"}


def test_a_file_must_be_internal_and_of_an_allowed_type() -> None:
    with pytest.raises(InvalidError, match="Expected an uploaded file"):
        resolve([declared(type="FILE")], {"x": "file:///etc/passwd"})
    with pytest.raises(InvalidError, match="it must be a file of the types"):
        resolve([declared(type="FILE", allowedFileExtensions=[".csv"])], {"x": "kestra:///a.exe"})
    with pytest.raises(InvalidError, match="a value is expected, no file"):
        resolve([declared(type="STRING")], {"x": FileInput("a.csv", io.BytesIO(b""))})


def test_a_secret_is_stored_encrypted_and_seen_plain_by_other_inputs() -> None:
    inputs = [
        declared(id="key", type="SECRET"),
        declared(type="STRING", defaults="{{ d }}", dependsOn={"inputs": ["key"]}),
    ]
    answers = {"{{ d }}": lambda scope: scope["inputs"]["key"].upper()}

    values = resolve(inputs, {"key": "abc"}, answers, encrypt=lambda text: {"sealed": text[::-1]})

    assert values == {"key": {"sealed": "cba"}, "x": "ABC"}


def test_a_cycle_of_dependencies_is_refused() -> None:
    inputs = [
        declared(id="a", type="STRING", dependsOn={"inputs": ["b"]}),
        declared(id="b", type="STRING", dependsOn={"inputs": ["a"]}),
    ]

    with pytest.raises(InvalidError, match="Cycle dependency detected for input with id a"):
        resolve(inputs, {"a": "1", "b": "2"})


def test_validation_answers_for_every_input_at_once() -> None:
    inputs = [
        declared(id="one", type="INT"),
        declared(id="two", type="STRING", dependsOn={"inputs": ["one"], "condition": "no"}),
        declared(id="three", type="INT", defaults=3),
    ]

    entries = validate_inputs(inputs, {"one": "x"}, render=scripted({"no": False}), render_text=lambda text, _: text)

    shown = [entry.as_json() for entry in entries]
    assert [(entry["input"]["id"], entry["enabled"], entry["isDefault"]) for entry in shown] == [
        ("one", True, False),
        ("two", False, False),
        ("three", True, True),
    ]
    assert shown[0]["errors"][0]["message"].startswith("Invalid input for `one`, Expected `INT` but received `x`")
    assert shown[2]["value"] == 3


def test_outputs_are_cast_like_inputs() -> None:
    outputs = [
        Output.model_validate({"id": "n.total", "type": "INT"}),
        Output.model_validate({"id": "list", "type": "ARRAY"}),
        Output.model_validate({"id": "none", "type": "STRING"}),
    ]

    assert cast_outputs(outputs, {"n.total": "3", "list": '["a"]'}) == {"n": {"total": 3}, "list": ["a"], "none": None}
    with pytest.raises(InvalidError, match=r"Invalid output for `n\.total`"):
        cast_outputs(outputs, {"n.total": "many"})


def test_a_long_value_is_shortened_in_the_message() -> None:
    with pytest.raises(InvalidError) as caught:
        resolve([declared(type="JSON")], {"x": "[" * 100_000})

    assert len(caught.value.message) < 1500
