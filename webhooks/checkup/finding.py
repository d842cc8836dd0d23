"""What a check found, and what every check is given."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.settings import Settings

if TYPE_CHECKING:
    from runner.flows.models import Flow
    from runner.store import Store


class Weight(enum.StrEnum):
    """How bad a finding is: only an error means that something does not work."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: the subject, what is the case, and what to do about it."""

    subject: str
    message: str
    weight: Weight = Weight.OK
    advice: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the keys `subject weight message advice`."""
        return {"subject": self.subject, "weight": str(self.weight), "message": self.message, "advice": self.advice}


def warning(subject: str, message: str, advice: str) -> Finding:
    """Return a finding that somebody should look at."""
    return Finding(subject, message, Weight.WARNING, advice)


def error(subject: str, message: str, advice: str | None) -> Finding:
    """Return a finding that keeps something from working."""
    return Finding(subject, message, Weight.ERROR, advice)


@dataclass
class Patient:
    """The installation that is looked at.

    `store` is None when there is no database or it cannot be opened. `running` is what the lock of the home says of a
    server that holds it: `pid` and `url`; None when none does. `uid` is that of the bodies: None for the user of the
    server.
    """

    settings: Settings
    environment: Mapping[str, str]
    store: Store | None = None
    running: Mapping[str, Any] | None = None
    uid: int | None = None
    home: Path = field(init=False)

    def __post_init__(self) -> None:
        self.home = self.settings.home.absolute()

    @cached_property
    def flows(self) -> list[Flow]:
        """The active flows; none without a store."""
        from runner.flows.catalogue import Catalogue

        return Catalogue(self.store).active() if self.store is not None else []


def counted(number: int, noun: str) -> str:
    """Return `1 flow`, `2 flows`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def flows_that(number: int, verb: str) -> str:
    """Return `1 flow needs`, `2 flows need` for the verb `need`."""
    return f"1 flow {verb}s" if number == 1 else f"{number} flows {verb}"
