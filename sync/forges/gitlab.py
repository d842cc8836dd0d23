"""GitLab: a signing token after Standard Webhooks, or the older secret token that travels in the clear.

A secret that begins with `whsec_` is a signing token and is never accepted as a secret token, nor the other way round.
Facts: docs.gitlab.com/user/project/integrations/webhooks. After four failures in a row GitLab switches a webhook off
for a while, so whatever is authentic and of no interest is answered with success.
"""

from __future__ import annotations

import hashlib
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
    Proof,
    delivery_id,
    shown,
)
from sync.forges.payloads import Payload, Push, Sha, ShortRef, commented, document, read
from sync.forges.signatures import SIGNING_PREFIX, demand_standard, demand_token

_LOOKED_AT: Final = frozenset({"open", "reopen", "update", "close", "merge"})


class _Project(Payload):
    path_with_namespace: str | None = None


class _Sender(Payload):
    username: str | None = None


class _Envelope(Payload):
    object_kind: str | None = None
    event_name: str | None = None
    user_username: str | None = None
    user: _Sender | None = None
    project: _Project | None = None


class GitLab:
    """Deliveries of gitlab.com and GitLab's own installations."""

    names_repository = True
    event_header = "x-gitlab-event"

    def verify(self, headers: Headers, raw: bytes, secrets: Sequence[str], now: datetime) -> Proof:
        """Return the proof of a delivery; see `Forge.verify`."""
        signing = [secret for secret in secrets if secret.startswith(SIGNING_PREFIX)]
        tokens = [secret for secret in secrets if not secret.startswith(SIGNING_PREFIX)]
        event = headers.one("x-gitlab-event") or ""
        # A webhook may have both; the signature counts wherever we can check it.
        if signing and (headers.one("webhook-signature") is not None or not tokens):
            return Proof(delivery_id(demand_standard(headers, raw, signing, now), raw), event)
        demand_token(headers.one("x-gitlab-token"), tokens, header="X-Gitlab-Token")
        return Proof(_id(headers, raw), event)

    def parse(self, proof: Proof, headers: Headers, raw: bytes) -> Notice:
        """Return what a delivery says; see `Forge.parse`. The body tells the kind, since signatures cover it."""
        content = document(headers, raw)
        envelope = read(_Envelope, content)
        kind = envelope.object_kind or envelope.event_name
        if kind is None:
            raise PayloadError(f"object_kind is missing in an event {proof.event!r}")
        return Notice(
            (_event(kind, content),),
            repository=envelope.project.path_with_namespace if envelope.project else None,
            actor=envelope.user_username or (envelope.user.username if envelope.user else None),
        )


def _id(headers: Headers, raw: bytes) -> str:
    stable = headers.one("idempotency-key")
    if stable is not None:
        return delivery_id(stable, raw)
    event_id = headers.one("x-gitlab-event-uuid")
    if event_id is None:
        return delivery_id(None, raw)
    # Events that webhooks caused share the id of the first; the body tells them apart.
    return delivery_id(f"{event_id}:{hashlib.sha256(raw).hexdigest()[:16]}", raw)


class _LastCommit(Payload):
    id: Sha | None = None


class _MergeRequest(Payload):
    iid: Annotated[int, Field(ge=1, lt=10**10)]
    target_branch: ShortRef
    action: str | None = None
    oldrev: Sha | None = None
    last_commit: _LastCommit | None = None

    @property
    def event(self) -> Event:
        if self.action not in _LOOKED_AT:
            return Ignored(f"nothing is done for a merge request that was {shown(self.action) or 'left as it is'}")
        # An update names the revision before it only when there are new commits.
        is_new = self.action == "open" or self.oldrev is not None
        head = self.last_commit.id if is_new and self.last_commit else None
        is_open = self.action not in {"close", "merge"}
        return ChangeRequest(self.iid, f"refs/heads/{self.target_branch}", head, is_open=is_open)


class _MergeRequestEvent(Payload):
    object_attributes: _MergeRequest


class _User(Payload):
    id: int
    username: str


class _Note(Payload):
    id: Annotated[int, Field(ge=1)]
    note: str | None = None
    noteable_type: str | None = None
    action: str | None = None
    system: bool | None = None


class _Noted(Payload):
    iid: Annotated[int, Field(ge=1, lt=10**10)]


class _NoteEvent(Payload):
    user: _User
    object_attributes: _Note
    merge_request: _Noted | None = None

    @property
    def event(self) -> Event:
        note, request = self.object_attributes, self.merge_request
        if request is None or note.noteable_type != "MergeRequest" or note.system:
            return Ignored("the comment is not on a merge request")
        # Installations before 16.7 tell of new comments only, and name no action.
        is_new = note.action in {None, "create"}
        return commented(is_new, request.iid, note.id, note.note, self.user.id, self.user.username)


def _event(kind: str, content: object) -> Event:
    if kind in {"push", "tag_push"}:
        return read(Push, content).event
    if kind == "merge_request":
        return read(_MergeRequestEvent, content).object_attributes.event
    if kind == "note":
        return read(_NoteEvent, content).event
    return Ignored(f"nothing is done for the event {kind[:100]!r}")
