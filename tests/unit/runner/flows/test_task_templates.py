"""Templates of tasks: what their files hold, which of them a flow can mean, and how they come into it."""

from __future__ import annotations

from typing import Any

import pytest

from runner.flows.inherited import Inherited, as_text, from_text
from runner.flows.namespace_defaults import NamespaceDefaults
from runner.flows.parse import Parsed, parse_flow
from runner.flows.task_templates import gathered, meant, parse_template

HEAD = "id: a\nnamespace: team\ntasks:\n"
SAY = "tasks: [{id: say, type: core.log.Log, message: '{{ parent.outputs.args.text }} {{ inputs.who }}'}]\n"


def template(name: str, body: str = SAY) -> str:
    return f"id: {name}\nnamespace: team\n{body}"


def using(name: str, task_id: str = "t", more: str = "") -> str:
    return f"  - {{id: {task_id}, type: core.flow.Template, namespace: team, templateId: {name}{more}}}\n"


def chain(name: str, *used: str) -> str:
    return template(name, "tasks:\n" + "".join(using(each, f"{name}{number}") for number, each in enumerate(used)))


def parse(source: str, *templates: str) -> Parsed:
    files = [parse_template(text.encode(), file=f"{n}.yaml", namespace=None) for n, text in enumerate(templates)]
    defaults, _ = NamespaceDefaults().with_templates(files)
    return parse_flow(source, inherited=defaults.around("team", source))


def told(*templates: str) -> list[tuple[str | None, int | None, str]]:
    files = [parse_template(text.encode(), file=str(number), namespace=None) for number, text in enumerate(templates)]
    return [(problem.file, problem.line, problem.code) for problem in gathered(files)[1]]


def test_the_tasks_of_a_template_stand_where_it_is_named() -> None:
    parsed = parse(HEAD + using("notify", more=", args: {text: hi}"), template("notify"))

    (task,) = parsed.require().tasks
    assert [inner.id for _, tasks in task.branches() for inner in tasks] == ["say"]
    assert [problem.code for problem in parsed.problems] == ["expression.inputs.unknown"]  # this flow has no `who`


@pytest.mark.parametrize("name", ["core.flow.Template", "io.kestra.core.tasks.flows.Template"])
def test_a_template_of_an_older_kestra_may_use_others_and_has_the_defaults_of_the_flow(name: str) -> None:
    outer = template("outer", f"tasks:\n  - {{id: o, type: {name}, namespace: team, templateId: inner}}\n")
    inner = template("inner", "tasks: [{id: say, type: io.kestra.core.tasks.debugs.Echo}]\ndeleted: false\n")
    defaults = "pluginDefaults: [{type: core.debug.Echo, values: {format: hello}}]\n"

    flow = parse(HEAD + using("outer") + defaults, outer, inner).require()

    assert [task.id for task in flow.all_tasks()] == ["t", "o", "say"]
    assert list(flow.all_tasks())[-1].format == "hello"  # type: ignore[attr-defined]


def test_a_template_may_be_used_twice_and_its_tasks_have_ids_of_no_other_task() -> None:
    twice = HEAD + using("notify", "one") + using("notify", "two")
    clash = HEAD + using("notify") + "  - {id: say, type: core.log.Log, message: x}\n"

    assert parse(twice, template("notify", SAY.replace(" {{ inputs.who }}", ""))).problems == ()
    assert "task.id.duplicate" in {problem.code for problem in parse(clash, template("notify")).problems}


def test_a_template_that_is_not_there_is_a_problem_at_its_name_where_templates_are_known() -> None:
    source = HEAD + using("notfiy")

    known, unknown = parse(source, template("notify")), parse_flow(source)

    (problem,) = known.problems
    assert (problem.code, problem.line, problem.column) == ("template.missing", 4, 68)
    assert problem.message == "Can't find flow template 'team.notfiy'"
    assert problem.hint == "templates are files in folders `_templates` of the repository, {id, namespace, tasks}"
    assert unknown.problems == ()


def test_a_template_task_has_no_tasks_of_its_own() -> None:
    source = HEAD + using("notify", more=", tasks: [{id: x, type: core.log.Log, message: x}]")

    problems = parse(source, template("notify")).problems

    assert [problem.code for problem in problems] == ["template.tasks.own"]


def test_templates_that_use_one_another_are_refused_in_their_files_and_in_flows() -> None:
    files = [chain("one", "two"), chain("two", "three"), chain("three", "two")]

    problems = parse(HEAD + using("one"), *files).problems

    assert told(*files) == [("1", 1, "template.cycle")]
    assert [problem.code for problem in problems] == ["template.cycle"]
    assert problems[0].message.endswith("team.one, team.two, team.three, team.two")


def test_templates_cannot_make_a_flow_grow_without_end() -> None:
    files = [chain(f"x{depth}", *[f"x{depth + 1}"] * 10) for depth in range(8)] + [template("x8")]

    problems = parse(HEAD + using("x0"), *files).problems

    assert {problem.code for problem in problems} >= {"template.large"}


def test_a_long_line_of_templates_is_refused_before_it_is_too_deep_to_read() -> None:
    files = [chain(f"y{depth}", f"y{depth + 1}") for depth in range(400)] + [template("y400")]

    problems = parse(HEAD + using("y0"), *files).problems

    assert [problem.code for problem in problems if problem.code != "expression.inputs.unknown"] == ["template.large"]


def test_a_name_that_is_a_number_is_a_name() -> None:
    parsed = parse(HEAD + using("5"), template("5", SAY.replace(" {{ inputs.who }}", "")))

    assert [task.id for task in parsed.require().all_tasks()] == ["t", "say"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("- x\n", ("0", 1, "template.file.invalid")),
        ("id: [\n", ("0", 2, "yaml.syntax.invalid")),
        (template("a", SAY + "triggers: []\n"), ("0", 4, "template.file.invalid")),
        ("namespace: team\n" + SAY, ("0", 1, "flow.property.missing")),
        (template("a", ""), ("0", 1, "flow.property.missing")),
        (template("a", SAY.replace("message", "massage")), ("0", 3, "task.property.unknown")),
        (template("a", SAY.replace("inputs.who", "inputs.who | upcase")), ("0", 3, "expression.filter.unknown")),
        (chain("a", "gone"), ("0", 4, "template.missing")),
    ],
)
def test_what_is_wrong_with_a_template_is_told_with_its_place(text: str, expected: tuple[Any, ...]) -> None:
    assert expected in told(text)


def test_two_files_cannot_hold_one_template() -> None:
    assert told(template("a"), template("a")) == [("1", 1, "template.file.duplicate")]


def test_a_flow_keeps_only_those_templates_that_it_can_mean() -> None:
    files = [parse_template(text.encode(), file="t", namespace=None) for text in (chain("a1", "b1"), template("b1"))]
    unused = parse_template(template("unused").encode(), file="t", namespace=None)
    templates, _ = gathered([*files, unused])

    kept = meant(templates, HEAD + using("a1"))

    assert [*kept] == [("team", "a1"), ("team", "b1")]
    assert from_text(as_text(Inherited(templates=kept))).templates == kept
    assert meant(templates, HEAD) == {}
