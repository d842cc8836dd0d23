"""`from kestra import Kestra` in a body whose interpreter does not have the package of that name.

An installed package `kestra` always goes first: this module steps aside for it. Otherwise it offers the calls with
which a body hands values back, each of them one line of the protocol on standard output. It must run on Python 3.7.
"""

from __future__ import annotations

import importlib
import json
import logging
import sys
import time
from pathlib import Path
from typing import Any

_HERE = Path(__file__).resolve().parent


class Kestra:
    """What a body tells the engine. `tags` of metrics are texts; a timer takes seconds or a function to be timed."""

    @staticmethod
    def outputs(values: Any) -> None:
        """Hand over outputs: a map, or something with `to_dict`."""
        _say({"outputs": values if isinstance(values, dict) or not hasattr(values, "to_dict") else values.to_dict()})

    @staticmethod
    def counter(name: str, value: float, tags: dict[str, str] | None = None) -> None:
        """Add to a counter."""
        _metric("counter", name, value, tags)

    @staticmethod
    def gauge(name: str, value: float, tags: dict[str, str] | None = None) -> None:
        """Set a gauge."""
        _metric("gauge", name, value, tags)

    @staticmethod
    def timer(name: str, duration: Any, tags: dict[str, str] | None = None) -> None:
        """Report how long something took: seconds, or a function that is called and timed."""
        if callable(duration):
            started = time.perf_counter()
            duration()
            duration = time.perf_counter() - started
        _metric("timer", name, duration, tags)

    @staticmethod
    def logger() -> logging.Logger:
        """Return a logger whose lines keep their level."""
        logger = logging.getLogger("Kestra")
        if not logger.handlers:
            logger.addHandler(_Handler())
            logger.setLevel(logging.DEBUG)
            logger.propagate = False
        return logger


class _Handler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        level = {"WARNING": "WARN", "CRITICAL": "ERROR"}.get(record.levelname, record.levelname)
        _say({"logs": [{"level": level, "message": self.format(record)}]})


def _metric(kind: str, name: str, value: float, tags: dict[str, str] | None) -> None:
    _say({"metrics": [{"name": name, "type": kind, "value": value, "tags": tags or {}}]})


def _say(message: dict[str, Any]) -> None:
    sys.stdout.write("::" + json.dumps(message, default=str) + "::\n")
    sys.stdout.flush()


def _installed() -> Any:
    """Return the package that is installed, None when there is none."""
    own, path = sys.modules.pop(__name__), list(sys.path)
    sys.path[:] = [place for place in path if Path(place).resolve() != _HERE]
    try:
        return importlib.import_module(__name__)
    except ImportError:
        sys.modules[__name__] = own
        return None
    finally:
        sys.path[:] = path


if __name__ == "kestra":
    _installed()
