"""`mainstem eval` as a user calls it."""

from __future__ import annotations

import json
from typing import Any

import pytest

LOOP = """\
id: loop
namespace: company.team
variables: {greeting: hello}
inputs:
  - {id: day, type: STRING, defaults: monday}
tasks:
  - id: each
    type: core.flow.ForEach
    values: [a, b]
    tasks:
      - {id: one, type: core.debug.Return, format: "{{ taskrun.value | upper }}"}
  - {id: no, type: core.execution.Fail}
"""


@pytest.mark.parametrize(
    ("arguments", "printed"),
    [
        (("1 + 2",), "3"),
        (("sum is {{ 1 + 2 }}",), "sum is 3"),
        (("{{ [1, 'a'] }}",), '[1,"a"]'),
        (("{{ {'a': 1} }}", "--typed"), '{"a": 1}'),
        (("'b' | upper", "--json"), '{"value": "B", "type": "STRING"}'),
        (("[1]", "--json"), '{"value": [1], "type": "JSON"}'),
        (("flow.namespace", "-n", "company.team"), "company.team"),
    ],
)
def test_an_expression_is_rendered(shell: Any, arguments: tuple[str, ...], printed: str) -> None:
    done = shell.mainstem("eval", *arguments)

    assert done.stdout == f"{printed}\n", done.stderr
    assert done.returncode == 0
    assert list(shell.temporary.iterdir()) == []


def test_a_template_comes_from_the_standard_input_and_variables_from_a_file(shell: Any) -> None:
    shell.write("seen.json", '{"inputs": {"day": "monday"}, "flow": {"namespace": "company"}}')

    done = shell.mainstem("eval", "-", "--context", "seen.json", stdin="on {{ inputs.day }}\nof {{ flow.namespace }}\n")

    assert done.stdout == "on monday\nof company\n", done.stderr


@pytest.mark.parametrize(
    ("expression", "place", "hint"),
    [
        ("inpts.day", "1:1  expression.undefined", "did you mean `inputs`?"),
        ("{{ 'x' | uper }}", "1:8  expression.filter.unknown", "did you mean `upper`?"),
        ("a\n{{ 1 + }}", "2:8  expression.syntax", "expected an expression"),
    ],
)
def test_a_fault_has_its_place_and_a_hint(shell: Any, expression: str, place: str, hint: str) -> None:
    shell.write("seen.yaml", "inputs: {day: monday}")

    done = shell.mainstem("eval", expression, "--context", "seen.yaml")

    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith(f"(expression):{place}\n")
    assert hint in done.stderr


def test_a_fault_as_json_has_line_column_code_and_hint(shell: Any) -> None:
    done = shell.mainstem("eval", "'x' | uper", "--json")

    problem = json.loads(done.stdout)["problem"]
    assert done.returncode == 1
    assert (problem["line"], problem["column"], problem["code"]) == (1, 5, "expression.filter.unknown")
    assert problem["hint"] == "did you mean `upper`?"


def test_secrets_are_those_of_a_run_and_are_masked(shell: Any) -> None:
    shell.write(".mainstem/secrets.yaml", "company:\n  OTHER: from-the-file\n").chmod(0o600)

    known = shell.mainstem("eval", "secret('KEY') == 'abc'", SECRET_KEY="YWJj")
    shown = shell.mainstem("eval", "secret('OTHER')", "-n", "company.team")
    foreign = shell.mainstem("eval", "secret('OTHER')", "-n", "finance")

    assert known.stdout == "true\n", known.stderr
    assert shown.stdout == "******\n", shown.stderr
    assert "secret.key.missing" in foreign.stderr


def test_the_variables_of_a_failed_run_are_seen(shell: Any) -> None:
    shell.write("loop.yaml", LOOP)
    run = shell.mainstem("run", "loop.yaml", "-l", "team=data")
    execution_id = run.stdout.split("--from-execution ")[1].split()[0]
    expression = "{{ vars.greeting }} {{ inputs.day }} {{ outputs.one.b.value }} {{ labels.team }} {{ tasks.no.state }}"

    by_id = shell.mainstem("eval", expression, "--from-execution", execution_id)
    kept = shell.folder / ".local/state/mainstem/runs" / f"{execution_id}.json"
    by_file = shell.mainstem("eval", expression, "--from-execution", str(kept))

    assert by_id.stdout == "hello monday B data FAILED\n", by_id.stderr
    assert by_file.stdout == by_id.stdout


@pytest.mark.parametrize(
    ("content", "said"),
    [("- a list", "must hold a map"), ("a: 1\na: 2", "seen.yaml:2:1"), ("{", "seen.yaml:2:1")],
)
def test_a_file_of_variables_that_is_none_is_refused(shell: Any, content: str, said: str) -> None:
    shell.write("seen.yaml", content)

    done = shell.mainstem("eval", "1", "--context", "seen.yaml")

    assert done.returncode == 1
    assert said in done.stderr
    assert "[eval.context.invalid]" in done.stderr
    assert shell.mainstem("eval", "1", "--context", "nothing.yaml").returncode == 2
