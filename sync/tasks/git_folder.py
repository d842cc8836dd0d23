"""The folder `.git` of a clone: made where only the task sees it, then moved into the working directory."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from dulwich.config import ConfigFile
from dulwich.index import Index, IndexEntry
from dulwich.objects import ObjectID

from runner.errors import TaskError
from sync.checkout import CheckedOut
from task_runners.files import open_beneath

HEADS: Final = "refs/heads/"
CLONED: Final = "refs/mainstem/cloned"
"""The ref under which a clone remembers its commit, so that `git.Push` sees what changed since."""


def write_head(path: Path, ref: str, commit: str) -> None:
    """Check `commit` out on the branch `ref`; on none, where `ref` is no branch."""
    if ref.startswith(HEADS):
        (path / ref).parent.mkdir(parents=True, exist_ok=True)
        (path / ref).write_text(f"{commit}\n")
        (path / "HEAD").write_text(f"ref: {ref}\n")
    else:
        (path / "HEAD").write_text(f"{commit}\n")


def write_index(path: Path, written: CheckedOut) -> None:
    """Write which files are checked out. Their sizes are left at 0, upon which git looks at their contents itself."""
    index = Index(str(path / "index"), read=False)
    for entry in written.entries:
        found = IndexEntry(
            ctime=0, mtime=0, dev=0, ino=0, mode=entry.mode, uid=0, gid=0, size=0, sha=ObjectID(entry.id.encode())
        )
        # What is not there on purpose is no deletion: neither for `git status` nor for a commit that a body makes.
        found.set_skip_worktree(skip=entry.path in written.left_out)
        index[entry.path.encode()] = found
    index.write()


def configure(path: Path, url: str, ref: str, more: Mapping[str, Any]) -> None:
    """Write the configuration of a clone, and `more` by names like `core.autocrlf` over it.

    Raises:
        TaskError: `task.property.invalid`.
    """
    config = ConfigFile()
    for name, value in (("repositoryformatversion", "0"), ("filemode", "true"), ("bare", "false")):
        config.set(("core",), name, value)
    config.set(("core",), "logallrefupdates", "true")
    config.set(("remote", "origin"), "url", url)
    config.set(("remote", "origin"), "fetch", "+refs/heads/*:refs/remotes/origin/*")
    if ref.startswith(HEADS):
        branch = ref.removeprefix(HEADS)
        config.set(("branch", branch), "remote", "origin")
        config.set(("branch", branch), "merge", ref)
    for key, value in more.items():
        section, *rest = str(key).split(".")
        if not rest:
            raise TaskError("task.property.invalid", f"`gitConfig` names {key!r}, which is no `section.name`")
        inside = (section, ".".join(rest[:-1])) if rest[1:] else (section,)
        text = str(value).lower() if isinstance(value, bool) else str(value)
        config.set(inside, rest[-1], text)
    config.write_to_path(str(path / "config"))


def move(path: Path, root: Path, folder: str) -> None:
    """Make `path` the `.git` of the clone. What has that name is removed; nothing is reached through a link."""
    parent = open_beneath(root, folder, os.O_RDONLY | os.O_DIRECTORY) if folder else os.open(root, os.O_DIRECTORY)
    try:
        with contextlib.suppress(FileNotFoundError):
            try:
                os.unlink(".git", dir_fd=parent)
            except (IsADirectoryError, PermissionError):
                shutil.rmtree(".git", dir_fd=parent)
        os.rename(path, ".git", dst_dir_fd=parent)
    finally:
        os.close(parent)
