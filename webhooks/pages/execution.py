"""The page of an execution: what failed first, then its tasks in time, its values and its log, live until it ends."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from starlette.concurrency import run_in_threadpool
from starlette.responses import Response, StreamingResponse

from runner.access import Permission
from runner.errors import MainstemError
from runner.executions.models import Execution, LogEntry, TaskRun
from runner.links import execution_page
from runner.reports.rows import failed_leaves, holders
from runner.reports.values import HIDDEN, masked, shown, without_secrets
from runner.secrets.encryption import is_sealed
from runner.store import LogQuery, Session
from webhooks.api.executions import full, visible_execution
from webhooks.api.follow import late_s
from webhooks.api.logs import LEVELS, LINES, download
from webhooks.call import Call
from webhooks.following import bell_of, current
from webhooks.pages.page import EVENTS, HEADERS, Page, by_program, fragment, query_with, render
from webhooks.pages.timeline import Bar, timeline
from webhooks.parameters import number, text
from webhooks.problems import Json

SHOWN_LINES: Final = 300
_FAILED_LINES: Final = 30
_SHOWN_FAILURES: Final = 3
_MOST_LIVE_LINES: Final = 5_000  # in one page, before the browser becomes slow
_PATH: Final = "/executions/{namespace}/{flowId}/{id}"
_QUERY: Final = (
    text("level", "Lines of this level and above.", choices=LEVELS),
    number("after", "Lines after that with this number.", 0),
)
_LOOK_S: Final = 1.0
_ALIVE_S: Final = 15.0  # proxies close what is silent for a minute


@dataclass(frozen=True, slots=True)
class Failure:
    """A task run that failed, with the last lines of its log, and the tasks that hold it, the outermost first."""

    run: TaskRun
    exit_code: int | None
    lines: tuple[LogEntry, ...]
    within: tuple[str, ...] = ()

    @property
    def reason(self) -> str | None:
        """Return why it failed, None when that says no more than its exit code."""
        told = f"Command failed with exit code {self.exit_code}"
        return None if self.run.error == told else self.run.error


@dataclass(frozen=True, slots=True)
class View:
    """An execution at one moment."""

    execution: Execution
    bars: tuple[Bar, ...]
    left_out: int
    failures: tuple[Failure, ...]
    now: datetime
    outputs: dict[str, str] = field(default_factory=dict)
    """What the execution gave, masked, by name."""

    @property
    def seconds(self) -> float:
        """Return how long it has taken so far."""
        begun = self.execution.started_at or self.execution.created_at
        return max(((self.execution.ended_at or self.now) - begun).total_seconds(), 0.0)


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the log with its number, under which it can be linked to."""

    number: int
    entry: LogEntry


def show(call: Call) -> Any:
    """Answer with the page, its log from the line after `after` on; programs get JSON at the same address."""
    execution = visible_execution(call, call.path("id"))
    if by_program(call.request):
        return Json(full(call, execution.id))
    view, here = _view(call, execution.id), execution_page(execution.namespace, execution.flow_id, execution.id)
    log, texts = _log(call, view, here), _texts(call, execution)
    return render(call, "execution.html", view=view, here=here, levels=LEVELS, **log, **texts)


def _log(call: Call, view: View, here: str) -> dict[str, Any]:
    """Return what the page shows of the log, and where the rest comes from: a stream, or the next page of it."""
    level, after = _level(call), call.number("after") or 0
    call.services.store.logs.flush()
    lines = _lines(call, view.execution.id, after, level)
    query = query_with({"level": level}, after=lines[-1].number if lines else after)
    is_over = view.execution.state.is_terminal
    more = f"{here}{query}" if is_over and len(lines) == SHOWN_LINES else None
    stream = None if is_over else f"{here}/stream{query}"
    return {"lines": lines, "level": level, "after": after, "more": more, "stream": stream}


def _texts(call: Call, execution: Execution) -> dict[str, Any]:
    """Return the inputs, without secrets, and the labels that people gave."""
    inputs = without_secrets(execution.inputs, _secret_inputs(call, execution), call.services.host.masker.mask)
    labels = {key: text for key, text in execution.labels.items() if not key.startswith("system.")}
    return {"inputs": _values(inputs), "labels": labels}


def _level(call: Call) -> str | None:
    level = call.query("level")
    return level.upper() if level else None


def _secret_inputs(call: Call, execution: Execution) -> frozenset[str]:
    try:
        flow = call.services.catalogue.get(execution.namespace, execution.flow_id, execution.flow_revision)
    except MainstemError:  # it is gone, or an older program read it; what is secret is sealed all the same
        return frozenset()
    return frozenset(each.id for each in flow.inputs if each.type == "SECRET")


def _values(values: dict[str, Any]) -> dict[str, str]:
    return {name: HIDDEN if is_sealed(value) else shown(value) for name, value in values.items()}


def _view(call: Call, execution_id: str) -> View:
    """Return an execution as it is now, from one snapshot."""
    now = datetime.now(UTC)

    def read(db: Session) -> tuple[Execution, list[TaskRun], list[Any]]:
        execution = db.executions.get(execution_id)
        assert execution is not None, "it was visible a moment ago"
        return execution, db.executions.runs(execution_id), db.executions.attempts(execution_id)

    execution, runs, attempts = call.services.store.read(read)
    codes = {each.task_run_id: each.exit_code for each in attempts}
    begun = execution.started_at or execution.created_at
    bars = timeline(runs, begun, execution.ended_at or now)
    failures = tuple(
        Failure(run, codes.get(run.id), _last_lines(call, run), tuple(each.task_id for each in holders(run, runs)))
        for run in failed_leaves(runs)[:_SHOWN_FAILURES]
    )
    outputs = _values(execution.outputs or {})
    mask = call.services.host.masker.mask
    return View(execution, tuple(bars), len(runs) - len(bars), failures, now, masked(outputs, mask))


def _last_lines(call: Call, run: TaskRun) -> tuple[LogEntry, ...]:
    """Return the last lines a failed task run wrote; DEBUG tells how it was run, not what went wrong."""
    logs = call.services.store.logs
    query = LogQuery(execution_id=run.execution_id, task_run_id=run.id, min_level="INFO")
    return tuple(logs.last(query, _FAILED_LINES))


def _lines(call: Call, execution_id: str, after: int, level: str | None) -> list[Line]:
    found = call.services.store.logs.after(execution_id, after, min_level=level, limit=SHOWN_LINES)
    return [Line(number, entry) for number, entry in found]


# -------------------------------------------------------------------- live


async def stream(call: Call) -> Response:
    """Answer with what changes on the page: lines of the log as they come, the rest whenever a task run changes.

    Each event names the last line that was sent, so a browser that connects again gets none twice.
    """
    execution = await run_in_threadpool(visible_execution, call, call.path("id"))
    seen = call.request.headers.get("last-event-id", "")
    after = int(seen) if seen.isascii() and seen.isdigit() and len(seen) <= 18 else call.number("after") or 0
    headers = {**HEADERS, "x-accel-buffering": "no"}
    return StreamingResponse(_events(call, execution.id, after), media_type=EVENTS, headers=headers)


def stale_s(shown_s: float) -> float:
    """Return after how many seconds a duration that still grows is shown anew: a tenth of it, 1 to 15."""
    return min(max(shown_s / 10, _LOOK_S), _ALIVE_S)


async def _events(call: Call, execution_id: str, position: int) -> AsyncIterator[bytes]:
    level, sent, seen, quiet, stale_at = _level(call), 0, -1, 0.0, 0.0
    over_at: float | None = None
    async with bell_of(call.services, execution_id) as bell:
        while not call.services.closing.is_set():
            execution = await current(call.services, execution_id)
            if execution is None:
                return
            if over_at is None and execution.state.is_terminal:
                # Workers elsewhere may still write their last lines.
                over_at = time.monotonic() + late_s(call, execution)
            is_last = over_at is not None and time.monotonic() >= over_at
            is_new = execution.version != seen or (over_at is None and time.monotonic() >= stale_at)
            view = await run_in_threadpool(_view, call, execution_id) if is_new else None
            lines = await run_in_threadpool(_new_lines, call, execution_id, position, level)
            is_full = sent + len(lines) >= _MOST_LIVE_LINES
            if view is not None:
                stale_at = time.monotonic() + stale_s(view.seconds)
            if lines or view is not None:
                position = lines[-1].number if lines else position
                seen, quiet, sent = execution.version, 0.0, sent + len(lines)
                html = fragment(call, "execution_live.html", view=view, lines=lines, is_full=is_full)
                yield _event(html, position)
            if is_full or (is_last and not lines):
                yield b"event: end\ndata: \n\n"
                return
            if lines:
                continue
            quiet += _LOOK_S
            if quiet > _ALIVE_S:
                quiet = 0.0
                yield b": alive\n\n"
            await bell.wait(_LOOK_S)


def _new_lines(call: Call, execution_id: str, position: int, level: str | None) -> list[Line]:
    call.services.store.logs.flush()
    return _lines(call, execution_id, position, level)


def _event(html: str, position: int) -> bytes:
    data = "".join(f"data: {line}\n" for line in html.split("\n"))
    return f"id: {position}\n{data}\n".encode()


def pages() -> list[Page]:
    """Return the pages of this file."""
    read, log = Permission.EXECUTION_READ, Permission.LOG_READ
    return [
        Page(_PATH, read, show, _QUERY),
        Page(f"{_PATH}/stream", log, stream, _QUERY),
        Page(f"{_PATH}/log", log, download, LINES),
    ]
