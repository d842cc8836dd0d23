"""YAML, Ion and JSON as texts, and filters whose results depend on details of text."""

from __future__ import annotations

from typing import Any

import pytest

from runner.expressions import Scope, render
from runner.expressions.ion import from_ion, to_ion
from runner.expressions.limits import DEFAULT_LIMITS
from runner.expressions.yaml_text import dump_yaml, parse_yaml

_VALUES: list[Any] = [
    {"a": 1, "b": [1, 2.5, None, True], "c": {"d": {"e": "x"}}},
    [{"a": 1, "b": 2}, [1, [2]], "text", {}, []],
    [
        "1",
        "true",
        "null",
        "",
        " x",
        "x ",
        "a: b",
        "a #b",
        "- a",
        "it's",
        '"q"',
        "line\nbreak",
        "tab\t",
        "ünï",
        "0x1",
        "yes",
    ],
    {"key with blank": "a\nb\n", "1": "one\n\ntwo", "": "empty"},
    "plain",
    3.25,
    None,
]


@pytest.mark.parametrize("value", _VALUES)
def test_values_survive_the_way_through_yaml(value: Any) -> None:
    assert parse_yaml(dump_yaml(value), DEFAULT_LIMITS) == value


@pytest.mark.parametrize("value", _VALUES)
def test_values_survive_the_way_through_ion(value: Any) -> None:
    assert from_ion(to_ion(value)) == [value]


def test_yaml_is_written_with_few_quotes_and_lists_indented_by_one() -> None:
    text = dump_yaml({"list": ["string", 1, 1.123], "map": {"k": "v"}, "rows": [{"a": 1, "b": [2]}]})

    assert text == "list:\n - string\n - 1\n - 1.123\nmap:\n  k: v\nrows:\n - a: 1\n   b:\n    - 2\n"


def test_yaml_aliases_are_the_anchored_value_and_merges_fill_in() -> None:
    value = parse_yaml("base: &b {x: 1, y: 2}\nuse: *b\nmore:\n  <<: *b\n  y: 3\n", DEFAULT_LIMITS)

    assert value == {"base": {"x": 1, "y": 2}, "use": {"x": 1, "y": 2}, "more": {"x": 1, "y": 3}}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("// c\n{a: 1, 'b c': \"x\\ty\"} /* d */ [null.int, nan2, 'sym']",
         [{"a": 1, "b c": "x\ty"}, [None, "nan2", "sym"]]),
        ("'''long ''' '''string'''", ["long string"]),
        ("note::2024-01-01T10:00:00Z 2024-01-01T 1.5e0 -3d2 0xff",
         ["2024-01-01T10:00:00Z", "2024-01-01", 1.5, -300.0, 255]),
        ("$ion_1_0 (a b 1)", [["a", "b", 1]]),
        ("", []),
    ],
)  # fmt: skip
def test_ion_is_read(text: str, expected: list[Any]) -> None:
    assert from_ion(text) == expected


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{{ 'abc' | abbreviate(3) }} {{ 'ab' | abbreviate(3) }}", "... ab"),
        ("{{ {'a': ['x1']} | replace({'\\d': 'n'}, regexp=true) }}", '{"a":["xn"]}'),
        ("{{ 'a.b' | split('\\.') }} {{ 'a,,b,,' | split(',') }} {{ ',a' | split(',') }} {{ 'abc' | split('') }}",
         '["a","b"] ["a","","b"] ["","a"] ["a","b","c"]'),
        ("{{ 'a,b,,' | split(',', -1) }} {{ 'a,b,c' | split(',', 2) }}", '["a","b","",""] ["a","b,c"]'),
        ("{{ 'a b~c*' | urlencode }}", "a+b%7Ec*"),
        ("{{ 'x' | regexReplace('(?<n>x)', '${n}\\$1') }}", "x$1"),
        ("{{ ['b', 'a'] | sort }} {{ [1.5, 1] | rsort }}", '["a","b"] [1.5,1]'),
        ("{{ 1234.5 | numberFormat('#,##0.00') }} {{ -0.5 | numberFormat('0.0#') }} {{ 0.256 | numberFormat('#%') }}",
         "1,234.50 -0.5 26%"),
        ("{{ 2.5 | numberFormat('#') }} {{ 3.5 | numberFormat('0') }} {{ 7 | numberFormat('000') }}", "2 4 007"),
        ("{{ '12.3' | number }} {{ '9223372036854775807' | number('LONG') }} {{ '1.10' | number('BIGDECIMAL') }}",
         "12.3 9223372036854775807 1.10"),
        ("{{ 'a' | slice(0, 1) }}{{ '' | first }}{{ [] | last }}", "a"),
        ("{{ [1, 1.0, '1', [1], [1]] | distinct }}", '[1,"1",[1]]'),
        ("{{ '2' | className }} {{ {} | className }} {{ [] | className }} {{ 1.5 | className }}",
         "java.lang.String java.util.LinkedHashMap java.util.ArrayList java.lang.Double"),
        ("{{ 'no json' | jq('.') }} {{ null | jq('.') }}", '["no json"] '),
        ("{{ {'env': 1} | jq('.env') }} {{ {'a': 'env'} | jq('\"env \\(.a)\"') }}", '[1] ["env env"]'),
        ("{{ null | toJson }} {{ null | toIon }} {{ null | upper }}", "null null "),
        ("{{ {'d': 1.0, 'e': 'é'} | json }}", '{"d":1.0,"e":"é"}'),
    ],
)  # fmt: skip
def test_filters_in_detail(template: str, expected: str) -> None:
    assert render(template, Scope({})) == expected
