"""Where the commits of a repository come from: one that lies on this machine, or the mirror of one elsewhere."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Protocol

from runner.errors import MainstemError
from sync.refs import is_followed, is_pattern
from sync.repository import GitRepository


class FetchError(MainstemError):
    """A repository cannot be read now; what is active stays active.

    Codes: `repository.unreachable`, `repository.access.denied`, `repository.missing`, `repository.budget.exceeded`,
    `repository.push.refused`, `repository.protocol.refused`.
    """

    status = 502


class Source(Protocol):
    """A repository that can be read. Everything but `heads` works on objects that are here already.

    Whoever fetches, or moves a ref, holds `repository.lock`.
    """

    repository: GitRepository

    def heads(self, refs: Collection[str]) -> dict[str, str]:
        """Return the commits that `refs` name now, by ref, those that exist; a pattern names all that fit it.

        Raises `FetchError`.
        """

    def fetch(self, ref: str, commit: str) -> None:
        """Make `commit`, which `heads` said `ref` names, and its trees readable. Raises `FetchError`."""

    def fetch_history(self, commit: str) -> None:
        """Make all commits before `commit` readable, without their files. Raises `FetchError`."""

    def ensure(self, blobs: Iterable[str]) -> None:
        """Make the blobs readable. Raises `FetchError`."""

    def bring(self, commit: str) -> None:
        """Make a commit readable, trees and all, that no ref may name any more. Raises `FetchError`."""

    def push(self, ref: str, expected: str | None, new: str, *, known: str | None = None) -> bool:
        """Move `ref` from `expected` to `new`, a commit that is here; False when somebody was faster.

        `known` is a commit that is there already and that `new` begins at, where that is not `expected`.

        Raises:
            FetchError: the repository cannot be reached, or refuses (`repository.push.refused`).
        """

    def close(self) -> None:
        """Close what is open."""


class LocalSource:
    """A repository on this machine, read in place: nothing is copied and nothing is fetched."""

    def __init__(self, repository: GitRepository) -> None:
        self.repository = repository

    @classmethod
    def at(cls, path: Path) -> LocalSource:
        """Open the repository at `path`. Raises `NotFoundError` `repository.missing`."""
        return cls(GitRepository.open(path))

    def heads(self, refs: Collection[str]) -> dict[str, str]:
        """Return the commits that `refs` name now."""
        patterns = [ref for ref in refs if is_pattern(ref)]
        fitting = [ref for ref in (self.repository.heads() if patterns else ()) if is_followed(ref, patterns)]
        found = {ref: self.repository.head(ref) for ref in [*refs, *fitting] if ref not in patterns}
        return {ref: sha for ref, sha in found.items() if sha is not None}

    def fetch(self, ref: str, commit: str) -> None:
        """Do nothing: the objects are here."""

    def fetch_history(self, commit: str) -> None:
        """Do nothing: the objects are here."""

    def ensure(self, blobs: Iterable[str]) -> None:
        """Do nothing: the objects are here."""

    def bring(self, commit: str) -> None:
        """Demand that a commit is here. Raises `FetchError` `repository.commit.missing`."""
        if commit not in self.repository:
            raise FetchError("repository.commit.missing", f"{self.repository.path} has no commit {commit}")

    def push(self, ref: str, expected: str | None, new: str, *, known: str | None = None) -> bool:  # noqa: ARG002 - all is here
        """Move `ref`. Raises `FetchError` when it is checked out: the files of the work tree would not follow."""
        if self.repository.is_checked_out(ref):
            raise FetchError(
                "repository.push.refused",
                f"{ref} is checked out in {self.repository.path}",
                hint="follow a bare repository, or another branch",
            )
        try:
            return self.repository.set_head(ref, expected, new)
        except (NotADirectoryError, IsADirectoryError):
            raise FetchError(
                "repository.push.refused",
                f"{ref} cannot be made in {self.repository.path.name}: one of two names would begin with the other",
                hint="rename the branch that is in the way: where there is x there can be no x/y",
            ) from None

    def close(self) -> None:
        """Close the repository."""
        self.repository.close()
