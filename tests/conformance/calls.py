"""Turns the calls and verbs of a case into requests to the API of a case's server."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, cast
from urllib.parse import quote

import httpx

from runner.executions.creation import NewExecution
from tests.conformance.cases import content_of, plain_input
from tests.conformance.matchers import differs
from tests.conformance.playing import Playing
from tests.conformance.server import API

_STREAM = "text/event-stream"


def start(
    playing: Playing,
    flow: str,
    inputs: Mapping[str, Any],
    *,
    labels: Mapping[str, Any] | None = None,
    revision: int | None = None,
    date: datetime | None = None,
) -> httpx.Response:
    """Ask for an execution of a flow (`namespace.id`) and return the answer."""
    namespace, _, flow_id = flow.rpartition(".")
    query: list[tuple[str, str | int | float | bool | None]] = [
        ("labels", f"{key}:{value}") for key, value in (labels or {}).items()
    ]
    if revision is not None:
        query.append(("revision", revision))
    if date is not None:
        query.append(("scheduleDate", date.isoformat()))
    # The older address: it cannot be taken for a verb when a flow is named like one.
    return playing.server.client.post(
        f"{API}/executions/trigger/{namespace}/{flow_id}", params=query, files=_parts_of(inputs) or None
    )


def start_unchecked(playing: Playing, flow: str, inputs: Mapping[str, Any]) -> str:
    """Start a flow past the check of its inputs, as Java's test runner does, and return the execution's id."""
    namespace, _, flow_id = flow.rpartition(".")
    given = {name: plain_input(value) for name, value in inputs.items() if value is not None}
    new = NewExecution(namespace, flow_id, inputs=given, typed_inputs=True, inputs_optional=True)
    return playing.server.create(new)


def verb(playing: Playing, name: str, execution_id: str, step: Mapping[str, Any]) -> httpx.Response:
    """Carry out a verb of the engine on an execution and return the answer."""
    method, path, options = "POST", f"/actions/{name.replace('_', '-')}", dict[str, Any]()
    match name:
        case "kill":
            method = "DELETE"
        case "resume":
            options["files"] = _parts_of(step.get("inputs") or {}) or None
        case "restart" | "replay":
            query = {"revision": step.get("revision"), "taskRunId": step.get("task_run_id")}
            options["params"] = {key: value for key, value in query.items() if value is not None}
        case "change_status" if step.get("task_run_id"):
            path, options["json"] = "/actions/state", {"taskRunId": step["task_run_id"], "state": step["state"]}
        case "change_status":
            options["params"] = {"status": step["state"]}
        case "labels":
            options["json"] = [{"key": key, "value": value} for key, value in step["set"].items()]
        case "delete":
            method, path = "DELETE", ""
            what = {"deleteLogs": "logs", "deleteMetrics": "metrics", "deleteStorage": "storage"}
            options["params"] = {query: bool(step.get(key)) for query, key in what.items()}
    return playing.server.client.request(method, f"{API}/executions/{execution_id}{path}", **options)


def send(playing: Playing, call: Mapping[str, Any]) -> httpx.Response:
    """Send the request that a `call` step describes and return the answer, redirects followed."""
    options: dict[str, Any] = {"params": call.get("query"), "headers": dict(call.get("headers") or {})}
    if call.get("json") is not None:
        options["json"] = call["json"]
    if call.get("form") is not None:
        options["data"] = call["form"]
    if call.get("multipart") is not None:
        options["files"] = [_part(part) for part in call["multipart"]]
    text = call.get("text", call.get("body"))
    if text is not None:
        options["content"] = text.encode() if isinstance(text, str) else json.dumps(text).encode()
        options["headers"].setdefault("content-type", "text/plain")
    path, _, query = str(call["path"]).partition("?")
    path = quote(path, safe="/:%@") + (f"?{query}" if query else "")
    if not options["params"]:
        options.pop("params")
    return playing.server.client.request(call["method"], path, **options)


def answer_problem(expect: Mapping[str, Any], answer: httpx.Response, playing: Playing) -> str | None:
    """Return how an answer differs from what a call expects; a status of 2xx is expected where nothing is said."""
    for key, wanted in expect.items():
        problem = _ANSWER_CHECKS[key](wanted, answer, playing) if key in _ANSWER_CHECKS else f"unknown key {key!r}"
        if problem is not None:
            return f"{key}: {problem}"
    if not {"http_status", "error"} & set(expect) and not answer.is_success:
        return f"status {answer.status_code}: {answer.text[:300]}"
    return None


def refusal_problem(expect: Mapping[str, Any], answer: httpx.Response) -> str | None:
    """Return how the answer to a verb differs from what is expected: success, or a refusal with a certain text."""
    if not expect.get("error"):
        return None if answer.is_success else f"refused with {answer.status_code}: {answer.text[:300]}"
    if answer.is_success:
        return f"expected a refusal, got {answer.status_code}"
    message = message_of(answer)
    missing = [text for text in expect.get("message_contains") or () if text not in message]
    if missing:
        return f"the refusal says {message!r}, not {missing}"
    exact = expect.get("message_equals")
    return None if exact is None or exact == message else f"the refusal says {message!r}, not {exact!r}"


def message_of(answer: httpx.Response) -> str:
    """Return the sentence of a refusal."""
    try:
        body = answer.json()
    except ValueError:
        return answer.text
    found = body.get("message") or body.get("detail") if isinstance(body, Mapping) else None
    return str(found) if found else answer.text


def _parts_of(inputs: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return [part for name, value in inputs.items() if value is not None for part in [_input_part(name, value)]]


def _input_part(name: str, value: Any) -> tuple[str, Any]:
    if isinstance(value, Mapping) and "$file" in value:
        file = value["$file"]
        return name, (str(file.get("name") or name), content_of(file).encode())
    plain = plain_input(value)
    return name, (None, plain if isinstance(plain, str) else json.dumps(plain))


def _part(part: Mapping[str, Any]) -> tuple[str, Any]:
    if "filename" not in part:
        return part["name"], (None, str(part["value"]))
    latin = part.get("content_latin1")
    content = latin.encode("latin-1") if latin is not None else str(part.get("content", "")).encode()
    return part["name"], (part["filename"], content, part.get("content_type", "application/octet-stream"))


def _status(wanted: Any, answer: httpx.Response, _playing: Playing) -> str | None:
    if answer.status_code == wanted:
        return None
    return f"expected {wanted}, got {answer.status_code}: {answer.text[:300]}"


def _error(wanted: Any, answer: httpx.Response, _playing: Playing) -> str | None:
    return None if (answer.status_code >= 400) is bool(wanted) else f"status {answer.status_code}"


def _json(answer: httpx.Response) -> Any:
    try:
        return answer.json() if answer.content else None
    except ValueError:
        return answer.text


def _response(wanted: Any, answer: httpx.Response, playing: Playing) -> str | None:
    found = _json(answer)
    if isinstance(wanted, Mapping) and isinstance(found, Mapping):
        # An answer may say more than Kestra's, as long as it says what Kestra's does.
        found = {key: value for key, value in found.items() if key in wanted} or found
    return differs(wanted, found, playing.server)


def _contains(wanted: Any, answer: httpx.Response, playing: Playing) -> str | None:
    if isinstance(wanted, Mapping):
        return differs(wanted, _json(answer), playing.server, partly=True)
    missing = [text for text in cast("list[str]", wanted) if text not in answer.text]
    return f"{missing} not in {answer.text[:300]!r}" if missing else None


def _body(wanted: Any, answer: httpx.Response, _playing: Playing) -> str | None:
    return None if answer.text == wanted else f"expected {wanted!r}, got {answer.text[:300]!r}"


def _messages(wanted: list[str], answer: httpx.Response, _playing: Playing) -> str | None:
    message = message_of(answer)
    missing = [text for text in wanted if text not in message]
    return f"{missing} not in {message!r}" if missing else None


def _events(answer: httpx.Response) -> list[Any]:
    lines = [line.removeprefix("data:").strip() for line in answer.text.splitlines() if line.startswith("data:")]
    return [json.loads(line) for line in lines if line]


def _least_events(wanted: int, answer: httpx.Response, _playing: Playing) -> str | None:
    count = len(_events(answer))
    return None if count >= wanted else f"{count} events, at least {wanted} expected"


def _last_event(wanted: str, answer: httpx.Response, _playing: Playing) -> str | None:
    states = [event["state"]["current"] for event in _events(answer) if "state" in event]
    return None if states and states[-1] == wanted else f"the states of the events are {states}"


_ANSWER_CHECKS: dict[str, Any] = {
    "http_status": _status,
    "error": _error,
    "response": _response,
    "response_contains": _contains,
    "body": _body,
    "message_contains": _messages,
    "response_body_empty": lambda wanted, answer, _: None if bool(answer.content) is not wanted else "it has a body",
    "sse_min_events": _least_events,
    "sse_last_event_state": _last_event,
}
ANSWER_KEYS = frozenset(_ANSWER_CHECKS)
