"""Where forges show commits, what lies between two of them, and lines of files. Pure but for reading the commit."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

from runner.errors import MainstemError
from runner.reports.details import CommitNote
from runner.store.records import Repository
from sync.repository import GitRepository

_GITEA: Final = ("/commit/", "/compare/{old}...{new}", "/src/commit/{commit}/{file}#L{line}")
_PATHS: Final = {
    "github": ("/commit/", "/compare/{old}...{new}", "/blob/{commit}/{file}#L{line}"),
    "gitea": _GITEA,
    "forgejo": _GITEA,
    "gitlab": ("/-/commit/", "/-/compare/{old}...{new}", "/-/blob/{commit}/{file}#L{line}"),
    "bitbucket": ("/commits/", "/branches/compare/{new}..{old}", "/src/{commit}/{file}#lines-{line}"),
}


def commit_note(commit: str | None, repository: GitRepository | None, declared: Repository) -> CommitNote | None:
    """Return what a page says of a commit: its subject and author when it is here, a link when its forge is known."""
    if commit is None:
        return None
    paths, web = _PATHS.get(declared.kind), _web_address(declared)
    url = f"{web}{paths[0]}{commit}" if paths and web else None
    if repository is None:
        return CommitNote(commit, url=url)
    try:
        found = repository.commit(commit)
    except MainstemError:
        return CommitNote(commit, url=url)
    return CommitNote(commit, found.subject, found.author, url)


def compare_url(old: str | None, new: str | None, declared: Repository) -> str | None:
    """Return where the forge shows what came after commit `old` up to `new`, None when it is not known."""
    paths, web = _PATHS.get(declared.kind), _web_address(declared)
    return f"{web}{paths[1].format(old=old, new=new)}" if paths and web and old and new and old != new else None


def line_url(declared: Repository, commit: str, file: str, line: int) -> str | None:
    """Return where the forge shows a line of a file at a commit, None when it is not known."""
    paths, web = _PATHS.get(declared.kind), _web_address(declared)
    # Nothing of the name may end the link in Markdown.
    name = quote(file, safe="/")
    return f"{web}{paths[2].format(commit=commit, file=name, line=line)}" if paths and web else None


def _web_address(declared: Repository) -> str | None:
    is_web = declared.url.startswith(("https://", "http://"))
    return declared.url.removesuffix("/").removesuffix(".git") if is_web else None
