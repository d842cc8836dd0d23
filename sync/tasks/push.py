"""The task that commits what a working directory holds and pushes it."""

from __future__ import annotations

import io
import os
import posixpath
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from dulwich.config import ConfigFile

from runner.context import host_of
from runner.errors import TaskError
from runner.flows.models import Model, Template
from runner.plugin import Context, Outputs
from runner.tasks.chosen_files import limited, texts
from runner.tasks.script_files import is_own, stage_inputs
from sync.commit_record import Author
from sync.names import is_sha
from sync.repository import blob_id
from sync.tasks.connection import Remote, folder_of, is_on
from sync.tasks.git_folder import CLONED
from sync.tasks.ignoring import ignored
from sync.tasks.push_server import flows_of
from sync.tasks.pushing import Edits, PushTask
from task_runners.errors import TaskRunnerError
from task_runners.files import open_beneath, safe_join
from task_runners.outputs import collect_outputs, glob_pattern

_IGNORE_FILE: Final = ".gitignore"
_SMALL_FILE_BYTES: Final = 64 << 10


class PushedFlows(Model):
    """Whether the active flows of the flow's namespace are pushed too, to files `<namespace>.<id>.yml` of a folder."""

    enabled: Any = True
    child_namespaces: Any = True
    git_directory: Template = "_flows"


class CommitAuthor(Model):
    """Who a commit is made by."""

    name: Template | None = None
    email: Template | None = None


class Push(PushTask):
    """Commit the files of the folder `directory` of the working directory to `branch`, and push that.

    After `git.Clone` in the same directory it is what changed since the clone, made anew on whatever others pushed
    meanwhile; a file that they changed as well is a conflict. Then `url` may be left out: it is read from the
    clone. State it where a task in between runs code that is not yours, which could put another address there and
    get your password. Without a clone the branch gets the files as they are. `addFilesPattern` are files, folders
    or patterns to which all this is limited; what they name and the directory does not have is removed.
    `inputFiles` and `namespaceFiles` are written first. `flows` (`enabled`, `childNamespaces`, `gitDirectory`) adds
    the active flows of the namespace, which is the default where there is a server. What `.gitignore` names is left
    out. Links are not pushed, and new files are not executable.

    Outputs: `commitId` and `commitURL`, when something was pushed.
    """

    url: Template | None = None  # type: ignore[assignment]  # a clone says where it came from
    directory: Template | None = None
    branch: Template
    commit_message: Template
    add_files_pattern: Any = "."
    input_files: Any = None
    namespace_files: Any = None
    flows: PushedFlows = PushedFlows()
    author: CommitAuthor | None = None
    clone_submodules: Any = None

    def run(self, ctx: Context) -> Outputs:
        """Return `commitId` and `commitURL`."""
        folder = folder_of(ctx.render(self.directory))
        stage_inputs(ctx, self.input_files, self.namespace_files)
        try:
            tree = _Tree.read(ctx, folder)
            patterns = _Patterns(texts(ctx, self.add_files_pattern))
            contents = {path: content for path, content in tree.contents(ctx) if patterns.match(path)}
        except TaskRunnerError as error:
            raise TaskError(error.code, error.message, hint=error.hint) from None
        contents |= {path: content for path, content in self._flows(ctx) if patterns.match(path)}
        url = ctx.render(self.url) or tree.origin
        if not url:
            raise TaskError("git.url.missing", "`url` is not set, and the directory is no clone of a repository")
        with self.opened(ctx, url) as remote:
            ref = remote.branch(ctx.render(self.branch))
            change = _Change(remote, contents, patterns, tree, only_adds=not self.url and tree.cloned is None)
            if tree.cloned is not None:
                remote.source.fetch(CLONED, tree.cloned)
            pushed = self.publish(ctx, remote, ref, change, ctx.render(self.commit_message))
            return self.outputs(ctx, remote, ref, pushed)

    def beginning(self, ctx: Context, remote: Remote) -> str | None:
        """Return the commit at which a new branch begins: the one that was cloned."""
        return remote.source.repository.head(CLONED) or super().beginning(ctx, remote)

    def _flows(self, ctx: Context) -> Iterator[tuple[str, bytes]]:
        if not is_on(ctx, self.flows.enabled):
            return
        if "flows" not in self.model_fields_set and host_of(ctx).store is None:
            ctx.log("DEBUG", "no flows are pushed: there is no server here that has any")
            return
        folder, with_children = folder_of(ctx.render(self.flows.git_directory)), is_on(ctx, self.flows.child_namespaces)
        for version in flows_of(ctx, ctx.flow.namespace, with_children=with_children):
            name = f"{version.namespace}.{version.flow_id}.yml"
            yield posixpath.join(folder, name), version.source.encode()

    def _author(self, ctx: Context) -> Author:
        if self.author is None:
            return super()._author(ctx)
        name = ctx.render(self.author.name) or self.user(ctx) or "Mainstem"
        return Author(name, ctx.render(self.author.email) or "mainstem@localhost")


@dataclass(frozen=True, slots=True)
class _Tree:
    """What a folder of the working directory holds. `cloned` is the commit that `git.Clone` put there, if it did."""

    root: Path
    paths: tuple[str, ...]
    origin: str
    cloned: str | None

    @classmethod
    def read(cls, ctx: Context, folder: str) -> _Tree:
        """Look at a folder that bodies may have touched: no link is followed, and git's own files are only read.

        Raises:
            TaskRunnerError: `file.path.refused`, `file.outputs.too_many`, `file.outputs.too_large`.
        """
        root = safe_join(ctx.work_dir(), folder) if folder else ctx.work_dir()
        if not root.is_dir():
            raise TaskError("git.directory.missing", f"there is no directory {folder!r} to push")
        paths = [path for path in collect_outputs(root, ["**"]) if ".git" not in path.split("/") and not is_own(path)]
        cloned = _small_file(root, f".git/{CLONED}").strip()
        origin = _origin(_small_file(root, ".git/config"))
        return cls(root, tuple(paths), origin, cloned if is_sha(cloned) else None)

    def contents(self, ctx: Context) -> Iterator[tuple[str, bytes]]:
        """Yield the files that no `.gitignore` leaves out. Raises `TaskError` `git.push.large`."""
        left = host_of(ctx).settings.git_max_mib << 20
        rules = {
            posixpath.dirname(path): ignored(_small_file(self.root, path))
            for path in self.paths
            if posixpath.basename(path) == _IGNORE_FILE
        }
        for path in self.paths:
            if any(is_ignored(_inside(path, folder)) for folder, is_ignored in rules.items() if _is_in(path, folder)):
                continue
            with os.fdopen(open_beneath(self.root, path), "rb") as file:
                content = limited(path, file)
            left -= len(content)
            if left < 0:
                raise TaskError("git.push.large", "the files are more than a push may hold", hint="raise gitMaxMib")
            yield path, content


class _Patterns:
    """`addFilesPattern`: the names of files and folders, or patterns; `.` is everything."""

    def __init__(self, patterns: list[str]) -> None:
        self._names = [pattern.removeprefix("./").strip("/") for pattern in patterns]
        self._globs = [glob_pattern(name) for name in self._names if name not in {"", "."}]

    def match(self, path: str) -> bool:
        """Return whether `path` is meant."""
        named = any(name in {"", ".", path} or path.startswith(f"{name}/") for name in self._names)
        return named or any(glob.fullmatch(path) for glob in self._globs)


@dataclass(frozen=True, slots=True)
class _Change:
    """What the directory changes: since the clone, or in the branch as it is."""

    remote: Remote
    contents: Mapping[str, bytes]
    patterns: _Patterns
    tree: _Tree
    only_adds: bool

    def __call__(self, base: str | None, files: Mapping[str, str]) -> Edits:
        """Return the edits of the files of a commit. Raises `TaskError` `git.push.conflict`."""
        cloned = self.tree.cloned
        before = files if cloned is None else self.remote.source.repository.listing(cloned, "").files
        modules = self._modules(cloned or base)
        edits: dict[str, bytes | None] = {
            path: content
            for path, content in self.contents.items()
            if before.get(path) != blob_id(content) and not path.startswith(modules)
        }
        if not self.only_adds:
            edits |= {path: None for path in before if path not in self.contents and self._is_gone(path)}
        self._check(before, files, edits)
        return edits

    def _is_gone(self, path: str) -> bool:
        return self.patterns.match(path) and path not in self.tree.paths

    def _modules(self, commit: str | None) -> tuple[str, ...]:
        """Return the folders of submodules, whose files are those of other repositories."""
        if commit is None:
            return ()
        problems = self.remote.source.repository.listing(commit, "").problems
        return tuple(f"{each.file}/" for each in problems if each.code == "repository.submodule.refused")

    def _check(self, before: Mapping[str, str], files: Mapping[str, str], edits: Edits) -> None:
        for path, content in edits.items():
            now = files.get(path)
            if now not in {before.get(path), None if content is None else blob_id(content)}:
                raise TaskError(
                    "git.push.conflict",
                    f"{path} was changed on the branch since the clone",
                    hint="run the flow again, so that it begins with what is there now",
                )


def _is_in(path: str, folder: str) -> bool:
    return not folder or path.startswith(f"{folder}/")


def _inside(path: str, folder: str) -> str:
    return path.removeprefix(f"{folder}/") if folder else path


def _origin(config: str) -> str:
    """Return where a clone came from, by its configuration; empty when that does not say it."""
    try:
        return ConfigFile.from_file(io.BytesIO(config.encode())).get(("remote", "origin"), "url").decode()
    except (KeyError, ValueError):
        return ""


def _small_file(root: Path, path: str) -> str:
    """Return the beginning of a file; nothing when there is none that can be read without following a link."""
    try:
        descriptor = open_beneath(root, path)
    except (OSError, TaskRunnerError):
        return ""
    with os.fdopen(descriptor, "rb") as file:
        return file.read(_SMALL_FILE_BYTES).decode("utf-8", "replace")
