"""The branch that reports are committed to: written by compare-and-set, here or elsewhere, by one server or many."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Final

from runner.errors import ConflictError
from sync.commit_record import Author
from sync.reports.racing import tries
from sync.reports.restart import restarted
from sync.sources import Source

AUTHOR: Final = Author("Mainstem", "mainstem@localhost")
MARKER: Final = ".mainstem-reports"
MARK: Final = b"Written by Mainstem. A branch without this file is not touched.\n"


class ReportBranch:
    """One orphan branch of one repository. Nobody but servers writes it, and no environment may follow it.

    A file marks the branch as one of reports; a branch of this name without it belongs to somebody else.

    Args:
        source: the repository.
        ref: the full name of the branch.
        pause: waits so many seconds before another try.
    """

    def __init__(self, source: Source, ref: str, *, pause: Callable[[float], None] = time.sleep) -> None:
        self._source = source
        self._ref = ref
        self._pause = pause

    def look(self, paths: Iterable[str]) -> frozenset[str] | None:
        """Return which of the files are on the branch now, None when there is no branch. Raises `FetchError`."""
        repository = self._source.repository
        with repository.lock:
            head = self._head()
            if head is None:
                return None
            return frozenset(path for path in paths if repository.find(head, path) is not None)

    def commit(self, changes: Mapping[str, bytes | None], *, message: str, at: datetime, restart: bool = False) -> str:
        """Write files (None removes a file or a whole folder) as one commit, and return its id.

        When somebody was faster, the tree is made anew on their commit: paths of different writers differ, and pages
        that all of them write are written from what each knows. With `restart` the commit has no parent, so that
        the history before it can be thrown away; where the server refuses that, it gets one all the same.

        Raises:
            ConflictError: `report.branch.busy` after 20 tries; `report.branch.foreign` when the branch holds something
                else than reports.
            FetchError: the repository cannot be reached, or refuses the commit.
        """
        repository = self._source.repository
        for _ in tries(self._ref, self._pause):
            with repository.lock:
                head = self._head()
                if head is not None and repository.find(head, MARKER) is None:
                    raise self._foreign()
                commit = repository.commit_changes(
                    head, {**changes, MARKER: MARK}, author=AUTHOR, message=message, at=at
                )
                if head is not None and repository.commit(commit).tree == repository.commit(head).tree:
                    return head
                if restart and head is not None and (anew := restarted(self._source, self._ref, head, commit)):
                    return anew
                if self._source.push(self._ref, head, commit):
                    return commit
        raise AssertionError  # `tries` raises before

    def _head(self) -> str | None:
        head = self._source.heads([self._ref]).get(self._ref)
        if head is not None:
            self._source.fetch(self._ref, head)
        return head

    def _foreign(self) -> ConflictError:
        return ConflictError(
            "report.branch.foreign",
            f"{self._ref} holds something else than reports, and stays as it is",
            hint="name another branch in `reports.branch`, or rename this one",
        )
