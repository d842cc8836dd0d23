"""What the expressions of an ended run saw, from its report or from the API's JSON of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def variables_of(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return `flow execution labels inputs outputs tasks vars namespace trigger`, as they were at the run's end.

    What a report leaves out (secrets, very long outputs) is what the report says in its place.
    """
    from runner.executions.variables import nested_labels

    state = document.get("state") or {}
    found: dict[str, Any] = {
        "flow": {
            "id": document["flowId"],
            "namespace": document["namespace"],
            "revision": document.get("flowRevision"),
            "tenantId": "main",
            "commit": document.get("commit"),
        },
        "execution": {
            "id": document.get("id"),
            "startDate": document.get("startDate") or state.get("startDate"),
            "originalId": document.get("originalId") or document.get("id"),
            "state": state.get("current"),
            "outputs": document.get("outputs") or {},
        },
        "labels": nested_labels(_labels(document.get("labels"))),
        "inputs": document.get("inputs") or {},
        **_variables(document),
    }
    found["outputs"], found["tasks"] = _of_tasks(document.get("taskRunList") or ())
    trigger = document.get("trigger")
    return found | ({"trigger": trigger.get("variables") or {}} if trigger else {})


def _labels(labels: Any) -> dict[str, str]:
    if isinstance(labels, Mapping):
        return dict(labels)
    return {pair["key"]: pair["value"] for pair in labels or ()}


def _variables(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return `vars` and `namespace`."""
    from runner.flows.inherited import from_text
    from runner.flows.parse import parse_flow

    known = document.get("flow") or {}
    source, inherited = known.get("source"), from_text(known.get("defaults"))
    space = document["namespace"]
    flow = parse_flow(source, namespace=space, strict=False, inherited=inherited).flow if source else None
    own = {**(flow.variables if flow else {}), **(document.get("variables") or {})}
    return {"vars": own, "namespace": inherited.variables}


def _of_tasks(runs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the outputs and the states by task id, inside loops by the values of the loops around too."""
    by_id = {run["id"]: run for run in runs}
    outputs: dict[str, Any] = {}
    states: dict[str, Any] = {}
    for run in runs:
        path = [run["taskId"], *_loop_path(run, by_id)]
        _place(outputs, path).update(run.get("outputs") or {})
        _place(states, path)["state"] = run["state"]["current"]
    return {task: values for task, values in outputs.items() if values}, states


def _loop_path(run: Mapping[str, Any], by_id: Mapping[str, Mapping[str, Any]]) -> list[str]:
    path = []
    each: Mapping[str, Any] | None = run
    while each is not None:
        if each.get("value") is not None:
            path.append(str(each["value"]))
        each = by_id.get(each.get("parentTaskRunId") or "")
    return path[::-1]


def _place(root: dict[str, Any], path: list[str]) -> dict[str, Any]:
    for name in path:
        root = root.setdefault(name, {})
    return root
