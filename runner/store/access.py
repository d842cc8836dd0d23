"""API tokens and the audit log."""

from __future__ import annotations

from datetime import datetime
from typing import Final

import sqlalchemy as sa

from runner.store import schema
from runner.store.columns import to_micros
from runner.store.connection import Connection
from runner.store.records import AuditEntry, Token
from runner.store.rows import Rows
from runner.store.shelf import Drawer, Shelf
from runner.store.statements import Statement, begins_with

_TOKENS: Final = Drawer(Token, schema.tokens, "name")
_AUDIT: Final = Rows(AuditEntry, schema.audit, generated="id")
_t: Final = schema.tokens.c
_a: Final = schema.audit.c

_BY_DIGEST: Final = Statement(_TOKENS.rows.select(_t.digest == sa.bindparam("wanted")))
_TOUCH: Final = Statement(
    sa.update(schema.tokens).where(_t.name == sa.bindparam("of")).values(last_used_at=sa.bindparam("now"))
)


class Tokens(Shelf[Token]):
    """Tokens by name and by the digest of their secret."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection, _TOKENS)

    def by_digest(self, digest: str) -> Token | None:
        """Return the token whose secret has this SHA-256."""
        return self._first(_BY_DIGEST, wanted=digest)

    def touch(self, name: str, at: datetime) -> bool:
        """Remember when a token was used last."""
        return self._db.run(_TOUCH, of=name, now=to_micros(at)) == 1


class Audit:
    """Who did what. Entries are added, never changed."""

    def __init__(self, connection: Connection) -> None:
        self._db = connection

    def add(self, entry: AuditEntry) -> None:
        """Write an entry."""
        self._db.insert(_AUDIT.insert, _AUDIT.encode(entry))

    def list(
        self,
        limit: int = 100,
        *,
        before: int | None = None,
        since: datetime | None = None,
        actor: str | None = None,
        action: str | None = None,
        target: str | None = None,
        result: str | None = None,
    ) -> list[AuditEntry]:
        """Return the latest entries, the newest first; those with an id below `before` to read on.

        `action` finds itself and what begins with it and a dot: `token` finds `token.create`.
        """
        where = [
            column == value for column, value in ((_a.actor, actor), (_a.target, target), (_a.result, result)) if value
        ]
        if before is not None:
            where.append(_a.id < before)
        if since is not None:
            where.append(_a.at >= to_micros(since))
        if action:
            where.append(sa.or_(_a.action == action, begins_with(_a.action, f"{action}.")))
        select = _AUDIT.select(*where).order_by(_a.id.desc()).limit(limit)
        return [_AUDIT.decode(row) for row in self._db.query(select)]

    def prune(self, before: datetime, limit: int) -> int:
        """Delete the oldest entries, `limit` at most, of those from before a time; return how many."""
        oldest = sa.select(_a.id).where(_a.at < to_micros(before)).order_by(_a.at).limit(limit)
        return self._db.change(sa.delete(schema.audit).where(_a.id.in_(oldest)))
