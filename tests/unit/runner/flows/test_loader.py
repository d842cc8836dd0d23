"""The guarded loader: what values become, where they stand, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from runner.errors import FlowError
from runner.flows.loader import load, load_all


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("on", "on"),
        ("yes", "yes"),
        ("true", True),
        ("False", False),
        ("~", None),
        ("null", None),
        ("", None),
        ("012", 12),
        ("0o12", 10),
        ("0x1F", 31),
        ("-7", -7),
        ("1e3", 1000.0),
        ("1.10", 1.1),
        (".5", 0.5),
        ("1_000", "1_000"),
        ("0b11", "0b11"),
        ("1:30", "1:30"),
        ("12:30:45", "12:30:45"),
        ("2024-01-01", "2024-01-01"),
        ("=", "="),
        (".inf", ".inf"),
        (".nan", ".nan"),
        ("1e999", "1e999"),
        ("'true'", "true"),
        ('"12"', "12"),
        ("- not a list item", ["not a list item"]),
    ],
)
def test_a_scalar_is_read_by_the_core_schema(text: str, value: Any) -> None:
    document = load(f"a: {text}" if not text.startswith("-  ") and text != "- not a list item" else f"a:\n{text}")

    assert document.value == {"a": value}
    assert type(document.value["a"]) is type(value)


def test_keys_are_always_text() -> None:
    document = load("on: push\n1: one\ntrue: yes\n~: nothing\n2024-01-01: day\n")

    assert list(document.value) == ["on", "1", "true", "~", "2024-01-01"]


def test_every_value_and_key_keeps_its_place() -> None:
    document = load("id: a\ntasks:\n  - id: one\n    list: [1, 22, {deep: x}]\n")

    at = document.positions.at
    assert at(("id",)) == (1, 5)
    assert at(("tasks", 0)) == (3, 5)
    assert at(("tasks", 0, "list", 1)) == (4, 15)
    assert at(("tasks", 0, "list", 2, "deep")) == (4, 26)
    assert document.positions.key(("tasks", 0, "list")) == (4, 5)


def test_a_path_without_a_place_has_that_of_what_is_around_it() -> None:
    document = load("a:\n  b: 1\n")

    assert document.positions.at(("a", "missing", 3)) == (2, 3)


def test_an_alias_is_a_copy_of_its_anchor() -> None:
    value = load("a: &x {k: [1]}\nb: *x\n").value

    assert value["a"] == value["b"]
    assert value["a"] is not value["b"]
    assert value["a"]["k"] is not value["b"]["k"]


def test_merged_keys_give_way_to_own_ones_and_to_earlier_maps() -> None:
    value = load("x: &x {a: 1, b: 1}\ny: &y {b: 2, c: 2}\nz:\n  <<: [*x, *y]\n  a: own\n").value

    assert value["z"] == {"a": "own", "b": 1, "c": 2}


def test_duplicate_keys_are_all_reported_with_both_lines() -> None:
    with pytest.raises(FlowError) as caught:
        load("variables:\n  tf: 1\n  ok: 2\n  tf: 3\nid: a\nid: b\n", file="flows/a.yaml")

    problems = caught.value.problems
    assert [(problem.code, problem.line, problem.column) for problem in problems] == [
        ("yaml.key.duplicate", 4, 3),
        ("yaml.key.duplicate", 6, 1),
    ]
    assert problems[0].message == "Duplicate field 'tf', lines 2 and 4"
    assert problems[0].file == "flows/a.yaml"


def test_a_duplicate_beside_a_merge_is_refused() -> None:
    with pytest.raises(FlowError) as caught:
        load("x: &x {a: 1}\ny:\n  <<: *x\n  b: 1\n  b: 2\n")

    assert caught.value.code == "yaml.key.duplicate"


def test_several_documents_are_read_in_bulk_and_empty_ones_left_out() -> None:
    documents = load_all("---\nid: a\n---\n---\nid: b\n...\n")

    assert [document.value["id"] for document in documents] == ["a", "b"]
    assert documents[1].positions.at(("id",)) == (5, 5)


def test_a_byte_order_mark_is_no_part_of_the_first_key() -> None:
    assert load(b"\xef\xbb\xbfid: a\n").value == {"id": "a"}


def test_a_syntax_error_names_its_place() -> None:
    with pytest.raises(FlowError) as caught:
        load("id: a\ntasks:\n  - id: 'open\n", file="a.yaml")

    problem = caught.value.problems[0]
    assert problem.code == "yaml.syntax.invalid"
    assert problem.line is not None
    assert problem.line >= 3
