"""Orders: go back to an earlier revision, stay at one, follow again. None of them needs the remote repository.

An order is one compare-and-set on what is active, a row in the ledger with the reason, and a pin: without the pin the
next look at the repository would undo it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from time import perf_counter
from typing import Final

from runner.errors import ConflictError, InvalidError, MainstemError, NotFoundError
from runner.store import Store
from runner.store.records import AuditEntry, Environment, Pin, Revision
from runner.store.session import Session
from sync.activation import RACED, Activation, Order, Outcome, RevisionResult, refusal
from sync.names import is_sha
from sync.origins import Origins
from sync.plan import ChangeKind, Plan, change_of
from sync.planning import Planner
from sync.signatures.verdict import CommitSignature
from sync.sources import Source

log = logging.getLogger(__name__)

_SHORTEST_SHA: Final = 7
_MOST_ROWS: Final = 10_000
_LONGEST_REASON: Final = 500
_STOOD: Final = frozenset(outcome for outcome in Outcome if outcome.is_active)


@dataclass(frozen=True, slots=True)
class Orders:
    """Carries orders out for environments."""

    store: Store
    origins: Origins
    planner: Planner
    activation: Activation
    clock: Callable[[], datetime]

    def stay(
        self,
        name: str,
        commit: str | None,
        *,
        action: str,
        actor: str,
        reason: str,
        until: datetime | None = None,
        instead_of: str | None = None,
    ) -> RevisionResult:
        """Bring an environment to `commit` and keep it there until `until`, or until it is resumed.

        Args:
            name: of the environment.
            commit: seven digits or more of a commit. Without it a `rollback` goes to what was active before, and
                everything else stays at what is active.
            action: `rollback`, `pin` or `suspend`, as the ledger calls it.
            actor: who orders it.
            reason: why, for those who find the environment pinned.
            until: when the pin runs out by itself.
            instead_of: for what nobody ordered: the commit that must still be active, and without any pin.

        Raises:
            NotFoundError: `environment.missing`; `environment.revision.none` when there is nothing to go back to;
                `repository.commit.missing` when neither the ledger nor the repository here knows the commit.
            InvalidError: `environment.reason.missing`, `environment.until.past`, or `environment.revision.invalid`
                when the commit cannot be active any more; nothing has changed then.
            ConflictError: `environment.revision.raced` when something else than `instead_of` is active, or a pin set.
        """
        reason = _checked_reason(reason)
        now = self.clock()
        if until is not None and until <= now:
            raise InvalidError("environment.until.past", f"{until:%Y-%m-%d %H:%M} UTC has passed already")
        started = perf_counter()
        source = self.origins.get(self._environment(name).repository)
        with source.repository.lock:
            environment = self._environment(name)
            target, row = self._target(environment, source, commit, is_rollback=action == "rollback")
            plan = self._plan(source, environment, target, row)
            if instead_of is not None and plan.base != instead_of:
                raise ConflictError(RACED, f"environment {name} was switched to another revision meanwhile")
            if plan.errors:
                raise refusal(plan)
            order = Order(action, reason, Pin(name, target, actor, reason, now, until), yields=instead_of is not None)
            return self.activation.apply(plan, actor=actor, seconds=lambda: perf_counter() - started, order=order)

    def back_to(self, name: str, commit: str | None) -> tuple[Environment, str]:
        """Return an environment and the commit to go back to: `commit`, the pinned one, or what was active before.

        Raises:
            NotFoundError: as `stay`.
        """
        environment = self._environment(name)
        source = self.origins.get(environment.repository)
        pin = self.activation.pin(name)
        with source.repository.lock:
            wanted = commit or (pin.commit if pin is not None else None)
            return environment, self._target(environment, source, wanted, is_rollback=True)[0]

    def resume(self, name: str, *, actor: str, reason: str | None = None, action: str = "resume") -> bool:
        """Take the pin of an environment away; False when it had none. It follows its ref from the next look on."""
        environment = self._environment(name)
        now = self.clock()

        def free(db: Session) -> bool:
            if not db.pins.delete(name):
                return False
            db.environments.set_state(name, "OK", None, checked_at=now)
            active = environment.active or ""
            result = Outcome.UNCHANGED.value
            db.revisions.add(
                Revision(name, active, result, now, actor=actor, previous=active, action=action, reason=reason)
            )
            detail = {"reason": reason} if reason else {}
            db.audit.add(AuditEntry(now, actor, f"sync.{action}", f"environment/{name}", result, detail))
            return True

        return self.store.write(free)

    def expire(self) -> list[str]:
        """Take away the pins that have run out; return the repositories of their environments."""
        now = self.clock()
        pins = [pin for pin in self.store.read(lambda db: db.pins.all()) if not pin.is_in_force(now)]
        freed = [pin for pin in pins if self._freed(pin)]
        return sorted({self._environment(pin.environment).repository for pin in freed})

    def _freed(self, pin: Pin) -> bool:
        try:
            return self.resume(
                pin.environment, actor="mainstem", reason=f"the pin ran out: {pin.reason}", action="expire"
            )
        except NotFoundError:  # the environment is declared no more
            self.store.write(lambda db: db.pins.delete(pin.environment))
            return False

    def _environment(self, name: str) -> Environment:
        found = self.store.read(lambda db: db.environments.get(name))
        if found is None:
            raise NotFoundError("environment.missing", f"there is no environment {name!r}", hint="mainstem sync status")
        return found

    def _target(
        self, environment: Environment, source: Source, commit: str | None, *, is_rollback: bool
    ) -> tuple[str, Revision | None]:
        """Return the full commit id, and the ledger's row of when it was activated, if it ever was."""
        rows = self.store.read(lambda db: db.revisions.list(environment.name, _MOST_ROWS))
        stood = [row for row in rows if row.result in _STOOD]
        if commit is None:
            commit = before(stood, environment.active) if is_rollback else environment.active
            if commit is None:
                what = "nothing was active before" if is_rollback else "nothing is active yet"
                raise NotFoundError(
                    "environment.revision.none",
                    f"environment {environment.name}: {what}",
                    hint=f"name a commit; those seen are in: mainstem sync history {environment.name}",
                )
        wanted = commit.lower()
        row = next((row for row in stood if row.commit.startswith(wanted)), None)
        if row is not None and len(wanted) >= _SHORTEST_SHA:
            return row.commit, row
        if is_sha(wanted) and wanted in source.repository:
            return wanted, None
        raise NotFoundError(
            "repository.commit.missing",
            f"environment {environment.name} never had commit {commit!r} active",
            hint=f"mainstem sync history {environment.name}",
        )

    def _plan(self, source: Source, environment: Environment, commit: str, row: Revision | None) -> Plan:
        """Return the plan from the repository here, or from the store where that has lost the commit."""
        plan = self._planned(source, environment, commit, row)
        # Once active, it need not be signed by keys that count today: who goes back is in a hurry.
        found = self.store.read(lambda db: db.revisions.signature_of(environment.name, commit)) if row else None
        return replace(plan, signature=CommitSignature.from_json(found)) if found else plan

    def _planned(self, source: Source, environment: Environment, commit: str, row: Revision | None) -> Plan:
        # What stood beside a quarantine was put together then; the commit alone does not say it.
        stood = self.store.read(lambda db: db.revisions.activation(environment.name, commit))
        changes = (change_of(each) for each in stood.changes) if stood is not None else ()
        apart = [change for change in changes if change.kind is ChangeKind.QUARANTINED]
        if row is not None and (apart or commit not in source.repository):
            return self.planner.recall(source, environment.name, row, apart)
        try:
            return self.planner.plan(source, environment.name, commit, is_ordered=True, is_admitted=row is not None)
        except MainstemError as error:
            if row is None:
                raise
            log.warning("a commit is planned from the store", extra={"commit": commit, "code": error.code})
            return self.planner.recall(source, environment.name, row)


def before(stood: list[Revision], active: str | None) -> str | None:
    """Return the commit that was active before `active`, by the ledger's rows that became active, newest first.

    Commits that changed nothing in the environment are passed over.
    """
    while active is not None:
        row = next((row for row in stood if row.commit == active and row.action == "sync"), None)
        if row is None:
            return None
        if row.result in {Outcome.ACTIVE, Outcome.QUARANTINED}:
            return row.previous
        active = row.previous
    return None


def _checked_reason(reason: str) -> str:
    text = " ".join(reason.split())
    if not text:
        raise InvalidError("environment.reason.missing", "say why: those who find the environment pinned will ask")
    return text[:_LONGEST_REASON]
