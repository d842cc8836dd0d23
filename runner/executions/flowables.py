"""What each container does when it opens, and which of its tasks come next. Pure: no I/O, no clock.

The rules are Kestra's (its `FlowableUtils`), with the documented meaning of `concurrencyLimit`: a loop value starts its
next task only when its previous one has ended.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol

from runner.durations import parse_duration
from runner.errors import FlowError
from runner.executions.ledgers import limit_of
from runner.executions.models import Execution
from runner.executions.tree import Node, Tree
from runner.executions.variables import item_of
from runner.expressions import is_truthy
from runner.expressions.values import to_text
from runner.flows.models import Output, Task, Tasks
from runner.flows.task_templates import absent
from runner.plugin import Outcome
from runner.states import State
from runner.storage.uris import is_uri
from runner.tasks.flow import (
    Dag,
    EachParallel,
    EachSequential,
    Flowable,
    ForEach,
    If,
    Loop,
    LoopUntil,
    Parallel,
    Pause,
    Sleep,
    Switch,
)
from runner.tasks.template import Template

if TYPE_CHECKING:
    from runner.executions.items import Batch


class Actions(Protocol):
    """What deciding asks of the outside; the answers are all it depends on besides the rows."""

    now: datetime

    def new_id(self) -> str:
        """Return a fresh id."""

    def fraction(self) -> float:
        """Return a random number in [0, 1)."""

    def is_over_budget(self) -> bool:
        """Return whether this burst should end and ring again."""

    def render(self, node: Node, template: Any) -> str:
        """Render a template as the task of `node` sees it."""

    def render_root(self, template: str) -> str:
        """Render a template as the execution itself sees it."""

    def render_deep(self, node: Node, value: Any) -> Any:
        """Render all strings inside a value."""

    def rows(self, node: Node, uri: str) -> list[Any]:
        """Return the rows of a file in internal storage, as the task of `node` may read it. Raises `MainstemError`."""

    def declared_outputs(self, node: Node, outputs: tuple[Output, ...]) -> dict[str, Any]:
        """Render and cast declared outputs as the task of `node` sees them. Raises `MainstemError`."""

    def stored_rows(self, node: Node, rows: list[Any]) -> str:
        """Write rows to a file of the task of `node`; return its address."""

    def gather_outputs(self) -> None:
        """Read all outputs of the execution at once, since most of them will be asked for."""

    def keep_outputs(self, node: Node, outputs: Mapping[str, Any]) -> None:
        """Take the last outputs of a container, however large. Raises `TaskError` when they are too large."""

    def resume_defaults(self, node: Node) -> dict[str, Any]:
        """Return the `onResume` inputs of a Pause that nobody gave: the defaults. Raises `MainstemError`."""

    def demand_groups(self, tags: Sequence[str]) -> None:
        """Refuse worker groups that the flow may not use. Raises `MainstemError`."""

    def run_instant(self, node: Node) -> Outcome:
        """Run an instant task; a failure is an outcome, never an exception."""

    def batches(self, node: Node) -> list[str]:
        """Return the addresses of the pieces that a flow is started for. Raises `MainstemError`."""

    def start_subflow(self, node: Node, batch: Batch | None = None) -> Execution:
        """Return the execution that a Subflow task creates, for one batch of a ForEachItem.

        Raises `MainstemError` when it cannot be created.
        """

    def listener_holds(self, number: int) -> bool:
        """Return whether the conditions of the flow's listener hold for the ended execution."""

    def flow_outputs(self) -> dict[str, Any]:
        """Render and cast the flow's outputs. Raises `MainstemError`."""


@dataclass(frozen=True, slots=True)
class Opened:
    """How a container begins: what it remembers, its first outputs, and a state other than RUNNING if it has one."""

    memory: dict[str, Any] = field(default_factory=dict)
    outputs: dict[str, Any] = field(default_factory=dict)
    state: State = State.RUNNING
    due_at: datetime | None = None
    warning: str | None = None


@dataclass(frozen=True, slots=True)
class Next:
    """A task to start: its branch, and its loop value when it has one."""

    task: Task
    branch: str
    value: str | None = None
    iteration: int | None = None


def open_flowable(node: Node, actions: Actions) -> Opened:
    """Return how the container of `node` begins. Raises `FlowError` when its properties do not render."""
    opener = _OPENERS.get(type(node.task))
    return opener(node, actions) if opener else Opened()


def next_main(tree: Tree, node: Node) -> list[Next]:
    """Return the tasks of the main branch that may start now; empty when none may."""
    if node.task is None:
        return _sequential(tree.index.enabled(None, "tasks"), node.children.get("tasks", []), "tasks")
    chooser = _NEXT.get(type(node.task), _next_block)
    return chooser(tree, node)


def duration_of(node: Node, actions: Actions, value: Any) -> timedelta | None:
    """Return a duration that may be written as a template; None stays None."""
    if value is None or isinstance(value, timedelta):
        return value
    text = actions.render(node, value)
    return parse_duration(text) if text else None


# -------------------------------------------------------------------- opening


def _open_if(node: Node, actions: Actions) -> Opened:
    assert isinstance(node.task, If)
    result = is_truthy(actions.render(node, node.task.condition))
    return Opened(memory={"branch": "then" if result else "else"}, outputs={"evaluationResult": result})


def _open_switch(node: Node, actions: Actions) -> Opened:
    task = node.task
    assert isinstance(task, Switch)
    value = actions.render(node, task.value)
    matched = value in task.cases
    branch = f"case:{value}" if matched else "defaults"
    outputs = {"value": value, "defaults": not matched}
    if not matched and not task.defaults:
        warning = f"No task found on flow '{task.id}', task value '{value}' matches no case and there are no defaults"
        return Opened(memory={"branch": branch}, outputs=outputs, state=State.FAILED, warning=warning)
    return Opened(memory={"branch": branch}, outputs=outputs)


def _open_loop(node: Node, actions: Actions) -> Opened:
    task = node.task
    assert isinstance(task, ForEach | EachSequential | EachParallel)
    return Opened(
        memory={"values": loop_values(node, actions, task.values if isinstance(task, ForEach) else task.value)}
    )


def loop_values(node: Node, actions: Actions, declared: Any) -> list[str]:
    """Return the distinct values of a loop as text, in order; values that are no strings become compact JSON.

    Raises:
        FlowError: `loop.values.invalid` when they are no list, or hold a null.
    """
    if isinstance(declared, str):
        rendered = actions.render(node, declared)
        try:
            values = json.loads(rendered)
        except ValueError:
            raise FlowError(
                "loop.values.invalid", f"the values of a loop must be a JSON array, got {rendered!r}"
            ) from None
    else:
        values = (
            [actions.render_deep(node, value) for value in declared] if isinstance(declared, list | tuple) else declared
        )
    if not isinstance(values, list):
        raise FlowError("loop.values.invalid", f"the values of a loop must be an array, got {type(values).__name__}")
    _refuse_nulls(values)
    return list(dict.fromkeys(_as_text(value) for value in values))


def _refuse_nulls(values: list[Any]) -> None:
    nulls = sum(value is None for value in values)
    if nulls:
        raise FlowError("loop.values.invalid", f"Found '{nulls}' null values on Each, with values={_java_text(values)}")


def _open_items(node: Node, actions: Actions) -> Opened:
    assert isinstance(node.task, Loop)
    found = _items(node, actions, node.task.values)
    keys = {"keys": [str(key) for key in found]} if isinstance(found, Mapping) else {}
    values = list(found.values()) if isinstance(found, Mapping) else found
    _refuse_nulls(values)
    return Opened(memory={"values": [_as_text(value) for value in values], **keys}, outputs=_counts(len(values), 0))


def _items(node: Node, actions: Actions, declared: Any) -> list[Any] | Mapping[str, Any]:
    """Return the values of a `Loop`, a map when they have keys. Raises `FlowError` `loop.values.invalid`."""
    values = declared
    if isinstance(declared, str):
        rendered = actions.render(node, declared).strip()
        if is_uri(rendered):
            return actions.rows(node, rendered)
        try:
            values = json.loads(rendered)
        except ValueError:
            raise FlowError(
                "loop.values.invalid", f"the values of a loop must be a list, a map or a file, got {rendered!r}"
            ) from None
    elif isinstance(declared, list | tuple):
        values = [actions.render_deep(node, value) for value in declared]
    elif isinstance(declared, Mapping):
        values = actions.render_deep(node, declared)
    if not isinstance(values, list | Mapping):
        kind = type(values).__name__
        raise FlowError("loop.values.invalid", f"the values of a loop must be a list, a map or a file, got {kind}")
    return values


def _counts(total: int, ended: int) -> dict[str, Any]:
    return {"iterationCount": total, "runningIterations": 0, "terminatedIterations": ended}


def close_loop(tree: Tree, node: Node, actions: Actions) -> dict[str, Any]:
    """Return the outputs of a `Loop` whose iterations have ended. Raises `MainstemError` when they do not render."""
    task = node.task
    assert isinstance(task, Loop)
    outputs = _counts(len(node.row.memory["values"]), node.cursor)
    if task.outputs:
        tree.load_values(node)
        actions.gather_outputs()
        last = {run.row.iteration: run for run in node.children.get("tasks", ())}
        rows = [{"item": item_of(run), "outputs": _iteration_outputs(run, task, actions)} for run in last.values()]
        rows.sort(key=lambda row: row["item"]["index"])
        outputs |= {"uri": actions.stored_rows(node, rows)} if task.fetch_type == "STORE" else {"outputs": rows}
    actions.keep_outputs(node, outputs)
    return outputs


def _iteration_outputs(run: Node, loop: Loop, actions: Actions) -> dict[str, Any]:
    return {} if run.row.state.is_failed else actions.declared_outputs(run, loop.outputs)


def _java_text(value: Any) -> str:
    """Return what Java prints for a value, which is what the message has always shown."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}={_java_text(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_java_text, value)) + "]"
    return "null" if value is None else to_text(value)


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _open_pause(node: Node, actions: Actions) -> Opened:
    task = node.task
    assert isinstance(task, Pause)
    delay = duration_of(node, actions, task.pause_duration if task.pause_duration is not None else task.delay)
    if delay is not None:
        return Opened(memory={"atEnd": task.behavior}, state=State.PAUSED, due_at=actions.now + delay)
    limit = duration_of(node, actions, task.timeout)
    if limit is not None:
        at_end = task.behavior if "behavior" in task.model_fields_set else "FAIL"
        return Opened(memory={"atEnd": at_end}, state=State.PAUSED, due_at=actions.now + limit)
    return Opened(state=State.PAUSED)


def _open_sleep(node: Node, actions: Actions) -> Opened:
    assert isinstance(node.task, Sleep)
    length = duration_of(node, actions, node.task.duration) or timedelta(0)
    limit = duration_of(node, actions, node.task.timeout)
    if limit is not None and limit < length:
        return Opened(memory={"atEnd": "TIMEOUT", "timeout": limit.total_seconds()}, due_at=actions.now + limit)
    return Opened(memory={"atEnd": "RESUME"}, due_at=actions.now + length)


def _open_loop_until(_node: Node, actions: Actions) -> Opened:
    return Opened(memory={"iterations": 1, "since": actions.now.isoformat()}, outputs={"iterationCount": 1})


def _open_template(node: Node, actions: Actions) -> Opened:
    task = node.task
    assert isinstance(task, Template)
    if not task.tasks:
        raise FlowError("template.missing", absent(task.namespace, task.template_id))
    return Opened(outputs={"args": actions.render_deep(node, task.args)} if task.args else {})


_OPENERS: dict[type[Task | None], Callable[[Node, Actions], Opened]] = {
    If: _open_if,
    Switch: _open_switch,
    ForEach: _open_loop,
    Loop: _open_items,
    EachSequential: _open_loop,
    EachParallel: _open_loop,
    Pause: _open_pause,
    Sleep: _open_sleep,
    LoopUntil: _open_loop_until,
    Template: _open_template,
}


# -------------------------------------------------------------------- what comes next


def _sequential(tasks: Tasks, done: list[Node], branch: str) -> list[Next]:
    if done and not done[-1].row.state.is_terminal:
        return []
    return [Next(tasks[len(done)], branch)] if len(done) < len(tasks) else []


def next_of_branch(tree: Tree, node: Node, branch: str) -> list[Next]:
    """Return the next task of a branch that runs in order (`errors`, `finally` ...)."""
    return _sequential(tree.index.enabled(node.owner, branch), node.children.get(branch, []), branch)


def _next_block(tree: Tree, node: Node) -> list[Next]:
    return next_of_branch(tree, node, "tasks")


def _next_chosen(tree: Tree, node: Node) -> list[Next]:
    return next_of_branch(tree, node, node.row.memory["branch"])


def _next_parallel(tree: Tree, node: Node) -> list[Next]:
    assert isinstance(node.task, Parallel)
    tasks = tree.index.enabled(node.owner, "tasks")
    begun = node.begun
    return [Next(task, "tasks") for task in tasks[begun : begun + _room(node, node.task.concurrent, len(tasks))]]


def _room(node: Node, limit: int, most: int) -> int:
    return max(limit - node.open, 0) if limit else most


def _next_dag(_tree: Tree, node: Node) -> list[Next]:
    dag = node.task
    assert isinstance(dag, Dag)
    begun = {child.row.task_id: child.row.state for child in node.children.get("tasks", ())}
    off = {member.task.id for member in dag.tasks if member.task.disabled}
    ready = [
        Next(member.task, "tasks")
        for member in dag.tasks
        if member.task.id not in begun
        and member.task.id not in off
        and all(name in off or (name in begun and begun[name].is_terminal) for name in member.depends_on)
    ]
    return ready[: _room(node, dag.concurrent, len(ready))]


def _next_each_parallel(tree: Tree, node: Node) -> list[Next]:
    loop = node.task
    assert isinstance(loop, EachParallel)
    tasks, values = tree.index.enabled(node.owner, "tasks"), node.row.memory["values"]
    begun, total = node.begun, len(tasks) * len(values)
    last = min(total, begun + _room(node, loop.concurrent, total))
    return [
        Next(tasks[number % len(tasks)], "tasks", values[number // len(tasks)], number // len(tasks))
        for number in range(begun, last)
    ]


def _next_loop(tree: Tree, node: Node) -> list[Next]:
    """Continue the loop values whose task has ended, then begin new ones while there is room."""
    tasks, values = tree.index.enabled(node.owner, "tasks"), node.row.memory["values"]
    if not tasks:
        return []
    limit = limit_of(node.task)
    found = list(_continued(node, tasks, values))
    fresh: list[Next] = []
    for number in range(node.cursor, len(values)):
        if limit and len(node.active) + node.hidden + len(fresh) >= limit:
            break
        kept = tree.kept_runs(node, number)
        if _has_next(kept, tasks):
            fresh.append(Next(tasks[len(kept)], "tasks", values[number], number))
    return found + fresh


def _has_next(runs: list[Node], tasks: Tasks) -> bool:
    """Return whether a loop value whose runs have ended goes on with a further task."""
    return len(runs) < len(tasks) and not (runs and runs[-1].row.state.is_failed)


def _continued(node: Node, tasks: Tasks, values: list[str]) -> Iterator[Next]:
    touched, node.touched = node.touched, []
    for iteration in dict.fromkeys(touched):
        runs = node.active.get(iteration, [])
        if runs and not runs[-1].row.state.is_terminal:
            continue
        if runs and _has_next(runs, tasks):
            yield Next(tasks[len(runs)], "tasks", values[iteration], iteration)
        else:
            node.active.pop(iteration, None)


_NEXT: dict[type[Flowable | Task], Callable[[Tree, Node], list[Next]]] = {
    If: _next_chosen,
    Switch: _next_chosen,
    Parallel: _next_parallel,
    Dag: _next_dag,
    ForEach: _next_loop,
    Loop: _next_loop,
    EachSequential: _next_loop,
    EachParallel: _next_each_parallel,
}
