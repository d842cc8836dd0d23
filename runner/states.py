"""The states of executions and task runs, and which may follow which."""

from __future__ import annotations

import enum
from typing import Final


class State(enum.StrEnum):
    """Kestra's states (its `State.java` and the 2.0 API list)."""

    CREATED = "CREATED"
    SUBMITTED = "SUBMITTED"
    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    RESTARTED = "RESTARTED"
    KILLING = "KILLING"
    SUCCESS = "SUCCESS"
    WARNING = "WARNING"
    FAILED = "FAILED"
    KILLED = "KILLED"
    CANCELLED = "CANCELLED"
    QUEUED = "QUEUED"
    RETRYING = "RETRYING"
    RETRIED = "RETRIED"
    SKIPPED = "SKIPPED"
    BREAKPOINT = "BREAKPOINT"
    RESUBMITTED = "RESUBMITTED"

    @property
    def is_terminal(self) -> bool:
        """Whether nothing more happens by itself."""
        return self in TERMINAL

    @property
    def is_failed(self) -> bool:
        """Whether it ended without reaching what it was for."""
        return self in FAILURES


TERMINAL: Final = frozenset(
    {
        State.SUCCESS,
        State.WARNING,
        State.FAILED,
        State.KILLED,
        State.CANCELLED,
        State.RETRIED,
        State.SKIPPED,
        State.RESUBMITTED,
    }
)
FAILURES: Final = frozenset({State.FAILED, State.KILLED, State.CANCELLED})
OPEN: Final = frozenset(State) - TERMINAL
