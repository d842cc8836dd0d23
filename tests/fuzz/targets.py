"""What is fuzzed, and what must hold for every input."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, cast
from zoneinfo import ZoneInfo

from runner.errors import ExpressionError, MainstemError
from runner.expressions import Scope, Services, check_template, render, render_typed
from runner.expressions.registry import FILTERS, FUNCTIONS, TESTS
from runner.expressions.statements import TAGS
from runner.flows.models import Flow
from runner.flows.parse import parse_flow
from runner.flows.registry import TypeKind, types

SLOW_S: Final = 1.0  # CPU time of the thread: what else the machine does must not count
CORPUS: Final = Path(__file__).parent / "corpus"


@dataclass(frozen=True, slots=True)
class Target:
    """One thing to fuzz.

    `check` raises when an input breaks it, and says whether the input got far. `seeds` and `words` are where mutations
    start and what they put in, so that they get deeper than the first character that is wrong. Inputs are at most
    `size` bytes.
    """

    name: str
    check: Callable[[bytes], bool]
    seeds: tuple[str, ...]
    words: tuple[str, ...]
    size: int

    def timed(self, data: bytes) -> bool:
        """Check one input, and that it took less than a second. Return whether it got far."""
        started = time.thread_time()
        got_far = self.check(data)
        taken = time.thread_time() - started
        assert taken < SLOW_S, f"took {taken:.2f} s"
        return got_far

    def corpus(self) -> list[bytes]:
        """Return the inputs that broke it once."""
        return [path.read_bytes() for path in sorted((CORPUS / self.name).glob("[!.]*"))]


def _load(data: bytes) -> bool:
    parsed = parse_flow(data, file="fuzz.yaml")
    assert parsed.flow is not None or parsed.problems
    for problem in parsed.problems:
        assert problem.line, problem
        assert problem.column, problem
        assert "cannot be read" not in problem.message, problem
    return not any(problem.code.startswith(("yaml.", "flow.document.")) for problem in parsed.problems)


class _Fixed:
    """Services that always answer the same, and nothing that leaves the process."""

    zone = ZoneInfo("Europe/Paris")

    def now(self) -> datetime:
        return datetime(2024, 1, 31, 10, tzinfo=UTC)

    def random_bytes(self, count: int) -> bytes:
        return bytes(count)

    def random_int(self, lower: int, upper: int) -> int:  # noqa: ARG002 - the port's
        return lower

    def new_id(self) -> str:
        return "1"

    uuid = new_id

    def secret(self, key: str, *_: Any) -> str:
        return key

    def kv(self, key: str, *_: Any, **__: Any) -> Any:
        return {key: [key]}

    def read_file(self, uri_or_path: str) -> bytes:
        return uri_or_path.encode("utf-8", "replace")

    def __getattr__(self, name: str) -> Any:
        raise ExpressionError("expression.function.unavailable", name)


_VARIABLES: Final[Mapping[str, Any]] = {
    "x": 1,
    "d": datetime(2024, 1, 31, 10, tzinfo=UTC),
    "m": {"a": [None, {"b": "c"}]},
    "e": Decimal("1.50"),
    "l": [3, 1, 2],
    "t": "one two",
    "flow": {"id": "f", "namespace": "n"},
}
_SCOPE: Final = Scope(_VARIABLES, cast("Services", _Fixed()))


def _render(data: bytes) -> bool:
    template = data.decode("utf-8", "replace")
    findings = check_template(template)
    refused = any(finding.code == "expression.syntax" for finding in findings)
    for way in (render, render_typed):
        error = _error_of(way, template)
        if error is None:
            assert not refused, f"rendered what the check refuses: {findings}"
        else:
            assert error.code.startswith("expression."), error.code
            assert error.message
    return not refused and ("{{" in template or "{%" in template)


def _error_of(way: Callable[[str, Scope], Any], template: str) -> MainstemError | None:
    try:
        way(template, _SCOPE)
    except MainstemError as error:
        return error
    return None


_MARKS = (
    "- ", ": ", ":\n", "\n", "  ", "{", "}", "[", "]", ",", "&a ", "*a", "<<: ", "|\n", ">\n", "'", '"', "#", "? ",
    "!!str ", "---\n", "...\n", "%YAML 1.1\n", "\t", "\x00", "\u202e", "\ufeff", "~", "null", "true", "0x1", "1e999",
    "PT5S", "P1D", "{{ inputs.x }}", "{{ ", " }}", "{% if x %}", "-1", "9" * 30,
)  # fmt: skip
_FLOW_SEEDS = (
    """\
id: a
namespace: x
tasks:
  - {id: one, type: core.log.Log, message: '{{ flow.id }}'}
""",
    """\
id: a
namespace: x
inputs: [{id: n, type: INT, min: 1, defaults: 5}]
tasks:
  - id: i
    type: core.flow.If
    condition: '{{ inputs.n > 1 }}'
    then:
      - {id: r, type: core.debug.Return, format: x}
""",
    """\
id: a
namespace: x
tasks:
  - id: e
    type: core.flow.ForEach
    values: [1, 2]
    tasks: [{id: s, type: scripts.shell.Commands, commands: [echo]}]
triggers:
  - {id: t, type: core.trigger.Schedule, cron: '0 9 * * *'}
""",
    """\
id: a
namespace: x
labels: &l {a: b}
retry: {type: constant, interval: PT1S, maxAttempts: 3}
tasks:
  - id: d
    type: core.flow.Dag
    tasks:
      - {task: {id: o, type: core.flow.Sleep, duration: PT1S}}
      - {dependsOn: [o], task: {id: p, type: core.log.Log, message: z}}
""",
    "id: s\nnamespace: x\nflowId: a\ntestCases: [{id: c, type: x}]\n",
)
_EXPRESSION_MARKS = (
    "{{", "}}", "{%", "%}", "{#", "#}", "-", "(", ")", "[", "]", "{", "}", ",", ":", "?", "??", "???", ".", "..", "|",
    "~", "+", "*", "/", "%", "==", "!=", "<", ">=", "=", "'", '"', "#{", "\\", "\n", " ", " is ", " is not ", " in ",
    " and ", " or ", "not ", " contains ", "elseif", "else", "endif", "endfor", "endmacro", "endraw", "endblock",
    "endset", "loop.index", "null", "true", "1", "0", "-1", "1.5", "1e9", "9" * 20, "'yyyy-MM-dd'", "$1", "(a+)+",
    "timeZone=", "regexp=true", "'UTC'", "'a'", "1..9", *_VARIABLES,
)  # fmt: skip
_EXPRESSION_SEEDS = (
    "{{ x }} {{ m.a[1]['b'] ?? 'z' }} {{ l | join(',') | upper }}",
    "{% for i in 1..3 %}{{ loop.index ~ i }}{% else %}-{% endfor %}",
    "{% set a = x + 1 %}{% if a > 1 and t contains 'o' %}{{ a }}{% elseif a is even %}e{% else %}n{% endif %}",
    "{% macro f(a, b='1') %}{{ a }}{{ b }}{% endmacro %}{{ f('q', b=2) }}",
    "{{ d | date('EEEE d MMM yyyy', timeZone='Europe/Paris') | dateAdd(1, 'DAYS') }}",
    "{{ t | replace({'o(.)': '$1'}, regexp=true) | split('\\s') | first }}",
    "{{ m | jq('.a[] | .b?') }} {{ m | yaml }} {{ yaml('a: [1]').a }} {{ fromJson('[1]') }} {{ fromIon('{a: 1}') }}",
    "{{ render('{' ~ '{ x }}') }}{% raw %}{{ x }}{% endraw %}{% verbatim %}{{ }}{% endverbatim %}",
    '{{ "a #{x + 1}" }} {{ [1, 2.5, null] + {\'k\': -x} }} {{ x ? t : m }} {{ e | numberFormat(\'#,##0.00\') }}',
    "{% filter upper | trim %} a {% endfilter %}{% block b %}c{% endblock %}{{ block('b') }} {# note #}",
    "{{- 5 / 2 -}} {{ (1 + 2) * 3 % 4 / x }} {{ range(1, 9, 2) | chunk(2) | flatten | rsort | slice(0, 2) }}",
)  # fmt: skip

_PROPERTIES = sorted({field.alias or name for name, field in Flow.model_fields.items()})
LOADER: Final = Target(
    "loader",
    _load,
    _FLOW_SEEDS,
    (*_MARKS, *_PROPERTIES, *(name for kind in TypeKind for name in types(kind))),
    size=1024,
)
EXPRESSIONS: Final = Target(
    "expressions",
    _render,
    _EXPRESSION_SEEDS,
    (*_EXPRESSION_MARKS, *TAGS, *FILTERS, *(f"{name}(" for name in FUNCTIONS), *TESTS),
    size=400,
)
TARGETS: Final = {target.name: target for target in (LOADER, EXPRESSIONS)}
