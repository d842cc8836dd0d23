"""The ledger: which commit was planned for which environment, who or what asked for it, and what became of it.

Rows are added, never changed. Each holds a SHA-256 over its own values and over the digest of the row before it in the
same environment, so that a row that was changed, taken out or put in between shows. Rows written before the ledger
had digests are skipped; a chain that lost its newest rows cannot be told from one that never had them.
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Any, Final, NamedTuple

import orjson
import sqlalchemy as sa

from runner.store import schema
from runner.store.columns import from_micros
from runner.store.connection import Connection
from runner.store.records import Revision
from runner.store.rows import Rows
from runner.store.statements import Statement

_REVISIONS: Final = Rows(Revision, schema.revisions, generated="id")
_r: Final = schema.revisions.c
_later: Final = schema.revisions.alias("later_rows").c
_NAME: Final[Any] = sa.bindparam("environment_name")
_COUNT: Final = sa.bindparam("count", type_=sa.Integer())
_PAGE: Final = 500
ALLOW: Final = "allow"
"""The action of a row by which somebody allows what a commit deletes, while something else still stops it."""
# What came later is digested at the end and where it is there, so that older rows keep their digests.
_LATER: Final = ("signature", "delivery", "sender")
_FIRST: Final = [name for name in _REVISIONS.names if name not in {"digest", "id", *_LATER}]
_DIGESTED: Final = [*_FIRST, *_LATER]

_ADD: Final = Statement(
    sa.insert(schema.revisions)
    .values({name: sa.bindparam(name) for name in _REVISIONS.names if name != "id"})
    .returning(_r.id)
)
_LAST: Final = Statement(
    sa.select(_r.digest).where(_r.environment == _NAME, _r.digest.is_not(None)).order_by(_r.id.desc()).limit(1)
)
_NEWEST: Final = Statement(sa.select(sa.func.max(_r.id)))
_LAST_ID: Final = Statement(sa.select(_r.id).where(_r.environment == _NAME).order_by(_r.id.desc()).limit(1))
_AFTER: Final = Statement(
    _REVISIONS.select(_r.environment == _NAME, _r.id > sa.bindparam("after")).order_by(_r.id).limit(_COUNT)
)
_BY_ID: Final = Statement(_REVISIONS.select(_r.id == sa.bindparam("number")))
_BY_COMMIT: Final = Statement(
    _REVISIONS.select(_r.environment == _NAME, _r.commit == sa.bindparam("wanted")).order_by(_r.id.desc())
)
_VERDICT: Final = Statement(
    sa.select(_r.result, _r.previous, _r.at)
    .where(_r.environment == _NAME, _r.commit == sa.bindparam("wanted"))
    .order_by(_r.id.desc())
    .limit(1)
)
_ACTIVATED: Final = (
    _r.environment == _NAME,
    _r.commit == sa.bindparam("wanted"),
    sa.or_(_r.result == sa.literal_column("'ACTIVE'"), _r.result == sa.literal_column("'QUARANTINED'")),
)
_ACTIVATION: Final = Statement(_REVISIONS.select(*_ACTIVATED).order_by(_r.id.desc()))
_HOW_ACTIVATED: Final = Statement(sa.select(_r.id, _r.result).where(*_ACTIVATED).order_by(_r.id.desc()).limit(1))
_ALLOWED: Final = Statement(
    sa.select(_r.id).where(
        _r.environment == _NAME,
        _r.commit == sa.bindparam("wanted"),
        _r.previous == sa.bindparam("base"),
        _r.action == sa.literal_column(f"'{ALLOW}'"),
        ~sa.exists().where(
            _later.environment == _r.environment,
            _later.id > _r.id,
            _later.result.in_([sa.literal_column("'ACTIVE'"), sa.literal_column("'QUARANTINED'")]),
        ),
    )
)
_SIGNATURE: Final = Statement(
    _REVISIONS.select(_r.environment == _NAME, _r.commit == sa.bindparam("wanted"), _r.signature.is_not(None)).order_by(
        _r.id.desc()
    )
)
_LIST: Final = Statement(_REVISIONS.select(_r.environment == _NAME).order_by(_r.id.desc()).limit(_COUNT))
_LIST_ALL: Final = Statement(_REVISIONS.select().order_by(_r.id.desc()).limit(_COUNT))
_CHAIN: Final = Statement(
    sa.select(*(schema.revisions.c[name] for name in _DIGESTED), _r.digest, _r.id)
    .where(_r.environment == _NAME, _r.digest.is_not(None), _r.id > sa.bindparam("after"))
    .order_by(_r.id)
    .limit(_COUNT)
)


class Verdict(NamedTuple):
    """What became of a commit on top of the `previous` one, without the thousands of changes that it may have had."""

    result: str
    previous: str | None
    at: datetime


class Revisions:
    """The ledger of every environment."""

    def __init__(self, connection: Connection) -> None:
        self._db = connection

    def add(self, revision: Revision) -> int:
        """Write a revision at the end of its environment's chain; give its id."""
        self._db.lock("ledger", revision.environment)
        last = self._db.one(_LAST, environment_name=revision.environment)
        names = [name for name in _REVISIONS.names if name != "id"]
        values = dict(zip(names, _REVISIONS.encode(revision), strict=True))
        values["prior"] = last[0] if last else None
        values["digest"] = _digest([values[name] for name in _DIGESTED])
        row = self._db.driver.execute(_ADD.compiled(self._db.dialect).sql, tuple(values[name] for name in names))
        return int(row.fetchone()[0])

    def get(self, revision_id: int) -> Revision | None:
        """Return the revision with an id."""
        found = self._db.one(_BY_ID, number=revision_id)
        return _REVISIONS.decode(found) if found else None

    def of_commit(self, environment: str, commit: str) -> Revision | None:
        """Return the latest revision of a commit in an environment."""
        found = self._db.one(_BY_COMMIT, environment_name=environment, wanted=commit)
        return _REVISIONS.decode(found) if found else None

    def activation(self, environment: str, commit: str) -> Revision | None:
        """Return the latest revision that made a commit active in an environment by changing something, or None."""
        found = self._db.one(_ACTIVATION, environment_name=environment, wanted=commit)
        return _REVISIONS.decode(found) if found else None

    def verdict(self, environment: str, commit: str) -> Verdict | None:
        """Return what became last of a commit in an environment: what every look at a repository asks for."""
        found = self._db.one(_VERDICT, environment_name=environment, wanted=commit)
        return Verdict(found[0], found[1], from_micros(found[2])) if found else None

    def quarantine(self, environment: str, commit: str) -> Revision | None:
        """Return what `activation` does where files of the commit are in quarantine, else None. Reads no other row."""
        found = self._db.one(_HOW_ACTIVATED, environment_name=environment, wanted=commit)
        return self.get(found[0]) if found and found[1] == "QUARANTINED" else None

    def is_allowed(self, environment: str, commit: str, base: str | None) -> bool:
        """Whether somebody allowed what `commit` deletes of the active `base`, and nothing was activated since then."""
        return self._db.one(_ALLOWED, environment_name=environment, wanted=commit, base=base or "") is not None

    def signature_of(self, environment: str, commit: str) -> dict[str, Any] | None:
        """Return what was found last of the signature of a commit, None when none was asked for."""
        found = self._db.one(_SIGNATURE, environment_name=environment, wanted=commit)
        return _REVISIONS.decode(found).signature if found else None

    def after(self, environment: str, revision_id: int, limit: int) -> list[Revision]:
        """Return the revisions of an environment that were written after the one with an id, the oldest first."""
        found = self._db.all(_AFTER, environment_name=environment, after=revision_id, count=limit)
        return [_REVISIONS.decode(row) for row in found]

    def list(self, environment: str | None = None, limit: int = 50) -> list[Revision]:
        """Return the latest revisions of an environment, or of all, the newest first."""
        if environment is None:
            found = self._db.all(_LIST_ALL, count=limit)
        else:
            found = self._db.all(_LIST, environment_name=environment, count=limit)
        return [_REVISIONS.decode(row) for row in found]

    def newest(self) -> int:
        """Return the id of the newest row of all environments, 0 when there is none."""
        found = self._db.one(_NEWEST)
        return int(found[0] or 0) if found else 0

    def last(self, environment: str) -> int:
        """Return the id of an environment's newest row, 0 when there is none."""
        found = self._db.one(_LAST_ID, environment_name=environment)
        return int(found[0]) if found else 0

    def broken(self, environment: str) -> int | None:
        """Return the id of the first row that does not continue its chain, None when all do. Reads all rows."""
        prior, after = None, 0
        while page := self._db.all(_CHAIN, environment_name=environment, after=after, count=_PAGE):
            for *values, digest, number in page:
                is_next = values[_DIGESTED.index("prior")] == prior
                if not is_next or _digest(values) != digest:
                    return int(number)
                prior, after = digest, number
        return None


def _digest(values: list[Any]) -> str:
    """Return the SHA-256, in hex, of a row's values, those of `_DIGESTED`, as the database holds them."""
    later = [[name, value] for name, value in zip(_LATER, values[len(_FIRST) :], strict=True) if value is not None]
    return hashlib.sha256(orjson.dumps([*values[: len(_FIRST)], *later])).hexdigest()
