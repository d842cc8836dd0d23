"""Edges of filters: what Java's patterns and Pebble's argument names ask for."""

from __future__ import annotations

from typing import Any

import pytest

from runner.errors import ExpressionError
from runner.expressions import Scope, check_template, render


@pytest.mark.parametrize(
    ("number", "pattern", "expected"),
    [
        (12345, "0.###E0", "1.234E4"),
        (12345, "##0.#####E0", "12.345E3"),
        (12345, "##0.##E0", "12.3E3"),
        (0.00012, "00.0E00", "12.0E-05"),
        (0, "0.0E0", "0.0E0"),
        (9.999, "0.0E0", "1.0E1"),
        (-12, "0.0E0 kg", "-1.2E1 kg"),
    ],
)
def test_numbers_are_written_with_exponents(number: Any, pattern: str, expected: str) -> None:
    assert render("{{ x | numberFormat(p) }}", Scope({"x": number, "p": pattern})) == expected


def test_a_field_of_a_date_is_padded_with_blanks() -> None:
    assert render("{{ '2024-06-03T10:00:00Z' | date('pppM|ppH') }}", Scope({})) == "  6|10"


@pytest.mark.parametrize("pattern", ["p", "pp-", "pp'x'", "yp", "p[y]"])
def test_padding_needs_a_field(pattern: str) -> None:
    with pytest.raises(ExpressionError, match="`p` needs a letter"):
        render("{{ '2024-06-03' | date(p) }}", Scope({"p": pattern}))


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{{ '%s and %S' | format('a', 'b') }}", "a and B"),
        ("{{ '%2$s %1$s' | format('a', 'b') }}", "b a"),
        ("{{ '[%5d] [%-5d] [%05d]' | format(1, 2, 3) }}", "[    1] [2    ] [00003]"),
        ("{{ '%x %X %o %,d %+d' | format(255, 255, 8, 1000000, 5) }}", "ff FF 10 1,000,000 +5"),
        ("{{ '%.2f %.1e %b %c %s' | format(1.5, 15, null, 'z', null) }}", "1.50 1.5e+01 false z null"),
        ("{{ '100%%' | format }}", "100%"),
    ],
)
def test_text_is_formatted_as_java_does(template: str, expected: str) -> None:
    assert render(template, Scope({})) == expected


@pytest.mark.parametrize("call", ["'%s' | format", "'%d' | format('a')", "'%' | format", "'%y' | format(1)"])
def test_a_format_that_does_not_fit_its_arguments_is_an_error(call: str) -> None:
    with pytest.raises(ExpressionError, match="The 'format' filter"):
        render(f"{{{{ {call} }}}}", Scope({}))


def test_arguments_may_be_named_as_pebble_does() -> None:
    template = "{{ 'ab' | replace(replace_pairs={'a': 'x'}) }}{{ 'ab' | replace(replacePairs={'a': 'y'}) }}"

    assert check_template(template) == []
    assert render(template, Scope({})) == "xbyb"


def test_join_prints_nested_values_as_java_does() -> None:
    assert render("{{ [1, [2, null], {'a': {'b': 1}}, null] | join(';') }}", Scope({})) == "1;[2, null];{a={b=1}};"


@pytest.mark.parametrize(
    ("call", "hint"),
    [("x | dateFormat", "`date`"), ("x | truncate(2)", "`abbreviate`"), ("appLink('a')", "Enterprise")],
)
def test_what_does_not_exist_names_what_does_when_checked_and_when_rendered(call: str, hint: str) -> None:
    (finding,) = check_template(f"{{{{ {call} }}}}")
    with pytest.raises(ExpressionError) as caught:
        render(f"{{{{ {call} }}}}", Scope({"x": "a"}))

    assert hint in str(finding.hint)
    assert hint in str(caught.value.hint)
