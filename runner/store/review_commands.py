"""Commands that were given in comments on change requests, and what came of them."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

import sqlalchemy as sa

from runner.store import schema
from runner.store.columns import to_micros
from runner.store.connection import Connection
from runner.store.records import ReviewCommand
from runner.store.shelf import Drawer, Shelf
from runner.store.statements import Statement

_COMMANDS: Final = Drawer(ReviewCommand, schema.review_commands, "repository", "comment")
_CLAIM: Final = timedelta(minutes=15)
"""For how long a process may leave its claim as it is before another takes it for dead."""

_c: Final = schema.review_commands.c
_OF: Final = (_c.repository == sa.bindparam("repo"), _c.number == sa.bindparam("of_number"))
_IS: Final = (_c.repository == sa.bindparam("repo"), _c.comment == sa.bindparam("of_comment"))

_ADD: Final = Statement.upsert(schema.review_commands, _COMMANDS.rows.names, ("repository", "comment"), keep=True)
_OF_CHANGE: Final = Statement(_COMMANDS.rows.select(*_OF).order_by(_c.at, _c.comment))
_RECENT: Final = Statement(
    sa.select(sa.func.count()).where(_c.repository == sa.bindparam("repo"), _c.at > sa.bindparam("since"))
)
_RECENT_OF: Final = Statement(
    sa.select(sa.func.count()).where(
        _c.repository == sa.bindparam("repo"), _c.account == sa.bindparam("who"), _c.at > sa.bindparam("since")
    )
)
_BEGIN: Final = Statement(
    sa.update(schema.review_commands)
    .where(
        *_IS,
        sa.or_(_c.state == "OPEN", sa.and_(_c.state == "RUNNING", _c.claimed_at < sa.bindparam("stale"))),
    )
    .values(state="RUNNING", claimed_at=sa.bindparam("now"))
)
_RENEW: Final = Statement(
    sa.update(schema.review_commands)
    .where(*_IS, _c.state == "RUNNING", _c.claimed_at == sa.bindparam("held"))
    .values(claimed_at=sa.bindparam("now"))
)
_GIVE_UP: Final = Statement(
    sa.update(schema.review_commands)
    .where(*_OF, _c.state == "RUNNING", _c.claimed_at < sa.bindparam("stale"))
    .values(state="DONE", answer=sa.bindparam("why"), claimed_at=None)
)
_STUCK: Final = Statement(
    sa.select(_c.number)
    .distinct()
    .where(_c.repository == sa.bindparam("repo"), _c.state == "RUNNING", _c.claimed_at < sa.bindparam("stale"))
)
_PRUNE: Final = Statement(sa.delete(schema.review_commands).where(_c.at < sa.bindparam("before")))


class ReviewCommands(Shelf[ReviewCommand]):
    """Commands by repository and comment."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection, _COMMANDS)

    def add(self, command: ReviewCommand) -> None:
        """Write a command; one that is known stays as it is."""
        self._db.insert(_ADD, _COMMANDS.rows.encode(command))

    def of(self, repository: str, number: int) -> list[ReviewCommand]:
        """Return the commands on a change request, the oldest first."""
        return self._some(_OF_CHANGE, repo=repository, of_number=number)

    def recent(self, repository: str, since: datetime, account: str | None = None) -> int:
        """Return how many commands came since a moment, of one account or of all."""
        values = {"repo": repository, "since": to_micros(since)}
        found = self._db.one(_RECENT_OF, **values, who=account) if account else self._db.one(_RECENT, **values)
        return int(found[0]) if found else 0

    def begin(self, repository: str, comment: str, now: datetime) -> bool:
        """Claim a command that is open, or whose process seems dead; False when it is neither."""
        stale = to_micros(now - _CLAIM)
        return self._db.run(_BEGIN, repo=repository, of_comment=comment, now=to_micros(now), stale=stale) == 1

    def renew(self, repository: str, comment: str, held: datetime, now: datetime) -> bool:
        """Let the claim of the moment `held` begin now; False when it is another's by now, or the command has ended."""
        return self._db.run(_RENEW, repo=repository, of_comment=comment, held=to_micros(held), now=to_micros(now)) == 1

    def give_up(self, repository: str, number: int, now: datetime, answer: str) -> None:
        """End the commands on a change request whose process seems dead."""
        self._db.run(_GIVE_UP, repo=repository, of_number=number, stale=to_micros(now - _CLAIM), why=answer)

    def end(self, command: ReviewCommand) -> None:
        """Write a command with what came of it; nobody has a claim on it any more."""
        self._db.insert(_COMMANDS.upsert, _COMMANDS.rows.encode(command, None))

    def stuck(self, repository: str, now: datetime) -> list[int]:
        """Return the numbers of change requests with a command whose process seems dead."""
        return [row[0] for row in self._db.all(_STUCK, repo=repository, stale=to_micros(now - _CLAIM))]

    def prune(self, before: datetime) -> int:
        """Forget commands that were given before a moment; give how many."""
        return self._db.run(_PRUNE, before=to_micros(before))
