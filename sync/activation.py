"""Make a plan true: one transaction that switches flows, triggers and the environment together, or changes nothing."""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

from runner.errors import ConflictError, InvalidError, Problem
from runner.store import Store
from runner.store.ledger import ALLOW
from runner.store.records import AuditEntry, FlowDraft, FlowVersion, Pin, Revision
from runner.store.session import Session
from sync.hanging import hang
from sync.heap import seldom_searched
from sync.plan import FlowKey, Plan
from sync.plan_text import active_line, held_lines, invalid_line, pinned_line, pinned_lines, quarantine_line
from sync.sowing import sow

RACED: Final = "environment.revision.raced"
_MOST_NAMED_KEYS: Final = 100


class Outcome(enum.StrEnum):
    """What became of a revision. A quarantined one is active without the files that have errors.

    One that waits has checks that are not green yet, and one that is unchecked had some when its time was over.
    """

    ACTIVE = "ACTIVE"
    UNCHANGED = "UNCHANGED"
    QUARANTINED = "QUARANTINED"
    INVALID = "INVALID"
    HELD = "HELD"
    PINNED = "PINNED"
    WAITING = "WAITING"
    UNCHECKED = "UNCHECKED"
    FAILED = "FAILED"

    @property
    def is_active(self) -> bool:
        """Whether the commit is what is active now."""
        return self in {Outcome.ACTIVE, Outcome.UNCHANGED, Outcome.QUARANTINED}


@dataclass(frozen=True, slots=True)
class RevisionResult:
    """What reconciling an environment came to. `active` is the commit that is active now.

    `code` and `message` say what went wrong when `outcome` is FAILED; `pin` is what holds a PINNED one; `revisions`
    are the numbers of the flow versions that became active, by namespace and id. The `plan` of what became active holds
    no sources.
    """

    environment: str
    outcome: Outcome
    commit: str | None = None
    active: str | None = None
    plan: Plan | None = None
    seconds: float = 0.0
    code: str | None = None
    message: str | None = None
    pin: Pin | None = None
    revisions: dict[FlowKey, int] = field(default_factory=dict)

    @property
    def lines(self) -> list[str]:
        """Return the last lines of a push's answer."""
        if self.plan is None:
            return [self.message] if self.message else []
        if self.outcome is Outcome.INVALID:
            return [invalid_line(self.plan)]
        if self.outcome is Outcome.HELD:
            return held_lines(self.plan)
        if self.outcome in {Outcome.WAITING, Outcome.UNCHECKED}:
            return [self.message or ""]
        if self.pin is not None:
            return pinned_lines(self.plan, self.pin)
        return [active_line(self.plan, self.seconds)]

    def as_json(self) -> dict[str, Any]:
        """Return the result as the API shows it."""
        return {
            "environment": self.environment,
            "result": self.outcome.value,
            "commit": self.commit,
            "active": self.active,
            "seconds": round(self.seconds, 4),
            "code": self.code,
            "message": self.message,
            "plan": self.plan.as_json() if self.plan else None,
        }


@dataclass(frozen=True, slots=True)
class Gate:
    """Whether the checks that a plan requires let it pass; else a `line` that says why, and whether time `is_over`.

    `problems` are what its tests found. Where the forge was not asked yet (not `is_asked`) nothing is decided.
    """

    is_open: bool = False
    line: str = "its checks were not asked for"
    is_over: bool = False
    problems: tuple[Problem, ...] = ()
    is_asked: bool = True


@dataclass(frozen=True, slots=True)
class Order:
    """What somebody told an environment to do, whatever its ref names: an `action` of the ledger, and why.

    `pin` is what keeps the environment at the commit from then on, None for an order that sets none. An order that
    `yields` is nobody's: it gives way to every pin.
    """

    action: str
    reason: str
    pin: Pin | None = None
    yields: bool = False

    def may_follow(self, standing: Pin | None, known: Pin | None) -> bool:
        """Whether it may be carried out where `standing` is in force and `known` was when its plan was made."""
        if self.yields:
            return standing is None
        return self.pin is not None or standing == known


@dataclass(frozen=True, slots=True)
class Activation:
    """The door to the store for plans. `in_force` finds what counts among all versions of a flow (see `Catalogue`)."""

    store: Store
    zone: ZoneInfo
    clock: Callable[[], datetime]
    in_force: Callable[[Sequence[FlowVersion]], FlowVersion | None]

    @seldom_searched()
    def apply(
        self,
        plan: Plan,
        *,
        actor: str,
        seconds: Callable[[], float],
        allow_deletes: bool = False,
        order: Order | None = None,
        gate: Callable[[Plan], Gate] | None = None,
    ) -> RevisionResult:
        """Activate a plan, or write down why it is not activated.

        A plan that requires checks or tests needs a `gate` that is open; it is asked when nothing else stops the plan.
        Where that has to ask a forge first, nothing is written down.
        With `allow_deletes` the deletion guard does not: that holds for this commit on this base until it is active,
        so a later look at the gate needs no consent of its own.

        With an `order` neither the deletion guard nor an older pin stops it; the pin of the order is set with it.

        Raises:
            ConflictError: `environment.revision.raced` when another process switched or pinned the environment since
                the plan was made; nothing has changed then.
        """
        if plan.errors:
            return self._refuse(plan, Outcome.INVALID, "DEGRADED", invalid_line(plan), actor, seconds)
        pin = self.pin(plan.environment)
        if pin is not None and order is None and plan.commit != pin.commit:
            line = pinned_lines(plan, pin)[0]
            result = self._refuse(plan, Outcome.PINNED, "PINNED", line, actor, seconds)
            return replace(result, pin=pin)
        is_allowed = bool(plan.held) and (allow_deletes or self._is_allowed(plan))
        if plan.held and not is_allowed and order is None:
            return self._refuse(plan, Outcome.HELD, "HELD", held_lines(plan)[0], actor, seconds)
        asked = _gate(plan, gate) if order is None else Gate(is_open=True)
        if not asked.is_asked:
            waits = Outcome.WAITING
            return RevisionResult(plan.environment, waits, plan.commit, plan.base, plan, seconds(), message=asked.line)
        if not asked.is_open:
            outcome, state = (Outcome.UNCHECKED, "DEGRADED") if asked.is_over else (Outcome.WAITING, "WAITING")
            found = plan.with_problems(asked.problems)
            allows = bool(plan.held) and allow_deletes
            return self._refuse(found, outcome, state, asked.line, actor, seconds, allows=allows)
        now = self.clock()
        outcome = _outcome(plan)

        def switch(db: Session) -> dict[FlowKey, int]:
            left = order.pin if order and order.pin else pin
            state, message = ("PINNED", pinned_line(left)) if left else _state(plan)
            standing = _pin_in_force(db, plan.environment, now)
            is_free = order.may_follow(standing, pin) if order else standing == pin
            if not is_free or not db.environments.swap_active(
                plan.environment, plan.base, plan.commit, at=now, state=state, message=message
            ):
                raise ConflictError(
                    RACED,
                    f"environment {plan.environment} was switched to another revision meanwhile",
                    hint="plan again",
                )
            if order is not None and order.pin is not None:
                db.pins.put(order.pin)
            _remember(db, plan)
            revisions = _switch_flows(db, plan, now)
            if plan.files_changed or order is not None:
                # An execution reads namespace files at its flow's commit, so flows that stay follow their files.
                # One in quarantine is as it was, files and all.
                db.flows.pin(plan.environment, plan.commit, but=plan.standing, in_force=self.in_force)
            _bring(db, plan, now)
            _switch_triggers(db, plan, now, self.zone)
            row = _row(plan, outcome, actor, now, seconds(), order)
            db.revisions.add(row if order is not None else _led(db, plan, row))
            db.audit.add(_audit(plan, outcome, actor, now, order, allow_deletes=is_allowed))
            return revisions

        revisions = self.store.write(switch)
        told = plan.without_sources()
        return RevisionResult(plan.environment, outcome, plan.commit, plan.commit, told, seconds(), revisions=revisions)

    def pin(self, environment: str) -> Pin | None:
        """Return what keeps an environment where it is, or None."""
        now = self.clock()
        return self.store.read(lambda db: _pin_in_force(db, environment, now))

    def _is_allowed(self, plan: Plan) -> bool:
        """Whether somebody has allowed what the commit deletes of what is active, while its checks were open."""
        return self.store.read(lambda db: db.revisions.is_allowed(plan.environment, plan.commit, plan.base))

    def _refuse(
        self,
        plan: Plan,
        outcome: Outcome,
        state: str,
        message: str,
        actor: str,
        seconds: Callable[[], float],
        *,
        allows: bool = False,
    ) -> RevisionResult:
        """Write down why a plan is not activated. With `allows` its deletions were allowed, which is kept for later."""
        now = self.clock()

        def note(db: Session) -> None:
            held = plan.commit if outcome is Outcome.HELD else None
            db.environments.set_state(plan.environment, state, message, held=held, checked_at=now)
            seen = db.revisions.verdict(plan.environment, plan.commit) if outcome is Outcome.WAITING else None
            if seen is not None and seen.result == outcome and seen.previous == plan.base and not allows:
                return  # it is asked for again and again, and the ledger needs to hear of it once
            row = _led(db, plan, _row(plan, outcome, actor, now, seconds()))
            db.revisions.add(replace(row, action=ALLOW, reason=plan.held) if allows else row)
            db.audit.add(_audit(plan, outcome, actor, now, allow_deletes=allows))

        self.store.write(note)
        return RevisionResult(plan.environment, outcome, plan.commit, plan.base, plan, seconds(), message=message)


def _gate(plan: Plan, ask: Callable[[Plan], Gate] | None) -> Gate:
    return ask(plan) if ask is not None else Gate(is_open=not plan.required and not plan.tests)


def refusal(plan: Plan) -> InvalidError:
    """Return why the commit of a plan with errors cannot be active any more."""
    first = plan.errors[0]
    return InvalidError(
        "environment.revision.invalid",
        f"commit {plan.commit[:7]} cannot be active now: {first.file or '-'}: {first.message}",
        hint=f"mainstem plan -e {plan.environment} --commit {plan.commit[:12]}",
    )


def _outcome(plan: Plan) -> Outcome:
    beside = plan.files_changed or plan.sown or plan.dashboard_changes or plan.rules_changed
    is_changed = bool(plan.differences or beside)
    if plan.quarantined and (is_changed or plan.commit != plan.base):
        return Outcome.QUARANTINED
    return Outcome.ACTIVE if is_changed else Outcome.UNCHANGED


def _state(plan: Plan) -> tuple[str, str | None]:
    names = [change.title for change in plan.quarantined]
    return ("QUARANTINED", quarantine_line(names)) if names else ("OK", None)


def _pin_in_force(db: Session, environment: str, now: datetime) -> Pin | None:
    found = db.pins.get(environment)
    return found if found is not None and found.is_in_force(now) else None


def _remember(db: Session, plan: Plan) -> None:
    """Write down by which rules the next commit is judged, and which ref led here."""
    if plan.rules is not None:
        db.environments.set_rules(plan.environment, plan.rules.as_json())
    if plan.followed is not None:
        db.environments.set_followed(plan.environment, plan.followed, plan.commit)


def _bring(db: Session, plan: Plan, now: datetime) -> None:
    """Write the keys and dashboards of a plan, as far as they are known."""
    if plan.seeds is not None:
        sow(db, plan.seeds, plan.environment, now)
    if plan.dashboards is not None:
        hang(db, plan.dashboards, plan.environment, now)


def _switch_flows(db: Session, plan: Plan, now: datetime) -> dict[FlowKey, int]:
    for change in plan.removed:
        db.flows.remove(change.namespace, change.flow_id, now, plan.commit)
    revisions = {}
    for change in plan.activated:
        assert change.head is not None
        assert change.blob is not None
        put = db.flows.put(
            FlowDraft(
                namespace=change.namespace,
                flow_id=change.flow_id,
                blob=change.blob,
                source=change.source or "",
                at=now,
                environment=plan.environment,
                commit=change.commit or plan.commit,
                path=change.path,
                disabled=change.head.disabled,
                labels=dict(change.head.labels),
                defaults=change.defaults,
            )
        )
        revisions[change.key] = put.revision
    return revisions


def _switch_triggers(db: Session, plan: Plan, now: datetime, zone: ZoneInfo) -> None:
    from runner.triggers.activation import activated

    flows = [change.head for change in plan.activated if change.head is not None]
    activated(db, flows, [change.key for change in plan.removed], now, zone)


def _row(
    plan: Plan, outcome: Outcome, actor: str, now: datetime, seconds: float, order: Order | None = None
) -> Revision:
    return Revision(
        environment=plan.environment,
        commit=plan.commit,
        result=outcome.value,
        at=now,
        tree=plan.tree,
        author=plan.author,
        message=plan.subject,
        actor=actor,
        previous=plan.base,
        seconds=seconds,
        changes=tuple(change.as_json() for change in plan.changes),
        problems=tuple(problem.as_json() for problem in plan.problems),
        action=order.action if order else "sync",
        signature=plan.signature.as_json() if plan.signature else None,
        reason=order.reason if order else None,
    )


def _led(db: Session, plan: Plan, row: Revision) -> Revision:
    """Return a row with the webhook delivery that told of its commit, if one did and has not led here before."""
    environment = db.environments.get(plan.environment)
    if environment is None:
        return row
    found = db.deliveries.leading(environment, plan.followed or plan.ref, plan.commit)
    return replace(row, delivery=found.delivery_id, sender=found.actor) if found is not None else row


def _audit(
    plan: Plan, outcome: Outcome, actor: str, now: datetime, order: Order | None = None, *, allow_deletes: bool
) -> AuditEntry:
    detail: dict[str, Any] = {"commit": plan.commit, "previous": plan.base, "changes": plan.counts.total()}
    if allow_deletes or (order and plan.held):
        detail["allowed"] = plan.held
    if order is not None:
        detail["reason"] = order.reason
    if plan.sown:
        detail["keys"] = [f"{each.kind} {each.name}" for each in plan.sown[:_MOST_NAMED_KEYS]]
    if plan.dashboard_changes:
        detail["dashboards"] = [f"{each.kind} {each.id}" for each in plan.dashboard_changes[:_MOST_NAMED_KEYS]]
    if plan.signature is not None:
        detail["signature"] = plan.signature.as_json()
    action = f"sync.{order.action}" if order else "sync.apply"
    return AuditEntry(now, actor, action, f"environment/{plan.environment}", outcome.value, detail)
