"""The live tree of a run on a terminal, and plain lines where there is none."""

from __future__ import annotations

import sys
import threading
from collections import defaultdict
from datetime import datetime
from typing import TYPE_CHECKING, Any, Self

from runner.states import State

if TYPE_CHECKING:
    from rich.console import Console, Group
    from rich.live import Live
    from rich.tree import Tree

    from runner.executions.models import Execution, LogEntry, TaskRun
    from runner.local import LocalEngine

_REFRESH_S = 0.1
_SHOWN_CHILDREN = 8  # of one container; the rest is counted
_SHOWN_LINES = 5  # of log below the tree while it runs

_MARKS = {
    State.SUCCESS: "[green]✓[/]",
    State.WARNING: "[yellow]![/]",
    State.FAILED: "[red]✗[/]",
    State.KILLED: "[red]■[/]",
    State.CANCELLED: "[red]■[/]",
    State.SKIPPED: "[dim]-[/]",
    State.RUNNING: "[cyan]▶[/]",
    State.PAUSED: "[yellow]‖[/]",
    State.RETRYING: "[yellow]↻[/]",
}
_LEVEL_STYLES = {"ERROR": "red", "WARN": "yellow", "DEBUG": "dim", "TRACE": "dim"}


class LiveTree:
    """Shows an execution until it has ended: a tree that is drawn again on a terminal, otherwise its log lines."""

    def __init__(self, local: LocalEngine, execution_id: str, *, interactive: bool) -> None:
        from rich.console import Console

        self._store = local.engine.store
        self._engine = local.engine
        self._id = execution_id
        self._interactive = interactive
        self._console: Console = Console(file=sys.stdout, highlight=False, soft_wrap=not interactive)
        self._live: Live | None = None
        self._printed = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._refresh, name="display", daemon=True)

    def __enter__(self) -> Self:
        if self._interactive:
            from rich.live import Live

            self._live = Live(self._picture(), console=self._console, auto_refresh=False)
            self._live.start()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._store.logs.flush()
        if self._live is not None:
            self._live.update(self._picture(), refresh=True)
            self._live.stop()
        self._print_new_lines()
        execution = self._engine.get(self._id)
        self._print_end(execution)

    def _refresh(self) -> None:
        while not self._stop.wait(_REFRESH_S):
            if self._live is not None:
                self._live.update(self._picture(), refresh=True)
            else:
                self._print_new_lines()

    # ---------------------------------------------------------------- lines

    def _lines(self) -> list[LogEntry]:
        from runner.store import LogQuery

        return list(self._store.logs.search(LogQuery(execution_id=self._id, size=10_000)).items)

    def _print_new_lines(self) -> None:
        lines = self._lines()
        for entry in lines[self._printed :]:
            self._console.print(_line(entry))
        self._printed = len(lines)

    def _print_end(self, execution: Execution) -> None:
        runs = self._store.read(lambda db: db.executions.runs(self._id))
        failed = next((run for run in runs if run.state is State.FAILED and not _has_children(run, runs)), None)
        colour = "red" if execution.state.is_failed else "yellow" if execution.state is State.WARNING else "green"
        outputs = " ".join(f"{name}={value}" for name, value in execution.outputs.items())
        took = _seconds(execution.started_at or execution.created_at, execution.ended_at)
        ending = f"   outputs: {outputs}" if outputs else ""
        self._console.print(f"[{colour}]{execution.state.value}[/] in {took}", end="")
        self._console.print(ending, markup=False)
        if execution.error:
            self._console.print(execution.error, style="red", markup=False)
        if failed is not None:
            name = failed.task_id + (f"[{failed.value}]" if failed.value is not None else "")
            self._console.print(f"{name} failed: {failed.error or 'no message'}", style="red", markup=False)

    # ---------------------------------------------------------------- tree

    def _picture(self) -> Group:
        from rich.console import Group
        from rich.text import Text
        from rich.tree import Tree

        execution = self._engine.get(self._id)
        runs = self._store.read(lambda db: db.executions.runs(self._id))
        title = f"{execution.namespace}.{execution.flow_id}  {execution.id[:10]}…  {execution.state.value}"
        tree = Tree(Text(title, style="bold"))
        children: defaultdict[str | None, list[TaskRun]] = defaultdict(list)
        for run in runs:
            children[run.parent_id].append(run)
        self._add(tree, None, children)
        parts: list[Any] = [tree]
        if not execution.state.is_terminal:
            parts += [_line(entry) for entry in self._lines()[-_SHOWN_LINES:]]
        return Group(*parts)

    def _add(self, tree: Tree, parent: str | None, children: defaultdict[str | None, list[TaskRun]]) -> None:
        runs = children[parent]
        hidden = max(len(runs) - _SHOWN_CHILDREN, 0)
        if hidden:
            tree.add(f"[dim]({hidden} more)[/]")
        for run in runs[hidden:]:
            took = _seconds(run.started_at, run.ended_at) if run.started_at else ""
            value = f"\\[{run.value}]" if run.value is not None else ""
            tries = f"  [dim]attempt {run.attempts}[/]" if run.attempts > 1 else ""
            branch = tree.add(f"{_MARKS.get(run.state, '[dim]·[/]')} {run.task_id}{value}  [dim]{took}[/]{tries}")
            self._add(branch, run.id, children)


def _has_children(run: TaskRun, runs: list[TaskRun]) -> bool:
    return any(other.parent_id == run.id for other in runs)


def _seconds(start: datetime, end: datetime | None) -> str:
    until = end or datetime.now(start.tzinfo)
    return f"{max((until - start).total_seconds(), 0):.1f} s"


def _line(entry: LogEntry) -> Any:
    from rich.text import Text

    style = _LEVEL_STYLES.get(entry.level, "")
    head = f"{entry.timestamp:%H:%M:%S} {entry.level:<5} "
    return Text(f"{head}{entry.task_id + ': ' if entry.task_id else ''}{entry.message}", style=style)
