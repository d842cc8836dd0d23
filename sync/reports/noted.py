"""The ledger read back from notes: from a clone on this machine, or by a server that holds its own against them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from dulwich.errors import NotGitRepository
from dulwich.repo import Repo

from runner.errors import NotFoundError
from runner.store import Store
from runner.store.records import Revision
from sync.reports.ledger_gaps import LedgerGap, gaps_of
from sync.reports.ledger_notes import NOTES, LedgerLine, breaks, differences, ordered
from sync.reports.notes import NoteBook
from sync.reports.writer_name import writer_name
from sync.repository import GitRepository
from sync.sources import LocalSource, Source

_PAGE: Final = 500


def of_clone(folder: Path, environment: str) -> tuple[list[LedgerLine], list[LedgerGap]]:
    """Return what the notes of the repository that `folder` lies in say of an environment, and what they leave out.

    The lines are in the order of servers and rows.

    Raises:
        NotFoundError: `repository.missing`; `ledger.notes.missing` when there are none of this environment.
    """
    try:
        found = Repo.discover(str(folder.absolute()))
    except (NotGitRepository, PermissionError):
        raise NotFoundError("repository.missing", f"{folder} is in no git repository") from None
    repository = GitRepository(found, Path(found.path))
    try:
        notes = list(NoteBook(LocalSource(repository), NOTES).read())
    finally:
        repository.close()
    lines = ordered(notes, environment)
    if not lines:
        raise NotFoundError(
            "ledger.notes.missing",
            f"no note in {folder} is about environment {environment}",
            hint=f"fetch them: git fetch REMOTE {NOTES}:{NOTES}",
        )
    return lines, gaps_of(notes, environment)


def contradictions(store: Store, source: Source, environment: str) -> Iterator[tuple[LedgerLine, str]]:
    """Yield the notes of this server about an environment that its ledger contradicts, with why.

    Raises:
        FetchError: the repository cannot be read.
    """
    server = store.read(writer_name)
    notes = list(NoteBook(source, NOTES).read())
    lines = [line for line in ordered(notes, environment) if line.server == server]
    yield from differences(lines, _stored(store, environment) if lines else {})
    yield from breaks(lines, gaps_of(notes, environment))


def _stored(store: Store, environment: str) -> Mapping[int, Revision]:
    """Return all rows of an environment's ledger by id."""
    found: dict[int, Revision] = {}
    last = 0
    while page := store.read(lambda db, after=last: db.revisions.after(environment, after, _PAGE)):  # type: ignore[misc]
        found.update((row.id, row) for row in page)
        last = page[-1].id
    return found
