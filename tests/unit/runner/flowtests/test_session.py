"""Tests of flows through the real engine."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from runner.cli.local_host import open_host
from runner.executions.models import LogEntry
from runner.flowtests.results import CaseResult
from runner.flowtests.session import Options, Session, run_session
from runner.services import Host
from runner.store import Store

Run = Callable[..., Session]
HEAD = "id: hello\nnamespace: company\n"
SUITE = "id: suite\nnamespace: company\nflowId: hello\ntestCases:\n  - id: one\n"


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Write a flow and its suite, and whatever else; run the session."""

    def go(flow: str, suite: str, *, workers: int = 1, timeout_s: float = 30.0, **others: str) -> Session:
        folder = tmp_path / "flows" / "company"
        (folder / "tests").mkdir(parents=True, exist_ok=True)
        (folder / "hello.yaml").write_text(HEAD + flow)
        (folder / "tests" / "hello.yaml").write_text(SUITE + suite)
        for name, text in others.items():
            (folder / f"{name}.yaml").write_text(f"id: {name}\nnamespace: company\n{text}")
        return run_session([tmp_path / "flows"], _opened, Options("", workers, timeout_s))

    return go


def _opened(room: Path, root: Path, store: Store) -> Host:
    return open_host(room, os.environ, files=root, store=store)


def _only(session: Session) -> CaseResult:
    assert session.problems == []
    (result,) = session.results
    return result


def _sentences(session: Session) -> list[str]:
    return [finding.sentence for finding in _only(session).findings]


def test_a_task_with_a_fixture_is_not_run_and_its_outputs_are_used(run: Run) -> None:
    session = run(
        "tasks:\n  - {id: load, type: core.execution.Fail}\n"
        "  - {id: say, type: core.debug.Return, format: '{{ outputs.load.rows }} rows'}\n",
        "    fixtures: {tasks: [{id: load, outputs: {rows: 7}}]}\n"
        "    assertions: [{value: '{{ outputs.say.value }}', equalTo: 7 rows}]\n",
    )

    assert session.is_good
    assert _only(session).state == "SUCCESS"
    assert [set(_only(session).touched.tasks), set(_only(session).touched.doubles)] == [{"say"}, {"load"}]


def test_a_failing_assertion_tells_the_expression_both_values_and_the_line(run: Run) -> None:
    session = run(
        "tasks: [{id: say, type: core.debug.Return, format: hi}]\n",
        "    assertions:\n      - value: '{{ outputs.say.value }}'\n        equalTo: ho\n"
        "        errorMessage: not polite\n",
    )

    (finding,) = _only(session).findings
    assert (finding.line, finding.column) == (7, 16)
    assert finding.sentence == "not polite: {{ outputs.say.value }} should be equal to 'ho', but it is 'hi'"
    assert not session.is_good


def test_every_operator_of_an_assertion_must_hold(run: Run) -> None:
    session = run(
        "tasks: [{id: say, type: core.debug.Return, format: '5'}]\n",
        "    assertions: [{value: '{{ outputs.say.value }}', greaterThan: 4, lessThan: 5, in: [6], startsWith: '5'}]\n",
    )

    assert _sentences(session) == [
        "{{ outputs.say.value }} should be less than 5, but it is '5'",
        "{{ outputs.say.value }} should be in [6], but it is '5'",
    ]


def test_a_value_that_is_not_there_is_null_and_otherwise_a_failure(run: Run) -> None:
    session = run(
        "tasks: [{id: say, type: core.log.Log, message: hi}]\n",
        "    assertions:\n"
        "      - {value: '{{ outputs.nothing }}', isNull: true}\n"
        "      - {value: '{{ outputs.nothing }}', equalTo: 1}\n"
        "      - {value: '{{ 1 | nosuch }}', equalTo: 1}\n",
    )

    first, second = _sentences(session)
    assert first.startswith("{{ outputs.nothing }} should be equal to 1, but Unable to find `nothing`")
    assert "Filter [nosuch] does not exist" in second


def test_files_keys_secrets_labels_and_the_trigger_can_be_given(run: Run) -> None:
    session = run(
        "tasks:\n"
        "  - id: a\n    type: core.debug.Return\n"
        "    format: \"{{ read('rows.csv') }}|{{ kv('limit') }}|{{ trigger.body.x }}\"\n"
        "  - {id: b, type: core.debug.Return, format: \"{{ secret('PASSWORD') }}|{{ labels.team }}\"}\n"
        "  - {id: c, type: core.debug.Return, format: '{{ read(outputs.load.uri) }}'}\n"
        "  - {id: load, type: core.execution.Fail}\n",
        "    fixtures:\n"
        "      files: {rows.csv: 'a,b'}\n"
        "      kv: {limit: 5}\n"
        "      secrets: {PASSWORD: hunter22}\n"
        "      labels: {team: field}\n"
        "      trigger: {id: hook, variables: {body: {x: 1}}}\n"
        "      tasks:\n"
        "        - {id: load}\n"
        "        - {id: c, outputs: {value: \"{{ files['rows.csv'] }}\"}}\n"
        "    assertions:\n"
        "      - {value: '{{ outputs.a.value }}', equalTo: 'a,b|5|1'}\n"
        "      - {value: '{{ outputs.b.value }}', endsWith: '|field', contains: hunter22}\n"
        "      - {value: '{{ read(outputs.c.value) }}', equalTo: 'a,b'}\n",
    )

    assert _sentences(session) == []


def test_no_report_shows_a_secret(run: Run) -> None:
    session = run(
        "tasks: [{id: a, type: core.debug.Return, format: \"key {{ secret('KEY') }}\"}]\n",
        "    fixtures: {secrets: {KEY: hunter22}}\n"
        "    assertions:\n"
        "      - {value: '{{ outputs.a.value }}', equalTo: other}\n"
        "      - {value: '{{ [outputs.a.value] }}', equalTo: [hunter22]}\n",
    )

    assert len(_sentences(session)) == 2
    assert "hunter22" not in str(_only(session).findings)
    assert _sentences(session)[0].endswith("but it is 'key ******'")


def test_inputs_keep_their_types_and_may_name_files(run: Run) -> None:
    session = run(
        "inputs: [{id: rows, type: FILE}, {id: limits, type: JSON}, {id: n, type: INT}]\n"
        "tasks:\n  - id: a\n    type: core.debug.Return\n"
        "    format: '{{ read(inputs.rows) }} {{ inputs.limits.x + inputs.n }}'\n",
        "    fixtures:\n      files: {r: abc}\n"
        "      inputs: {rows: \"{{ files['r'] }}\", limits: {x: 2}, n: 3}\n"
        "    assertions: [{value: '{{ outputs.a.value }}', equalTo: abc 5}]\n",
    )

    assert _sentences(session) == []


def test_a_fixture_may_be_for_one_value_of_a_loop_and_the_others_run(run: Run) -> None:
    session = run(
        "tasks:\n  - id: each\n    type: core.flow.ForEach\n    values: [a, b]\n    tasks:\n"
        "      - {id: body, type: core.debug.Return, format: 'real {{ taskrun.value }}'}\n"
        "      - id: script\n        type: scripts.shell.Script\n"
        '        script: echo \'::{"outputs":{"x":1}}::\'\n',
        "    fixtures:\n      tasks:\n"
        "        - {id: body, value: a, outputs: {value: fake}}\n"
        "        - {id: script, value: b, outputs: {vars: {x: 2}}}\n"
        "    assertions:\n"
        "      - {value: '{{ outputs.body.a.value }} {{ outputs.body.b.value }}', equalTo: fake real b}\n"
        "      - {value: '{{ outputs.script.a.vars.x }} {{ outputs.script.b.vars.x }}', equalTo: 1 2}\n",
    )

    assert _sentences(session) == []


def test_a_subflow_without_a_fixture_for_its_value_is_named(run: Run) -> None:
    session = run(
        "tasks:\n  - id: each\n    type: core.flow.ForEach\n    values: [a, b]\n    tasks:\n"
        "      - {id: ask, type: core.flow.Subflow, namespace: company, flowId: other}\n",
        "    fixtures: {tasks: [{id: ask, value: a}]}\n",
        other="tasks: [{id: x, type: core.log.Log, message: x}]\n",
    )

    assert "no fixture of 'ask' is for 'b'" in _sentences(session)[0]


@pytest.mark.parametrize(
    ("container", "children"),
    [
        ("core.flow.WorkingDirectory", "    tasks:\n      - {id: body, type: core.execution.Fail}\n"),
        ("core.flow.Dag", "    tasks: [{task: {id: body, type: core.execution.Fail}}]\n"),
        ("core.flow.Switch", "    value: x\n    cases: {x: [{id: body, type: core.execution.Fail}]}\n"),
        ("core.flow.If", "    condition: 'true'\n    then: [{id: body, type: core.execution.Fail}]\n"),
    ],
)
def test_fixtures_stand_in_every_kind_of_container(run: Run, container: str, children: str) -> None:
    session = run(
        f"tasks:\n  - id: box\n    type: {container}\n{children}",
        "    fixtures: {tasks: [{id: body, outputs: {value: 5}}]}\n"
        "    assertions: [{value: '{{ outputs.body.value }}', equalTo: 5}]\n",
    )

    assert _sentences(session) == []


def test_a_container_with_a_fixture_runs_nothing_inside(run: Run) -> None:
    session = run(
        "tasks: [{id: box, type: core.flow.Sequential, tasks: [{id: bad, type: core.execution.Fail}]}]\n",
        "    fixtures: {tasks: [{id: box}]}\n    assertions: [{taskId: bad, value: '{{ state }}', isNull: true}]\n",
    )

    assert _sentences(session) == []


def test_a_fixture_that_fails_goes_the_way_of_every_failure_but_is_final(run: Run) -> None:
    session = run(
        "tasks:\n"
        "  - {id: weak, type: core.log.Log, message: x, allowFailure: true}\n"
        "  - {id: bad, type: core.log.Log, message: x, retry: {type: constant, interval: PT1H, maxAttempts: 3}}\n"
        "errors: [{id: tell, type: core.log.Log, message: '{{ error.taskId }} failed'}]\n",
        "    fixtures: {tasks: [{id: weak, state: FAILED}, {id: bad, state: FAILED}]}\n"
        "    expectedState: FAILED\n"
        "    assertions:\n"
        "      - {value: '{{ tasks.weak.state }}', equalTo: WARNING}\n"
        "      - {value: '{{ logs }}', equalTo: 'INFO tell: bad failed'}\n",
    )

    assert _sentences(session) == []


def test_run_if_counts_for_a_task_with_a_fixture(run: Run) -> None:
    session = run(
        "tasks: [{id: a, type: core.execution.Fail, runIf: '{{ false }}'}]\n",
        "    fixtures: {tasks: [{id: a}]}\n    assertions: [{taskId: a, value: '{{ state }}', equalTo: SKIPPED}]\n",
    )

    assert _sentences(session) == []


def test_tasks_that_follow_the_end_are_waited_for(run: Run) -> None:
    session = run(
        "tasks: [{id: a, type: core.log.Log, message: a}]\n"
        "afterExecution:\n  - {id: wait, type: core.flow.Sleep, duration: PT1H}\n"
        "  - {id: b, type: scripts.shell.Commands, commands: ['echo {{ execution.state }}']}\n",
        "    assertions: [{taskId: b, value: '{{ logs }}', contains: SUCCESS}]\n",
    )

    assert _sentences(session) == []


def test_an_unexpected_end_tells_the_state_and_the_reason(run: Run) -> None:
    session = run("tasks: [{id: a, type: core.execution.Fail, errorMessage: no disk}]\n", "    assertions: []\n")

    assert _sentences(session) == ["the execution should end SUCCESS or WARNING, but it is FAILED (a: no disk)"]


def test_an_execution_that_cannot_begin_is_a_failure(run: Run) -> None:
    session = run(
        "inputs: [{id: n, type: INT, max: 5}]\ntasks: [{id: a, type: core.log.Log, message: a}]\n",
        "    fixtures: {inputs: {n: 9}}\n",
    )

    assert _sentences(session) == [
        "no execution: Invalid input for `n`, it must be less than `5`, but received `9`",
    ]


def test_an_execution_that_does_not_end_is_stopped_and_says_what_it_waits_for(run: Run) -> None:
    for seconds in (3, 10, 30):  # on a busy machine the task may not have begun in so short a time
        session = run("tasks: [{id: ask, type: core.flow.Pause}]\n", "    description: x\n", timeout_s=float(seconds))
        if "PAUSED" in str(_sentences(session)):
            break

    assert _sentences(session) == [
        f"it has not ended after {seconds} s, open are ask (PAUSED); give the task a fixture",
    ]
    assert _only(session).state == "KILLED"


def test_nobody_waits_for_a_sleep_a_retry_or_the_end_of_a_pause(run: Run) -> None:
    session = run(
        "tasks:\n"
        "  - {id: sleep, type: core.flow.Sleep, duration: P1D}\n"
        "  - id: again\n    type: scripts.shell.Script\n    script: test {{ taskrun.attemptsCount }} -gt 1\n"
        "    retry: {type: constant, interval: PT1H, maxAttempts: 3}\n"
        "  - {id: pause, type: core.flow.Pause, pauseDuration: PT2H}\n"
        "  - {id: after, type: core.debug.Return, format: '{{ now() | timestamp }}'}\n",
        "    assertions:\n"
        "      - value: '{{ (outputs.after.value | number) - (execution.startDate | timestamp) }}'\n"
        "        greaterThanOrEqualTo: 100800\n        lessThan: 100920\n",  # 24 h, twice 1 h, 2 h
        timeout_s=20.0,
    )

    assert _sentences(session) == []
    assert _only(session).state == "SUCCESS"


def test_a_disabled_case_is_skipped(run: Run) -> None:
    session = run("tasks: [{id: a, type: core.execution.Fail}]\n", "    disabled: true\n")

    assert _only(session).outcome == "skipped"


def test_cases_run_at_the_same_time(run: Run, tmp_path: Path) -> None:
    script = f"touch {tmp_path}/{{{{ inputs.me }}}}; for i in $(seq 200); do [ -e {tmp_path}/{{{{ inputs.other }}}} ]"
    session = run(
        "inputs: [{id: me, type: STRING}, {id: other, type: STRING}]\n"
        "tasks:\n  - id: meet\n    type: scripts.shell.Script\n"
        f"    script: {script} && exit 0; sleep 0.1; done; exit 1\n",
        "    fixtures: {inputs: {me: a, other: b}}\n  - {id: two, fixtures: {inputs: {me: b, other: a}}}\n",
        workers=2,
    )

    assert [result.outcome for result in session.results] == ["passed", "passed"]


def test_cases_see_nothing_of_one_another(run: Run) -> None:
    session = run(
        "tasks:\n  - {id: before, type: core.kv.Get, key: x, errorOnMissing: false}\n"
        "  - {id: set, type: core.kv.Set, key: x, value: '1'}\n",
        "    assertions: [{value: '{{ outputs.before.value }}', isNull: true}]\n"
        "  - {id: two, assertions: [{value: '{{ outputs.before.value }}', isNull: true}]}\n",
    )

    assert [result.outcome for result in session.results] == ["passed", "passed"]


def test_the_executions_are_of_the_kind_test_and_wake_no_listener(tmp_path: Path) -> None:
    folder = tmp_path / "company"
    (folder / "tests").mkdir(parents=True, exist_ok=True)
    script = "tasks: [{id: say, type: scripts.shell.Commands, commands: [echo hi]}]\n"
    (folder / "hello.yaml").write_text(HEAD + script)
    listener = "id: listens\nnamespace: company\ntriggers: [{id: t, type: core.trigger.Flow}]\n"
    (folder / "listens.yaml").write_text(listener + "tasks: [{id: heard, type: core.log.Log, message: heard}]\n")
    (folder / "tests" / "hello.yaml").write_text(SUITE + "    assertions: []\n")
    seen: list[tuple[str, str | None]] = []

    def opened(room: Path, root: Path, store: Store) -> Host:
        host = _opened(room, root, store)

        def log(entry: LogEntry) -> None:
            execution = store.read(lambda db: db.executions.get(entry.execution_id))
            seen.append((entry.flow_id, execution.kind if execution else None))

        return replace(host, log=log)

    session = run_session([tmp_path], opened, Options())

    assert session.is_good
    assert ("hello", "TEST") in seen
    assert {flow for flow, _ in seen} == {"hello"}


def test_coverage_names_what_no_case_ran(run: Run) -> None:
    session = run(
        "tasks:\n  - id: choice\n    type: core.flow.If\n    condition: '{{ inputs.x }}'\n"
        "    then: [{id: yes, type: core.log.Log, message: x}]\n"
        "    else: [{id: no, type: core.log.Log, message: x}]\n"
        "  - {id: send, type: core.log.Log, message: x}\n"
        "inputs: [{id: x, type: BOOL}]\nerrors: [{id: tell, type: core.log.Log, message: x}]\n",
        "    fixtures: {inputs: {x: true}, tasks: [{id: send}]}\n",
        other="tasks: [{id: x, type: core.log.Log, message: x}]\n",
    )

    (covered,) = session.coverage
    assert covered.as_json() == {
        "flow": "company.hello",
        "tasks": {"total": 5, "run": 2},
        "branches": {"total": 3, "run": 1},
        "notRun": ["no", "tell", "[errors]", "[choice.else]"],
        "mocked": ["send"],
    }
    assert session.untested == ["company.other"]


@pytest.mark.parametrize("named", [True, False])
def test_tests_may_follow_their_flow_in_its_file(tmp_path: Path, named: bool) -> None:  # noqa: FBT001 - a parameter
    flow = tmp_path / "company" / "hello.yaml"
    flow.parent.mkdir()
    flow.write_text(
        HEAD + "tasks: [{id: say, type: core.debug.Return, format: hi}]\n---\nid: suite\ntestCases:\n"
        "  - {id: one, assertions: [{value: '{{ outputs.say.value }}', equalTo: hi}]}\n"
    )

    session = run_session([flow if named else tmp_path], _opened, Options())

    assert session.is_good
    assert [result.name for result in session.results] == ["suite / one"]


def test_a_suite_for_a_flow_that_is_not_there_is_a_problem(tmp_path: Path) -> None:
    folder = tmp_path / "company"
    (folder / "tests").mkdir(parents=True, exist_ok=True)
    (folder / "hello.yaml").write_text(HEAD + "tasks: [{id: say, type: core.log.Log, message: hi}]\n")
    (folder / "tests" / "hello.yaml").write_text(SUITE.replace("flowId: hello", "flowId: helo"))

    session = run_session([tmp_path], _opened, Options())

    (problem,) = session.problems
    assert (problem.code, problem.line, problem.hint) == ("test.flow.missing", 3, "did you mean 'company.hello'?")
    assert not session.is_good
