"""The rules of a flow beyond its shape."""

from __future__ import annotations

import pytest

from runner.errors import Severity
from runner.flows.parse import parse_flow

HEAD = "id: a\nnamespace: company.team\n"
NAP = "{id: %s, type: core.flow.Sleep, duration: PT1S}"
TASKS = f"tasks:\n  - {NAP % 'one'}\n"


def _found(source: str) -> list[tuple[str, str, int | None]]:
    return [(problem.code, problem.message, problem.line) for problem in parse_flow(source).problems]


@pytest.mark.parametrize(
    ("source", "code", "message", "line"),
    [
        (
            HEAD + f"tasks:\n  - {NAP % 'one'}\n  - {NAP % 'two'}\nerrors:\n  - {NAP % 'one'}\n",
            "task.id.duplicate",
            "Duplicate task id with name [one]",
            7,
        ),
        (
            HEAD + "inputs:\n  - {id: x, type: STRING}\n  - {id: x, type: INT}\n" + TASKS,
            "input.id.duplicate",
            "Duplicate input with name [x]",
            5,
        ),
        (
            HEAD + TASKS + "  - {id: again, type: core.flow.Subflow, namespace: company.team, flowId: a}\n",
            "flow.subflow.recursive",
            "Invalid Flow: Recursive call to flow [company.team.a]",
            5,
        ),
        (
            HEAD + "tasks:\n  - id: dag\n    type: core.flow.Dag\n    tasks:\n"
            f"      - task: {NAP % 'one'}\n"
            f"      - task: {NAP % 'two'}\n        dependsOn: [three]\n"
            f"      - task: {NAP % 'three'}\n        dependsOn: [four]\n"
            f"      - task: {NAP % 'four'}\n        dependsOn: [one, two]\n",
            "task.dependency.cycle",
            "dag: Cyclic dependency detected: two, three, four",
            9,
        ),
        (
            HEAD + "tasks:\n  - id: dag\n    type: core.flow.Dag\n    tasks:\n"
            f"      - task: {NAP % 'one'}\n        dependsOn: [oen]\n",
            "task.dependency.missing",
            "dag: Not existing task id in dependency: oen",
            8,
        ),
        (
            HEAD + "tasks:\n  - {id: wd, type: core.flow.WorkingDirectory}\n",
            "task.tasks.empty",
            "wd: The 'tasks' property cannot be empty",
            4,
        ),
        (
            HEAD + "tasks:\n  - id: wd\n    type: core.flow.WorkingDirectory\n    tasks:\n"
            "      - id: wait\n        type: core.flow.Pause\n",
            "task.tasks.invalid",
            "wd: Only runnable tasks are allowed as children of a WorkingDirectory task",
            8,
        ),
        (
            HEAD + "tasks:\n  - {id: sw, type: core.flow.Switch, value: x}\n",
            "task.cases.empty",
            "sw: No task defined, neither cases or default have any tasks",
            4,
        ),
        (
            HEAD + "labels: {system.x: 1}\n" + TASKS,
            "label.key.reserved",
            "System labels can only be set by Kestra itself, offending label: system.x=1.",
            3,
        ),
        (
            HEAD
            + "sla:\n  - {id: s, type: MAX_DURATION, behavior: CANCEL, duration: PT1S, labels: {system.s: v}}\n"
            + TASKS,
            "label.key.reserved",
            "System labels can only be set by Kestra itself, offending label: system.s=v.",
            4,
        ),
        (
            HEAD + "inputs:\n  - {id: x, type: STRING, dependsOn: {inputs: [y]}}\n" + TASKS,
            "input.dependency.missing",
            "Input with id 'x' depends on a non-existent input 'y'.",
            4,
        ),
        (
            HEAD + "inputs:\n  - {id: x, type: STRING, dependsOn: {inputs: [y]}}\n"
            "  - {id: y, type: STRING, dependsOn: {inputs: [x]}}\n" + TASKS,
            "input.dependency.cycle",
            "Cycle dependency detected for input with id 'x'",
            4,
        ),
        (HEAD + "inputs:\n  - {id: x, type: FOO}\n" + TASKS, "input.type.unknown", "Invalid type: FOO", 4),
        (
            HEAD
            + "inputs:\n  - {id: x, type: INT, max: 5, defaults: 7}\n  - {id: y, type: INT, defaults: '{{ 7 }}'}\n"
            + TASKS,
            "input.defaults.invalid",
            "the default 7 of the input 'x' is not acceptable: it must be less than `5`",
            4,
        ),
        (
            HEAD + "inputs:\n  - {id: x, type: ARRAY}\n" + TASKS,
            "input.property.missing",
            "an input of type ARRAY needs `itemType`",
            4,
        ),
        (
            HEAD + "inputs:\n  - {id: x, type: STRING}\n  - {id: x.y, type: STRING}\n" + TASKS,
            "input.id.conflict",
            "Conflict at key: 'x', it is an input and the beginning of 'x.y'",
            5,
        ),
        (
            HEAD + "retry: {type: constant, interval: PT10S, maxDuration: PT1S}\n" + TASKS,
            "retry.interval.invalid",
            "'interval' must be less than 'maxDuration' but is PT10S",
            3,
        ),
        (
            HEAD + "retry: {type: exponential, interval: PT3S, maxInterval: PT2S}\n" + TASKS,
            "retry.interval.invalid",
            "'interval' must be less than 'maxInterval' but is PT3S",
            3,
        ),
        (
            HEAD + "retry: {type: random, minInterval: PT2S, maxInterval: PT3S, maxDuration: PT1S}\n" + TASKS,
            "retry.interval.invalid",
            "'minInterval' must be less than 'maxDuration' but is PT2S",
            3,
        ),
        (
            HEAD + "retry: {type: constant}\n" + TASKS,
            "retry.property.missing",
            "a retry of type 'constant' needs `interval`",
            3,
        ),
        (
            HEAD + "pluginDefaults:\n  - {type: core.flow.Sleep, values: {duratoin: PT1S}}\n"
            "tasks:\n  - {id: p, type: core.flow.Pause}\n",
            "default.property.unknown",
            "No property 'duratoin' exists in plugin 'core.flow.Sleep'",
            4,
        ),
        (
            HEAD + "tasks:\n  - {id: s, type: core.flow.WorkingDirectory, taskRunner: {type: core.runner.Proces},"
            f" tasks: [{NAP % 'one'}]" + "}\n",
            "runner.type.unknown",
            "no task runner named 'core.runner.Proces'",
            4,
        ),
        (
            HEAD + "tasks:\n  - {id: s, type: core.flow.WorkingDirectory, taskRunner: {pullPolicy: NEVER},"
            f" tasks: [{NAP % 'one'}]" + "}\n",
            "runner.property.missing",
            "a task runner needs a `type`",
            4,
        ),
        (
            HEAD + "tasks:\n  - {id: s, type: core.flow.WorkingDirectory,"
            " taskRunner: {type: scripts.runner.docker.Docker, user: '{{ flow.id }}', pullPolicy: NEVERR},"
            f" tasks: [{NAP % 'one'}]" + "}\n",
            "runner.property.invalid",
            "`pullPolicy`: Input should be 'ALWAYS', 'IF_NOT_PRESENT' or 'NEVER'",
            4,
        ),
        (
            HEAD + "tasks:\n  - {id: s, type: core.flow.WorkingDirectory,"
            " taskRunner: {type: scripts.runner.docker.Docker, cpu: {cpus: '{{ 1 }}'}, memory: {memroy: 1GB}},"
            f" tasks: [{NAP % 'one'}]" + "}\n",
            "runner.property.invalid",
            "`memory.memroy`: Extra inputs are not permitted",
            4,
        ),
        (
            HEAD + TASKS + "triggers:\n  - {id: t, type: core.trigger.Schedule, cron: '0 25 * * *'}\n",
            "cron.invalid",
            "invalid cron expression '0 25 * * *': '25' is no hours, which goes from 0 to 23",
            6,
        ),
        (
            HEAD + TASKS + "triggers:\n  - {id: t, type: core.trigger.Schedule, cron: '@daily', timezone: Mars/X}\n",
            "zone.unknown",
            "timezone '(Mars/X)' is not a valid time-zone ID",
            6,
        ),
        (
            HEAD + TASKS + "triggers:\n"
            "  - {id: t, type: core.trigger.Schedule, cron: '@daily'}\n"
            "  - {id: t, type: core.trigger.Webhook, key: x}\n",
            "trigger.id.duplicate",
            "Duplicate trigger id with name [t]",
            7,
        ),
    ],
)
def test_a_broken_rule_is_reported_where_it_stands(source: str, code: str, message: str, line: int) -> None:
    assert _found(source) == [(code, message, line)]


def test_a_reserved_flow_id_is_only_warned_about() -> None:
    parsed = parse_flow("id: pause\nnamespace: x\n" + TASKS)

    assert parsed.flow is not None
    assert [(problem.code, problem.severity) for problem in parsed.problems] == [("flow.id.reserved", Severity.WARNING)]


@pytest.mark.parametrize(
    "retry",
    [
        "{type: constant, interval: PT1S, maxAttempt: 3, maxDuration: PT10S}",
        "{type: exponential, interval: PT1S, maxInterval: PT3S, maxDuration: PT10S}",
        "{type: random, minInterval: PT1S, maxInterval: PT3S}",
    ],
)
def test_a_sound_retry_is_accepted(retry: str) -> None:
    assert _found(HEAD + f"retry: {retry}\n" + TASKS) == []


def test_a_default_for_a_family_may_name_what_a_member_lacks() -> None:
    source = HEAD + "pluginDefaults:\n  - {type: core.flow, values: {duration: PT5S, concurrent: 2}}\n" + TASKS

    assert _found(source) == []


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("inputs: [{id: s, type: STRING, validator: '['}]", "invalid pattern [[]"),
        ("inputs: [{id: s, type: FILE, defaults: data.csv}]", "inputs of type 'FILE' only support `defaults` that"),
        ("sla: [{id: s, type: MAX_DURATION, behavior: FAIL}]", "duration: must not be null"),
        ("sla: [{id: s, type: EXECUTION_ASSERTION, behavior: FAIL}]", "assert: must not be null"),
        ("pluginDefaults: [{type: core.log.Log}]", "No 'values' provided"),
        ("labels: {team: [a, b]}", "Unsupported type for key: team"),
        ("concurrency: {limit: 0}", "limit: must be greater than 0, but is 0"),
        ("tasks: []", "tasks: must not be empty"),
        ("tasks: [{id: d, type: core.flow.Dag, tasks: []}]", "d: No task defined"),
        ("tasks: [{id: p, type: core.flow.Parallel}]", "tasks: must not be empty"),
        ("tasks: [{id: a.b, type: core.log.Log, message: x}]", 'id: must match "'),
    ],
)
def test_a_property_that_cannot_be_is_refused_in_plain_words(more: str, message: str) -> None:
    tasks = "" if more.startswith("tasks") else "tasks: [{id: t, type: core.log.Log, message: x}]\n"

    parsed = parse_flow(f"id: f\nnamespace: a.b\n{tasks}{more}\n")

    assert parsed.flow is None
    assert any(problem.message.startswith(message) for problem in parsed.problems), parsed.problems


@pytest.mark.parametrize(
    ("more", "name"),
    [
        ("tasks: [{id: t, type: core.log.Log, message: x, taskCache: {enabled: true}}]", "taskCache"),
        ("tasks: [{id: t, type: core.log.Log, message: x, logToFile: true}]", "logToFile"),
        (TASKS + "triggers: [{id: s, type: core.trigger.Schedule, cron: '@daily', backfill: {start: x}}]", "backfill"),
        (TASKS + "quotas: [{duration: PT1H, limit: 3}]", "quotas"),
        (
            TASKS + "triggers: [{id: s, type: core.trigger.Flow, dependsOn: [{flowId: up}], window: {onMiss: FAIL}}]",
            "onMiss",
        ),
    ],
)
def test_a_property_without_effect_is_told(more: str, name: str) -> None:
    parsed = parse_flow(HEAD + more + "\n")

    assert parsed.flow is not None
    assert [(each.code, each.message) for each in parsed.problems] == [
        ("property.effect.none", f"`{name}` has no effect here yet")
    ]


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("io.kestra.plugin.core.log.Lgo", "did you mean 'io.kestra.plugin.core.log.Log'?"),
        ("core.trigger.Shedule", "did you mean 'core.trigger.Schedule'?"),
        ("io.kestra.plugin.scripts.pyton", "did you mean 'io.kestra.plugin.scripts.python'?"),
        ("io.kestra.plugin.slakc", None),
    ],
)
def test_defaults_that_reach_no_type_are_told_with_the_one_that_was_meant(name: str, hint: str | None) -> None:
    parsed = parse_flow(f"{HEAD}{TASKS}pluginDefaults:\n  - type: {name}\n    values: {{a: 1}}\n")

    (problem,) = parsed.problems
    assert (problem.code, problem.severity, problem.line) == ("default.type.unknown", Severity.WARNING, 6)
    assert problem.hint == hint


@pytest.mark.parametrize(
    "name",
    [
        "io.kestra.plugin",
        "core",
        "io.kestra.core.tasks.log.Log",
        "io.kestra.plugin.scripts.runner.docker.Docker",
        "acme",
    ],
)
def test_defaults_for_a_type_a_family_or_what_the_flow_uses_are_fine(name: str) -> None:
    parsed = parse_flow(
        f"{HEAD}tasks: [{{id: t, type: acme.Race}}]\npluginDefaults: [{{type: {name}, values: {{}}}}]\n"
    )

    assert "default.type.unknown" not in [problem.code for problem in parsed.problems]


def test_an_unknown_type_hides_no_other_fault_of_its_task() -> None:
    task = "{id: bad id, type: core.log.Lg, timeout: never, retry: {type: constant}, runIf: '{{ ( }}', message: x}"

    parsed = parse_flow(
        f"{HEAD}tasks:\n  - {task}\ntriggers: [{{id: t, type: core.trigger.Shedule, disabled: maybe}}]\n"
    )

    assert sorted(problem.code for problem in parsed.problems) == [
        "expression.syntax",
        "retry.property.missing",
        "task.property.invalid",
        "task.property.invalid",
        "task.type.unknown",
        "trigger.property.invalid",
        "trigger.type.unknown",
    ]
