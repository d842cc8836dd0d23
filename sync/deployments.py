"""A deployment that makes runs fail is taken back by itself, where its environment says so."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from runner.errors import ConflictError, MainstemError
from runner.settings import EnvironmentSettings, FailureBound
from runner.states import State
from runner.store import Store
from runner.store.records import Revision
from runner.store.session import Session
from sync.activation import RACED, Outcome, RevisionResult
from sync.drift import HEAL
from sync.orders import Orders
from sync.plan import ChangeKind
from sync.reverts import Reverts

log = logging.getLogger(__name__)

_BAD: Final = State.FAILED
_GOOD: Final = frozenset({State.SUCCESS, State.WARNING})
_SWITCHED: Final = frozenset({Outcome.ACTIVE, Outcome.QUARANTINED})
_UNCHANGED: Final = frozenset({ChangeKind.REMOVED, ChangeKind.QUARANTINED})
_LATEST: Final = 50
_MOST_FLOWS: Final = 200


@dataclass(frozen=True, slots=True)
class Deployments:
    """Watches the runs of what was deployed last."""

    store: Store
    orders: Orders
    reverts: Reverts
    clock: Callable[[], datetime]

    def take_back(self, environments: Iterable[EnvironmentSettings]) -> Iterator[RevisionResult]:
        """Undo the last deployment of each environment whose runs fail beyond what it allows; yield what came of it.

        Where the environment says so it is proposed to git too, after the result was taken, and again where it failed.
        """
        for declared in environments:
            bound = declared.rollback_on_failures
            if bound is None:
                continue
            result = self._checked(declared.name, bound)
            if result is not None:
                log.warning("a deployment was taken back", extra={"environment": declared.name})
                yield result
            if bound.propose:
                self.reverts.follow(declared.name)

    def _checked(self, name: str, bound: FailureBound) -> RevisionResult | None:
        try:
            return self.check(name, bound)
        except MainstemError as error:  # the others are watched all the same
            fields = {"environment": name, "code": error.code, "error": str(error)}
            log.warning("a deployment cannot be taken back", extra=fields)
            return None

    def check(self, name: str, bound: FailureBound) -> RevisionResult | None:
        """Go back to the revision before when the flows that the last one changed fail beyond `bound`.

        The environment is pinned then, as by `mainstem sync rollback`. Nothing happens where it is pinned already,
        where there is nothing to go back to, once the bound's time has passed, and when somebody else was faster.
        """
        failing = self.store.read(lambda db: self._failing(db, name, bound))
        if failing is None:
            return None
        try:
            return self.orders.stay(
                name,
                failing.back_to,
                action="rollback",
                actor="mainstem",
                reason=failing.reason,
                instead_of=failing.active,
            )
        except ConflictError as error:
            if error.code != RACED:
                raise
            return None

    def _failing(self, db: Session, name: str, bound: FailureBound) -> _Failing | None:
        environment, last = db.environments.get(name), _last_deployment(db, name)
        if environment is None or environment.active is None or last is None or last.previous is None:
            return None
        is_over = self.clock() - last.at > timedelta(seconds=bound.within_s)
        if is_over or db.pins.get(name) is not None:
            return None
        reason = failure(_runs(db, last), bound, last)
        return _Failing(last.previous, environment.active, reason) if reason else None


@dataclass(frozen=True, slots=True)
class _Failing:
    """A deployment that is to be taken back: to which commit, what is active now, and why."""

    back_to: str
    active: str
    reason: str


def failure(runs: Mapping[State, int], bound: FailureBound, deployed: Revision) -> str | None:
    """Return why a deployment is to be taken back, given how many runs ended in which state since; None when not."""
    failed = runs.get(_BAD, 0)
    ended = failed + sum(runs.get(state, 0) for state in _GOOD)
    if ended < bound.runs or failed < bound.rate * ended:
        return None
    return f"{failed} of {ended} runs failed since {deployed.commit[:7]}"


def _last_deployment(db: Session, name: str) -> Revision | None:
    """Return the revision that changed flows last, if that was a push or a write and no order.

    Healing is passed over: it brings back what was deployed.
    """
    rows = db.revisions.list(name, _LATEST)
    last = next((row for row in rows if row.result in _SWITCHED and row.action != HEAL), None)
    return last if last is not None and last.action == "sync" else None


def _runs(db: Session, deployed: Revision) -> dict[State, int]:
    """Count how runs of the changed flows ended that began since."""
    counts: dict[State, int] = {}
    changed = [row for row in deployed.changes if row["kind"] not in _UNCHANGED]
    for row in changed[:_MOST_FLOWS]:
        for state, count in db.executions.ended_since(row["namespace"], row["flowId"], deployed.at).items():
            counts[state] = counts.get(state, 0) + count
    return counts
