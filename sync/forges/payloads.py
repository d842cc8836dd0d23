"""Payloads as models: what is not of the documented type is refused, what we do not use is not looked at."""

from __future__ import annotations

from typing import Annotated, Any, Final, TypeVar
from urllib.parse import parse_qs

import orjson
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from sync.forges.base import (
    ChangeRequest,
    Comment,
    Headers,
    Ignored,
    PayloadError,
    RefDeleted,
    RefMoved,
    command_line,
)

# `synchronize` is GitHub's word, `synchronized` Gitea's.
_NEW_COMMITS: Final = frozenset({"opened", "synchronize", "synchronized"})
_LOOKED_AT: Final = _NEW_COMMITS | {"reopened", "edited", "closed", "ready_for_review"}
_FORM: Final = "application/x-www-form-urlencoded"

# The length is no part of the patterns: a repeat of a thousand, compiled for each model, takes megabytes.
Ref = Annotated[str, StringConstraints(pattern=r"^refs/[^\x00-\x20\x7f~^:?*\[\\]+$", max_length=1005)]
ShortRef = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x20\x7f~^:?*\[\\]+$", max_length=1000)]
Sha = Annotated[str, StringConstraints(pattern=r"^(?:[0-9a-f]{40}|[0-9a-f]{64})$")]


class Payload(BaseModel):
    """A part of a payload. Types are taken literally: the number 1 is no text and no truth value."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")


M = TypeVar("M", bound=Payload)


class Named(Payload):
    """A repository by its full name."""

    full_name: str | None = None


class Account(Payload):
    """Who caused an event, as the forge knows the account."""

    login: str | None = None


class Push(Payload):
    """What all forges but Bitbucket tell about a push of one ref."""

    ref: Ref
    before: Sha | None = None
    after: Sha | None = None
    deleted: bool | None = None
    forced: bool | None = None

    @property
    def event(self) -> RefMoved | RefDeleted:
        """Return what happened to the ref. Forty zeros stand for "nothing there"."""
        before, after = something(self.before), something(self.after)
        if self.deleted or (self.after is not None and after is None):
            return RefDeleted(self.ref, before)
        return RefMoved(self.ref, before, after, self.forced)


class Branch(Payload):
    """One side of a change request, as GitHub and those after it tell it."""

    ref: ShortRef
    sha: Sha | None = None


class PullRequest(Payload):
    """A pull request of GitHub, Gitea and Forgejo."""

    head: Branch
    base: Branch
    state: str | None = None


class PullRequestEvent(Payload):
    """What GitHub, Gitea and Forgejo tell of a pull request. A base that was changed comes as `edited`."""

    action: str
    number: Annotated[int, Field(ge=1, lt=10**10)]
    pull_request: PullRequest

    @property
    def event(self) -> ChangeRequest | Ignored:
        """Return what it asks for."""
        if self.action not in _LOOKED_AT:
            return Ignored(f"nothing is done when a pull request is {self.action[:50]!r}")
        request = self.pull_request
        head = request.head.sha if self.action in _NEW_COMMITS else None
        return ChangeRequest(self.number, f"refs/heads/{request.base.ref}", head, is_open=self.action != "closed")


class Commenter(Payload):
    """Who wrote a comment, by the id that stays when the account gets another name."""

    id: int
    login: str


class IssueComment(Payload):
    """A comment on an issue or pull request of GitHub, Gitea and Forgejo."""

    id: Annotated[int, Field(ge=1)]
    body: str | None = None
    user: Commenter


class Issue(Payload):
    """What was commented. Only that of a pull request has the part `pull_request`."""

    number: Annotated[int, Field(ge=1, lt=10**10)]
    pull_request: dict[str, Any] | None = None


class IssueCommentEvent(Payload):
    """What GitHub, Gitea and Forgejo tell of a comment."""

    action: str
    issue: Issue
    comment: IssueComment

    @property
    def event(self) -> Comment | Ignored:
        """Return what it asks for. Only a new comment is a command: one that is edited later is not."""
        if self.issue.pull_request is None:
            return Ignored("the comment is not on a pull request")
        author, comment = self.comment.user, self.comment
        return commented(self.action == "created", self.issue.number, comment.id, comment.body, author.id, author.login)


def commented(
    is_new: bool,  # noqa: FBT001 - as above
    number: int,
    comment: int,
    text: str | None,
    account: int | str,
    name: str,
) -> Comment | Ignored:
    """Return what a comment on a change request asks for."""
    if not is_new:
        return Ignored("only a new comment is a command, not one that was edited or deleted")
    line = command_line(text or "")
    if line is None:
        return Ignored("the comment is no command")
    return Comment(number, str(comment), line, str(account), name)


def something(sha: str | None) -> str | None:
    """Return an object id, None for the zeros that stand for no object."""
    return sha if sha is not None and sha.strip("0") else None


def document(headers: Headers, raw: bytes) -> dict[str, Any]:
    """Return the JSON object of a body: the body itself, or the field `payload` of a form.

    Raises:
        PayloadError: another media type, no JSON, or no object.
    """
    content_type = (headers.one("content-type") or "application/json").partition(";")[0].strip().lower()
    if content_type == _FORM:
        raw = _field(raw)
    elif content_type != "application/json":
        raise PayloadError(f"bodies of type {content_type[:100]!r} are not read, only JSON and forms with `payload`")
    try:
        content = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise PayloadError(f"the body is no JSON: {error}") from None
    if not isinstance(content, dict):
        raise PayloadError("the body is no JSON object")
    return content


def read(model: type[M], content: Any) -> M:
    """Return `content` as a model. Raises `PayloadError`, naming the first field that is wrong."""
    try:
        return model.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise PayloadError(f"{where or 'the body'}: {first['msg']}") from None


def _field(raw: bytes) -> bytes:
    try:
        values = parse_qs(raw.decode("ascii"), strict_parsing=True, max_num_fields=8).get("payload", [])
    except ValueError:
        raise PayloadError("the form cannot be read") from None
    if len(values) != 1:
        raise PayloadError(f"the form has {len(values)} fields `payload` instead of one")
    return values[0].encode("utf-8", "replace")
