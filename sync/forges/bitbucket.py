"""Bitbucket Cloud: `X-Hub-Signature: sha256=...`, the header that GitHub once used for SHA-1.

One delivery may tell of several refs. Facts: support.atlassian.com/bitbucket-cloud/docs/event-payloads and
/manage-webhooks.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Final

from pydantic import Field

from sync.forges.base import (
    ChangeRequest,
    Event,
    Headers,
    Ignored,
    Notice,
    PayloadError,
    Ping,
    Proof,
    RefDeleted,
    RefMoved,
    delivery_id,
)
from sync.forges.payloads import Named, Payload, Sha, ShortRef, commented, document, read, something
from sync.forges.signatures import demand_hex

_CLOSED: Final = frozenset({"pullrequest:fulfilled", "pullrequest:rejected"})
_COMMENTS: Final = frozenset({"pullrequest:comment_created", "pullrequest:comment_updated"})
_LOOKED_AT: Final = _CLOSED | {"pullrequest:created", "pullrequest:updated"}


class _Target(Payload):
    hash: Sha | None = None


class _End(Payload):
    """One side of a change: the ref and what it names."""

    name: ShortRef
    type: str | None = None
    target: _Target | None = None

    @property
    def ref(self) -> str:
        # Whatever is not a tag lies among the heads (`branch`, and `named_branch` of old repositories).
        folder = "tags" if self.type in {"tag", "annotated_tag"} else "heads"
        return f"refs/{folder}/{self.name}"

    @property
    def commit(self) -> str | None:
        return something(self.target.hash) if self.target else None


class _Change(Payload):
    new: _End | None = None
    old: _End | None = None
    forced: bool | None = None


class _Changes(Payload):
    changes: list[_Change | None] | None = None


class _Actor(Payload):
    account_id: str | None = None
    nickname: str | None = None


class _Envelope(Payload):
    repository: Named | None = None
    actor: _Actor | None = None


class _Pushed(Payload):
    push: _Changes | None = None


class Bitbucket:
    """Deliveries of bitbucket.org."""

    names_repository = True
    event_header = "x-event-key"

    def verify(self, headers: Headers, raw: bytes, secrets: Sequence[str], now: datetime) -> Proof:  # noqa: ARG002 - no time is signed
        """Return the proof of a delivery; see `Forge.verify`."""
        demand_hex(headers.one("x-hub-signature"), raw, secrets, prefix="sha256=", header="X-Hub-Signature")
        return Proof(delivery_id(headers.one("x-request-uuid"), raw), headers.one("x-event-key") or "")

    def parse(self, proof: Proof, headers: Headers, raw: bytes) -> Notice:
        """Return what a delivery says; see `Forge.parse`."""
        if not proof.event:
            raise PayloadError("the header X-Event-Key is missing")
        if proof.event == "diagnostics:ping":
            return Notice((Ping(),))
        content = document(headers, raw)
        envelope = read(_Envelope, content)
        return Notice(
            _events(proof.event, content),
            repository=envelope.repository.full_name if envelope.repository else None,
            actor=(envelope.actor.nickname or envelope.actor.account_id) if envelope.actor else None,
        )


class _BranchName(Payload):
    name: ShortRef


class _Destination(Payload):
    branch: _BranchName


class _PullRequest(Payload):
    id: Annotated[int, Field(ge=1, lt=10**10)]
    destination: _Destination


class _PullRequestEvent(Payload):
    pullrequest: _PullRequest


def _change(name: str, content: object) -> ChangeRequest:
    # The payload has only the first digits of the commit, and updates of the title come under the same name.
    found = read(_PullRequestEvent, content).pullrequest
    return ChangeRequest(found.id, f"refs/heads/{found.destination.branch.name}", is_open=name not in _CLOSED)


class _Text(Payload):
    raw: str | None = None


class _User(Payload):
    uuid: str
    nickname: str | None = None


class _Comment(Payload):
    id: Annotated[int, Field(ge=1)]
    content: _Text
    user: _User


class _Commented(Payload):
    id: Annotated[int, Field(ge=1, lt=10**10)]


class _CommentEvent(Payload):
    pullrequest: _Commented
    comment: _Comment


def _comment(name: str, content: object) -> Event:
    found = read(_CommentEvent, content)
    comment, user = found.comment, found.comment.user
    is_new = name == "pullrequest:comment_created"
    return commented(
        is_new, found.pullrequest.id, comment.id, comment.content.raw, user.uuid, user.nickname or user.uuid
    )


def _events(name: str, content: object) -> tuple[Event, ...]:
    if name in _LOOKED_AT:
        return (_change(name, content),)
    if name in _COMMENTS:
        return (_comment(name, content),)
    if name != "repo:push":
        return (Ignored(f"nothing is done for the event {name!r}"),)
    pushed = read(_Pushed, content)
    changes = (pushed.push.changes or []) if pushed.push else []
    events = tuple(event for change in changes if change is not None and (event := _event(change)) is not None)
    return events or (Ignored("the push changed no ref"),)


def _event(change: _Change) -> Event | None:
    before = change.old.commit if change.old else None
    if change.new is not None:
        return RefMoved(change.new.ref, before, change.new.commit, change.forced)
    return RefDeleted(change.old.ref, before) if change.old else None
