"""How far the log of a job was told, as it is stored between two looks at it: together with the lines themselves.

Since lines and progress are written in one step, a worker that takes over goes on at the very line after the last one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from task_runners.capture import CaptureState, LogLine
from task_runners.lines import Marker, Metric
from task_runners.log_pages import LogCursor

__all__ = ["Note", "Progress"]

_MOST_METRICS = 10_000


@dataclass(frozen=True, slots=True)
class Note:
    """Something that the engine says about a job (scheduled, image fetched ...), told once for each `key`."""

    key: str
    text: str
    level: str = "DEBUG"


@dataclass(frozen=True, slots=True)
class Progress:
    """What was read and told so far."""

    cursor: LogCursor | None = None
    capture: CaptureState = field(default_factory=CaptureState)
    vars: Mapping[str, Any] = field(default_factory=dict)
    metrics: tuple[Metric, ...] = ()
    notes: tuple[str, ...] = ()

    def with_lines(self, lines: Sequence[LogLine], cursor: LogCursor | None, capture: CaptureState) -> Progress:
        """Return the progress after `lines`, with the values of their markers."""
        markers = [line.marker for line in lines if isinstance(line.marker, Marker)]
        if not markers:
            return replace(self, cursor=cursor, capture=capture)
        outputs = {name: value for marker in markers for name, value in marker.outputs.items()}
        metrics = (*self.metrics, *(metric for marker in markers for metric in marker.metrics))[:_MOST_METRICS]
        values = {**self.vars, **outputs} if outputs else self.vars
        return replace(self, cursor=cursor, capture=capture, vars=values, metrics=metrics)

    def as_json(self) -> dict[str, Any]:
        """Return the progress as JSON values, for `from_json`."""
        return {
            "cursor": self.cursor.as_json() if self.cursor else None,
            "capture": self.capture.as_json(),
            "vars": dict(self.vars),
            "metrics": [[each.name, each.type, each.value, dict(each.tags)] for each in self.metrics],
            "notes": list(self.notes),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Progress:
        """Return the progress that `as_json` described."""
        return cls(
            cursor=LogCursor.from_json(document["cursor"]) if document["cursor"] else None,
            capture=CaptureState(**document["capture"]),
            vars=document["vars"],
            metrics=tuple(Metric(*each) for each in document["metrics"]),
            notes=tuple(document["notes"]),
        )
