"""The live tree of a run on a terminal, below its log lines, and plain lines where there is none."""

from __future__ import annotations

import sys
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Final, Self

from runner.cli.table import safe
from runner.states import State

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text
    from rich.tree import Tree

    from runner.executions.models import LogEntry, TaskRun
    from runner.local import LocalEngine

_REFRESH_S: Final = 0.1
_PAGE: Final = 1_000
_SHOWN_CHILDREN: Final = 8  # of one container; the rest is counted

_MARKS: Final = {
    State.SUCCESS: ("✓", "green"),
    State.WARNING: ("!", "yellow"),
    State.FAILED: ("✗", "red"),
    State.KILLED: ("■", "red"),
    State.CANCELLED: ("■", "red"),
    State.SKIPPED: ("-", "dim"),
    State.RUNNING: ("▶", "cyan"),
    State.PAUSED: ("‖", "yellow"),
    State.BREAKPOINT: ("●", "yellow"),
    State.RETRYING: ("↻", "yellow"),
}
_LEVEL_STYLES: Final = {"ERROR": "red", "WARN": "yellow", "DEBUG": "dim", "TRACE": "dim"}


class LiveTree:
    """Shows an execution while it runs: its log lines, and on a terminal a tree that is drawn again below them."""

    def __init__(self, local: LocalEngine, execution_id: str, console: Console) -> None:
        self._store = local.engine.store
        self._engine = local.engine
        self._id = execution_id
        self._console = console
        self._live: Live | None = None
        self._read = 0
        self._drawing = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._refresh, name="display", daemon=True)

    def __enter__(self) -> Self:
        if self._console.is_terminal and not self._console.is_dumb_terminal:
            from rich.live import Live

            self._live = Live(self._picture(), console=self._console, auto_refresh=False)
            self._live.start()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._store.logs.flush()
        self._draw()
        if self._live is not None:
            self._live.stop()

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Draw nothing as long as the block runs, so that it can ask something."""
        with self._drawing:
            if self._live is None:
                yield
                return
            self._live.stop()
            try:
                yield
            finally:
                self._live.start()

    def _refresh(self) -> None:
        while not self._stop.wait(_REFRESH_S):
            with self._drawing:
                self._draw()

    def _draw(self) -> None:
        for entry in self._new_lines():
            self._console.print(_line(entry), soft_wrap=True)
        if self._live is not None:
            self._live.update(self._picture(), refresh=True)

    def _new_lines(self) -> Iterator[LogEntry]:
        while True:
            page = self._store.logs.after(self._id, self._read, limit=_PAGE)
            for self._read, entry in page:
                yield entry
            if len(page) < _PAGE:
                return

    # ---------------------------------------------------------------- tree

    def _picture(self) -> Tree:
        from rich.text import Text
        from rich.tree import Tree

        execution = self._engine.get(self._id)
        runs = self._store.read(lambda db: db.executions.runs(self._id))
        took = _seconds(execution.started_at or execution.created_at, execution.ended_at)
        name = f"{execution.namespace}.{execution.flow_id}"
        title = f"{name}  {execution.id[:10]}…  {execution.state.value}  {took}"
        tree = Tree(Text(title, style="bold"))
        children: defaultdict[str | None, list[TaskRun]] = defaultdict(list)
        for run in runs:
            children[run.parent_id].append(run)
        self._add(tree, None, children)
        return tree

    def _add(self, tree: Tree, parent: str | None, children: defaultdict[str | None, list[TaskRun]]) -> None:
        runs = children[parent]
        hidden = max(len(runs) - _SHOWN_CHILDREN, 0)
        if hidden:
            tree.add(f"[dim]({hidden} more)[/]")
        for run in runs[hidden:]:
            self._add(tree.add(_label(run)), run.id, children)


def _label(run: TaskRun) -> Text:
    """Return the line of a task run; loop values are text of others, so nothing in them is markup."""
    from rich.text import Text

    mark, style = _MARKS.get(run.state, ("·", "dim"))
    value = f"[{safe(run.value)}]" if run.value is not None else ""
    took = _seconds(run.started_at, run.ended_at) if run.started_at else ""
    tries = f"  attempt {run.attempts}" if run.attempts > 1 else ""
    return Text.assemble((mark, style), f" {run.task_id}{value}", (f"  {took}{tries}", "dim"))


def _seconds(start: datetime, end: datetime | None) -> str:
    until = end or datetime.now(start.tzinfo)
    return f"{max((until - start).total_seconds(), 0):.1f} s"


def _line(entry: LogEntry) -> Text:
    from rich.text import Text

    style = _LEVEL_STYLES.get(entry.level, "")
    head = f"{entry.timestamp:%H:%M:%S} {entry.level:<5} "
    return Text(safe(f"{head}{entry.task_id + ': ' if entry.task_id else ''}{entry.message}"), style=style)


def open_console() -> Console:
    """Return the console of the standard output; colours follow the terminal, NO_COLOR and FORCE_COLOR."""
    from rich.console import Console

    return Console(file=sys.stdout, highlight=False)
