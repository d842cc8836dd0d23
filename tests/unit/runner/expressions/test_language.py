"""Syntax, precedences and operators, as Pebble and Kestra have them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta, timezone
from types import MappingProxyType
from typing import Any

import pytest

from runner.errors import ExpressionError, UndefinedError
from runner.expressions import Scope, compile_template, is_truthy, render, render_deep, render_typed

_VALUES: dict[str, Any] = {
    "name": "x",
    "none": None,
    "empty": "",
    "two": 2,
    "list": ["string", 1, 1.123],
    "map": {"a": 1, "b-c": {"d": "deep"}, "list": [{"k": "v"}]},
    "instant": datetime(2024, 9, 24, 13, 35, 32, 983335, tzinfo=UTC),
    "zoned": datetime(2013, 9, 8, 16, 19, tzinfo=timezone(timedelta(hours=2))),
}


def _render(template: str) -> str:
    return render(template, Scope(_VALUES))


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        # values as text
        ("{{ list }}", '["string",1,1.123]'),
        ("{{ map }}", '{"a":1,"b-c":{"d":"deep"},"list":[{"k":"v"}]}'),
        ("{{ none }}|{{ true }}|{{ false }}", "|true|false"),
        ("{{ 1.0 }} {{ 1.123 }} {{ 10000000.0 }} {{ 0.0001 }}", "1.0 1.123 1.0E7 1.0E-4"),
        ("{{ instant }}", "2024-09-24T13:35:32.983335Z"),
        ("{{ zoned }}", "2013-09-08T16:19+02:00"),
        ("{{ zoned.year }}-{{ zoned.monthValue }}-{{ zoned.dayOfMonth }} {{ zoned.dayOfWeek }}", "2013-9-8 SUNDAY"),
        # paths
        ("{{ map.a }}{{ map['b-c'].d }}{{ map['b-c']['d'] }}", "1deepdeep"),
        ("{{ map.list[0].k }}{{ list['1'] }}{{ list[two] }}", "v11.123"),
        # precedences
        ("{{ 1 + 2 * 3 }} {{ (1 + 2) * 3 }} {{ 10 - 2 - 3 }}", "7 9 5"),
        ("{{ -1 + -2 | abs }}", "1"),
        ("{{ 'a' ~ 'b' | upper }}", "AB"),
        ("{{ missing ?? 'd' | upper }}", "D"),
        ("{{ missing ?? 'a' ~ 'b' }}", "ab"),
        ("{{ none ?? missing ?? 'c' }}", "c"),
        ("{{ not 1 == 2 }}", "false"),
        ("{{ 1 == 1 and 2 == 2 or missing }}", "true"),
        ("{{ 1 + 1 == 2 ? 'yes' : 'no' }}", "yes"),
        ("{{ false ? 1 : true ? 2 : 3 }}", "2"),
        ("{{ 2 is even and 3 is not even }}", "true"),
        # arithmetic as in Java
        ("{{ 7 / 2 }} {{ 7 / 2.0 }} {{ -7 / 2 }} {{ -7 % 3 }} {{ 7 % -3 }}", "3 3.5 -3 -1 1"),
        ("{{ 1 == 1.0 }} {{ '1' == 1 }} {{ true == 1 }}", "true false false"),
        ("{{ 1.0 / 0 }}", "Infinity"),
        # text and lists
        ("{{ 'a' ~ none ~ 1 }} {{ 'a' + 1 }} {{ 1 + 'a' }} {{ 'a' + none }}", "a1 a1 1a anull"),
        ("{{ [1] + 2 }} {{ [1] + [2, 3] }} {{ [1, 2, 1] - 1 }} {{ [1, 2, 3] - [1, 3] }}", "[1,2] [1,2,3] [2] [2]"),
        ("{{ 1..4 }} {{ 'a'..'c' }}", '[1,2,3,4] ["a","b","c"]'),
        ("{{ [1, 2] contains 2 }} {{ [1, 2] contains [1, 2] }} {{ map contains 'a' }} {{ 'abc' contains 'b' }}",
         "true true true true"),
        ("{{ none contains 1 }} {{ 2 in [1, 2] }} {{ 3 not in [1, 2] }} {{ 3 isIn [1] }}", "false true true false"),
        # comparisons
        ("{{ 1 < 2 }} {{ 2 <= 2.0 }} {{ none > 1 }} {{ 'a' < 'b' }}", "true true false true"),
        ("{{ 'a' equals 'a' }}", "true"),
        # conditions
        ("{{ none ? 1 : 2 }} {{ 'false' ? 1 : 2 }} {{ 0 ? 1 : 2 }} {{ '' ? 1 : 2 }}", "2 1 2 2"),
        # what is not there
        ("{{ missing is defined }} {{ missing.a.b is defined }} {{ none is defined }}", "false false false"),
        ("{{ map.nope ??? 'd' }}|{{ none ??? 'd' }}|", "d||"),
        ("{{ missing.a.b | default('d') }} {{ empty | default('e') }}", "d e"),
        ("{{ map[missing].child is defined ? 1 : 2 }}", "2"),
        ("{{ (missing | upper) ?? 'caught' }}", "caught"),
        # literals
        (r"""{{ '\d' }} {{ "\n" }} {{ 'it\'s' }} {{ "say \"hi\"" }}""", r"""\d \n it's say "hi" """.rstrip()),
        ("{{ {'a': 1, two: [none]} }}", '{"a":1,"2":[null]}'),
        ('{{ "Hello #{name ~ "!"} and #{two + 1}" }}', "Hello x! and 3"),
        ("{{ 2147483648L }} {{ 1e3 }}", "2147483648 1000.0"),
        # tags
        ("{% for i in [10, 20] %}{{ loop.index }}={{ i }}{{ loop.last ? '' : ',' }}{% endfor %}", "0=10,1=20"),
        ("{% for e in {'a': 1} %}{{ e.key }}={{ e.value }}{% endfor %}", "a=1"),
        ("{% for i in [] %}x{% else %}none{% endfor %}{% for i in none %}x{% else %}y{% endfor %}", "none"),
        ("{% if 'false' %}y{% endif %}{% if 0 %}a{% elseif 1 %}b{% else %}c{% endif %}", "yb"),
        ("{% set a = 1 %}{% for i in 1..3 %}{% set a = a + i %}{% endfor %}{{ a }}", "7"),
        ("{% set name = 'other' %}{{ name }}", "other"),
        ("{% macro hi(who, mark='!') %}hi {{ who }}{{ mark }}{% endmacro %}{{ hi('me') }}{{ hi(mark='?', who='you') }}",
         "hi me!hi you?"),
        ("{% block a %}x{% endblock %}{{ block('a') }}", "xx"),
        ("{% filter upper | replace({'B': '-'}) %}abc{{ name }}{% endfilter %}", "A-CX"),
        ("See {% raw %}{{ var }}{% endraw %}{% verbatim %}{% x %}{% endverbatim %}", "See {{ var }}{% x %}"),
        ("a {%- raw -%} {{ x }} {%- endraw -%} b {% raw %}{{ y }}{% endraw %}", "a  {{ x }}  b {{ y }}"),
        ("a {%- verbatim -%} {{ x }} {%- endverbatim -%} b", "a{{ x }}b"),
        ("a {# comment {{ x #}b", "a b"),
        ("a \n {{- 1 -}} \n b{%- if true -%} c {%- endif %}", "a1bc"),
        ("{% if true %}\n{% endif %}\n", "\n\n"),
        ("no braces", "no braces"),
        ("{ a } }} %}", "{ a } }} %}"),
    ],
)  # fmt: skip
def test_templates_render_as_in_pebble(template: str, expected: str) -> None:
    assert _render(template) == expected


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ missing }}", "Unable to find `missing` used in the expression `{{ missing }}` at line 1"),
        ("a\n{{ map.nope }}", "Unable to find `nope` used in the expression `a\n{{ map.nope }}` at line 2"),
        ("{{ list[3] }}", "Unable to find `3`"),
        ("{{ none.child }}", "Unable to find `child`"),
        ("{{ 'text'.upper }}", "Unable to find `upper`"),
        ("{{ missing is defined ? 1 : missing2 }}", "Unable to find `missing2`"),
        ("{{ missing is empty }}", "Unable to find `missing`"),
    ],
)
def test_what_is_missing_is_named_with_its_line(template: str, message: str) -> None:
    with pytest.raises(UndefinedError) as raised:
        _render(template)

    assert raised.value.code == "expression.undefined"
    assert message in raised.value.message


def test_a_missing_name_is_answered_with_the_nearest_one() -> None:
    with pytest.raises(UndefinedError) as raised:
        _render("{{ map.lst }}")

    assert raised.value.hint == "did you mean `list`?"


def test_a_hyphen_in_a_path_is_answered_with_brackets() -> None:
    with pytest.raises(UndefinedError) as raised:
        _render("{{ map.b-c.d }}")

    assert raised.value.hint == "a name with hyphens needs brackets: ['b-c']"


@pytest.mark.parametrize(
    ("template", "code"),
    [
        ("{{ 1 + }}", "expression.syntax"),
        ("{{ a b }}", "expression.syntax"),
        ("{{ a", "expression.syntax"),
        ("{{ (1 }}", "expression.syntax"),
        ("{{ 'a }}", "expression.syntax"),
        ("{{ a.b() }}", "expression.syntax"),
        ("{{ | upper }}", "expression.syntax"),
        ("{{ x | first.name }}", "expression.syntax"),
        ("{% if 1 %}", "expression.syntax"),
        ("{% endif %}", "expression.syntax"),
        ("{% include 'x' %}", "expression.syntax"),
        ("{# open", "expression.syntax"),
        ("{% raw %}", "expression.syntax"),
        ("{{ 'a' * 2 }}", "expression.type"),
        ("{{ 'a' < 1 }}", "expression.type"),
        ("{{ none + 1 }}", "expression.type"),
        ("{{ -'a' }}", "expression.type"),
        ("{{ 1 contains 1 }}", "expression.type"),
        ("{{ not none }}", "expression.type"),
        ("{{ list ? 1 : 2 }}", "expression.type"),
        ("{% if none %}{% endif %}", "expression.type"),
        ("{% for i in 1 %}{% endfor %}", "expression.type"),
        ("{{ 1 / 0 }}", "expression.value"),
        ("{{ 1 | nope }}", "expression.filter.unknown"),
        ("{{ nope() }}", "expression.function.unknown"),
        ("{{ 1 is nope }}", "expression.test.unknown"),
        ("{{ 'a' | upper(1) }}", "expression.argument"),
        ("{{ 'a' | replace }}", "expression.argument"),
        ("{{ secret('A') }}", "expression.function.unavailable"),
        ("{{ 'a' | regexMatch('(?=a)') }}", "expression.regex"),
        ("{{ 'a' | date }}", "expression.date"),
        ("{{ '2024-01-01' | date('qwertz') }}", "expression.date"),
    ],
)
def test_faults_are_told_by_their_code(template: str, code: str) -> None:
    with pytest.raises(ExpressionError) as raised:
        _render(template)

    assert raised.value.code == code


def test_a_fault_in_a_branch_that_is_not_taken_does_not_matter() -> None:
    assert _render("{{ true ? 1 : nope() }}{{ 1 ?? (2 | nope) }}") == "11"


def test_syntax_errors_carry_line_and_column() -> None:
    with pytest.raises(ExpressionError, match=r"\(line 2, column 8\)"):
        _render("text\n{{ 1 + }}")


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{{ list }}", ["string", 1, 1.123]),
        ("{{ two }}{{ 3 }}", 5),
        ("a{{ name }}", "ax"),
        ("{{ none }}", None),
        ("{% set a = {'k': 1} %}{{ a }}", {"k": 1}),
        ("{% macro m() %}{{ nope }}{% endmacro %}{{ m() ?? list }}", ["string", 1, 1.123]),
        ("plain", "plain"),
    ],
)
def test_typed_rendering_keeps_native_values(template: str, expected: Any) -> None:
    assert render_typed(template, Scope(_VALUES)) == expected


def test_typed_rendering_refuses_parts_that_cannot_be_added() -> None:
    with pytest.raises(ExpressionError, match=r"Tried to add java\.lang\.Integer to java\.lang\.String"):
        render_typed("a{{ two }}", Scope(_VALUES))


def test_deep_rendering_renders_keys_and_keeps_other_values() -> None:
    value = {"{{ name }}": ["{{ two }}", 3, None], "k": {"x": True}}

    assert render_deep(value, Scope(_VALUES)) == {"x": ["2", 3, None], "k": {"x": True}}


def test_values_are_never_rendered_twice_unless_asked() -> None:
    scope = Scope({"body": "{{ secret('X') }}", "a": "{{ b }}", "b": "{{ c }}", "c": "1"})

    assert render("{{ body }}", scope) == "{{ secret('X') }}"
    assert render("{{ a }} {{ renderOnce(a) }} {{ render(a) }}", scope) == "{{ b }} {{ c }} 1"
    assert render("{{ render({'k': [a]}) }}", scope) == '{"k":["1"]}'


def test_recursive_scopes_render_until_stable_and_lose_render() -> None:
    scope = Scope({"a": "{{ b }}", "b": "1"}, recursive=True)

    assert render("{{ a }}{% raw %}{{ a }}{% endraw %}", scope) == "1{{ a }}"
    with pytest.raises(ExpressionError, match=r"Function or Macro \[render\] does not exist"):
        render("{{ render(a) }}", scope)


def test_variables_that_refer_to_each_other_are_refused() -> None:
    with pytest.raises(ExpressionError, match="Too many rendering attempts"):
        render("{{ render(a) }}", Scope({"a": "{{ b }}", "b": "{{ a }}"}))


@pytest.mark.parametrize("text", ["", "0", "-0", "false", None, False, 0])
def test_falsy_conditions(text: Any) -> None:
    assert not is_truthy(text)


@pytest.mark.parametrize("text", ["no", "null", " ", "1", "False", True, 1, "0.0"])
def test_everything_else_is_truthy(text: Any) -> None:
    assert is_truthy(text)


class _Lazy(Mapping[str, Any]):
    """Computes its values when they are read."""

    def __init__(self) -> None:
        self.read: list[str] = []

    def __getitem__(self, key: str) -> Any:
        if key not in {"a", "b"}:
            raise KeyError(key)
        self.read.append(key)
        return MappingProxyType({"k": (1, 2)})

    def __iter__(self) -> Iterator[str]:
        return iter(("a", "b"))

    def __len__(self) -> int:
        return 2


def test_roots_are_computed_only_when_a_template_reads_them() -> None:
    variables = _Lazy()

    text = render("{{ a.k[1] }} {{ a }} {{ c ?? 'none' }}", Scope(variables))

    assert text == '2 {"k":[1,2]} none'
    assert set(variables.read) == {"a"}


def test_macros_see_their_arguments_only() -> None:
    with pytest.raises(UndefinedError):
        _render("{% macro m() %}{{ name }}{% endmacro %}{{ m() }}")


def test_templates_are_compiled_once() -> None:
    assert compile_template("{{ name }} once") is compile_template("{{ name }} once")


def test_text_without_expressions_is_not_kept_in_the_cache() -> None:
    json = '{"a": {"b": 1}}'

    assert compile_template(json) is not compile_template(json)
    assert render(json, Scope({})) == json
