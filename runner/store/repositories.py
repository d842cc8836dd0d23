"""Repositories, the environments that follow them, and the revisions each environment has seen."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa

from runner.store import schema
from runner.store.columns import dump, to_micros
from runner.store.connection import Connection
from runner.store.records import Environment, Repository, Revision
from runner.store.rows import Rows
from runner.store.shelf import Drawer, Shelf
from runner.store.statements import Statement

_REPOSITORIES: Final = Drawer(Repository, schema.repositories, "name")
_ENVIRONMENTS: Final = Drawer(Environment, schema.environments, "name")
_REVISIONS: Final = Rows(Revision, schema.revisions, generated="id")
_e: Final = schema.environments.c
_r: Final = schema.revisions.c
_NAME: Final[Any] = sa.bindparam("environment_name")
_COUNT: Final = sa.bindparam("count", type_=sa.Integer())

_OF_REPOSITORY: Final = Statement(
    _ENVIRONMENTS.rows.select(_e.repository == sa.bindparam("repository_name")).order_by(_e.name)
)
_STATE: Final = ("active", "held", "state", "message", "checked_at", "changed_at")
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
_ADD: Final = Statement(
    sa.insert(schema.revisions)
    .values({name: sa.bindparam(name) for name in _REVISIONS.names if name != "id"})
    .returning(_r.id)
)
_BY_ID: Final = Statement(_REVISIONS.select(_r.id == sa.bindparam("number")))
_BY_COMMIT: Final = Statement(
    _REVISIONS.select(_r.environment == _NAME, _r.commit == sa.bindparam("wanted")).order_by(_r.id.desc())
)
_LIST: Final = Statement(_REVISIONS.select(_r.environment == _NAME).order_by(_r.id.desc()).limit(_COUNT))
_LIST_ALL: Final = Statement(_REVISIONS.select().order_by(_r.id.desc()).limit(_COUNT))
_UPDATE_RESULT: Final = Statement(
    sa.update(schema.revisions)
    .where(_r.id == sa.bindparam("number"))
    .values(
        result=sa.bindparam("new_result"),
        seconds=sa.func.coalesce(sa.bindparam("new_seconds", type_=sa.Double()), _r.seconds),
        changes=sa.func.coalesce(sa.bindparam("new_changes", type_=sa.Text()), _r.changes),
        problems=sa.func.coalesce(sa.bindparam("new_problems", type_=sa.Text()), _r.problems),
    )
)


class Repositories(Shelf[Repository]):
    """Repositories by name."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection, _REPOSITORIES)


class Environments(Shelf[Environment]):
    """Environments by name, and the one switch that makes a commit active."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection, _ENVIRONMENTS)

    def of_repository(self, repository: str) -> list[Environment]:
        """Return the environments that follow a repository."""
        return self._some(_OF_REPOSITORY, repository_name=repository)

    def declare(self, environment: Environment) -> None:
        """Write what an environment follows and owns; what is active in one that exists stays as it is."""
        self._db.insert(_DECLARE, _ENVIRONMENTS.rows.encode(environment))

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


class Revisions:
    """The log of commits that were planned for an environment, and what became of each."""

    def __init__(self, connection: Connection) -> None:
        self._db = connection

    def add(self, revision: Revision) -> int:
        """Write a revision; give its id."""
        values = _REVISIONS.encode(revision)
        return int(self._db.driver.execute(_ADD.compiled(self._db.dialect).sql, values).fetchone()[0])

    def get(self, revision_id: int) -> Revision | None:
        """Return the revision with an id."""
        found = self._db.one(_BY_ID, number=revision_id)
        return _REVISIONS.decode(found) if found else None

    def of_commit(self, environment: str, commit: str) -> Revision | None:
        """Return the latest revision of a commit in an environment."""
        found = self._db.one(_BY_COMMIT, environment_name=environment, wanted=commit)
        return _REVISIONS.decode(found) if found else None

    def list(self, environment: str | None = None, limit: int = 50) -> list[Revision]:
        """Return the latest revisions of an environment, or of all, the newest first."""
        if environment is None:
            found = self._db.all(_LIST_ALL, count=limit)
        else:
            found = self._db.all(_LIST, environment_name=environment, count=limit)
        return [_REVISIONS.decode(row) for row in found]

    def update_result(
        self,
        revision_id: int,
        result: str,
        *,
        seconds: float | None = None,
        changes: Collection[Mapping[str, Any]] | None = None,
        problems: Collection[Mapping[str, Any]] | None = None,
    ) -> bool:
        """Say what became of a revision; what is None stays as it is."""
        changed = self._db.run(
            _UPDATE_RESULT,
            number=revision_id,
            new_result=result,
            new_seconds=seconds,
            new_changes=None if changes is None else dump(list(changes)),
            new_problems=None if problems is None else dump(list(problems)),
        )
        return changed == 1
