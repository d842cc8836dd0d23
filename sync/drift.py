"""Drift: active flows that are not what git says at the active commit, and how they are brought back.

Every change of a flow that git owns goes through one function, so drift has other causes: a restored database, a hand
in it, a damaged disk. Environments say what becomes of it: `report`, `heal` or `allow`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from time import perf_counter
from typing import Final

from runner.errors import NotFoundError
from runner.store import Store
from runner.store.records import Environment
from sync.activation import Activation, Order, Outcome, RevisionResult, refusal
from sync.origins import Origins
from sync.plan import Plan
from sync.planning import Planner

DRIFTED: Final = "DRIFTED"
HEAL: Final = "heal"
_NAMED: Final = 3


@dataclass(frozen=True, slots=True)
class Drift:
    """Looks for drift and mends it. Whoever calls holds no lock: each call takes that of the repository."""

    store: Store
    origins: Origins
    planner: Planner
    activation: Activation
    clock: Callable[[], datetime]

    def find(self, name: str) -> Plan | None:
        """Return the plan that would bring an environment back to its active commit; None when nothing is active.

        It has no changes when nothing has drifted.

        Raises:
            NotFoundError: `environment.missing`; `repository.commit.missing` when the mirror has lost the commit.
        """
        plan = self._plan(name)
        return replace(plan, changes=plan.differences) if plan is not None else None

    def _plan(self, name: str) -> Plan | None:
        source = self.origins.get(self._environment(name).repository)
        with source.repository.lock:
            environment = self._environment(name)
            if environment.active is None:
                return None
            if environment.active not in source.repository:
                source.fetch(environment.following, environment.active)
            return self.planner.plan(source, name, environment.active, is_drift=True)

    def heal(self, name: str, *, actor: str, reason: str) -> RevisionResult:
        """Bring the flows of an environment back to its active commit; nothing is written when none has drifted.

        Raises:
            NotFoundError: `environment.missing`, `environment.revision.none`, `repository.commit.missing`.
            InvalidError: `environment.revision.invalid` when the commit cannot be active any more, another environment
                having taken one of its flows, say; nothing has changed then.
        """
        started = perf_counter()
        with self.origins.get(self._environment(name).repository).repository.lock:
            plan = self._plan(name)
            if plan is None:
                raise NotFoundError("environment.revision.none", f"environment {name}: nothing is active yet")
            if not plan.differences:
                return RevisionResult(name, Outcome.UNCHANGED, plan.commit, plan.base, plan)
            if plan.errors:
                raise refusal(plan)
            order = Order(HEAL, reason)
            return self.activation.apply(plan, actor=actor, seconds=lambda: perf_counter() - started, order=order)

    def check(self, name: str, mode: str) -> RevisionResult | None:
        """Look whether an environment has drifted and do as `mode` says; give what healing came to.

        Without healing, or where the commit cannot be active any more, the state of the environment becomes `DRIFTED`,
        and `OK` again once nothing differs.
        """
        plan = self._plan(name) if mode != "allow" else None
        line = drift_line(plan) if plan is not None and plan.differences else None
        if plan is not None and line is not None and mode == HEAL:
            if not plan.errors:
                return self.heal(name, actor="mainstem", reason=line)
            line += f", and cannot be healed: {refusal(plan).message}"
        self._say(name, line)
        return None

    def _say(self, name: str, line: str | None) -> None:
        state = self._environment(name).state
        if line is not None and state in {"OK", DRIFTED}:
            self._mark(name, DRIFTED, line)
        elif line is None and state == DRIFTED:
            self._mark(name, "OK", None)

    def _mark(self, name: str, state: str, message: str | None) -> None:
        now = self.clock()
        self.store.write(lambda db: db.environments.set_state(name, state, message, checked_at=now))

    def _environment(self, name: str) -> Environment:
        found = self.store.read(lambda db: db.environments.get(name))
        if found is None:
            raise NotFoundError("environment.missing", f"there is no environment {name!r}", hint="mainstem sync status")
        return found


def drift_line(plan: Plan) -> str:
    """Return which active flows are not what git says, in one line."""
    keys = [f"{change.namespace}.{change.flow_id}" for change in plan.differences]
    more = f" and {len(keys) - _NAMED} more" if len(keys) > _NAMED else ""
    verb = "is" if len(keys) == 1 else "are"
    return f"{', '.join(keys[:_NAMED])}{more} {verb} not what git says"
