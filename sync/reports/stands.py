"""How environments stand, and what of it the boards say already: a push may be refused without a run that ends."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from runner.store.records import Environment
from runner.store.session import Session

FINE: Final = "OK"
_STANDS: Final = "stands"

Stands = Mapping[str, str]
"""By the name of an environment: its state, and what is said of it."""


def stand(environment: Environment) -> str:
    """Return how an environment stands: `OK`, or its state and why."""
    if environment.state == FINE or not environment.message:
        return environment.state
    return f"{environment.state}: {environment.message}"


def changed(told: Stands, environments: Iterable[Environment]) -> list[Environment]:
    """Return the environments of which the boards say something else than what is so; unknown ones count as fine."""
    return [each for each in environments if told.get(each.name, FINE) != stand(each)]


def told(db: Session, repository: str) -> Stands:
    """Return what the boards of a repository say."""
    found: dict[str, str] = db.reports.get(f"@{repository}", _STANDS) or {}
    return found


def remember(db: Session, repository: str, environments: Iterable[Environment]) -> None:
    """Remember that the boards of a repository say how `environments` stand."""
    db.reports.put(f"@{repository}", _STANDS, {each.name: stand(each) for each in environments})
