"""The task that puts a repository into the working directory, as `git clone` does."""

from __future__ import annotations

import contextlib
import io
import os
import posixpath
from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import urljoin

from dulwich.config import ConfigFile, parse_submodules
from dulwich.objects import ObjectID
from dulwich.refs import Ref

from runner.errors import MainstemError, TaskError
from runner.flows.models import Template
from runner.plugin import Context, Outputs
from sync.checkout import CheckedOut, check_out
from sync.names import SUBMODULE, is_sha
from sync.remote import parse_address
from sync.tasks import git_folder
from sync.tasks.connection import GitTask, Remote, folder_of, is_on, missing_branch, number
from sync.tasks.git_folder import HEADS
from task_runners.errors import TaskRunnerError
from task_runners.files import open_beneath

_TAGS: Final = "refs/tags/"
_MOST_SUBMODULES: Final = 50
_SHORTEST_SHA: Final = 4


class Clone(GitTask):
    """Put a repository into the folder `directory` of the working directory, or into that itself.

    Inside a WorkingDirectory the tasks after it find the files. `branch`, `tag` or `commit` says which commit, without
    them it is that of the default branch. `depth` is how many commits of the history come along; with a tag or a
    commit all of them, unless it is given. `cloneAllBranches` brings the other branches too, `noTags` leaves the tags
    of a whole history out, `cloneSubmodules` brings the files of submodules. `gitConfig` is written to the clone's
    configuration. Links that lead out of the clone are left out with a warning. With `cache` and `cacheTtl` nothing
    is kept: a clone of depth 1 fetches only what it needs.

    Outputs: `directory` (its path), `commit` (the id of the commit that is checked out).
    """

    directory: Template | None = None
    branch: Template | None = None
    tag: Template | None = None
    commit: Template | None = None
    depth: Any = 1
    clone_submodules: Any = False
    clone_all_branches: Any = False
    no_tags: Any = False
    cache: Any = None
    cache_ttl: Any = None

    def run(self, ctx: Context) -> Outputs:
        """Return `directory` and `commit`."""
        url, folder = ctx.render(self.url), folder_of(ctx.render(self.directory))
        with self.opened(ctx, url) as remote:
            ref, commit = self._fetch(ctx, remote)
            self._prepare(ctx, remote, ref, commit)
            try:
                written = check_out(remote.source.repository, commit, ctx.work_dir(), folder)
                if is_on(ctx, self.clone_submodules):
                    self._add_submodules(ctx, url, written, folder)
                git_folder.write_index(remote.source.repository.path, written)
                git_folder.move(remote.source.repository.path, ctx.work_dir(), folder)
            except TaskRunnerError as error:
                raise TaskError(error.code, error.message, hint=error.hint) from None
        _report(ctx, url, ref, commit, written)
        return {"directory": str(ctx.work_dir() / folder), "commit": commit}

    def _fetch(self, ctx: Context, remote: Remote) -> tuple[str, str]:
        """Bring what was asked for; return the ref it is known by and the commit."""
        wanted, tag = ctx.render(self.commit).lower(), ctx.render(self.tag)
        if wanted:
            return "", self._fetch_commit(ctx, remote, wanted)
        ref = f"{_TAGS}{tag}" if tag else remote.branch(ctx.render(self.branch))
        commit = remote.source.heads([ref]).get(ref)
        if commit is None:
            raise missing_branch(remote.url, ref)
        refs = {ref: commit} | self._other_branches(ctx, remote) | self._tags(ctx, remote, is_pinned=bool(tag))
        remote.source.fetch_whole([*dict.fromkeys(refs.values())], self._depth(ctx, is_pinned=bool(tag)))
        _set_refs(remote, refs)
        return ref, commit

    def _fetch_commit(self, ctx: Context, remote: Remote, wanted: str) -> str:
        depth = self._depth(ctx, is_pinned=True)
        if is_sha(wanted):
            with contextlib.suppress(MainstemError):  # not every server gives a commit that no branch names
                remote.source.fetch_whole([wanted], depth)
                _set_refs(remote, self._other_branches(ctx, remote))
                return wanted
        branches = remote.source.refs([HEADS, _TAGS])
        if branches:
            remote.source.fetch_whole([*dict.fromkeys(branches.values())], None)
            _set_refs(remote, branches)
        found = list(_starting_with(remote, wanted)) if len(wanted) >= _SHORTEST_SHA else []
        if len(found) != 1:
            raise TaskError("git.commit.missing", f"{remote.url} has no commit {wanted!r}, or several that begin so")
        return found[0]

    def _depth(self, ctx: Context, *, is_pinned: bool) -> int | None:
        if self.depth is None or (is_pinned and "depth" not in self.model_fields_set):
            return None
        return int(number(ctx, "depth", self.depth)) or None

    def _other_branches(self, ctx: Context, remote: Remote) -> dict[str, str]:
        return remote.source.refs([HEADS]) if is_on(ctx, self.clone_all_branches) else {}

    def _tags(self, ctx: Context, remote: Remote, *, is_pinned: bool) -> dict[str, str]:
        if self._depth(ctx, is_pinned=is_pinned) is not None or is_on(ctx, self.no_tags):
            return {}
        return remote.source.refs([_TAGS])

    def _add_submodules(self, ctx: Context, url: str, written: CheckedOut, folder: str) -> None:
        for count, (path, address) in enumerate(_submodules(ctx, written, folder).items()):
            if count >= _MOST_SUBMODULES:
                raise TaskError("git.submodules.many", f"there are more than {_MOST_SUBMODULES} submodules")
            place = _relative_url(url, address)
            # Credentials stay with the host they were given for: whoever writes .gitmodules names the others.
            kept = self if _origin(place) == _origin(url) else self.model_copy(update=_WITHOUT_CREDENTIALS)
            inner = kept.model_copy(update={"url": place})
            with inner.opened(ctx, place, f"submodule{count}") as remote:
                remote.source.fetch_whole([written.submodules[path]], 1)
                check_out(
                    remote.source.repository, written.submodules[path], ctx.work_dir(), posixpath.join(folder, path)
                )

    def _prepare(self, ctx: Context, remote: Remote, ref: str, commit: str) -> None:
        path = remote.source.repository.path
        remote.source.repository.raw.refs[Ref(git_folder.CLONED.encode())] = ObjectID(commit.encode())
        git_folder.write_head(path, ref, commit)
        git_folder.configure(path, remote.url, ref, ctx.render_deep(self.git_config) or {})


_WITHOUT_CREDENTIALS: Final = dict.fromkeys(("username", "password", "private_key", "passphrase"))


def _set_refs(remote: Remote, refs: Mapping[str, str]) -> None:
    store = remote.source.repository.raw.refs
    for ref, sha in refs.items():
        name = f"refs/remotes/origin/{ref.removeprefix(HEADS)}" if ref.startswith(HEADS) else ref
        if sha in remote.source.repository:
            store[Ref(name.encode())] = ObjectID(sha.encode())


def _starting_with(remote: Remote, prefix: str) -> Iterator[str]:
    from dulwich.objects import Commit

    store = remote.source.repository.raw.object_store
    for sha in store:
        if sha.startswith(prefix.encode()) and isinstance(store[sha], Commit):
            yield sha.decode()


def _submodules(ctx: Context, written: CheckedOut, folder: str) -> dict[str, str]:
    """Return the addresses of the submodules by their paths, those that the commit really has."""
    if not written.submodules or ".gitmodules" not in {entry.path for entry in written.entries}:
        return {}
    path = posixpath.join(folder, ".gitmodules")
    with os.fdopen(open_beneath(ctx.work_dir(), path), "rb") as file:
        config = ConfigFile.from_file(io.BytesIO(file.read()))
    named = {path.decode(): url.decode() for path, url, _ in parse_submodules(config)}
    return {path: url for path, url in named.items() if path in written.submodules}


def _relative_url(url: str, address: str) -> str:
    """Return the address of a submodule, which may be relative to that of its repository."""
    return urljoin(f"{url.rstrip('/')}/", address) if address.startswith(("./", "../")) else address


def _origin(url: str) -> tuple[str, str | None, int | None]:
    address = parse_address(url)
    return address.scheme, address.host, address.port


def _report(ctx: Context, url: str, ref: str, commit: str, written: CheckedOut) -> None:
    files = sum(1 for entry in written.entries if entry.mode != SUBMODULE)
    named = ref.removeprefix(HEADS).removeprefix(_TAGS) or "commit"
    ctx.log("INFO", f"{url} is cloned: {named} {commit[:12]}, {files} files")
    for path in written.left_out:
        ctx.log("WARN", f"the link {path} leads out of the repository and is left out")
