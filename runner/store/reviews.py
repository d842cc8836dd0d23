"""Change requests of forges that are to be planned, and where our answers to them stand."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

import sqlalchemy as sa

from runner.store import schema
from runner.store.columns import to_micros
from runner.store.connection import Connection
from runner.store.records import Review
from runner.store.shelf import Drawer, Shelf
from runner.store.statements import Statement

_REVIEWS: Final = Drawer(Review, schema.reviews, "repository", "number")
_CLAIM: Final = timedelta(minutes=10)
"""For how long one process may be about a review before another takes it for dead; far beyond what clocks differ by."""

_v: Final = schema.reviews.c
_FOUND: Final = ("done_at", "base", "is_open", "head", "comment", "digest", "message", "head_at")
_OF: Final = (_v.repository == sa.bindparam("repo"), _v.number == sa.bindparam("of_number"))
_IS_WANTED: Final = sa.or_(_v.done_at.is_(None), _v.done_at < _v.wanted_at)

_WANT: Final = Statement.upsert(schema.reviews, _REVIEWS.rows.names, ("repository", "number"), kept=_FOUND)
_WANTED: Final = Statement(
    sa.select(_v.number).where(_v.repository == sa.bindparam("repo"), _IS_WANTED).order_by(_v.number)
)
_TAKE: Final = Statement(
    sa.update(schema.reviews)
    .where(*_OF, _IS_WANTED, sa.or_(_v.claimed_at.is_(None), _v.claimed_at < sa.bindparam("stale")))
    .values(claimed_at=sa.bindparam("now"))
)
_FORGET: Final = Statement(sa.update(schema.reviews).where(*_OF).values(digest=None))
_LEAVE: Final = Statement(sa.update(schema.reviews).where(*_OF).values(claimed_at=None))
_WANT_OPEN: Final = Statement(
    sa.update(schema.reviews)
    .where(_v.repository == sa.bindparam("repo"), _v.base == sa.bindparam("the_base"), _v.is_open == 1)
    .values(wanted_at=sa.bindparam("now"))
)
_DONE: Final = Statement(
    sa.update(schema.reviews)
    .where(*_OF)
    .values({"claimed_at": None, **{name: sa.bindparam(f"new_{name}") for name in _FOUND}})
)
_PRUNE: Final = Statement(sa.delete(schema.reviews).where(_v.is_open == 0, _v.wanted_at < sa.bindparam("before")))


class Reviews(Shelf[Review]):
    """Reviews by repository and number."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection, _REVIEWS)

    def want(self, repository: str, number: int, at: datetime, *, anew: bool = False) -> None:
        """Ask for a look at a change request; what the last look found is kept.

        With `anew` the forge is told again even when that would be the same.
        """
        if anew:
            self._db.run(_FORGET, repo=repository, of_number=number)
        self._db.insert(_WANT, _REVIEWS.rows.encode(Review(repository, number, at)))

    def want_open(self, repository: str, base: str, at: datetime) -> int:
        """Ask for a look at every open change request of a base, since that has moved; give how many."""
        return self._db.run(_WANT_OPEN, repo=repository, the_base=base, now=to_micros(at))

    def wanted(self, repository: str) -> list[int]:
        """Return the numbers of a repository's change requests that want a look."""
        return [row[0] for row in self._db.all(_WANTED, repo=repository)]

    def take(self, repository: str, number: int, now: datetime) -> Review | None:
        """Claim a look that is wanted; None when another process is about it, or it is wanted no more."""
        stale = to_micros(now - _CLAIM)
        if self._db.run(_TAKE, repo=repository, of_number=number, now=to_micros(now), stale=stale) != 1:
            return None
        return self.get(repository, number)

    def leave(self, repository: str, number: int) -> None:
        """Give a claim back: the look is still wanted."""
        self._db.run(_LEAVE, repo=repository, of_number=number)

    def done(self, review: Review) -> None:
        """Write what the look that `review` asked for has found. One that was asked for meanwhile is still to do."""
        row = dict(zip(_REVIEWS.rows.names, _REVIEWS.rows.encode(review), strict=True))
        row["done_at"] = row["wanted_at"]
        found = {f"new_{name}": row[name] for name in _FOUND}
        self._db.run(_DONE, repo=review.repository, of_number=review.number, **found)

    def prune(self, before: datetime) -> int:
        """Forget closed change requests that nobody asked about since a moment; give how many."""
        return self._db.run(_PRUNE, before=to_micros(before))
