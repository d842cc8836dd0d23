"""What a proven delivery means for a repository: look at it, or not. Pure."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, Literal

from sync.forges.base import ChangeRequest, Comment, Ignored, Notice, PayloadError, Ping, RefDeleted, RefMoved, shown
from sync.refs import is_followed
from sync.remote import parse_address

_PING: Final = "ping"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a delivery asks for a look at the repository, why not if it does not, and the ref it is about.

    `comment` is the one that holds a command.
    """

    result: Literal["ACCEPTED", "IGNORED"]
    reason: str | None = None
    ref: str | None = None
    before: str | None = None
    after: str | None = None
    comment: Comment | None = None


def judge(notice: Notice, url: str, follows: Collection[str], *, names_repository: bool) -> Verdict:
    """Return what a notice means for the repository at `url`, of which `follows` are the refs and patterns followed.

    Raises:
        PayloadError: the forge always names the repository of a push, and this push has no name.
    """
    request = next((event for event in notice.events if isinstance(event, ChangeRequest)), None)
    if request is not None:
        return _judged(request, notice, url, follows)
    comment = next((event for event in notice.events if isinstance(event, Comment)), None)
    if comment is not None:
        return _commented(comment, notice, url)
    changes = [event for event in notice.events if isinstance(event, RefMoved | RefDeleted)]
    if not changes:
        return Verdict("IGNORED", _why(notice))
    if notice.repository is None and names_repository:
        raise PayloadError("the push names no repository")
    first = next((change for change in changes if is_followed(change.ref, follows)), changes[0])
    after = first.after if isinstance(first, RefMoved) else None
    if notice.repository is not None and not is_named(url, notice.repository):
        reason = f"it is about the repository {shown(notice.repository)}"
    elif not is_followed(first.ref, follows):
        reason = f"no environment follows {shown(first.ref)}"
    else:
        return Verdict("ACCEPTED", None, first.ref, first.before, after)
    return Verdict("IGNORED", reason, first.ref, first.before, after)


def _judged(request: ChangeRequest, notice: Notice, url: str, follows: Collection[str]) -> Verdict:
    if notice.repository is None:
        raise PayloadError("the change request names no repository")
    if not is_named(url, notice.repository):
        reason = f"it is about the repository {shown(notice.repository)}"
    elif not is_followed(request.base, follows):
        reason = f"no environment follows {shown(request.base)}"
    else:
        return Verdict("ACCEPTED", None, request.ref, None, request.head)
    return Verdict("IGNORED", reason, request.ref, None, request.head)


def _commented(comment: Comment, notice: Notice, url: str) -> Verdict:
    """Return what a comment means. No forge but GitLab tells which branch is meant: the look finds that out."""
    if notice.repository is None:
        raise PayloadError("the comment names no repository")
    if not is_named(url, notice.repository):
        return Verdict("IGNORED", f"it is about the repository {shown(notice.repository)}", comment.ref)
    return Verdict("ACCEPTED", None, comment.ref, comment=comment)


def is_named(url: str, name: str) -> bool:
    """Whether a forge calls the repository at `url` by `name`, such as `acme/flows`.

    An installation may lie below a path of its host, so the last segments decide; forges ignore case. What lies on
    this machine has no name at a forge, and any fits.
    """
    address = parse_address(url)
    if address.is_local:
        return True
    ours = address.path.strip("/").removesuffix(".git").lower().split("/")
    theirs = name.strip("/").removesuffix(".git").lower().split("/")
    return all(theirs) and ours[-len(theirs) :] == theirs and len(theirs) > 1


def _why(notice: Notice) -> str:
    for event in notice.events:
        if isinstance(event, Ping):
            return _PING
        if isinstance(event, Ignored):
            return shown(event.reason) or ""
    return "it says nothing"
