"""What somebody is told whose file is no YAML: where the mistake was made, and what to do about it."""

from __future__ import annotations

import pytest

from runner.errors import FlowError
from runner.flows.loader import load

_INDENTATION = "look at the indentation"
_QUOTED = "put the text in quotes"
_MISTAKES = {
    "a tab for the indentation": ("tasks:\n\t- id: a\n", (2, 1), "indent with plain spaces"),
    "a tab before a key": ("a: 1\n\tb: 2\n", (2, 1), "indent with plain spaces"),
    "a dash too far to the left": ("tasks:\n  - id: a\n    t: x\n   m: hi\n", (4, 4), _INDENTATION),
    "a key too far to the right": ("tasks:\n- id: a\n  t: x\n    m: hi\n", (4, 6), _INDENTATION),
    "a key too far to the left": ("a:\n  b: 1\n c: 2\n", (3, 2), _INDENTATION),
    "a colon in a text": ("tasks:\n  - id: a\n    message: note: this\n", (3, 18), "it holds `: `"),
    "a text that begins with an at": ("a: @user\n", (1, 4), "cannot begin with `@`"),
    "a quote in a quoted text": ("a: 'it's'\n", (1, 8), _QUOTED),
    "a quote that stays open": ('a: 1\nb: "open\nc: 2\n', (2, 4), "the quote that opens here is not closed"),
    "a bracket that stays open": ("a: [1, 2\nb: 3\n", (2, 2), "the bracket around it is not closed"),
    "a comma that is missing": ('a: [\n  "b"\n  "c"\n]\n', (3, 3), "a comma is missing before this"),
    "a backslash in double quotes": ('a: "\\d+"\n', (1, 5), "in single quotes"),
    "a list behind its key": ("a: - b\n", (1, 4), "in the line below its key"),
    "a line without a key": ("a: b\nc\nd: e\n", (3, 1), "`key: value`"),
    "a space that is none": ("a:\n\u00a0\u00a0- id: b\n    c: d\n", (2, 1), "U+00A0"),
    "an expression without quotes": ("a: b\nc: {{ inputs.x }}\n", (2, 5), 'in quotes: "{{ … }}"'),
}


@pytest.mark.parametrize(("text", "place", "advice"), _MISTAKES.values(), ids=_MISTAKES.keys())
def test_a_usual_mistake_is_answered_with_its_place_and_advice(text: str, place: tuple[int, int], advice: str) -> None:
    with pytest.raises(FlowError) as caught:
        load(text)

    [problem] = caught.value.problems
    assert (problem.line, problem.column) == place
    assert advice in str(problem.hint)


def test_a_wide_space_in_a_text_above_is_not_taken_for_the_mistake() -> None:
    with pytest.raises(FlowError) as caught:
        load("description: |\n  Steps:\n  \u00a0 one\na: b\nc: d\ntasks: [1, 2\n")

    [problem] = caught.value.problems
    assert (problem.line, problem.hint) == (7, "a comma is missing before this, or the bracket around it is not closed")


def test_a_map_as_a_key_that_is_no_expression_is_not_told_about_quotes() -> None:
    with pytest.raises(FlowError) as caught:
        load("? [a, b]\n: c\n")

    assert caught.value.problems[0].hint is None


def test_a_merge_conflict_is_called_one() -> None:
    with pytest.raises(FlowError) as caught:
        load("id: a\n<<<<<<< HEAD\nb: 1\n=======\nb: 2\n>>>>>>> other\n")

    [problem] = caught.value.problems
    assert (problem.line, problem.message) == (2, "a conflict of git that nobody resolved")


@pytest.mark.parametrize(
    ("source", "place", "said"),
    [
        ("id: a\nb: caf\xe9\n".encode("latin-1"), (2, 7), "the byte 0xE9 begins no character"),
        ("ö: caf".encode() + b"\xe9", (1, 7), "the byte 0xE9 begins no character"),
        ("id: a\n".encode("utf-16"), (1, 1), "UTF-16"),
    ],
)
def test_a_file_in_another_encoding_is_answered_with_its_first_foreign_byte(
    source: bytes, place: tuple[int, int], said: str
) -> None:
    with pytest.raises(FlowError) as caught:
        load(source)

    [problem] = caught.value.problems
    assert (problem.code, problem.line, problem.column) == ("yaml.encoding.invalid", *place)
    assert (said in problem.message, problem.hint) == (True, "save it as UTF-8")
