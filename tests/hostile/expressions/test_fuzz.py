"""Random templates: whatever they are, they render or end in a typed error."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from runner.errors import MainstemError
from runner.expressions import Scope, check_template, render, render_typed
from runner.expressions.registry import FILTERS, FUNCTIONS, TESTS

_WORDS = [
    "{{", "}}", "{%", "%}", "{#", "#}", "-", "(", ")", "[", "]", "{", "}", ",", ":", "?", "??", "???", ".", "..", "|",
    "~", "+", "*", "/", "%", "==", "<", "=", "'", '"', "#{", "\\", "\n", " ", "is", "not", "in", "and", "contains",
    "if", "endif", "for", "endfor", "set", "macro", "endmacro", "raw", "endraw", "block", "x", "1", "1.5", "null",
]  # fmt: skip
_VALUES = [
    "1",
    "-3",
    "1.5",
    "'a'",
    "'2024-01-01'",
    "''",
    "null",
    "true",
    "[]",
    "[1, 'b']",
    "{'k': [1]}",
    "x",
    "d",
    "m",
    "e",
    "none",
    "1..3",
]
_OPERATORS = ["+", "-", "*", "/", "%", "==", "!=", "<", ">=", "~", "??", "???", "and", "or", "contains", "in", ".."]
_SCOPE = Scope({"x": 1, "d": datetime(2024, 1, 1, tzinfo=UTC), "m": {"a": [None]}, "e": Decimal("1.50")})

_expressions: st.SearchStrategy[str] = st.recursive(
    st.sampled_from(_VALUES),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(_OPERATORS), inner).map(lambda it: f"({it[0]} {it[1]} {it[2]})"),
        st.tuples(inner, st.sampled_from(sorted(FILTERS)), st.lists(inner, max_size=2)).map(
            lambda it: f"({it[0]} | {it[1]}({', '.join(it[2])}))"
        ),
        st.tuples(st.sampled_from(sorted(FUNCTIONS)), st.lists(inner, max_size=3)).map(
            lambda it: f"{it[0]}({', '.join(it[1])})"
        ),
        st.tuples(inner, st.sampled_from(sorted(TESTS))).map(lambda it: f"({it[0]} is {it[1]})"),
    ),
    max_leaves=8,
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(_WORDS), max_size=30).map("".join))
def test_any_text_renders_or_is_refused(template: str) -> None:
    findings = check_template(template)
    try:
        render(template, _SCOPE)
    except MainstemError as error:
        assert error.code.startswith("expression.")  # noqa: PT017 - the other outcome is right as well
    else:
        assert not [finding for finding in findings if finding.code == "expression.syntax"]


@settings(max_examples=300, deadline=None)
@given(_expressions)
def test_any_expression_has_a_value_or_a_typed_error(expression: str) -> None:
    try:
        value = render_typed(f"{{{{ {expression} }}}}", _SCOPE)
        render(f"{{{{ {expression} }}}}", _SCOPE)
    except MainstemError as error:
        assert error.code.startswith("expression.")  # noqa: PT017 - the other outcome is right as well
    else:
        assert not callable(value)
