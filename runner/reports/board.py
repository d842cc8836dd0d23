"""The pages that show many runs: all environments, one environment's flows, one flow, one day."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final

from runner.reports.record import LAST_RUNS, SQUARE_DAYS, Counts, FlowRecord
from runner.reports.rows import RunRow
from runner.reports.run_page import table
from runner.reports.text import MARKS, code, day_and_time, inline, moment, seconds, unbroken
from runner.reports.trend import trend
from runner.states import State

MOST_ROWS: Final = 400  # of a board: forges do not render files beyond half a megabyte
_MOST_DAY_ROWS: Final = 1_000
_BAD_FIRST: Final = {State.FAILED: 0, State.KILLED: 0, State.WARNING: 1}


@dataclass(frozen=True, slots=True)
class BoardFlow:
    """A row of a board: a deployed flow, what is remembered of it, and when it starts by itself next."""

    namespace: str
    flow: str
    record: FlowRecord | None = None
    next_at: datetime | None = None

    @property
    def link(self) -> str:
        """Return the path of the flow's page below the branch."""
        return f"flows/{self.namespace}/{self.flow}/README.md"


@dataclass(frozen=True, slots=True)
class BoardEnvironment:
    """An environment with its flows. `active` is the commit that runs now, `message` says why `state` is not OK.

    One that has a list of deployments leads to it.
    """

    name: str
    ref: str
    active: str | None
    state: str
    flows: Sequence[BoardFlow]
    message: str | None = None
    has_deployments: bool = False


def root_page(environments: Iterable[BoardEnvironment], now: datetime) -> str:
    """Return the README of the branch: a row for each environment."""
    rows = []
    for each in environments:
        totals = _totals(each.flows, now.date())
        last = max((flow.record.last.end for flow in each.flows if flow.record and flow.record.last), default=None)
        rows.append(
            (
                f"[{inline(each.name)}]({each.name}/README.md)",
                code(each.ref.removeprefix("refs/heads/")),
                code(each.active[:7]) if each.active else "",
                inline(each.state),
                str(len(each.flows)),
                str(sum(totals.values())),
                str(totals.get(State.FAILED, 0) + totals.get(State.KILLED, 0)),
                moment(last),
            )
        )
    head = ("environment", "branch", "commit", "state", "flows", f"runs, {SQUARE_DAYS} days", "failed", "last run")
    return f"# Runs\n\n{table(head, rows)}\n\nWritten by Mainstem at {moment(now)}.\n"


def board(environment: BoardEnvironment, now: datetime, pages: Collection[str]) -> str:
    """Return the board of an environment: a row for each flow, those that failed last first.

    `pages` are the stems of the runs that have one; other runs are not linked.
    """
    ordered = sorted(environment.flows, key=_urgency)
    shown, left_out = ordered[:MOST_ROWS], len(ordered) - MOST_ROWS
    head = ("flow", "state", "last run", f"last {SQUARE_DAYS} days", "success", "p50 / p95", "next run")
    active = f" at {code(environment.active[:7])}" if environment.active else ""
    text = f"# {inline(environment.name)}{active}\n\n{_stand(environment)}"
    text += table(head, [_board_row(flow, now, pages) for flow in shown])
    if left_out > 0:
        text += f"\n\n{left_out} more flows have pages below `flows/`."
    links = ["[deployments](deployments/README.md)"] if environment.has_deployments else []
    links.append("[all environments](../README.md)")
    return f"{text}\n\nTimes are UTC. Written by Mainstem at {moment(now)} · {' · '.join(links)}\n"


def _stand(environment: BoardEnvironment) -> str:
    if environment.state == "OK":
        return ""
    why = f": {inline(environment.message)}" if environment.message else ""
    return f"**State** {inline(environment.state)}{why}\n\n"


def flow_page(record: FlowRecord, now: datetime, pages: Collection[str], next_at: datetime | None) -> str:
    """Return the page of a flow: its badge, its figures, its last 20 runs."""
    up = "../../../"
    rows = [_run_row(row, now, up, pages) for row in record.recent]
    facts = [f"success in {SQUARE_DAYS} days {_percent(record.success_rate(now.date())) or 'unknown'}"]
    if record.seconds:
        facts.append(f"p50 {seconds(record.percentile(0.5))} · p95 {seconds(record.percentile(0.95))}")
    else:
        facts.append("no good run yet")
    if next_at is not None:
        facts.append(f"next run {moment(next_at)}")
    last_failure = next((row for row in record.recent if row.state in {State.FAILED, State.KILLED}), None)
    if last_failure is not None:
        facts.append(f"last failure {_linked(last_failure, moment(last_failure.end), up, pages)}")
    return (
        f"# {code(f'{record.namespace}.{record.flow}')}\n\n![state of the last run](badge.svg)\n\n"
        f"{record.squares(now.date())}\n\n{' · '.join(facts)}\n\n## Last {LAST_RUNS} runs\n\n{_trend(record)}"
        + table(("run", "state", "trigger", "revision", "commit", "duration", "error"), rows)
        + f"\n\nTimes are UTC. [All environments]({up}README.md)\n"
    )


def _trend(record: FlowRecord) -> str:
    text = trend(record.recent)
    return f"The newest last: {text}\n\n" if text else ""


def day_page(day: date, counts: Mapping[tuple[str, str], Counts]) -> str:
    """Return the README of a day's folder: how many runs of each flow ended in which state."""
    states = [state for state in State if any(state.value in each for each in counts.values())]
    rows = [
        (
            code(".".join(key)),
            *(str(counts[key].get(state.value, "")) for state in states),
            str(sum(counts[key].values())),
        )
        for key in sorted(counts)[:_MOST_DAY_ROWS]
    ]
    left_out = len(counts) - len(rows)
    rest = f"\n{left_out} more flows ran; their runs stand in the files of rows.\n" if left_out else ""
    return f"# {day:%Y-%m-%d} (UTC)\n\n{table(('flow', *(state.value for state in states), 'all'), rows)}\n{rest}"


def _urgency(flow: BoardFlow) -> tuple[int, str, str]:
    last = flow.record.last if flow.record else None
    return (_BAD_FIRST.get(last.state, 2) if last else 3, flow.namespace, flow.flow)


def _board_row(flow: BoardFlow, now: datetime, pages: Collection[str]) -> tuple[str, ...]:
    name = f"{flow.namespace}.{flow.flow}"
    record = flow.record
    last = record.last if record else None
    next_run = day_and_time(flow.next_at, now)
    if record is None or last is None:
        return (code(name), unbroken("never ran"), "", "", "", "", next_run)
    return (
        f"[{code(name)}](../{flow.link})",
        _state(last),
        _linked(last, day_and_time(last.end, now), "../", pages),
        record.squares(now.date()),
        unbroken(_percent(record.success_rate(now.date()))),
        _usual(record),
        next_run,
    )


def _run_row(row: RunRow, now: datetime, up: str, pages: Collection[str]) -> tuple[str, ...]:
    return (
        _linked(row, day_and_time(row.end, now), up, pages),
        _state(row),
        code(row.trigger or ""),
        str(row.revision),
        code(row.commit[:7]) if row.commit else "",
        unbroken(seconds(row.seconds)),
        inline(row.error or "", 120),
    )


def _state(row: RunRow) -> str:
    return unbroken(f"{MARKS.get(row.state, '·')} {row.state.value}")


def _usual(record: FlowRecord) -> str:
    """Return the middle and the slow end of the durations; empty as long as no run was good."""
    if not record.seconds:
        return ""
    middle, slow = (seconds(record.percentile(share)) for share in (0.5, 0.95))
    unit = slow.rpartition(" ")[2]
    if middle == slow:
        return unbroken(slow)
    is_short = middle.count(" ") == slow.count(" ") == 1 and middle.endswith(f" {unit}")
    # The row may be broken behind the stroke: the board is wide.
    return f"{unbroken(middle.removesuffix(f' {unit}') if is_short else middle)}\u00a0/ {unbroken(slow)}"


def _linked(row: RunRow, text: str, up: str, pages: Collection[str]) -> str:
    return f"[{text}]({up}{row.stem}.md)" if row.stem in pages else text


def _percent(rate: float | None) -> str:
    return "" if rate is None else f"{rate * 100:.0f} %" if rate in {0, 1} else f"{min(rate * 100, 99.9):.1f} %"


def _totals(flows: Iterable[BoardFlow], today: date) -> Counts:
    totals: Counts = {}
    for flow in flows:
        if flow.record is not None:
            for state, count in flow.record.totals(today).items():
                totals[state] = totals.get(state, 0) + count
    return totals
