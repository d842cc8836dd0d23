"""Plays a case that has no steps: one function for each `action`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import yaml

from runner.durations import parse_duration
from runner.errors import FlowError
from runner.expressions import is_truthy
from runner.flows.models import Flow
from runner.flows.parse import parse_flow
from runner.states import State
from runner.triggers.conditions import ConditionContext, all_hold
from runner.triggers.dates import iso
from runner.triggers.models import Schedule, ScheduleOnDates
from runner.triggers.schedule import dates_between, preceding, tick_at
from runner.triggers.starting import request
from tests.conformance import calls
from tests.conformance.cases import moment
from tests.conformance.expectations import problem_of
from tests.conformance.matchers import differs
from tests.conformance.playing import CaseFailedError, Playing, near, until
from tests.conformance.server import API
from tests.conformance.steps import check_end
from tests.conformance.views import View, dig

_OF_VARIABLES = ("trigger_variables", "trigger_variables_absent", "trigger_variables_present")
_DATES = ("after", "before", "date")
END_S = 60.0  # how long an execution may take that a case sets no limit for
_NOTHING_S = 1.0  # how long it is watched that nothing starts


def play_action(playing: Playing) -> None:
    """Play a case by its action. Raises `CaseFailedError` when something is not as expected."""
    case = playing.case
    action = case["action"]
    if case["condition"] is not None:
        action = "evaluate-condition"
    player = _ACTIONS.get(action)
    if player is None:
        raise CaseFailedError(f"the runner does not know the action {action!r}")
    player(playing)


# -------------------------------------------------------------------- executions


def _execute(playing: Playing) -> None:
    case, expect = playing.case, playing.case.expect
    inputs = playing.fill(case["inputs"] or {})
    if case["skip_input_validation"]:
        execution_id = calls.start_unchecked(playing, playing.flow_name(), inputs)
        playing.note_start("A", execution_id, playing.server.view(execution_id))
    else:
        answer = calls.start(playing, playing.flow_name(), inputs, labels=case["execution_labels"])
        if expect.get("rejected"):
            _only(expect, "rejected", "message_contains", "message_equals")
            _raise(calls.refusal_problem({"error": True, **expect}, answer))
            return
        _raise(calls.refusal_problem({}, answer))
        playing.note_start("A", answer.json()["id"], View(answer.json()))
        execution_id = answer.json()["id"]
    _await_end(playing, execution_id)
    check_end(playing, execution_id)


def _await_end(playing: Playing, execution_id: str) -> None:
    wanted = playing.case.expect.get("state")
    rests = {wanted} & {state.value for state in State if not state.is_terminal}

    def problem() -> str | None:
        state = playing.server.view(execution_id).state
        return None if State(state).is_terminal or state in rests else f"after {END_S:.0f} s it is {state}"

    until(problem, END_S)


def _deploy(playing: Playing) -> None:
    flow, expect = playing.flow, dict(playing.case.expect)
    if expect.pop("deployed", True) is False:
        raise CaseFailedError("the flow was accepted")
    if flow is not None:
        seen = {"id": flow.id, "namespace": flow.namespace, "tasks": len(flow.tasks), "triggers": len(flow.triggers)}
        for key in [key for key in expect if key in seen]:
            _raise(_unlike(key, expect.pop(key), seen[key]))
    within_s = max([0.0, *(float(group.get("within_seconds", 30)) for group in expect.get("other_executions") or ())])
    until(lambda: problem_of(expect, None, playing), within_s)


def _webhook(playing: Playing) -> None:
    expect = dict(playing.case.expect)
    call = playing.fill(playing.case["request"])
    answer = calls.send(playing, call)
    created = expect.pop("execution_created", None)
    of_answer = {key: expect.pop(key) for key in list(expect) if key in calls.ANSWER_KEYS}
    _raise(calls.answer_problem(of_answer, answer, playing))
    body = answer.json() if "json" in answer.headers.get("content-type", "") and answer.is_success else {}
    execution_id = body.get("id")
    if created is False:
        _only(expect)
        _raise(_something_started(playing))
    elif created or expect:
        if execution_id is None:
            raise CaseFailedError(f"no execution was created: {answer.status_code} {answer.text[:200]}")
        playing.note_start("A", execution_id, playing.server.view(execution_id))
        _await_end(playing, execution_id)
        until(lambda: problem_of(expect, playing.server.view(execution_id), playing), playing.patience_s)


def _something_started(playing: Playing) -> str | None:
    found: list[str | None] = []

    def problem() -> str | None:
        count = len(playing.server.executions(playing.flow_name(), playing.since))
        found[:] = [f"{count} executions were created" if count else None]
        return "nothing yet" if not count else None

    try:
        until(problem, _NOTHING_S)
    except CaseFailedError:
        return None
    return found[0]


# -------------------------------------------------------------------- validation


def _validate(playing: Playing) -> None:
    """Validate the flow through the API, and look at its model where the case does."""
    expect = dict(playing.case.expect)
    source = playing.case.own_source() or ""
    answer = playing.server.client.post(
        f"{API}/flows/validate", content=source.encode(), headers={"content-type": "application/x-yaml"}
    )
    if not answer.is_success:
        raise CaseFailedError(f"status {answer.status_code}: {answer.text[:300]}")
    verdict = answer.json()[0]
    text = verdict.get("constraints") or ""
    valid = expect.pop("valid")
    if valid is not (not text):
        raise CaseFailedError(f"accepted, with warnings {verdict.get('warnings')}" if not text else f"refused: {text}")
    missing = [part for part in expect.pop("message_contains", ()) if part not in text]
    if missing:
        raise CaseFailedError(f"{missing} not in {text!r}")
    count = expect.pop("violations", None)
    errors = [problem for problem in verdict.get("problems") or () if problem["severity"] == "error"]
    if count is not None and len(errors) != count:
        raise CaseFailedError(f"{len(errors)} problems, expected {count}: {text}")
    parsed = expect.pop("parsed", None)
    if parsed is not None:
        _raise(_parsed_problem(parsed, source, playing))
    _only(expect)


def _parsed_problem(expected: Mapping[str, Any], source: str, playing: Playing) -> str | None:
    flow = parse_flow(source).require()
    model, written = flow.model_dump(mode="json", by_alias=True), yaml.safe_load(source)
    for path, wanted in expected.items():
        found: Any
        if path == "task_and_trigger_ids":
            found = len([*flow.all_tasks(), *flow.triggers])
        else:
            plain = path.removesuffix("_seconds")
            value = dig(model, plain)
            # Under a name that the model has no more, the value stands where the author wrote it.
            value = dig(written, plain) if value is None else value
            found = _shown(value, wanted, in_seconds=plain != path)
        problem = differs(wanted, found, playing.server)
        if problem is not None:
            return f"{path}: {problem}"
    return None


def _shown(value: Any, wanted: Any, *, in_seconds: bool) -> Any:
    """Return a value of the model as a case tells it: how many, how many seconds, or the same length of time."""
    if in_seconds and value is not None:
        return parse_duration(value).total_seconds()
    if isinstance(wanted, int) and isinstance(value, list | dict):
        return len(value)
    if isinstance(wanted, str) and re.fullmatch(r"P[\dTDHMS.]+", wanted) and isinstance(value, str):
        return wanted if parse_duration(wanted) == parse_duration(value) else value
    return value


# -------------------------------------------------------------------- conditions and schedules


def _condition(playing: Playing) -> None:
    now = datetime.now(UTC)
    condition, given = _dated(playing.case["condition"], now), playing.case["condition_context"] or {}
    flow = given.get("flow") or {"namespace": "conformance", "id": "condition"}
    trigger = {"id": "listens", "type": "io.kestra.plugin.core.trigger.Flow", "conditions": [condition]}
    tasks = [{"id": "nothing", "type": "io.kestra.plugin.core.debug.Return", "format": "x"}]
    source = yaml.safe_dump({**flow, "tasks": tasks, "triggers": [trigger]}, sort_keys=False)
    deployed = playing.server.deploy([source])[0]
    outputs = given.get("execution_outputs") or {}
    seen: dict[str, Any] = {
        "trigger": {"date": iso(now), **(given.get("trigger") or {})},
        **(given.get("variables") or {}),
    }
    state = given.get("execution_state")
    context = ConditionContext(
        playing.server.renderer(deployed),
        deployed.namespace,
        deployed.id,
        State(state) if state else None,
        given.get("execution_labels") or {},
        outputs,
        tuple(tuple(map(State, states)) for states in given.get("taskrun_attempt_states") or ()),
        seen,
    )
    expect = playing.case.expect
    if expect.get("error"):
        _only(expect, "error", "message_contains")
        _raise(_condition_error(expect, deployed, context))
        return
    _only(expect, "condition_result")
    found = all_hold(deployed.triggers[0].conditions, context)
    _raise(_unlike("condition_result", expect["condition_result"], found))


def _condition_error(expect: Mapping[str, Any], flow: Flow, context: ConditionContext) -> str | None:
    try:
        all_hold(flow.triggers[0].conditions, context)
    except FlowError as error:
        missing = [text for text in expect.get("message_contains") or () if text not in error.message]
        return f"the error says {error.message!r}" if missing else None
    return "expected an error"


def _dated(value: Any, now: datetime) -> Any:
    """Return a condition with `now`, `now - 1 h` and the like replaced by dates."""
    if isinstance(value, list):
        return [_dated(item, now) for item in value]
    if not isinstance(value, Mapping):
        return value
    return {
        key: moment(item, now).isoformat()
        if key in _DATES and isinstance(item, str) and item.startswith("now")
        else _dated(item, now)
        for key, item in value.items()
    }


def _schedule(playing: Playing) -> None:
    given, expect, flow, now = playing.case["schedule"], playing.case.expect, playing.flow, datetime.now(UTC)
    if flow is None:
        raise CaseFailedError("the case has no flow")
    _only(expect, "previous_evaluation_date", "execution_created", "labels_contain", *_OF_VARIABLES)
    trigger = next(one for one in flow.triggers if isinstance(one, Schedule | ScheduleOnDates))
    zone = playing.server.zone
    if "previous_evaluation_date" in expect:
        found = preceding(trigger, now, zone)
        wanted = moment(expect["previous_evaluation_date"]["equals"], playing.since)
        if found is None or not near(found, wanted):
            raise CaseFailedError(f"previous_evaluation_date: expected {wanted}, got {found}")
    if "execution_created" in expect:
        _raise(_tick_problem(playing, flow, trigger, given, now))


def _tick_problem(
    playing: Playing, flow: Flow, trigger: Schedule | ScheduleOnDates, given: Mapping[str, Any], now: datetime
) -> str | None:
    expect, server = playing.case.expect, playing.server
    render, backfill = server.renderer(flow), given.get("backfill")
    date = moment(backfill["currentDate"] if backfill else given["date"], now)
    if backfill and date not in list(dates_between(trigger, date, date, server.zone)):
        return _unlike("execution_created", expect["execution_created"], found=False)
    tick = tick_at(trigger, date, now, server.zone, render, is_truthy)
    problem = _unlike("execution_created", expect["execution_created"], tick is not None)
    if problem is not None:
        return problem
    if tick is None:
        _only(expect, "execution_created")
        return None
    labels = {**flow.labels, **request(flow, trigger, tick.variables, render).labels}
    return (
        _date_problem(expect, tick.variables)
        or differs(expect.get("labels_contain") or {}, labels, server, partly=True)
        or _presence_problem(expect, tick.variables)
    )


def _date_problem(expect: Mapping[str, Any], variables: Mapping[str, Any]) -> str | None:
    for key, wanted in (expect.get("trigger_variables") or {}).items():
        found = variables.get(key)
        if found is None or datetime.fromisoformat(found) != datetime.fromisoformat(wanted):
            return f"trigger_variables: {key}: expected {wanted}, got {found}"
    return None


def _presence_problem(expect: Mapping[str, Any], variables: Mapping[str, Any]) -> str | None:
    there = [key for key in expect.get("trigger_variables_absent") or () if key in variables]
    missing = [key for key in expect.get("trigger_variables_present") or () if key not in variables]
    return f"the variables have {there}, lack {missing}" if there or missing else None


def _only(expect: Mapping[str, Any], *known: str) -> None:
    """Raise `CaseFailedError` for expectations that nobody would check."""
    unknown = set(expect) - set(known)
    if unknown:
        raise CaseFailedError(f"the runner does not check {sorted(unknown)} here")


def _unlike(key: str, wanted: Any, found: Any) -> str | None:
    return None if wanted == found else f"{key}: expected {wanted!r}, got {found!r}"


def _raise(problem: str | None) -> None:
    if problem is not None:
        raise CaseFailedError(problem)


_ACTIONS: dict[str, Callable[[Playing], None]] = {
    "execute": _execute,
    "deploy-only": _deploy,
    "webhook": _webhook,
    "validate": _validate,
    "evaluate-condition": _condition,
    "schedule": _schedule,
}
