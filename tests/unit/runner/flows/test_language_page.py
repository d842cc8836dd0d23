"""What the reference says about the language is true of the models."""

from __future__ import annotations

import re
from pathlib import Path

from runner.flows.build import field_names
from runner.flows.casts import INPUT_TYPES
from runner.flows.models import Flow, Input, Task
from runner.flows.parse import parse_flow

PAGE = (Path(__file__).parents[4] / "docs" / "reference" / "language.md").read_text()


def _section(title: str) -> str:
    return PAGE.partition(f"## {title}\n")[2].partition("\n## ")[0]


def _named(section: str) -> set[str]:
    """Return the words in code marks of the first column of a table."""
    rows = re.findall(r"^\| (`[^|]*) \|", section, re.MULTILINE)
    return {word for row in rows for word in re.findall(r"`(\w+)`", row)}


def test_the_example_is_a_flow() -> None:
    example = re.search(r"```yaml\n(id: .*?)```", PAGE, re.DOTALL)

    assert example is not None
    assert parse_flow(example[1]).problems == ()


def test_every_property_in_the_tables_exists() -> None:
    assert _named(_section("Properties of a flow")) <= set(field_names(Flow))
    assert _named(_section("Properties of every task")) <= set(field_names(Task))


def test_every_input_type_is_described() -> None:
    words = set(re.findall(r"\b[A-Z]{3,}\b", _section("Inputs")))

    assert words == {*INPUT_TYPES, "FORM"}
    assert {"required", "defaults", "dependsOn", "displayName"} <= set(field_names(Input))
