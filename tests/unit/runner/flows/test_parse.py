"""Parsing a flow: what it becomes, and every problem with its line and column."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from runner.errors import FlowError, Problem
from runner.flows import registry
from runner.flows.models import Flow
from runner.flows.parse import parse_flow
from runner.tasks.flow import ForEach, If, Parallel, Pause, Sleep


def _parse(source: str) -> Flow:
    return parse_flow(source).require()


def _problems(source: str) -> list[tuple[int | None, int | None, str]]:
    return [(problem.line, problem.column, problem.code) for problem in parse_flow(source).problems]


def _only(source: str) -> Problem:
    parsed = parse_flow(source, file="flows/a.yaml")
    assert len(parsed.problems) == 1, parsed.problems
    return parsed.problems[0]


HEAD = "id: a\nnamespace: company.team\n"
SLEEP = "tasks:\n  - id: one\n    type: core.flow.Sleep\n    duration: PT1S\n"


def test_nested_tasks_are_built_into_their_classes() -> None:
    flow = _parse(
        HEAD + "tasks:\n"
        "  - id: outer\n"
        "    type: io.kestra.plugin.core.flow.Parallel\n"
        "    concurrent: 2\n"
        "    tasks:\n"
        "      - id: choice\n"
        "        type: core.flow.If\n"
        "        condition: '{{ inputs.x }}'\n"
        "        then:\n"
        "          - {id: nap, type: core.flow.Sleep, duration: PT1S}\n"
    )

    outer = flow.tasks[0]
    assert isinstance(outer, Parallel)
    assert isinstance(outer.tasks[0], If)
    assert [task.id for task in flow.all_tasks()] == ["outer", "choice", "nap"]


def test_scalars_become_what_the_property_takes() -> None:
    flow = _parse(
        HEAD + "labels: {a: 1, b: true, c: x}\nerrors:\n" + SLEEP + "    runIf: false\n    timeout: PT5M\n"
        "    disabled: yes\n"
        "  - {id: two, type: core.flow.Pause, behavior: warn, delay: PT2S}\n"
    )

    one, two = flow.tasks
    assert flow.labels == {"a": "1", "b": "true", "c": "x"}
    assert (one.run_if, one.timeout, one.disabled) == ("false", timedelta(minutes=5), True)
    assert isinstance(one, Sleep)
    assert isinstance(two, Pause)
    assert (one.duration, two.behavior, two.delay) == (timedelta(seconds=1), "WARN", timedelta(seconds=2))


@pytest.mark.parametrize(
    "part",
    [
        "concurrency: {limit: true}",
        "retry: {type: constant, interval: true}",
        "retry: {type: constant, interval: PT1S, maxAttempts: false}",
    ],
)
def test_a_boolean_is_no_number_and_no_duration(part: str) -> None:
    codes = [problem.code for problem in parse_flow(HEAD + part + "\n" + SLEEP).problems]

    assert codes == ["flow.property.invalid"]


def test_the_namespace_of_the_folder_counts_where_the_file_names_none() -> None:
    source = "id: a\n" + SLEEP

    assert parse_flow(source, namespace="from.folder").require().namespace == "from.folder"
    assert parse_flow(HEAD + SLEEP, namespace="from.folder").require().namespace == "company.team"
    assert _problems(source) == [(1, 1, "flow.property.missing")]


def test_labels_may_be_a_list_of_keys_and_values() -> None:
    assert _parse(HEAD + "labels:\n  - {key: a, value: 1}\n  - {key: b, value: x}\n" + SLEEP).labels == {
        "a": "1",
        "b": "x",
    }


def test_old_names_are_read_as_the_present_ones() -> None:
    flow = _parse(
        HEAD + "revision: 7\ninputs:\n  - {name: day, type: STRING}\n"
        "taskDefaults:\n  - type: io.kestra.core.tasks.flows.EachSequential\n    values: {description: filled in}\n"
        "tasks:\n  - id: loop\n    type: core.flow.EachSequential\n    value: '[1]'\n    tasks:\n"
        "      - {id: nap, type: core.flow.Sleep, duration: PT1S}\n"
    )

    assert flow.revision == 0
    assert flow.inputs[0].id == "day"
    assert flow.tasks[0].description == "filled in"


def test_all_problems_of_a_file_are_reported_at_once_in_the_order_of_lines() -> None:
    found = _problems(
        HEAD + "nmae: x\n"  # 3
        "tasks:\n"
        "  - id: one\n"
        "    type: core.flow.Sequentail\n"  # 6
        "  - id: two\n"
        "    type: core.flow.Parallel\n"
        "    concurrent: many\n"  # 9
        "    tasks:\n"
        "      - id: bad id\n"  # 11
        "        type: core.flow.Sleep\n"
        "        duration: 5 minutes\n"  # 13
        "      - type: core.flow.Sleep\n"  # 14
        "        duration: PT1S\n"
        "triggers:\n"
        "  - id: t\n"
        "    type: nobody.Knows\n"  # 18
        "    conditions:\n"
        "      - type: core.condition.Nope\n"  # 20
    )

    assert found == [
        (3, 1, "flow.property.unknown"),
        (6, 11, "task.type.unknown"),
        (9, 17, "task.property.invalid"),
        (11, 13, "task.property.invalid"),
        (13, 19, "task.property.invalid"),
        (14, 9, "task.property.missing"),
        (18, 11, "trigger.type.unknown"),
        (20, 15, "condition.type.unknown"),
    ]


def test_an_unknown_property_names_the_nearest_known_one() -> None:
    problem = _only(HEAD + SLEEP + "    timout: PT1S\n")

    assert problem.code == "task.property.unknown"
    assert problem.message == (
        'Unrecognized field "timout" (class io.kestra.plugin.core.flow.Sleep), not marked as ignorable'
    )
    assert problem.hint == "did you mean 'timeout'?"
    assert (problem.file, problem.line, problem.column) == ("flows/a.yaml", 7, 5)


def test_an_unknown_type_names_the_nearest_one_and_its_children_are_still_looked_at() -> None:
    parsed = parse_flow(
        HEAD + "tasks:\n  - id: one\n    type: core.flow.Paralell\n    tasks:\n      - {id: two, type: core.flow.Nap}\n"
    )

    assert parsed.flow is None
    assert [(problem.line, problem.code, problem.hint) for problem in parsed.problems] == [
        (5, "task.type.unknown", "did you mean 'core.flow.Parallel'?"),
        (7, "task.type.unknown", None),
    ]


def test_a_stored_flow_may_have_properties_that_this_version_does_not_know() -> None:
    source = (
        HEAD + "novelty: 1\n" + SLEEP + "    surprise: {a: 1}\n    retry: {type: constant, interval: PT1S, new: 1}\n"
    )

    assert parse_flow(source, strict=False).require().tasks[0].id == "one"
    assert len(parse_flow(source).problems) == 3


def test_a_source_parses_to_an_equal_flow_each_time() -> None:
    source = HEAD + "variables: {deep: {list: [1, a]}}\n" + SLEEP

    assert _parse(source) == _parse(source)


@pytest.mark.parametrize("source", ["- a\n- b\n", "just text", "12"])
def test_a_document_that_is_no_map_is_no_flow(source: str) -> None:
    assert [problem.code for problem in parse_flow(source).problems] == ["flow.document.invalid"]


def test_yaml_problems_come_back_as_problems() -> None:
    parsed = parse_flow("id: 'a\n", file="x.yaml")

    assert parsed.flow is None
    assert [(problem.code, problem.line, problem.file) for problem in parsed.problems] == [
        ("yaml.syntax.invalid", 1, "x.yaml")
    ]


def test_a_key_that_stands_twice_hides_no_other_problem() -> None:
    assert _problems("id: a\nid: b\nnamespace: x\ntasks:\n  - {id: one, type: core.log.Log, mesage: hi}\n") == [
        (2, 1, "yaml.key.duplicate"),
        (5, 5, "task.property.missing"),
        (5, 35, "task.property.unknown"),
    ]


def test_the_first_value_of_a_key_that_stands_twice_is_the_one_that_is_looked_at() -> None:
    source = HEAD + SLEEP + "    description: '{{ inputs.x }}'\n    runIf: '{{ 1 | uper }}'\n    runIf: 'true'\n"

    assert _problems(source) == [(8, 20, "expression.filter.unknown"), (9, 5, "yaml.key.duplicate")]


def test_a_refused_task_is_still_looked_at_beside_the_others() -> None:
    source = HEAD + "tasks:\n  - {id: one, type: core.log.Lgo}\n  - {id: one, type: core.log.Log, mesage: hi}\n"

    codes = [problem.code for problem in parse_flow(source).problems]

    assert codes == ["task.type.unknown", "task.property.missing", "task.id.duplicate", "task.property.unknown"]


def test_what_follows_from_a_refused_property_is_not_told_as_well() -> None:
    source = HEAD + "tasks:\n  - {id: one, type: core.flow.Switch, value: x, cases: 5}\n"

    assert [problem.code for problem in parse_flow(source).problems] == ["task.property.invalid"]


def test_a_bad_cron_does_not_hide_a_bad_time_zone() -> None:
    source = (
        HEAD + SLEEP + "triggers:\n  - {id: t, type: core.trigger.Schedule, cron: '61 * * * *', timezone: Mars/One}\n"
    )

    assert [problem.code for problem in parse_flow(source).problems] == ["cron.invalid", "zone.unknown"]


def test_require_raises_with_all_problems() -> None:
    with pytest.raises(FlowError) as caught:
        parse_flow("id: a\n").require()

    assert [problem.code for problem in caught.value.problems] == ["flow.property.missing", "flow.property.missing"]


def test_loop_values_of_any_shape_are_kept_as_written() -> None:
    flow = _parse(
        HEAD + "tasks:\n  - id: each\n    type: core.flow.ForEach\n    values: [1, two, {three: 3}]\n    tasks:\n"
        "      - {id: nap, type: core.flow.Sleep, duration: PT1S}\n"
    )

    loop = flow.tasks[0]
    assert isinstance(loop, ForEach)
    assert loop.values == [1, "two", {"three": 3}]


def test_a_type_whose_own_validator_breaks_is_a_problem_of_that_flow_only() -> None:
    problem = _only(
        HEAD + SLEEP + "triggers:\n  - id: after\n    type: core.trigger.Flow\n    conditions:\n"
        "      - type: core.condition.ExecutionLabels\n        labels: [x]\n"
    )

    assert (problem.code, problem.line) == ("condition.property.invalid", 11)


PLUGIN = """
from pydantic import model_validator

from runner.plugin import RunnableTask


class Odd(RunnableTask):
    inner: tuple = ()
    name: str

    def __init_subclass__(cls, **options):
        raise TypeError("there is one of it")

    @model_validator(mode="after")
    def _refuse(self):
        raise LookupError("nothing suits it")

    def branches(self):
        yield self.name.upper(), self.inner

    def run(self, ctx):
        return None
"""


@pytest.fixture
def odd_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "odd_plugin.py").write_text(PLUGIN)
    info = tmp_path / "odd_plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: odd-plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[mainstem.tasks]\nodd.Task = odd_plugin:Odd\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    registry._places.cache_clear()
    registry.find.cache_clear()
    yield
    monkeypatch.undo()
    registry._places.cache_clear()
    registry.find.cache_clear()


@pytest.mark.usefixtures("odd_plugin")
def test_a_plugin_that_allows_no_remains_of_its_task_hides_nothing_else() -> None:
    source = HEAD + "tasks:\n  - {id: a, type: odd.Task, name: x}\n  - {id: b, type: odd.Task}\n" + SLEEP[7:] * 2

    codes = {problem.code for problem in parse_flow(source).problems}

    assert codes == {"task.property.invalid", "task.property.missing", "task.id.duplicate"}
