"""The log of webhook deliveries: each is written once, refused ones are counted, old ones go.

What is authentic gets a row of its own, with its body, so that it can be read and done again. What is not gets one row
an hour for each repository that is meant, since anybody can send it.
"""

from __future__ import annotations

import logging
from collections import Counter
from concurrent.futures import Future
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from time import monotonic
from typing import Final

from runner.store import Session, Store
from runner.store.records import Delivery, ReviewCommand
from sync.forges.base import Comment, change_number, shown

log = logging.getLogger(__name__)

KEPT: Final = timedelta(days=14)
MOST_ROWS: Final = 10_000
SAME_PUSH: Final = timedelta(minutes=10)
_PRUNE_EVERY_S: Final = 3600.0
_TRIM_EVERY_ROWS: Final = 50  # few at a time: those who send meanwhile wait for it
_NOTE_EVERY_S: Final = 1.0
_COMMANDS_WITHIN: Final = timedelta(minutes=10)
_MOST_COMMANDS_OF_ONE: Final = 10
_MOST_COMMANDS: Final = 100


@dataclass(slots=True)
class _Refused:
    """The refused deliveries of one repository within one hour, and when they were written last."""

    row_id: str
    count: int = 0
    written_at: float = float("-inf")


class DeliveryLog:
    """Writes deliveries, those of one repository one after another whatever number of servers receives them."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._refused: dict[str, _Refused] = {}
        self._pruned_at = float("-inf")
        self._rows_since: Counter[str] = Counter()

    def add(self, delivery: Delivery, comment: Comment | None = None) -> Future[Delivery]:
        """Write a delivery; the result, after the commit, is its row with what became of it.

        A delivery that was accepted before, or another about the same push within ten minutes, comes back as a
        `DUPLICATE`. One that was ignored or refused counts anew when it is sent again and is acceptable by then.
        The command in a `comment` is written with it, unless its author, or all together, gave many just before.
        """
        return self._store.submit(lambda db: self._add(db, delivery, comment))

    def refuse(self, repository: str, reason: str, at: datetime) -> None:
        """Count a delivery that proves nothing, in a row that stands for all of its hour. Returns at once."""
        row_id = f"refused:{at:%Y-%m-%dT%H}"
        known = self._refused.get(repository)
        if known is None or known.row_id != row_id:
            known = self._refused[repository] = _Refused(row_id)
            log.warning("deliveries of a repository are refused", extra={"repository": repository, "reason": reason})
        known.count += 1
        if monotonic() - known.written_at < _NOTE_EVERY_S:
            return
        known.written_at = monotonic()
        counted = f"{known.count} or more this hour, the last one since {reason}" if known.count > 1 else reason
        row = Delivery(repository, row_id, "", at, "REFUSED", reason=shown(counted))
        self._store.submit(lambda db: db.deliveries.put(row))

    def _add(self, db: Session, delivery: Delivery, comment: Comment | None) -> Delivery:
        db.connection.lock("deliveries", delivery.repository)
        self._prune(db, delivery)
        known = db.deliveries.find(delivery.repository, delivery.delivery_id)
        if known is not None and not _counts_anew(known, delivery):
            return replace(known, result="DUPLICATE", reason="this delivery was received before")
        if _repeats(db, delivery):
            delivery = replace(delivery, result="DUPLICATE", reason="the same push was received before")
        if comment is not None and delivery.result == "ACCEPTED" and _is_flood(db, delivery, comment):
            delivery = replace(delivery, result="IGNORED", reason="there were too many commands just before")
        db.deliveries.put(delivery)
        _want_review(db, delivery, comment)
        return db.deliveries.find(delivery.repository, delivery.delivery_id) or delivery

    def _prune(self, db: Session, newest: Delivery) -> None:
        self._rows_since[newest.repository] += 1
        if monotonic() - self._pruned_at >= _PRUNE_EVERY_S:
            self._pruned_at = monotonic()
            db.deliveries.prune(newest.received_at - KEPT)
        if self._rows_since[newest.repository] >= _TRIM_EVERY_ROWS:
            del self._rows_since[newest.repository]
            db.deliveries.trim(newest.repository, MOST_ROWS)


def _want_review(db: Session, delivery: Delivery, comment: Comment | None) -> None:
    """Ask for a look at the change request that an accepted delivery is about, in the transaction that keeps it."""
    number = change_number(delivery.ref)
    if delivery.result != "ACCEPTED" or number is None:
        return
    if comment is not None:
        db.review_commands.add(_command(db, delivery, comment))
    db.reviews.want(delivery.repository, number, delivery.received_at)


def _command(db: Session, delivery: Delivery, comment: Comment) -> ReviewCommand:
    known = db.reviews.get(delivery.repository, comment.number)
    return ReviewCommand(
        repository=delivery.repository,
        comment=comment.comment,
        number=comment.number,
        line=comment.line,
        account=comment.account,
        name=shown(comment.name) or "",
        at=delivery.received_at,
        told=known.head if known else None,
    )


def _is_flood(db: Session, delivery: Delivery, comment: Comment) -> bool:
    """Whether an account, or all of a repository together, gave as many commands as are taken in a while."""
    since, commands = delivery.received_at - _COMMANDS_WITHIN, db.review_commands
    return (
        commands.recent(delivery.repository, since, comment.account) >= _MOST_COMMANDS_OF_ONE
        or commands.recent(delivery.repository, since) >= _MOST_COMMANDS
    )


def _counts_anew(known: Delivery, again: Delivery) -> bool:
    """Whether a delivery that was of no use has become of use: people mend the settings and press "redeliver"."""
    return known.result in {"IGNORED", "REFUSED"} and again.result == "ACCEPTED"


def _repeats(db: Session, delivery: Delivery) -> bool:
    """Whether the newest accepted delivery about the ref named the same commit: a replay under another id."""
    if delivery.result != "ACCEPTED" or delivery.ref is None or delivery.after is None:
        return False
    since = delivery.received_at - SAME_PUSH
    return db.deliveries.last_after(delivery.repository, delivery.ref, since) == delivery.after
