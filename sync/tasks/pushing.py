"""What all tasks that push have in common: one commit on a branch elsewhere, made without a clone."""

from __future__ import annotations

import posixpath
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from runner.context import host_of
from runner.errors import TaskError
from runner.flows.models import Template
from runner.plugin import Context
from sync.commit_record import Author
from sync.names import MAX_FILE_BYTES
from sync.remote import parse_address
from sync.repository import blob_id
from sync.tasks.connection import GitTask, Remote, folder_of, is_on
from sync.tasks.differences import line_counts

_MOST_TRIES: Final = 20
_LONGEST_PAUSE_S: Final = 0.5
_EMPTY: Final[Mapping[str, str]] = {}

Edits = Mapping[str, bytes | None]
Edit = Callable[[str | None, Mapping[str, str]], Edits]
"""What to change (None removes), decided on the head commit and its files, path to blob id."""


@dataclass(frozen=True, slots=True)
class Pushed:
    """What a push did: the commit, None when nothing was to be pushed or it was only tried; a row for each file."""

    commit: str | None
    rows: tuple[Mapping[str, str], ...]


class PushTask(GitTask):
    """Base of the tasks that push what a server holds.

    A branch that is not there begins at the default branch. Of two pushes at once the later is made anew on the
    earlier: neither is lost. With `dryRun` nothing is pushed. The author is `authorName`, or `username`, with
    `authorEmail`.
    """

    branch: Template = "main"
    git_directory: Template = ""
    commit_message: Template | None = None
    author_name: Template | None = None
    author_email: Template | None = None
    dry_run: Any = False

    def publish(self, ctx: Context, remote: Remote, ref: str, edit: Edit, message: str) -> Pushed:
        """Commit what `edit` says to the branch `ref`, again and again as long as somebody else is faster.

        Raises:
            TaskError: `git.push.raced` when that never ended.
            FetchError: `repository.push.refused`, and what keeps a repository from being read.
        """
        repository, source = remote.source.repository, remote.source
        for _ in range(_MOST_TRIES):
            head = source.heads([ref]).get(ref)
            base = head or self.beginning(ctx, remote)
            if head is not None:
                source.fetch(ref, head)
            files = repository.listing(base, "").files if base is not None else _EMPTY
            edits = {path: new for path, new in edit(base, files).items() if _differs(files.get(path), new)}
            rows = _rows(remote, files, edits)
            if not edits or is_on(ctx, self.dry_run):
                return Pushed(None, rows)
            now = host_of(ctx).clock()
            commit = repository.commit_changes(base, edits, author=self._author(ctx), message=message, at=now)
            if source.push(ref, head, commit, known=base):
                return Pushed(commit, rows)
            ctx.log("DEBUG", f"{ref} was moved meanwhile: the commit is made anew on it")
            ctx.cancelled.wait(random.uniform(0, _LONGEST_PAUSE_S))  # noqa: S311 - so that two do not go on in step
        raise TaskError("git.push.raced", f"{remote.url}: others moved {ref} {_MOST_TRIES} times", hint="try again")

    def beginning(self, ctx: Context, remote: Remote) -> str | None:  # noqa: ARG002 - for those who know better
        """Return the commit at which a new branch begins, None in an empty repository."""
        ref = remote.branch("")
        head = remote.source.heads([ref]).get(ref)
        if head is not None:
            remote.source.fetch(ref, head)
        return head

    def outputs(self, ctx: Context, remote: Remote, ref: str, pushed: Pushed) -> dict[str, Any]:
        """Return `commitId` and `commitURL` of what was pushed, and say it in the log."""
        if pushed.commit is None:
            kind = "a dry run pushes nothing" if is_on(ctx, self.dry_run) else "nothing to push"
            ctx.log("INFO", f"{kind}: {len(pushed.rows)} files differ from {remote.url}")
            return {}
        url = commit_url(remote.url, ref.removeprefix("refs/heads/"), pushed.commit)
        ctx.log("INFO", f"pushed {len(pushed.rows)} files to {url or remote.url}")
        return {"commitId": pushed.commit} | ({"commitURL": url} if url else {})

    def folder(self, ctx: Context) -> str:
        """Return `gitDirectory` without slashes at its ends. Raises `TaskError` `file.path.refused`."""
        return folder_of(ctx.render(self.git_directory))

    def _author(self, ctx: Context) -> Author:
        name = ctx.render(self.author_name) or self.user(ctx) or "Mainstem"
        return Author(name, ctx.render(self.author_email) or "mainstem@localhost")


def below(folder: str, files: Mapping[str, str]) -> dict[str, str]:
    """Return the files below a folder by their paths there."""
    prefix = f"{folder}/" if folder else ""
    return {path.removeprefix(prefix): blob for path, blob in files.items() if path.startswith(prefix)}


def placed(folder: str, edits: Edits) -> dict[str, bytes | None]:
    """Return edits below a folder by their paths in the repository."""
    return {posixpath.join(folder, path): content for path, content in edits.items()}


def commit_url(url: str, branch: str, commit: str) -> str | None:
    """Return the page of a commit on the forge of a repository, None where none can be told."""
    address = parse_address(url)
    if not address.host:
        return None
    scheme, port = (address.scheme, address.port) if address.scheme != "ssh" else ("https", None)
    path = address.path.strip("/").removesuffix(".git")
    place = f"{address.host}:{port}" if port else address.host
    word = "commits" if address.host.endswith("bitbucket.org") else "commit"
    query = f"?refName=refs%2Fheads%2F{branch}" if address.host.endswith("azure.com") else ""
    return f"{scheme}://{place}/{path}/{word}/{commit}{query}"


def _differs(blob: str | None, content: bytes | None) -> bool:
    return blob != (None if content is None else blob_id(content))


def _rows(remote: Remote, files: Mapping[str, str], edits: Edits) -> tuple[Mapping[str, str], ...]:
    remote.source.ensure(files[path] for path in edits if path in files)

    def before(path: str) -> bytes:
        return remote.source.repository.blob(files[path], limit=10 * MAX_FILE_BYTES) if path in files else b""

    return tuple(line_counts(path, before(path), edits[path] or b"") for path in sorted(edits))
