"""A deployment that makes runs fail is taken back by itself, where its environment says so."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from runner.settings import FailureBound
from runner.states import State
from runner.store import Store
from runner.store.records import Revision
from runner.store.session import Session
from sync.activation import Outcome, RevisionResult
from sync.orders import Orders

_BAD: Final = State.FAILED
_GOOD: Final = frozenset({State.SUCCESS, State.WARNING})
_LATEST: Final = 50
_MOST_FLOWS: Final = 200


@dataclass(frozen=True, slots=True)
class Deployments:
    """Watches the runs of what was deployed last."""

    store: Store
    orders: Orders
    clock: Callable[[], datetime]

    def check(self, name: str, bound: FailureBound) -> RevisionResult | None:
        """Go back to the revision before when the flows that the last one changed fail beyond `bound`.

        The environment is pinned then, as by `mainstem sync rollback`. Nothing happens where it is pinned already,
        where there is nothing to go back to, and once the bound's time has passed.
        """
        now = self.clock()

        def read(db: Session) -> tuple[Revision, dict[State, int]] | None:
            last = _last_deployment(db, name)
            if last is None or db.pins.get(name) is not None or now - last.at > timedelta(seconds=bound.within_s):
                return None
            return last, _runs(db, last)

        found = self.store.read(read)
        reason = failure(found[1], bound, found[0]) if found else None
        if reason is None:
            return None
        return self.orders.stay(name, None, action="rollback", actor="mainstem", reason=reason)


def failure(runs: Mapping[State, int], bound: FailureBound, deployed: Revision) -> str | None:
    """Return why a deployment is to be taken back, given how many runs ended in which state since; None when not."""
    failed = runs.get(_BAD, 0)
    ended = failed + sum(runs.get(state, 0) for state in _GOOD)
    if ended < bound.runs or failed < bound.rate * ended:
        return None
    return f"{failed} of {ended} runs failed since {deployed.commit[:7]}"


def _last_deployment(db: Session, name: str) -> Revision | None:
    """Return the revision that changed flows last, when a push or a write did and there was another one before."""
    rows = db.revisions.list(name, _LATEST)
    last = next((row for row in rows if row.result == Outcome.ACTIVE), None)
    return last if last is not None and last.action == "sync" and last.previous else None


def _runs(db: Session, deployed: Revision) -> dict[State, int]:
    """Count how runs of the changed flows ended that began since."""
    counts: dict[State, int] = {}
    changed = [row for row in deployed.changes if row["kind"] != "removed"]
    for row in changed[:_MOST_FLOWS]:
        for state, count in db.executions.ended_since(row["namespace"], row["flowId"], deployed.at).items():
            counts[state] = counts.get(state, 0) + count
    return counts
