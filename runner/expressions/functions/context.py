"""Functions that ask the services: secrets, keys and values, runs, other servers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from runner.errors import ExpressionError
from runner.expressions.compiler import member
from runner.expressions.frame import Frame
from runner.expressions.registry import function
from runner.expressions.values import MISSING, kind_of, to_json, to_text


@function()
def secret(
    frame: Frame,
    key: str,
    namespace: str | None = None,
    subkey: str | None = None,
    full: bool = False,  # noqa: FBT001, FBT002 - the signature in templates
) -> Any:
    """Return the secret `key`; its value is masked in every log of the run.

    `subkey` takes a field of a secret that holds JSON; `full` gives a map with `value`.

    Example:
        {{ secret('API_KEY') }} {{ secret('LOGIN', subkey='user') }} -> s3cr3t ann
    """
    found = frame.services.secret(key, namespace, subkey)
    return {"value": found, "metadata": {}} if full else found


@function()
def kv(frame: Frame, key: str, namespace: str | None = None, error_on_missing: bool = True) -> Any:  # noqa: FBT001, FBT002 - the signature in templates
    """Return the typed value of `key` in the namespace of the flow, or another one.

    A missing key is an error unless `errorOnMissing` is false, which gives null.

    Example:
        {{ kv('region') }} {{ kv('none', errorOnMissing=false) ?? 'unset' }} -> eu unset
    """
    return frame.services.kv(key, namespace, error_on_missing=_flag(error_on_missing))


def _flag(value: Any) -> bool:
    return value.strip().lower() == "true" if isinstance(value, str) else bool(value)


@function()
def env(frame: Frame, name: str, default: str | None = None) -> str | None:
    """Return the environment variable `name` of those that flows may see, else `default`.

    Example:
        {{ env('stage') }} {{ env('zone', 'none') }} -> production none
    """
    return frame.services.environment(to_text(name), default)


@function("errorLogs")
def error_logs(frame: Frame) -> list[dict[str, Any]]:
    """Return the ERROR log entries of the execution: `taskId`, `level`, `message`, `timestamp` and others.

    Example:
        {{ (errorLogs() | first).message }} -> no such table
    """
    return frame.services.error_logs()


@function("tasksWithState")
def tasks_with_state(frame: Frame, state: str) -> list[dict[str, Any]]:
    """Return `taskId`, `state` and, in loops, `value` of each task run in `state`.

    Example:
        {{ tasksWithState('failed') }} -> [{"taskId":"load","state":"FAILED"}]
    """
    return frame.services.tasks_with_state(to_text(state).upper())


@function()
def http(  # noqa: PLR0913, PLR0917 - the signature in templates
    frame: Frame,
    uri: str,
    method: str = "GET",
    query: Mapping[str, Any] | None = None,
    body: Any = None,
    content_type: str = "application/json",
    headers: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
    accept: str | None = None,
) -> Any:
    """Return the body of an HTTP response, parsed by its content type.

    Example:
        {{ http('https://example.com/rates').EUR }} -> 1.25
    """
    return frame.services.http(
        to_text(uri), method=method.upper(), query=query, body=body, content_type=content_type, headers=headers,
        options=options, accept=accept,
    )  # fmt: skip


@function("printContext")
def print_context(frame: Frame) -> str:
    """Return all variables of the scope as JSON, to look at while writing a flow.

    Example:
        {{ printContext() }} -> {}
    """
    return to_json(dict(frame.variables), indent=2)


@function("fetchContext")
def fetch_context(frame: Frame) -> dict[str, Any]:
    """Return all variables of the scope as a map.

    Example:
        {{ fetchContext() }} -> {}
    """
    return dict(frame.variables)


@function("currentEachOutput")
def current_each_output(frame: Frame, outputs: Any) -> Any:
    """Return the part of a looped task's outputs that belongs to the iteration this task runs in.

    It walks down by the values of the enclosing loops, outermost first, then by `taskrun.value`.

    Example:
        {{ currentEachOutput(outputs.inner).value }} -> x of a
    """
    if not isinstance(outputs, Mapping):
        raise ExpressionError(
            "expression.argument", f"The 'currentEachOutput' function expects outputs, not {kind_of(outputs)}"
        )
    steps = [parent.get("taskrun", {}).get("value") for parent in reversed(frame.variables.get("parents") or [])]
    steps.append((frame.variables.get("taskrun") or {}).get("value"))
    found: Any = outputs
    for step in steps:
        if step is None:
            continue
        found = member(found, step)
        if found is MISSING:
            raise ExpressionError("expression.value", f"the outputs have no entry for the iteration {step!r}")
    return found


@function("iterationOutput")
def iteration_output(outputs: Any, iteration: Any) -> Any:
    """Return the outputs of one iteration, by its index or its value.

    Example:
        {{ iterationOutput({'a': {'value': 1}}, 'a') }} -> {"value":1}
    """
    found = member(outputs, iteration)
    if found is MISSING and isinstance(outputs, Mapping) and isinstance(iteration, int):
        items = list(outputs.values())
        found = items[iteration] if 0 <= iteration < len(items) else MISSING
    if found is MISSING:
        raise ExpressionError("expression.value", f"the outputs have no iteration {to_text(iteration)!r}")
    return found


@function("loopOutputs")
def loop_outputs(outputs: Any, name: str) -> list[Any]:
    """Return the output `name` of every iteration, in order; null where an iteration has none.

    Example:
        {{ loopOutputs({'a': {'value': 1}, 'b': {'value': 2}}, 'value') }} -> [1,2]
    """
    items = list(outputs.values()) if isinstance(outputs, Mapping) else list(outputs)
    found = [member(item["outputs"] if _is_iteration(item) else item, name) for item in items]
    return [None if value is MISSING else value for value in found]


def _is_iteration(item: Any) -> bool:
    """Return whether this is what a `Loop` tells of one iteration."""
    return isinstance(item, Mapping) and set(item) == {"item", "outputs"}


@function("parentOutput")
def parent_output(frame: Frame, index: int = 0) -> Any:
    """Return the outputs of the enclosing loop's iteration; `index` counts outwards from 0.

    Example:
        {{ parentOutput().outer.value }} -> a done
    """
    parents = frame.variables.get("parents") or []
    if not 0 <= index < len(parents):
        raise ExpressionError("expression.value", f"there is no enclosing loop number {index}")
    found = member(parents[index], "outputs")
    return None if found is MISSING else found


def parse_json_field(text: str, field: str) -> str:
    """Return the field of a secret that holds JSON, for implementations of `Services.secret`.

    Raises:
        ExpressionError: `expression.value` when the text is no JSON object with this field.
    """
    try:
        value = json.loads(text)[field]
    except (ValueError, TypeError, KeyError):
        raise ExpressionError("expression.value", f"the secret has no field {field!r}") from None
    return to_text(value)
