"""What is remembered of one flow between two commits of reports: counts by day, its last runs, how long it takes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, timedelta
from statistics import median
from typing import Any, Final, Self

from runner.reports.rows import RunRow
from runner.reports.text import joined
from runner.states import State

LAST_RUNS: Final = 20
_DAYS: Final = 31
_SAMPLES: Final = 100
SQUARE_DAYS: Final = 14
SQUARES: Final = {"good": "🟩", "mixed": "🟨", "bad": "🟥", "none": "▫️"}

Counts = dict[str, int]


@dataclass(frozen=True, slots=True)
class FlowRecord:
    """A flow's runs in short.

    `days` counts ended runs by day (UTC, ISO) and state, for a month. `recent` are the last 20, the newest first.
    `seconds` are the durations of the last 100 good runs, the newest last. `revision` is that of the last run.
    """

    namespace: str
    flow: str
    days: dict[str, Counts] = field(default_factory=dict)
    recent: tuple[RunRow, ...] = ()
    seconds: tuple[float, ...] = ()
    good: RunRow | None = None
    revision: int | None = None

    @property
    def last(self) -> RunRow | None:
        """Return the newest run."""
        return self.recent[0] if self.recent else None

    @property
    def median_s(self) -> float | None:
        """Return the median duration of the last 20 good runs; None with fewer than three of them."""
        sample = self.seconds[-LAST_RUNS:]
        return median(sample) if len(sample) >= 3 else None

    def percentile(self, share: float) -> float | None:
        """Return the duration that a `share` of the last 100 good runs did not exceed."""
        ordered = sorted(self.seconds)
        return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else None

    def success_rate(self, today: date) -> float | None:
        """Return the share of good runs among those of the last 14 days that were good or failed."""
        totals = self.totals(today)
        good = totals.get(State.SUCCESS, 0) + totals.get(State.WARNING, 0)
        bad = totals.get(State.FAILED, 0) + totals.get(State.KILLED, 0)
        return good / (good + bad) if good + bad else None

    def totals(self, today: date) -> Counts:
        """Return the counts by state of the last 14 days."""
        totals: Counts = {}
        for day in _last_days(today):
            for state, count in self.days.get(day, {}).items():
                totals[state] = totals.get(state, 0) + count
        return totals

    def squares(self, today: date) -> str:
        """Return a square for each of the last 14 days, today last."""
        return joined(SQUARES[_quality(self.days.get(day, {}))] for day in _last_days(today))

    def as_json(self) -> dict[str, Any]:
        """Return what the store keeps."""
        return {
            "namespace": self.namespace,
            "flow": self.flow,
            "days": self.days,
            "recent": [row.as_json() for row in self.recent],
            "seconds": list(self.seconds),
            "good": self.good.as_json() if self.good else None,
            "revision": self.revision,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Return what `as_json` wrote."""
        return cls(
            namespace=values["namespace"],
            flow=values["flow"],
            days=values["days"],
            recent=tuple(RunRow.from_json(row) for row in values["recent"]),
            seconds=tuple(values["seconds"]),
            good=RunRow.from_json(values["good"]) if values["good"] else None,
            revision=values["revision"],
        )


def folded(record: FlowRecord, rows: Iterable[RunRow]) -> tuple[FlowRecord, frozenset[str]]:
    """Return the record with more runs of its flow, and the ids of those that were the first of a revision.

    A run that is among the last 20 already is not counted again.
    """
    days = {day: dict(counts) for day, counts in record.days.items()}
    recent = list(record.recent)
    seconds = list(record.seconds)
    good, revision = record.good, record.revision
    first: set[str] = set()
    known = {(row.id, row.end) for row in recent}
    for row in sorted(rows, key=lambda each: (each.end, each.id)):
        if (row.id, row.end) in known:
            continue
        counts = days.setdefault(row.end.astimezone(UTC).date().isoformat(), {})
        counts[row.state.value] = counts.get(row.state.value, 0) + 1
        recent.append(row)
        if row.is_good:
            good = row if good is None or row.end >= good.end else good
            if row.seconds is not None:
                seconds.append(row.seconds)
        # An execution of an older revision that ends late is no change.
        if revision is None or row.revision > revision:
            first.add(row.id)
            revision = row.revision
    newest = sorted(recent, key=lambda each: (each.end, each.id), reverse=True)[:LAST_RUNS]
    kept = sorted(days)[-_DAYS:]
    return (
        FlowRecord(
            namespace=record.namespace,
            flow=record.flow,
            days={day: days[day] for day in kept},
            recent=tuple(newest),
            seconds=tuple(seconds[-_SAMPLES:]),
            good=good,
            revision=revision,
        ),
        frozenset(first),
    )


def _last_days(today: date) -> list[str]:
    return [(today - timedelta(days=back)).isoformat() for back in range(SQUARE_DAYS - 1, -1, -1)]


def _quality(counts: Counts) -> str:
    bad = counts.get(State.FAILED, 0) + counts.get(State.KILLED, 0)
    good = counts.get(State.SUCCESS, 0) + counts.get(State.WARNING, 0)
    if bad:
        return "mixed" if good > bad else "bad"
    if counts.get(State.WARNING, 0):
        return "mixed"
    return "good" if good else "none"
