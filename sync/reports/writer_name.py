"""The name that tells the files and lines of one server's report writer from those of others."""

from __future__ import annotations

from typing import Final

from runner.ids import new_id
from runner.store import Store
from runner.store.session import Session

_SERVER: Final = "@"
_WRITER: Final = "writer"
_LENGTH: Final = 8


def writer_name(db: Session) -> str | None:
    """Return the name that was made for this store, None when nothing was written yet."""
    found = db.reports.get(_SERVER, _WRITER)
    return None if found is None else str(found)


def named(store: Store) -> str:
    """Return the name, made once for the store: it must survive a restart, so that a commit of before is known."""
    found = store.read(writer_name)
    if found is None:
        found = new_id()[-_LENGTH:]
        store.write(lambda db: db.reports.put(_SERVER, _WRITER, found))
    return found
