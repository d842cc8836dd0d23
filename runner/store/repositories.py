"""Repositories, the environments that follow them, and the pins that keep an environment from following."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa

from runner.store import schema
from runner.store.columns import dump, to_micros
from runner.store.connection import Connection
from runner.store.records import CommitTests, Environment, ForgeLimit, Pin, Repository
from runner.store.shelf import Drawer, Shelf
from runner.store.statements import Statement

_REPOSITORIES: Final = Drawer(Repository, schema.repositories, "name")
_FORGE_LIMITS: Final = Drawer(ForgeLimit, schema.forge_limits, "repository")
_ENVIRONMENTS: Final = Drawer(Environment, schema.environments, "name")
_COMMIT_TESTS: Final = Drawer(CommitTests, schema.commit_tests, "environment")
_PINS: Final = Drawer(Pin, schema.pins, "environment")
_e: Final = schema.environments.c
_NAME: Final[Any] = sa.bindparam("environment_name")

_OF_REPOSITORY: Final = Statement(
    _ENVIRONMENTS.rows.select(_e.repository == sa.bindparam("repository_name"), _e.previews.is_(None)).order_by(_e.name)
)
_PREVIEWS: Final = Statement(
    _ENVIRONMENTS.rows.select(_e.repository == sa.bindparam("repository_name"), _e.change == sa.bindparam("number"))
)
_EXPIRED: Final = Statement(_ENVIRONMENTS.rows.select(_e.expires_at < sa.bindparam("now")))
_LOOKS: Final = ("state", "message", "checked_at", "changed_at", "told")
_STATE: Final = ("active", "held", "followed", "followed_commit", "rules", *_LOOKS)
_DECLARE: Final = Statement.upsert(schema.environments, _ENVIRONMENTS.rows.names, ("name",), kept=_STATE)
_SWAP: Final = Statement(
    sa.update(schema.environments)
    .where(_e.name == _NAME, sa.func.coalesce(_e.active, "") == sa.bindparam("expected", type_=sa.Text()))
    .values(
        active=sa.bindparam("new_active"),
        held=None,
        state=sa.bindparam("new_state"),
        message=sa.bindparam("new_message"),
        changed_at=sa.bindparam("now"),
        checked_at=sa.bindparam("now"),
    )
)
_FOLLOW: Final = Statement(
    sa.update(schema.environments)
    .where(_e.name == _NAME)
    .values(followed=sa.bindparam("new_followed"), followed_commit=sa.bindparam("new_commit"))
)
_RULE: Final = Statement(
    sa.update(schema.environments).where(_e.name == _NAME).values(rules=sa.bindparam("new_rules", type_=sa.Text()))
)
_SET_STATE: Final = Statement(
    sa.update(schema.environments)
    .where(_e.name == _NAME)
    .values(
        state=sa.bindparam("new_state"),
        message=sa.bindparam("new_message"),
        held=sa.bindparam("new_held"),
        checked_at=sa.func.coalesce(sa.bindparam("now", type_=sa.BigInteger()), _e.checked_at),
    )
)


_TELL: Final = Statement(sa.update(schema.environments).where(_e.name == _NAME).values(told=sa.bindparam("revision")))


class Repositories(Shelf[Repository]):
    """Repositories by name."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection, _REPOSITORIES)


class ForgeLimits(Shelf[ForgeLimit]):
    """What forges said last of their limits, by repository."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection, _FORGE_LIMITS)


class CommitTestRows(Shelf[CommitTests]):
    """What came of the tests of the newest commit of each environment that requires some, by environment."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection, _COMMIT_TESTS)


class Environments(Shelf[Environment]):
    """Environments by name, and the one switch that makes a commit active."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection, _ENVIRONMENTS)

    def of_repository(self, repository: str) -> list[Environment]:
        """Return the environments that follow a repository; previews follow nothing."""
        return self._some(_OF_REPOSITORY, repository_name=repository)

    def active_repositories(self) -> set[str]:
        """Return the repositories of which something is active."""
        return {each.repository for each in self.all() if each.active}

    def previews(self, repository: str, number: int) -> list[Environment]:
        """Return the previews of a change request."""
        return self._some(_PREVIEWS, repository_name=repository, number=number)

    def expired(self, now: datetime) -> list[Environment]:
        """Return the previews whose time is over."""
        return self._some(_EXPIRED, now=to_micros(now))

    def declare(self, environment: Environment) -> None:
        """Write what an environment follows and owns; what is active in one that exists stays as it is."""
        self._db.insert(_DECLARE, _ENVIRONMENTS.rows.encode(environment))

    def declare_preview(self, environment: Environment) -> bool:
        """Declare a preview; False when one of another repository has the same number, and with it the namespaces."""
        self._db.lock("previews")
        is_taken = any(
            each.change == environment.change and each.repository != environment.repository
            for each in self.all()
            if each.previews is not None
        )
        if not is_taken:
            self.declare(environment)
        return not is_taken

    def swap_active(
        self,
        environment: str,
        expected: str | None,
        new: str,
        *,
        at: datetime,
        state: str = "OK",
        message: str | None = None,
    ) -> bool:
        """Make commit `new` active if `expected` still is; a held commit is held no longer."""
        changed = self._db.run(
            _SWAP,
            environment_name=environment,
            expected=expected or "",
            new_active=new,
            new_state=state,
            new_message=message,
            now=to_micros(at),
        )
        return changed == 1

    def set_followed(self, environment: str, ref: str, commit: str) -> None:
        """Remember which ref of those that fit its pattern an environment follows, and what it named."""
        self._db.run(_FOLLOW, environment_name=environment, new_followed=ref, new_commit=commit)

    def forget_followed(self, environment: str) -> None:
        """Forget which ref an environment follows: its settings name another one by now."""
        self._db.run(_FOLLOW, environment_name=environment, new_followed=None, new_commit=None)

    def set_rules(self, environment: str, rules: Mapping[str, Any]) -> None:
        """Remember what the active commit says in its settings file."""
        self._db.run(_RULE, environment_name=environment, new_rules=dump(rules))

    def set_state(
        self,
        environment: str,
        state: str,
        message: str | None = None,
        *,
        held: str | None = None,
        checked_at: datetime | None = None,
    ) -> bool:
        """Say how an environment is, and which commit is held; False when there is none of this name."""
        changed = self._db.run(
            _SET_STATE,
            environment_name=environment,
            new_state=state,
            new_message=message,
            new_held=held,
            now=None if checked_at is None else to_micros(checked_at),
        )
        return changed == 1

    def set_told(self, environment: str, revision_id: int) -> None:
        """Remember the newest revision whose result the forge was told."""
        self._db.run(_TELL, environment_name=environment, revision=revision_id)


class Pins(Shelf[Pin]):
    """At most one pin per environment. One that has run out stays until somebody takes it away."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection, _PINS)
