"""The task that brings files of a repository elsewhere to a namespace, as a commit to this server's own repository."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from runner.context import demand_writer, host_of, own_namespace
from runner.flows.models import Template
from runner.namespace_files import MOST_BYTES
from runner.plugin import Context, Outputs
from sync.tasks.connection import GitTask, Remote, folder_of, is_on
from sync.tasks.differences import stored_rows
from sync.tasks.ignoring import ignored_below
from sync.tasks.sync_flows import files_of


class SyncNamespaceFiles(GitTask):
    """Bring the files of a folder of a repository elsewhere to a namespace: one commit, or none.

    The commit goes to the repository of the execution's environment, which must own the namespace. With `delete` files
    that the folder does not have are removed. What `.kestraignore` in the folder names is left alone. Running
    executions keep the files that they began with. `dryRun` only compares.

    Output `files`: a file with one JSON object for each file: `gitPath`, `kestraPath`, `syncState` (ADDED, OVERWRITTEN,
    UNCHANGED, DELETED).
    """

    branch: Template = "main"
    namespace: Template = "{{ flow.namespace }}"
    git_directory: Template = "_files"
    delete: Any = False
    fail_on_missing_directory: Any = True
    dry_run: Any = False

    def run(self, ctx: Context) -> Outputs:
        """Return `files`."""
        namespace, folder = own_namespace(ctx, ctx.render(self.namespace)), folder_of(ctx.render(self.git_directory))
        with self.opened(ctx, ctx.render(self.url)) as remote:
            files = files_of(
                ctx, remote, ctx.render(self.branch), folder, fail_on_missing=self.fail_on_missing_directory
            )
            is_ignored = ignored_below(remote.source, files)
            contents = read_files(remote, {path: blob for path, blob in files.items() if not is_ignored(path)})
            is_gone = (lambda path: not is_ignored(path)) if is_on(ctx, self.delete) else None
            states = dict(compared(ctx, namespace, contents, is_gone))
            write_files(ctx, namespace, contents, is_gone, states, dry_run=is_on(ctx, self.dry_run))
        return {"files": stored_rows(ctx, _rows(folder, states))}


def read_files(remote: Remote, files: Mapping[str, str]) -> dict[str, bytes]:
    """Return the contents of files, path to blob id. Raises `InvalidError` `repository.file.large`."""
    remote.source.ensure(files.values())
    return {path: remote.source.repository.blob(blob, limit=MOST_BYTES) for path, blob in files.items()}


def compared(
    ctx: Context, namespace: str, contents: Mapping[str, bytes], is_gone: Callable[[str], bool] | None
) -> Iterator[tuple[str, str]]:
    """Yield what becomes of each file of the namespace, as it is at the commit of the execution."""
    stand = set(ctx.namespace_files(namespace))
    for path, content in sorted(contents.items()):
        if path not in stand:
            yield path, "ADDED"
        else:
            yield path, "UNCHANGED" if ctx.namespace_file(path, namespace) == content else "OVERWRITTEN"
    for path in sorted(stand - contents.keys()):
        if is_gone is not None and is_gone(path):
            yield path, "DELETED"


def write_files(
    ctx: Context,
    namespace: str,
    contents: Mapping[str, bytes],
    is_gone: Callable[[str], bool] | None,
    states: Mapping[str, str],
    *,
    dry_run: bool,
) -> None:
    """Commit the files, and what is gone with them, unless nothing differs or it is a dry run.

    Raises:
        MainstemError: as `NamespaceFileWriter.write`; `preview.boundary` in a preview.
    """
    differing = sum(1 for state in states.values() if state != "UNCHANGED")
    ctx.log("INFO", f"{differing} of {len(states)} files differ")
    if differing and not dry_run:
        demand_writer(ctx)
        host_of(ctx).file_writer.write(
            ctx.execution.environment,
            namespace,
            contents,
            removing=is_gone,
            actor=f"{ctx.flow.namespace}.{ctx.flow.id}",
        )


def _rows(folder: str, states: Mapping[str, str]) -> Iterator[dict[str, str]]:
    for path, state in states.items():
        row = {"syncState": state, "kestraPath": f"/{path}"}
        yield row if state == "DELETED" else {"gitPath": posixpath.join(folder, path), **row}
