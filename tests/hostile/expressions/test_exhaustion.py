"""Expressions that try to fill the memory, to keep a thread busy, or to reach what they must not."""

from __future__ import annotations

import time
from typing import Any

import pytest

from runner.errors import ExpressionError
from runner.expressions import Scope, render

_WORST_S = 1.0
_CONTEXT: dict[str, Any] = {
    "o": time,
    "f": time.monotonic,
    "text": "a" * 1000,
    "evil": "a" * 40 + "!",
    "d": {"a": {"b": ["x", "y"]}},
}


def _doubling(start: str, step: str, times: int = 40) -> str:
    return "{% set a = " + start + " %}" + ("{% set a = " + step + " %}") * times


_EXHAUSTING = {
    "nested loops without output": "{% for a in 0..99998 %}{% for b in 0..99998 %}{% endfor %}{% endfor %}",
    "nested loops that print nothing": "{% for a in 0..9999 %}{% for b in 0..9999 %}{{ '' }}{% endfor %}{% endfor %}",
    "nested loops that print": "{% for a in 0..99998 %}{% for b in 0..99998 %}x{% endfor %}{% endfor %}",
    "nested loops that filter": "{% for a in 0..9999 %}{% for b in 0..9999 %}{% set c = text | upper %}{% endfor %}"
    "{% endfor %}",
    "huge range": "{{ 0..1000000000 }}",
    "huge range by function": "{{ range(0, 999999999999999999999999) | length }}",
    "huge range downwards": "{{ range(0, -999999999999, -1) | length }}",
    "doubling with ~": _doubling("'xxxxxxxxxx'", "a ~ a") + "{{ a | length }}",
    "doubling with +": _doubling("'xxxxxxxxxx'", "a + a") + "{{ a | length }}",
    "doubling by interpolation": _doubling("'xxxxxxxxxx'", '"#{a}#{a}"') + "{{ a | length }}",
    "doubling a list": _doubling("[1]", "a + a") + "{{ a | length }}",
    "sharing a list": _doubling("[1]", "[a, a]") + "{{ a }}",
    "sharing a map": _doubling("{'k': 1}", "{'l': a, 'r': a}") + "{{ a | toJson }}",
    "sharing and comparing": _doubling("[1]", "[a, a]") + "{% set b = a + [] %}{{ a == b }}",
    "merging lists": _doubling("[1]", "a | merge(a)") + "{{ a | length }}",
    "nesting by a loop": "{% set a = [] %}{% for i in 0..5000 %}{% set a = [a] %}{% endfor %}{{ a }}",
    "growing by replace": _doubling("'aaaaaaaaaa'", "a | replace({'a': 'aaaaaaaaaa'})", 12) + "{{ a | length }}",
    "growing by a pattern": _doubling("'aaaaaaaaaa'", "a | replace({'a': 'aaaaaaaaaa'}, regexp=true)", 12),
    "growing by join": "{{ (0..99998) | join(text) | length }}",
    "indentation": "{{ 'a' | indent(1000000000) }}{{ 'a' | nindent(1000000000) }}",
    "wide indentation": "{{ text | indent(1000, text) }}{{ text | nindent(2000, text) }}",
    "padding a text": "{{ '%999999999s' | format('a') }}",
    "many digits": "{{ '%.999999999f' | format(1.0) }}",
    "many paddings": "{{ '" + "%1000000s" * 20 + "' | format(" + ", ".join(["1"] * 20) + ") }}",
    "padding a date": "{{ '2024-01-01' | date('" + "p" * 100_000 + "y') }}{{ 0..999999999 }}",
    "an exponent of many digits": "{{ 1 | numberFormat('0.0E" + "0" * 5000 + "') | length }}{{ 0..9999999999999 }}",
    "padding a number": "{{ 1 | numberFormat('" + "0" * 5000 + "') | length }}{{ 0..9999999999999 }}",
    "a number with a huge exponent": "{{ ('1e999999999' | number('BIGDECIMAL')) | numberFormat('0') }}",
    "multiplying": _doubling("7", "a * a"),
    "a long number": "{{ " + "9" * 100_000 + " }}",
    "a long number in text": "{{ '" + "9" * 100_000 + "' | number }}",
    "deep parentheses": "{{ " + "(" * 20_000 + "1" + ")" * 20_000 + " }}",
    "deep lists": "{{ " + "[" * 20_000 + "]" * 20_000 + " }}",
    "many minus signs": "{{ " + "-" * 50_000 + "1 }}",
    "many nots": "{{ " + "not " * 20_000 + "true }}",
    "a chain of operators": "{{ 1" + " + 1" * 20_000 + " }}",
    "a chain of ternaries": "{{ " + "true ? 1 : " * 5_000 + "2 }}",
    "a chain of filters": "{{ 'a'" + " | upper" * 5_000 + " }}",
    "a long path": "{{ d" + ".a" * 20_000 + " }}",
    "deep tags": "{% if true %}" * 5_000 + "{% endif %}" * 5_000,
    "deep interpolation": '{{ "' + '#{"' * 5_000 + '"}' * 5_000 + '" }}',
    "a long source": "{{ 1 }}" * 30_000,
    "a macro that calls itself": "{% macro m() %}{{ m() }}{{ m() }}{% endmacro %}{{ m() }}",
    "a block that prints itself": "{% block a %}x{{ block('a') }}{% endblock %}",
    "render of itself": "{% set a = '{' ~ '{ render(a) }}' %}{{ render(a) }}",
    "render that grows": "{{ render(grow) }}",
    "a pattern that backtracks": "{{ evil | regexMatch('(a+)+$') }}{{ evil | split('(a|aa)+$') }}{{ 0..999999999 }}",
    "a counted pattern": "{{ evil | regexMatch('((a{1000}){1000}){1000}') }}",
    "yaml of aliases": "{{ yaml('a: &a [x,x]\nb: &b [*a,*a]\nc: &c [*b,*b]\n" + "".join(
        f"d{i}: &d{i} [*{'c' if i == 0 else f'd{i - 1}'},*{'c' if i == 0 else f'd{i - 1}'}]\n" for i in range(40)
    ) + "') }}",
    "deep yaml": "{{ yaml('" + "[" * 50_000 + "') }}",
    "deep json": "{{ fromJson('" + "[" * 50_000 + "') }}",
    "deep ion": "{{ fromIon('" + "[" * 50_000 + "') }}",
    "jq without end": "{{ {} | jq('[repeat(1)]') }}",
    "jq with a recursive definition": "{{ {} | jq('def f: f; f') }}",
    "jq with nested ranges": "{{ {} | jq('[range(100000) | range(100000)] | length') }}",
    "jq with a long range": "{{ {} | jq('[range(1e12)] | length') }}",
    "jq text repeated": "{{ {} | jq('\"aaaaaaaaaa\" * 1000000000 | length') }}",
    "a long nano id": "{{ nanoId(1000000000) }}",
    "days of a million years": "{{ '2024-01-01' | dateAdd(999999999999, 'DAYS') }}",
    "months of a million years": "{{ '2024-01-01' | dateAdd(999999999999, 'MONTHS') }}",
    "seconds out of the calendar": "{{ 99999999999999999999 | date }}",
    "a wide date": "{{ '2024-01-01' | date('" + "y" * 100_000 + "') }}{{ 0..999999999 }}",
}  # fmt: skip


@pytest.mark.parametrize("template", _EXHAUSTING.values(), ids=_EXHAUSTING)
def test_exhausting_templates_end_soon_in_a_typed_error(template: str) -> None:
    scope = Scope(_CONTEXT | {"grow": "{{ grow }}{{ grow }}"})
    started = time.thread_time()  # of this thread alone: other work of the machine must not fail the test

    with pytest.raises(ExpressionError):
        render(template, scope)

    assert time.thread_time() - started < _WORST_S


_ESCAPES = [
    "{{ ''.__class__ }}",
    "{{ o.__dict__ }}",
    "{{ o.sleep }}",
    "{{ o }}",
    "{{ f() }}",
    "{{ d.__class__.__mro__ }}",
    "{{ d['__class__'] }}",
    "{{ d.keys }}",
    "{{ [].append }}",
    "{{ '' | attr('__class__') }}",
    "{{ '%{0.__class__}' | format('x') }}",
    "{{ '%(a)s' | format({'a': 1}) }}",
    "{{ ''.format('x') }}",
    "{{ self.__init__ }}",
    "{{ loop.__class__ }}",
    "{{ block.__globals__ }}",
    "{{ render.__globals__ }}",
    "{{ cycler.__init__.__globals__ }}",
    "{{ d | map('format') }}",
    "{% import 'os' %}",
    "{% include '/etc/passwd' %}",
    "{% for c in o %}{% endfor %}",
    "{{ {} | jq('env') }}",
    "{{ {} | jq('$ENV.PATH') }}",
    "{{ {} | jq('[input]') }}",
    "{{ {} | jq('import \"a\" as a; .') }}",
    "{{ {} | jq('include \"a\"; .') }}",
    "{{ {} | jq('\"\\(env.PATH)\"') }}",
    "{{ {} | jq('input_filename') }}",
    "{{ {} | jq('halt') }}",
    "{{ {} | jq('@json \"\\($ENV)\"') }}",
    "{{ read('../../etc/passwd') }}",
    "{{ read('kestra:///other/flow/executions/1/file') }}",
    "{{ read('kestra:///ns/flow/executions/e1/../../../x/executions/e2/f') }}",
    "{{ read('kestra:///ns/flow/executions/e1/%2e%2e/%2e%2e/e2/f') }}",
    "{{ yaml('!!python/object/apply:os.system [id]') }}",
]


@pytest.mark.parametrize("template", _ESCAPES)
def test_nothing_of_python_or_of_the_host_can_be_reached(template: str) -> None:
    own = {"flow": {"namespace": "ns", "id": "flow"}, "execution": {"id": "e1"}}

    with pytest.raises(ExpressionError):
        render(template, Scope(_CONTEXT | own))


def test_the_format_of_python_is_none_of_the_filter() -> None:
    assert render("{{ '{0.__class__}' | format('x') }}", Scope({})) == "{0.__class__}"


def test_a_webhook_body_with_an_expression_comes_out_as_it_is() -> None:
    body = {"text": "{{ secret('X') }}{% for i in 1..9 %}{% endfor %}"}

    assert render("{{ trigger.body.text }}", Scope({"trigger": {"body": body}})) == body["text"]
    assert "secret('X')" in render("{{ trigger.body }}", Scope({"trigger": {"body": body}}))


def test_large_work_within_the_limits_is_done() -> None:
    text = render("{% for i in 1..5000 %}{{ i }},{% endfor %}", Scope({}))

    assert text.endswith("5000,")
