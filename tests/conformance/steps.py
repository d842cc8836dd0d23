"""Plays the steps of a case: starts, waits, verbs, calls and checks."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import httpx

from runner.errors import MainstemError
from runner.states import State
from tests.conformance import calls
from tests.conformance.cases import moment
from tests.conformance.expectations import COUNTED, problem_of
from tests.conformance.playing import CaseFailedError, Named, Playing, until
from tests.conformance.views import View

VERBS = ("resume", "pause", "kill", "force_run", "unqueue", "restart", "replay", "change_status", "labels", "delete")
_LEAST_S = 5.0  # a limit of a case is never shorter: the machine may be busy
_ANSWER_S = 5.0
_OTHERS_S = 20.0  # how long executions may take that a case starts in passing


def play_steps(playing: Playing) -> None:
    """Play all steps of a case, then check its end. Raises `CaseFailedError` at the first thing that does not hold."""
    for number, step in enumerate(playing.case["steps"]):
        try:
            _play(step, playing)
        except (CaseFailedError, MainstemError, httpx.HTTPError) as error:
            raise CaseFailedError(f"step {number} ({kind_of(step)}): {error}") from error
    of = playing.case["expect_of"] or next(reversed(playing.named), None)
    check_end(playing, playing.name(of).id if of else None)


def kind_of(step: Mapping[str, Any]) -> str:
    """Return what a step does."""
    return next((key for key in step if key not in {"as", "expect"}), "nothing")


def check_end(playing: Playing, execution_id: str | None) -> None:
    """Check what the case expects at its end of an execution. Raises `CaseFailedError`."""
    expect = playing.case.expect
    groups = expect.get("other_executions") or ()
    within_s = max([playing.patience_s, *(float(group.get("within_seconds", _OTHERS_S)) for group in groups)])
    if COUNTED & set(expect):
        within_s = max(within_s, _OTHERS_S)
    if expect:
        until(
            lambda: problem_of(expect, playing.server.view(execution_id) if execution_id else None, playing), within_s
        )


def _play(step: Mapping[str, Any], playing: Playing) -> None:
    kind = kind_of(step)
    player = _PLAYERS.get(kind)
    if player is None:
        raise CaseFailedError(f"the runner does not know the step {kind!r}")
    player(step, playing)


def _start(step: Mapping[str, Any], playing: Playing) -> None:
    how = step["start"]
    flow = how.get("flow") or playing.flow_name()
    is_own = "flow" not in how
    inputs = how.get("inputs", (playing.case["inputs"] or {}) if is_own else {})
    labels = how.get("labels", (playing.case["execution_labels"] or {}) if is_own else {})
    date = moment(how["schedule_date"]) if how.get("schedule_date") else None
    if date is not None:
        playing.sent_dates[how["schedule_date"]] = date
    answer = calls.start(
        playing, flow, playing.fill(inputs), labels=playing.fill(labels), revision=how.get("revision"), date=date
    )
    problem = calls.refusal_problem(step.get("expect") or {}, answer)
    if problem is not None:
        raise CaseFailedError(problem)
    if answer.is_success:
        body = answer.json()
        playing.note_start(step.get("as", f"#{len(playing.started)}"), body["id"], View(body))


def _wait(step: Mapping[str, Any], playing: Playing) -> None:
    how = step["wait"]
    named = playing.name(how["of"])
    wanted = how["state"] if isinstance(how["state"], list) else [how["state"]]

    def problem() -> str | None:
        view = playing.server.view(named.id)
        newer = view.history[named.mark :]
        is_there = bool(newer) and (State(view.state).is_terminal if wanted == ["terminal"] else view.state in wanted)
        if not is_there:
            return f"the execution is {view.state} ({view.history}), waited for {wanted}"
        states = {
            task: (view.find(task) or {}).get("state", {}).get("current") for task in how.get("task_states") or ()
        }
        return None if states == dict(how.get("task_states") or {}) else f"the tasks are {states}"

    until(problem, max(float(how.get("within_s", 30)), _LEAST_S))


def _sleep(step: Mapping[str, Any], _playing: Playing) -> None:
    time.sleep(float(step["sleep_s"]))


def _verb(step: Mapping[str, Any], playing: Playing) -> None:
    kind = next(key for key in step if key in VERBS)
    how = playing.fill(step[kind])
    named = playing.name(how["of"])
    before = playing.server.view(named.id)
    if how.get("task_run"):
        how = {**how, "task_run_id": before.run(how["task_run"])["id"]}
    answer = calls.verb(playing, kind, named.id, how)
    problem = calls.refusal_problem(playing.fill(step.get("expect") or {}, before), answer)
    if problem is not None:
        raise CaseFailedError(problem)
    if answer.is_success and kind != "delete":
        body = answer.json() if answer.content else {}
        is_execution = isinstance(body, Mapping) and "state" in body and kind not in {"resume", "kill"}
        view = View(body) if is_execution else None
        _name_answer(step, playing, named, before, view)


def _name_answer(step: Mapping[str, Any], playing: Playing, named: Named, before: View, answer: View | None) -> None:
    """Remember what a verb or call on `named` answered, under the name the step gives."""
    name = step.get("as")
    execution_id = answer.id if answer is not None else named.id
    if execution_id == named.id:
        named.answer, named.before, named.mark = answer, before, len(before.history)
        if name is not None:
            playing.named.pop(name, None)
            playing.named[name] = named
    elif name is not None:
        playing.named[name] = Named(execution_id, answer, before)


def _deploy(step: Mapping[str, Any], playing: Playing) -> None:
    source = playing.case.source_of(step["deploy"])
    if source is None:
        raise CaseFailedError("the step names no flow")
    playing.server.deploy([playing.fill(source)])


def _call(step: Mapping[str, Any], playing: Playing) -> None:
    raw = step["call"]
    call = playing.fill(raw)
    expect = playing.fill(step.get("expect") or {})
    on = _execution_in(raw["path"], playing)
    before = playing.server.view(on.id) if on is not None else None
    answers: list[httpx.Response] = []

    def problem() -> str | None:
        answers.append(calls.send(playing, call))
        return calls.answer_problem(expect, answers[-1], playing)

    until(problem, float(raw["within_s"]) if raw.get("within_s") and call["method"] == "GET" else 0)
    body = answers[-1].json() if "json" in answers[-1].headers.get("content-type", "") else {}
    answer = View(body) if isinstance(body, Mapping) and "id" in body and "state" in body else None
    if on is not None and before is not None:
        _name_answer(step, playing, on, before, answer)
    elif answer is not None and step.get("as"):
        playing.note_start(step["as"], answer.id, answer)


def _execution_in(path: str, playing: Playing) -> Named | None:
    """Return the execution that a path names as `{A.id}`."""
    for name, named in playing.named.items():
        if f"{{{name}.id}}" in path:
            return named
    return None


def _check(step: Mapping[str, Any], playing: Playing) -> None:
    how, expect = step["check"], step["expect"]
    if how.get("at") == "answer":
        _check_answer(playing.name(how["of"]), expect, playing)
        return

    def problem() -> str | None:
        view = playing.server.view(playing.name(how["of"]).id) if "of" in how else None
        return problem_of(expect, view, playing)

    until(problem, float(how.get("within_s", 0)))


def _check_answer(named: Named, expect: Mapping[str, Any], playing: Playing) -> None:
    answer = named.answer
    if answer is not None:
        problem = problem_of(expect, answer, playing)
        if problem is not None:
            raise CaseFailedError(problem)
        return
    length = expect.get("state_history_length")

    def stored() -> str | None:
        view = playing.server.view(named.id)
        if length is None:
            return problem_of(expect, view, playing)
        if len(view.history) < length:
            return f"the history is {view.history}, {length} states expected"
        rest = {key: value for key, value in expect.items() if key not in {"state", "state_history_length"}}
        entry = view.history[length - 1]
        if expect.get("state") not in {None, entry}:
            return f"state {length} is {entry}, expected {expect['state']}: {view.history}"
        return problem_of(rest, view, playing)

    until(stored, _ANSWER_S)


_PLAYERS: dict[str, Callable[[Mapping[str, Any], Playing], None]] = {
    "start": _start,
    "wait": _wait,
    "sleep_s": _sleep,
    "deploy": _deploy,
    "call": _call,
    "check": _check,
    **dict.fromkeys(VERBS, _verb),
}
