"""Names in a repository that may be used: of refs, commits and files. Pure.

Paths come from people we do not trust, so what could escape a folder (`..`, `.git`, symlinks, submodules) or fool a
terminal is refused instead of followed.
"""

from __future__ import annotations

import re
import stat
from typing import Final

from dulwich.refs import Ref, check_ref_format

from runner.errors import InvalidError, Problem

MAX_FLOW_BYTES: Final = 1 << 20
MAX_FILE_BYTES: Final = 10 << 20
MAX_FILES: Final = 50_000
MAX_DEPTH: Final = 64
MAIN: Final = "refs/heads/main"

_SYMLINK: Final = 0o120000
SUBMODULE: Final = 0o160000
_SHA: Final = re.compile(r"[0-9a-f]{40}\Z")
# What git itself refuses in a tree, on any file system: names that mean the repository's own folder.
_RESERVED: Final = frozenset({"", ".", "..", ".git", "git~1"})


def check_ref(ref: str) -> str:
    """Return `ref` when it is a full, well-formed branch or tag name.

    Raises:
        InvalidError: `repository.ref.invalid`.
    """
    if not ref.startswith(("refs/heads/", "refs/tags/")) or not is_ref(ref):
        raise InvalidError(
            "repository.ref.invalid", f"{ref!r} is no full ref name", hint="write it as refs/heads/<branch>"
        )
    return ref


def check_followed(ref: str) -> str:
    """Return `ref` when it is a full name, or a pattern of full names, that an environment can follow.

    Raises:
        InvalidError: `repository.ref.invalid`.
    """
    check_ref(re.sub(r"\[[^\]/]+\]|[*?]", "x", ref))
    return ref


def is_ref(ref: str) -> bool:
    """Whether git would accept `ref` as the name of a ref, and a terminal would show it as it is."""
    return ref.startswith("refs/") and ref.isprintable() and check_ref_format(Ref(ref.encode()))


def check_sha(sha: str) -> str:
    """Return `sha` when it is a full commit id.

    Raises:
        InvalidError: `repository.commit.invalid`.
    """
    if not is_sha(sha):
        raise InvalidError("repository.commit.invalid", f"{sha!r} is no commit id of 40 hexadecimal digits")
    return sha


def is_sha(sha: str) -> bool:
    """Whether `sha` has the form of a full object id."""
    return _SHA.match(sha) is not None


def is_safe_name(name: str) -> bool:
    """Whether a name of a tree entry stays where it stands, on every file system that git knows."""
    plain = name.rstrip(". ").lower() if name not in {".", ".."} else name
    return plain not in _RESERVED and not any(char in name for char in "/\\\0")


def refusal(place: str, name: str, mode: int, count: int) -> Problem | None:
    """Return why an entry of a tree is not listed, or None; `count` files were listed before it.

    `place` is its folder with a slash at the end, or empty. The name may hold slashes of its own: a server that nobody
    vouches for sends what it likes.
    """
    path = place + name
    shown = path.encode("utf-8", "backslashreplace").decode()
    if count >= MAX_FILES:
        return Problem("repository.files.many", f"there are more than {MAX_FILES:,} files below this path")
    if not is_safe_name(name) or not path.isprintable():
        return Problem("repository.name.refused", f"{shown!r} is not an acceptable file name", file=shown)
    if path.count("/") >= MAX_DEPTH:
        return Problem("repository.depth.exceeded", f"folders are nested deeper than {MAX_DEPTH}", file=shown)
    kind = stat.S_IFMT(mode)
    if kind == _SYMLINK:
        return Problem(
            "repository.symlink.refused",
            "a symbolic link is not followed",
            file=shown,
            hint="commit the file itself",
        )
    if kind == SUBMODULE:
        return Problem(
            "repository.submodule.refused",
            "a submodule is not fetched",
            file=shown,
            hint="commit the files, or declare the other repository as a repository of its own",
        )
    return None
