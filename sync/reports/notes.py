"""Git notes that many append to: lines on commits, kept under one ref and merged line by line."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Final

from runner.errors import InvalidError
from sync.names import is_sha
from sync.reports.branch import AUTHOR
from sync.reports.racing import tries
from sync.reports.restart import restarted
from sync.sources import Source

log = logging.getLogger(__name__)

MOST_BYTES: Final = 1 << 20
"""How long one note may become; beyond, it stays as it is."""
Merge = Callable[[Sequence[str], Sequence[str]], list[str]]
"""Gives the lines of a note from those that it has and those to be added: all that stays, in its order."""


def merged(known: Sequence[str], added: Sequence[str]) -> list[str]:
    """Return all lines of both, those that are there already once."""
    told = set(known)
    return [*known, *(line for line in dict.fromkeys(added) if line not in told)]


class NoteBook:
    """The notes under one ref of one repository, as `git notes --ref` reads them.

    Args:
        source: the repository.
        ref: the full name of the ref, below `refs/notes/`.
        merge: says what becomes of a note to which lines are added.
        pause: waits so many seconds before another try.
    """

    def __init__(
        self, source: Source, ref: str, *, merge: Merge = merged, pause: Callable[[float], None] = time.sleep
    ) -> None:
        self._source = source
        self._ref = ref
        self._merge = merge
        self._pause = pause

    def append(
        self, lines: Mapping[str, Sequence[str]], *, message: str, at: datetime, restart: bool = False
    ) -> str | None:
        """Add lines to the notes of commits, those that are not there yet; return the head of the ref then.

        What others have written, servers or people, stays in its place. Lines of a note that would become longer than
        a mebibyte are left out. With `restart` the commit has no parent, where the server lets it: all notes stay, and
        how they came about can be thrown away.

        Raises:
            ConflictError: `report.branch.busy` after 20 tries.
            FetchError: the repository cannot be reached, or refuses.
        """
        return self._written(lambda head: self._changes(head, lines), message, at, restart=restart)

    def tidy(self, *, message: str, at: datetime) -> str | None:
        """Merge nothing into each note, and take those away that are empty then; return the head of the ref.

        Raises:
            ConflictError: `report.branch.busy` after 20 tries.
            FetchError: the repository cannot be reached, or refuses.
        """
        return self._written(self._tidied, message, at)

    def _written(
        self,
        change: Callable[[str | None], Iterable[tuple[str, bytes | None]]],
        message: str,
        at: datetime,
        *,
        restart: bool = False,
    ) -> str | None:
        repository = self._source.repository
        for _ in tries(self._ref, self._pause):
            with repository.lock:
                head = self._head()
                changes = dict(change(head))
                if not changes:
                    return head
                commit = repository.commit_changes(head, changes, author=AUTHOR, message=message, at=at)
                if restart and head is not None and (anew := restarted(self._source, self._ref, head, commit)):
                    return anew
                if self._source.push(self._ref, head, commit):
                    return commit
        raise AssertionError  # `tries` raises before

    def read(self) -> Iterator[tuple[str, list[str]]]:
        """Yield all commits with the lines of their notes. Raises `FetchError`."""
        repository = self._source.repository
        with repository.lock:
            head = self._head()
            if head is None:
                return
            for path, blob in self._files(head).items():
                yield _commit_of(path), self._lines(blob) or []

    def _files(self, head: str) -> dict[str, str]:
        """Return all notes by path, ready to be read."""
        found = self._source.repository.listing(head).files
        files = {path: blob for path, blob in found.items() if is_sha(_commit_of(path))}
        self._source.ensure(files.values())
        return files

    def _tidied(self, head: str | None) -> Iterator[tuple[str, bytes | None]]:
        for path, blob in self._files(head).items() if head else ():
            known = self._lines(blob)
            lines = self._merge(known, []) if known else known
            if lines is not None and lines != known:
                yield path, _text(lines) or None

    def _head(self) -> str | None:
        head = self._source.heads([self._ref]).get(self._ref)
        if head is not None:
            self._source.fetch(self._ref, head)
        return head

    def _changes(self, head: str | None, lines: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, bytes]]:
        for commit, added in lines.items():
            path, blob = self._place(head, commit)
            known = self._known(blob)
            if known is None:
                continue
            merged_lines = self._merge(known, added)
            text = _text(merged_lines)
            if merged_lines == known:
                continue
            if len(text) <= MOST_BYTES:
                yield path, text
            else:
                log.warning("a note is full", extra={"ref": self._ref, "commit": commit})

    def _known(self, blob: str | None) -> list[str] | None:
        if blob is None:
            return []
        self._source.ensure([blob])
        return self._lines(blob)

    def _lines(self, blob: str) -> list[str] | None:
        """Return the lines of a note, None when it is too long to be one of ours."""
        try:
            content = self._source.repository.blob(blob, limit=MOST_BYTES)
        except InvalidError:
            return None
        # People write without a last line break too, and in any encoding.
        return content.decode("utf-8", "surrogateescape").removesuffix("\n").split("\n") if content else []

    def _place(self, head: str | None, commit: str) -> tuple[str, str | None]:
        """Return the path of a commit's note and what is there; git may have put it into folders or not."""
        for path in _places(commit):
            blob = self._source.repository.find(head, path) if head else None
            if blob is not None:
                return path, blob
        return next(iter(_places(commit))), None


def _text(lines: Iterable[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape")


def _places(commit: str) -> Iterable[str]:
    return f"{commit[:2]}/{commit[2:]}", commit, f"{commit[:2]}/{commit[2:4]}/{commit[4:]}"


def _commit_of(path: str) -> str:
    return path.replace("/", "")
