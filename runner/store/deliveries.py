"""Webhook deliveries of forges as they came, and answers kept for requests that may be repeated."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import orjson
import sqlalchemy as sa

from runner.store import schema
from runner.store.columns import dump, to_micros
from runner.store.connection import Connection
from runner.store.records import Delivery, Environment
from runner.store.rows import Rows
from runner.store.statements import Statement

_ROWS: Final = Rows(Delivery, schema.deliveries, generated="id")
_d: Final = schema.deliveries.c
_i: Final = schema.idempotency.c
_r: Final = schema.revisions.c

_WITHOUT_BODY: Final = [sa.literal(b"") if column is _d.body else column for column in _ROWS.columns]
_ADD: Final = Statement.upsert(
    schema.deliveries, [name for name in _ROWS.names if name != "id"], ("repository", "delivery_id"), keep=True
)
_PUT: Final = Statement.upsert(
    schema.deliveries, [name for name in _ROWS.names if name != "id"], ("repository", "delivery_id")
)
_GET: Final = Statement(_ROWS.select(_d.id == sa.bindparam("number")))
_FIND: Final = Statement(_ROWS.select(_d.repository == sa.bindparam("repo"), _d.delivery_id == sa.bindparam("given")))
_LAST_OF_REF: Final = Statement(
    sa.select(_d.after)
    .where(
        _d.received_at >= sa.bindparam("since"),
        _d.repository == sa.bindparam("repo"),
        _d.ref == sa.bindparam("the_ref"),
        _d.result == "ACCEPTED",
    )
    .order_by(_d.received_at.desc(), _d.id.desc())
    .limit(1)
)
_LED: Final = Statement(
    _ROWS.select(
        _d.repository == sa.bindparam("repo"),
        _d.ref == sa.bindparam("the_ref"),
        _d.result == sa.literal_column("'ACCEPTED'"),
        sa.or_(_d.after == sa.bindparam("wanted"), sa.bindparam("any_commit", type_=sa.Integer()) == 1),
        ~sa.exists().where(
            _r.environment == sa.bindparam("environment_name"),
            _r.delivery == _d.delivery_id,
            _r.result.in_([sa.literal_column(f"'{result}'") for result in ("ACTIVE", "QUARANTINED", "UNCHANGED")]),
        ),
    )
    .order_by(_d.received_at.desc(), _d.id.desc())
    .limit(1)
)
_SET_RESULT: Final = Statement(
    sa.update(schema.deliveries)
    .where(_d.id == sa.bindparam("number"))
    .values(result=sa.bindparam("new_result"), reason=sa.bindparam("new_reason"))
)
_PRUNE: Final = Statement(sa.delete(schema.deliveries).where(_d.received_at < sa.bindparam("before")))
_OLDEST_KEPT: Final = (
    sa.select(_d.id)
    .where(_d.repository == sa.bindparam("repo"))
    .order_by(_d.id.desc())
    .limit(1)
    .offset(sa.bindparam("most"))
    .scalar_subquery()
)
_TRIM: Final = Statement(
    sa.delete(schema.deliveries).where(_d.repository == sa.bindparam("repo"), _d.id <= _OLDEST_KEPT)
)
_COUNT: Final = Statement(sa.select(_d.result, sa.func.count()).group_by(_d.result))
_ANSWER: Final = Statement(sa.select(_i.digest, _i.response).where(_i.key == sa.bindparam("the_key")))
_KEEP: Final = Statement.upsert(schema.idempotency, ("key", "digest", "response", "at"), ("key",), keep=True)
_PRUNE_ANSWERS: Final = Statement(sa.delete(schema.idempotency).where(_i.at < sa.bindparam("before")))


class Deliveries:
    """Deliveries by repository and the forge's delivery id, which comes at most once."""

    def __init__(self, connection: Connection) -> None:
        self._db = connection

    def add(self, delivery: Delivery) -> bool:
        """Write a delivery; False when this repository has had its id before."""
        return self._db.insert(_ADD, _ROWS.encode(delivery)) == 1

    def put(self, delivery: Delivery) -> None:
        """Write a delivery in place of the one with the same id of the same repository, if there is one."""
        self._db.insert(_PUT, _ROWS.encode(delivery))

    def get(self, number: int) -> Delivery | None:
        """Return the delivery with a number of ours."""
        found = self._db.one(_GET, number=number)
        return _ROWS.decode(found) if found else None

    def find(self, repository: str, delivery_id: str) -> Delivery | None:
        """Return the delivery with the forge's id."""
        found = self._db.one(_FIND, repo=repository, given=delivery_id)
        return _ROWS.decode(found) if found else None

    def last_after(self, repository: str, ref: str, since: datetime) -> str | None:
        """Return the commit that the latest accepted delivery about a ref named; None without one since a moment."""
        found = self._db.one(_LAST_OF_REF, repo=repository, the_ref=ref, since=to_micros(since))
        return found[0] if found else None

    def leading(self, environment: Environment, ref: str, commit: str) -> Delivery | None:
        """Return the latest delivery by which `ref` named `commit` and that has made nothing active here; its body too.

        Who pushes a tag may be told the id of the tag and not of its commit, so for a tag its name alone counts.
        """
        found = self._db.one(
            _LED,
            repo=environment.repository,
            the_ref=ref,
            wanted=commit,
            any_commit=int(ref.startswith("refs/tags/")),
            environment_name=environment.name,
        )
        return _ROWS.decode(found) if found else None

    def list(self, repository: str | None = None, limit: int = 50, result: str | None = None) -> list[Delivery]:
        """Return the latest deliveries, the newest first, without their bodies, which are large."""
        where = []
        if repository is not None:
            where.append(_d.repository == repository)
        if result is not None:
            where.append(_d.result == result)
        rows = self._db.query(sa.select(*_WITHOUT_BODY).where(*where).order_by(_d.id.desc()).limit(limit))
        return [_ROWS.decode(row) for row in rows]

    def set_result(self, number: int, result: str, reason: str | None = None) -> bool:
        """Say what became of a delivery."""
        return self._db.run(_SET_RESULT, number=number, new_result=result, new_reason=reason) == 1

    def counts(self) -> dict[str, int]:
        """Return how many deliveries there are of each result."""
        return dict(self._db.all(_COUNT))

    def prune(self, before: datetime) -> int:
        """Remove what was received before a moment; give how many."""
        return self._db.run(_PRUNE, before=to_micros(before))

    def trim(self, repository: str, most: int) -> int:
        """Remove all but the newest `most` deliveries of a repository; give how many."""
        return self._db.run(_TRIM, repo=repository, most=most)


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered to a request; `digest` tells whether a repetition asks the same."""

    digest: str
    response: Any


class Idempotency:
    """Answers by the key that the client chose."""

    def __init__(self, connection: Connection) -> None:
        self._db = connection

    def get(self, key: str) -> Answer | None:
        """Return the answer that was given under a key."""
        found = self._db.one(_ANSWER, the_key=key)
        return Answer(found[0], orjson.loads(found[1])) if found else None

    def put(self, key: str, digest: str, response: Any) -> bool:
        """Keep an answer; False when the key has one already, which stays."""
        at = to_micros(self._db.clock())
        return self._db.run(_KEEP, key=key, digest=digest, response=dump(response), at=at) == 1

    def prune(self, before: datetime) -> int:
        """Forget what was answered before a moment; give how many."""
        return self._db.run(_PRUNE_ANSWERS, before=to_micros(before))
