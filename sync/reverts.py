"""Going back in git too: a change request that gives an environment the files it had at an earlier commit.

A rollback changes what is active and pins it there; the ref still names what failed. One commit on top of it, with the
files of the earlier revision, brings both together again without rewriting any history.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from runner.errors import ConflictError, MainstemError
from runner.rules import SETTINGS_FILE
from runner.store import Store
from runner.store.records import AuditEntry, Environment, Pin
from runner.store.session import Session
from sync.edits import Edits
from sync.orders import Orders
from sync.plan_text import short
from sync.planning import list_files, read_layout
from sync.proposals import OURS, Proposal, Proposals, Wish
from sync.signatures.key_list import KEY_FILE
from sync.sources import FetchError, Source

log = logging.getLogger(__name__)

REFUSED: Final = "REFUSED"
_ACTION: Final = "sync.revert"
_SELF: Final = "mainstem"
_PINNED: Final = "pinned"
_NONE: Final = "proposal.revert.none"
_PASSING: Final = frozenset({"proposal.forge.away", "proposal.unopened", "repository.head.moved"})
_FIRST_WAIT: Final = timedelta(minutes=1)
_LONGEST_WAIT: Final = timedelta(hours=1)
_MOST_TRIES: Final = 12
_MOST_WHY: Final = 500


@dataclass(frozen=True, slots=True)
class Reverts:
    """Proposes to go back."""

    store: Store
    orders: Orders
    proposals: Proposals
    clock: Callable[[], datetime]
    _one: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def propose(
        self, name: str, commit: str | None, *, actor: str, reason: str, because_of: Pin | None = None
    ) -> Proposal:
        """Propose that the files of an environment are again what they were at `commit`; nothing active changes.

        Without a commit that is the one at which the environment is pinned, or else what was active before. The audit
        log says which pin it was `because_of`.

        Raises:
            NotFoundError: `environment.missing`, `environment.revision.none`, `repository.commit.missing`.
            ConflictError: `proposal.revert.none` when the newest commit has these files already.
            MainstemError: as `Proposals.make`; `flow.invalid` when the old files are not valid any more.
        """
        environment, target = self.orders.back_to(name, commit)
        wish = Wish(
            environment,
            lambda source, head: _edits(source, environment, head, target),
            f"Revert {name} to {short(target)}",
            actor,
            branch=f"{OURS}revert-{name}-{short(target)}",
            reason=reason,
        )
        made = self.proposals.make(wish)
        if made is None:
            raise ConflictError(
                _NONE,
                f"the newest commit of {environment.ref} has the files of {short(target)} already",
                hint=f"mainstem sync resume {name}",
            )
        detail = {"commit": target, "reason": reason, "proposal": made.url or made.branch}
        if because_of is not None:
            detail[_PINNED] = because_of.at.isoformat()
        entry = AuditEntry(self.clock(), actor, _ACTION, f"environment/{name}", "PROPOSED", detail)
        self.store.write(lambda db: db.audit.add(entry))
        return made

    def follow(self, name: str) -> None:
        """Propose to go back in git where an environment was taken back by itself, once it is due.

        What the forge refuses is written down and tried again: after a minute, then less and less often, for hours.
        """
        if not self._one.acquire(blocking=False):
            return  # another thread is at it
        try:
            pin = self.store.read(lambda db: self._due(db, name))
            if pin is not None:
                self._try(pin)
        finally:
            self._one.release()

    def _due(self, db: Session, name: str) -> Pin | None:
        now, pin = self.clock(), db.pins.get(name)
        if pin is None or pin.actor != _SELF or not pin.is_in_force(now):
            return None
        tries = tries_of(db, pin)
        if not tries:
            return pin
        last = tries[0]
        if last.result != REFUSED or not last.detail["again"] or len(tries) >= _MOST_TRIES:
            return None
        wait = min(_FIRST_WAIT * 2 ** (len(tries) - 1), _LONGEST_WAIT)
        return None if last.at <= now < last.at + wait else pin  # a clock that was set back keeps nothing waiting

    def _try(self, pin: Pin) -> None:
        fields = {"environment": pin.environment, "commit": pin.commit}
        try:
            made = self.propose(pin.environment, pin.commit, actor=pin.actor, reason=pin.reason, because_of=pin)
        except MainstemError as error:
            if error.code == _NONE:
                self._note(pin, "UNNEEDED", error.message, again=False)
                return
            log.warning("a rollback is not proposed to git: %s", error, extra={**fields, "code": error.code})
            self._note(pin, REFUSED, f"{error.code}: {error.message}", again=_is_passing(error))
        except Exception as error:  # written down too: it would be tried anew at each look otherwise
            log.exception("a rollback is not proposed to git", extra=fields)
            self._note(pin, REFUSED, type(error).__name__, again=True)
        else:
            log.info("a rollback is proposed to git", extra={**fields, "proposal": made.url or made.branch})

    def _note(self, pin: Pin, result: str, why: str, *, again: bool) -> None:
        detail = {
            "commit": pin.commit,
            "reason": pin.reason,
            _PINNED: pin.at.isoformat(),
            "error": why[:_MOST_WHY],
            "again": again,
        }
        entry = AuditEntry(self.clock(), pin.actor, _ACTION, f"environment/{pin.environment}", result, detail)
        self.store.write(lambda db: db.audit.add(entry))


def tries_of(db: Session, pin: Pin) -> list[AuditEntry]:
    """Return the tries to propose in git what a pin says, the newest first."""
    rows = db.audit.list(_MOST_TRIES, action=_ACTION, target=f"environment/{pin.environment}")
    mark = pin.at.isoformat()  # besides the time of a row, which a clock that was set back dates before the pin
    return [
        row
        for row in rows
        if row.detail.get("commit") == pin.commit and (row.at >= pin.at or row.detail.get(_PINNED) == mark)
    ]


def unproposed(db: Session, pin: Pin) -> str | None:
    """Return what keeps a pin from being proposed in git, and whether it is tried again; None when nothing does."""
    tries = tries_of(db, pin) if pin.actor == _SELF else []  # nobody else's is proposed by itself
    if not tries or tries[0].result != REFUSED:
        return None
    is_over = not tries[0].detail["again"] or len(tries) >= _MOST_TRIES
    end = f"not tried again; mainstem sync revert {pin.environment}" if is_over else "it is tried again"
    return f"not proposed to git after {len(tries)} of {_MOST_TRIES} tries: {tries[0].detail['error']} ({end})"


def _is_passing(error: MainstemError) -> bool:
    return isinstance(error, FetchError) or error.code in _PASSING


def _edits(source: Source, environment: Environment, head: str | None, target: str) -> Edits:
    """Return what makes the files of an environment at `head` those that it had at `target`."""
    assert head is not None, "nothing is proposed for a ref without a commit"
    source.bring(target)
    now, then = _files(source, environment, head), _files(source, environment, target)
    changed = {path: blob for path, blob in then.items() if now.get(path) != blob}
    source.ensure(changed.values())
    gone: dict[str, bytes | None] = dict.fromkeys(now.keys() - then.keys())
    return gone | {path: source.repository.blob(blob) for path, blob in changed.items()}


def _files(source: Source, environment: Environment, commit: str) -> dict[str, str]:
    """Return the files that an environment is made of at a commit, with the one that says where they are.

    The list of keys is none of them: a key that was taken out must not come back because flows go back.
    """
    files = dict(list_files(source, commit, read_layout(source, commit, environment.path)).files)
    files.pop(KEY_FILE, None)
    settings = source.repository.find(commit, SETTINGS_FILE)
    return files | {SETTINGS_FILE: settings} if settings is not None else files
