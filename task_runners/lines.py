"""The line protocol by which a task body hands back values: `::{"outputs": ..., "metrics": ..., "logs": ...}::`.

The form is Kestra's (`AbstractLogConsumer`, the `kestra` packages for Python and Node): one JSON object on a line of
its own between `::` and `::`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["MalformedMarker", "Marker", "MarkerLog", "Metric", "parse_marker"]

_OPEN, _CLOSE = "::{", "}::"
_METRIC_TYPES = frozenset({"counter", "timer", "gauge"})
_LEVELS = frozenset({"TRACE", "DEBUG", "INFO", "WARN", "ERROR"})


@dataclass(frozen=True, slots=True)
class Metric:
    """A number that a body reported. A timer's value is in seconds, as the body gave it."""

    name: str
    type: str
    value: float
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class MarkerLog:
    """A log message with a level of its own, one of TRACE DEBUG INFO WARN ERROR."""

    level: str
    message: str


@dataclass(frozen=True, slots=True)
class Marker:
    """What one marker line carries."""

    outputs: Mapping[str, Any] = field(default_factory=dict)
    metrics: tuple[Metric, ...] = ()
    logs: tuple[MarkerLog, ...] = ()


@dataclass(frozen=True, slots=True)
class MalformedMarker:
    """A line that looks like a marker and cannot be read as one; `reason` is a sentence for the log."""

    reason: str


def parse_marker(line: str) -> Marker | MalformedMarker | None:
    """Return what `line` carries, or None when it is an ordinary line."""
    text = line.strip()
    if not (text.startswith(_OPEN) and text.endswith(_CLOSE)):
        return None
    try:
        document = json.loads(text[2:-2], parse_constant=_refuse_constant)
        return Marker(
            outputs=_outputs(document.get("outputs")),
            metrics=tuple(_metric(entry) for entry in document.get("metrics") or ()),
            logs=tuple(_log(entry) for entry in document.get("logs") or ()),
        )
    except RecursionError:
        return MalformedMarker("the values are nested too deeply")
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        return MalformedMarker(f"{type(error).__name__}: {error}")


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _outputs(value: Any) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise TypeError(f"outputs must be an object, not {type(value).__name__}")
    return value


def _metric(entry: Any) -> Metric:
    kind = str(entry["type"]).lower()
    if kind not in _METRIC_TYPES:
        raise ValueError(f"unknown metric type {kind!r}")
    tags = {str(key): str(value) for key, value in (entry.get("tags") or {}).items()}
    return Metric(name=str(entry["name"]), type=kind, value=float(entry["value"]), tags=tags)


def _log(entry: Any) -> MarkerLog:
    level = str(entry.get("level") or "INFO").upper()
    level = "WARN" if level == "WARNING" else level
    if level not in _LEVELS:
        raise ValueError(f"unknown level {level!r}")
    return MarkerLog(level=level, message=str(entry["message"]))
