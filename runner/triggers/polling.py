"""Triggers that look at something again and again, and start an execution when it is as they want it."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from runner.durations import Duration
from runner.flows.models import Trigger
from runner.plugin import Context


@dataclass(frozen=True, slots=True)
class Look:
    """What a look found: `outputs` for the execution to start, None when there is none, and what to remember."""

    outputs: Mapping[str, Any] | None = None
    memory: Mapping[str, Any] = field(default_factory=dict)


class PollingTrigger(Trigger, abc.ABC):
    """A trigger that is looked at every `interval`, for the first time at once."""

    interval: Duration = timedelta(seconds=60)

    @abc.abstractmethod
    def look(self, ctx: Context, memory: Mapping[str, Any]) -> Look:
        """Look once. `memory` is what the last look remembered.

        Raises:
            MainstemError: when it cannot be looked at; the next try comes after the interval.
        """
