"""What one commit of reports tells: its runs, and the flows as they are before and after them. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Final

from runner.reports.record import Counts, FlowRecord, folded
from runner.reports.rows import RunRow
from runner.states import State

MOST_PAGES: Final = 200
"""How many runs get a page in one commit."""
URGENT: Final = frozenset({State.FAILED, State.KILLED, State.WARNING})

FlowKey = tuple[str, str]
Records = Mapping[str, Mapping[FlowKey, FlowRecord]]


@dataclass(frozen=True, slots=True)
class Batch:
    """Runs in the order in which they ended, with what was known of their flows before, and what is known now.

    `first` are the ids of the first runs of a revision; `touched` names the flows that ran, with their environments.
    """

    rows: tuple[RunRow, ...]
    before: Records
    after: Records
    first: frozenset[str] = frozenset()
    touched: frozenset[tuple[str, FlowKey]] = frozenset()
    _by_flow: Mapping[tuple[str, FlowKey], Sequence[RunRow]] = field(default_factory=dict)

    @classmethod
    def of(cls, rows: Iterable[RunRow], before: Records) -> Batch:
        """Return the batch of the runs whose environments are in `before`."""
        ordered = sorted((row for row in rows if row.environment in before), key=lambda row: (row.end, row.id))
        by_flow: dict[tuple[str, FlowKey], list[RunRow]] = {}
        for row in ordered:
            by_flow.setdefault((row.environment, row.key), []).append(row)
        after = {environment: dict(records) for environment, records in before.items()}
        first: set[str] = set()
        for (environment, key), found in by_flow.items():
            record, changed = folded(after[environment].get(key) or FlowRecord(*key), found)
            after[environment][key] = record
            first |= changed
        return cls(tuple(ordered), before, after, frozenset(first), frozenset(by_flow), by_flow)

    @property
    def touched_records(self) -> list[FlowRecord]:
        """Return the flows that ran, as they are now."""
        return [self.after[environment][key] for environment, key in sorted(self.touched)]

    def record_before(self, row: RunRow) -> FlowRecord | None:
        """Return what was known of a run's flow before this batch."""
        return self.before[row.environment].get(row.key)

    def good_before(self, row: RunRow) -> RunRow | None:
        """Return the last good run of the flow that ended before `row` did."""
        same = reversed(self._by_flow[row.environment, row.key])
        record = self.record_before(row)
        known = record.good if record else None
        return next((each for each in same if each.is_good and each.end < row.end), known)

    def pages(self, *, everything: bool) -> dict[str, bool]:
        """Return the stems of the runs that get a page, the most urgent first, and whether each stays for long.

        These are the runs that failed or warned, the first ones of a revision, and the last 20 of each flow; with
        `everything` all others too, as long as there is room.
        """
        recent = {row.id for record in self.touched_records for row in record.recent}
        urgent = [row for row in self.rows if row.state in URGENT or row.id in self.first]
        others = [row for row in reversed(self.rows) if row.id in recent or everything]
        chosen = {row.stem: True for row in urgent[-MOST_PAGES:]}
        for row in others:
            if len(chosen) < MOST_PAGES:
                chosen.setdefault(row.stem, everything)
        return chosen

    def counts(self, day: date) -> dict[FlowKey, Counts]:
        """Return how many runs of each flow ended on a day, by state."""
        found: dict[FlowKey, Counts] = {}
        for records in self.after.values():
            for key, record in records.items():
                counts = record.days.get(day.isoformat())
                if counts:
                    found[key] = counts
        return found


def lines(rows: Collection[RunRow], most: int) -> tuple[list[Mapping[str, object]], int]:
    """Return the lines of a file of rows, and how many of them are about one run.

    The first `most` runs have a line each, those that need attention before all others; the rest is counted by flow
    and state, exactly.
    """
    urgent = sorted(rows, key=lambda row: row.state not in URGENT) if len(rows) > most else list(rows)
    return [*(row.as_json() for row in urgent[:most]), *_counted(urgent[most:])], min(most, len(rows))


def _counted(rows: Iterable[RunRow]) -> list[Mapping[str, object]]:
    counts: dict[tuple[str, FlowKey], Counts] = {}
    for row in rows:
        here = counts.setdefault((row.environment, row.key), {})
        here[row.state.value] = here.get(row.state.value, 0) + 1
    return [
        {"environment": environment, "namespace": namespace, "flow": flow, "counts": found}
        for (environment, (namespace, flow)), found in counts.items()
    ]
