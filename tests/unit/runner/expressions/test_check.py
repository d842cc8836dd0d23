"""What can be said about a template without rendering it."""

from __future__ import annotations

import pytest

from runner.expressions import Call, calls_in, check_template, names_in


@pytest.mark.parametrize(
    ("template", "line", "column", "code", "hint"),
    [
        ("{{ 1 + }}", 1, 8, "expression.syntax", None),
        ("a\n {{ x | uper }}", 2, 7, "expression.filter.unknown", "did you mean `upper`?"),
        ("{{ x | dateFormat('y') }}", 1, 6, "expression.filter.unknown", "did you mean `date`?"),
        ("{{ x | truncate(3) }}", 1, 6, "expression.filter.unknown", "did you mean `abbreviate`?"),
        ("{{ secrets('A') }}", 1, 4, "expression.function.unknown", "did you mean `secret`?"),
        ("{{ x is defnied }}", 1, 6, "expression.test.unknown", "did you mean `defined`?"),
        ("{{ x | date(formt='y') }}", 1, 6, "expression.argument", "did you mean `format`?"),
        ("{{ x | replace }}", 1, 6, "expression.argument", None),
        ("{% fro i in x %}", 1, 1, "expression.syntax", "did you mean `for`?"),
        ("{% include 'x' %}", 1, 1, "expression.syntax", "templates of flows stand alone"),
    ],
)
def test_faults_are_found_with_their_place_and_a_hint(
    template: str, line: int, column: int, code: str, hint: str | None
) -> None:
    [finding] = check_template(template)

    assert (finding.line, finding.column, finding.code, finding.hint) == (line, column, code, hint)


def test_all_unknown_names_are_found_in_the_order_of_the_source() -> None:
    findings = check_template("{{ a | one }}\n{{ two() }} {{ b is three }}")

    assert [finding.message for finding in findings] == [
        "Filter [one] does not exist",
        "Function or Macro [two] does not exist",
        "Test [three] does not exist",
    ]


@pytest.mark.parametrize("template", ["plain", "{{ a.b ?? 1 | upper }}", "{% macro m() %}{% endmacro %}{{ m() }}"])
def test_sound_templates_have_no_findings(template: str) -> None:
    assert check_template(template) == []


def test_names_are_the_roots_that_a_template_reads_and_does_not_bind() -> None:
    template = (
        "{{ outputs.a.b[inputs.c] }}{% for row in vars.rows %}{{ row.x }}{{ loop.index }}{% endfor %}{% set y = z %}"
    )

    assert names_in(template) == {"outputs", "inputs", "vars", "z"}
    assert names_in("plain") == set()


def test_calls_are_listed_with_their_constant_arguments() -> None:
    calls = set(calls_in("{{ secret('KEY') }}\n{{ kv('k', ns) | jq('.a') is defined }}"))

    assert calls == {
        Call("function", "secret", 1, 4, ("KEY",)),
        Call("function", "kv", 2, 4, ("k",)),
        Call("filter", "jq", 2, 16, (".a",)),
        Call("test", "defined", 2, 27, ()),
    }
