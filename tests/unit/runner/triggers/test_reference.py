"""The page about triggers: its examples are flows without a problem, and no type is left out."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner.flows.parse import parse_flow
from runner.triggers import conditions
from tests.documentation.pages import Page

PAGE = Page.read(Path(__file__).parents[4] / "docs" / "reference" / "triggers.md")
EXAMPLES = [block for block in PAGE.blocks if block.language == "yaml"]
AROUND = """
id: example
namespace: company.team
inputs:
  - {id: month, type: STRING, required: false}
  - {id: token, type: STRING, required: false}
  - {id: rows, type: STRING, required: false}
tasks: [{id: say, type: core.log.Log, message: hello}]
"""


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda block: f"line {block.line}")
def test_an_example_is_a_flow_without_a_problem(example: object) -> None:
    assert hasattr(example, "text")

    parsed = parse_flow(AROUND + example.text)

    assert [problem.message for problem in parsed.problems] == []
    assert parsed.flow is not None
    assert parsed.flow.triggers


def test_every_condition_is_on_the_page() -> None:
    kinds = [
        name
        for name, kind in vars(conditions).items()
        if isinstance(kind, type)
        and issubclass(kind, conditions.PureCondition)
        and not name.startswith("_")
        and name != "PureCondition"
    ]

    assert len(kinds) == 18
    assert [name for name in kinds if f"`{name}`" not in PAGE.text] == []
