"""What the expressions of one task run see: `flow execution task taskrun inputs outputs trigger vars labels ...`.

Every root is computed when it is first read, so that deciding never loads outputs unless an expression names them.
The names and shapes are Kestra's (language reference, "Variables").
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from runner.executions.flow_index import ERRORS
from runner.executions.models import Execution
from runner.executions.outputs_view import OutputsView
from runner.executions.tree import Node, Tree


class LazyVariables(Mapping[str, Any]):
    """A map whose values are computed at first use. A provider that returns `ABSENT` makes the name undefined."""

    ABSENT = object()

    def __init__(self, providers: Mapping[str, Callable[[], Any]], extra: Mapping[str, Any] | None = None) -> None:
        self._providers = providers
        self._values: dict[str, Any] = dict(extra or {})

    def __getitem__(self, name: str) -> Any:
        if name not in self._values:
            self._values[name] = self._providers[name]()
        value = self._values[name]
        if value is self.ABSENT:
            raise KeyError(name)
        return value

    def __iter__(self) -> Iterator[str]:
        names = dict.fromkeys([*self._providers, *self._values])
        return (name for name in names if name in self)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, name: object) -> bool:
        try:
            self[name]  # type: ignore[index]  # any object may be asked for
        except KeyError:
            return False
        return True

    def plus(self, extra: Mapping[str, Any]) -> LazyVariables:
        """Return these variables with `extra` over them."""
        return LazyVariables(self._providers, {**self._values, **extra})


def build_variables(
    tree: Tree, node: Node | None, outputs: OutputsView, shared: Mapping[str, Callable[[], Any]]
) -> LazyVariables:
    """Return the variables of a run, or of the execution itself when `node` is None.

    `shared` provides what does not come from the execution and its flow: `envs globals kestra inputs`.
    """
    execution = tree.execution
    providers: dict[str, Callable[[], Any]] = {
        "flow": lambda: _flow(execution),
        "execution": lambda: _execution(tree.execution),
        "labels": lambda: nested_labels(tree.execution.labels),
        "vars": lambda: flow_variables(tree),
        "namespace": lambda: tree.flow.namespace_variables,
        "outputs": lambda: outputs.around(None),
        "tasks": outputs.states,
        "trigger": lambda: execution.trigger.variables if execution.trigger else LazyVariables.ABSENT,
        "schedule": lambda: _schedule(execution),
        **shared,
    }
    if node is not None:
        providers |= {
            "task": lambda: {"id": node.row.task_id, "type": node.task.type if node.task else None},
            "taskrun": lambda: _task_run(node),
            "parents": lambda: _parents(node, outputs),
            "parent": lambda: next(iter(_parents(node, outputs)), LazyVariables.ABSENT),
            "item": lambda: _item(node),
            "error": lambda: _error(tree, node),
            "outputs": lambda: outputs.around(node),
        }
    return LazyVariables(providers)


def _flow(execution: Execution) -> dict[str, Any]:
    return {
        "id": execution.flow_id,
        "namespace": execution.namespace,
        "revision": execution.flow_revision,
        "tenantId": "main",
        "commit": execution.commit,
    }


def _execution(execution: Execution) -> dict[str, Any]:
    found: dict[str, Any] = {
        "id": execution.id,
        "startDate": execution.started_at or execution.created_at,
        "originalId": execution.original_id or execution.id,
        "state": execution.state.value,
    }
    if execution.state.is_terminal:
        found["outputs"] = execution.outputs
    return found


def nested_labels(labels: Mapping[str, str]) -> dict[str, Any]:
    """Return labels with `system.x` below `system`."""
    found: dict[str, Any] = {}
    for name, text in labels.items():
        head, dot, tail = name.partition(".")
        if dot and head == "system":
            found.setdefault("system", {})[tail] = text
        else:
            found[name] = text
    return found


def flow_variables(tree: Tree) -> dict[str, Any]:
    """Return the flow's variables, with what SetVariables and UnsetVariables changed."""
    changed = tree.execution.variables
    gone = changed.get("__unset__", ())
    merged = {**tree.flow.variables, **changed}
    return {name: value for name, value in merged.items() if name not in gone and name != "__unset__"}


def _schedule(execution: Execution) -> Any:
    trigger = execution.trigger
    return trigger.variables if trigger and trigger.type.endswith("Schedule") else LazyVariables.ABSENT


def _task_run(node: Node) -> dict[str, Any]:
    run = node.row
    found: dict[str, Any] = {
        "id": run.id,
        "startDate": run.started_at or run.created_at,
        "attemptsCount": max(run.attempts - 1, 0),
    }
    if run.parent_id is not None:
        found["parentId"] = run.parent_id
    if run.value is not None:
        found["value"] = run.value
    if run.iteration is not None:
        found["iteration"] = run.iteration
    return found


def _parents(node: Node, outputs: OutputsView) -> list[dict[str, Any]]:
    found = []
    for ancestor in node.ancestors():
        entry: dict[str, Any] = {}
        if ancestor.row.value is not None:
            entry["taskrun"] = {"value": ancestor.row.value, "iteration": ancestor.row.iteration}
        own = outputs.of_run(ancestor.row.id)
        if own:
            entry["outputs"] = own
        if entry:
            found.append(entry)
    return found


def _item(node: Node) -> Any:
    around = [item_of(each) for each in (node, *node.ancestors()) if each.row.value is not None]
    if not around:
        return LazyVariables.ABSENT
    own, parents = around[0], around[1:]
    own["parents"] = parents
    return own | {"parent": parents[0]} if parents else own


def item_of(node: Node) -> dict[str, Any]:
    """Return the value of a loop that a run is for, its index from 0, and its key in a loop over a map."""
    run = node.row
    found = {"value": run.value, "index": run.iteration}
    keys = node.container.row.memory.get("keys")
    return found | {"key": keys[run.iteration]} if keys and run.iteration is not None else found


def _error(tree: Tree, node: Node) -> Any:
    if all(each.row.branch != ERRORS for each in (node, *node.ancestors())):
        return LazyVariables.ABSENT
    failed = tree.first_failure()
    if failed is None:
        return LazyVariables.ABSENT
    return {"taskId": failed.task_id, "message": failed.error, "stackTrace": ""}
