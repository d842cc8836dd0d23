"""Which files of a working directory a task hands back: globs over what is really there, links left out."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from task_runners.errors import FailureReason, TaskRunnerError
from task_runners.files import FileLimits

__all__ = ["PRIVATE", "collect_outputs", "glob_pattern"]

PRIVATE = ".mainstem"
_WORD = {"**/": "(?:[^/]+/)*", "**": ".*", "*": "[^/]*", "?": "[^/]"}
_TOKEN = re.compile(r"\*\*/|\*\*|\*|\?|\[[^\]/]+\]|\{[^{}]*\}|.", re.DOTALL)


def glob_pattern(glob: str) -> re.Pattern[str]:
    """Return what matches the relative paths that `glob` names.

    `*` and `?` stay within a name, `**` crosses directories and `**/` also stands for none, `[a-z]` and `{a,b}` as in a
    shell. A leading `./` or `/` is ignored.

    Raises:
        TaskRunnerError: `file.glob.invalid` when it would leave the directory or is malformed.
    """
    text = glob.strip().removeprefix("./").lstrip("/")
    if not text or ".." in text.split("/"):
        raise TaskRunnerError("file.glob.invalid", f"the pattern {glob!r} does not stay in the working directory")
    try:
        return re.compile("".join(_translated(text)))
    except re.error as error:
        raise TaskRunnerError("file.glob.invalid", f"the pattern {glob!r} cannot be read: {error}") from error


def _translated(text: str) -> Iterator[str]:
    for token in _TOKEN.findall(text):
        if token in _WORD:
            yield _WORD[token]
        elif len(token) > 1 and token[0] == "[":
            inner = token[1:-1].replace("\\", "\\\\")
            yield f"[^{inner[1:]}]" if inner[0] in "!^" else f"[{inner}]"
        elif len(token) > 1 and token[0] == "{":
            yield "(?:" + "|".join("".join(_translated(part)) for part in token[1:-1].split(",")) + ")"
        else:
            yield re.escape(token)


def collect_outputs(root: Path, globs: Iterable[str], limits: FileLimits | None = None) -> Mapping[str, Path]:
    """Return the regular files below `root` that any of `globs` matches: relative path to path, in order of the names.

    Links, devices, sockets and pipes are never taken, and no link is followed on the way. `.mainstem/` is skipped,
    and so are names that are not UTF-8, which no log, database or page could show.

    Raises:
        TaskRunnerError: `file.outputs.too_many`, `file.outputs.too_large`, `file.glob.invalid`.
    """
    limits = limits or FileLimits()
    patterns = [glob_pattern(glob) for glob in globs]
    found: dict[str, Path] = {}
    total = 0
    for relative, size in _regular_files(root):
        if not any(pattern.fullmatch(relative) for pattern in patterns):
            continue
        found[relative] = root / relative
        total += size
        if len(found) > limits.files:
            raise _refused("file.outputs.too_many", f"more than {limits.files} files match the output patterns")
        if size > limits.file_bytes or total > limits.total_bytes:
            raise _refused("file.outputs.too_large", f"the output files are too large, at {relative!r} ({total} bytes)")
    return dict(sorted(found.items()))


def _regular_files(root: Path) -> Iterator[tuple[str, int]]:
    for directory, directories, files, descriptor in os.fwalk(root, follow_symlinks=False):
        here = os.path.relpath(directory, root)
        if here == ".":
            here = ""
            directories[:] = [name for name in directories if name != PRIVATE]
        for name in files:
            if any(0xD800 <= ord(char) <= 0xDFFF for char in f"{here}{name}"):
                continue
            try:
                status = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
            except FileNotFoundError:
                continue
            if stat.S_ISREG(status.st_mode):
                yield f"{here}/{name}" if here else name, status.st_size


def _refused(code: str, message: str) -> TaskRunnerError:
    return TaskRunnerError(code, message, failure_reason=FailureReason.OUTPUT_FILES)
