"""Gitea and Forgejo: a bare hexadecimal HMAC in a header of their own.

Both send copies of GitHub's and Gogs' headers as well; those are not looked at. Where Forgejo's signature is present it
is the one that counts. Facts: forgejo.org/docs/latest/user/webhooks, docs.gitea.com/usage/webhooks.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Literal

from sync.forges.base import Event, Headers, Ignored, Notice, PayloadError, Proof, RefDeleted, RefMoved, delivery_id
from sync.forges.payloads import (
    Account,
    IssueCommentEvent,
    Named,
    Payload,
    PullRequestEvent,
    Push,
    Sha,
    ShortRef,
    document,
    read,
    something,
)
from sync.forges.signatures import demand_hex


class _Envelope(Payload):
    repository: Named | None = None
    sender: Account | None = None
    pusher: Account | None = None


class _Named(Payload):
    """The events `create` and `delete` name a branch or tag without what stands before it."""

    ref: ShortRef
    ref_type: Literal["branch", "tag"]
    sha: Sha | None = None

    @property
    def full(self) -> str:
        folder = "heads" if self.ref_type == "branch" else "tags"
        return f"refs/{folder}/{self.ref.removeprefix(f'refs/{folder}/')}"


class Gitea:
    """Deliveries of Gitea and Forgejo. "Test delivery" of their pages is a push of the last commit."""

    names_repository = True
    event_header = "x-gitea-event"

    def verify(self, headers: Headers, raw: bytes, secrets: Sequence[str], now: datetime) -> Proof:  # noqa: ARG002 - no time is signed
        """Return the proof of a delivery; see `Forge.verify`."""
        forgejo = headers.one("x-forgejo-signature")
        name = "X-Forgejo-Signature" if forgejo else "X-Gitea-Signature"
        demand_hex(forgejo or headers.one("x-gitea-signature"), raw, secrets, header=name)
        given = headers.one("x-forgejo-delivery") or headers.one("x-gitea-delivery")
        event = headers.one("x-forgejo-event") or headers.one("x-gitea-event")
        return Proof(delivery_id(given, raw), event or "")

    def parse(self, proof: Proof, headers: Headers, raw: bytes) -> Notice:
        """Return what a delivery says; see `Forge.parse`."""
        if not proof.event:
            raise PayloadError("the header X-Gitea-Event is missing")
        content = document(headers, raw)
        envelope = read(_Envelope, content)
        account = envelope.sender or envelope.pusher
        return Notice(
            (_event(proof.event, content),),
            repository=envelope.repository.full_name if envelope.repository else None,
            actor=account.login if account else None,
        )


def _event(name: str, content: object) -> Event:
    if name == "push":
        return read(Push, content).event
    if name in {"pull_request", "pull_request_sync"}:
        return read(PullRequestEvent, content).event
    if name in {"issue_comment", "pull_request_comment"}:
        return read(IssueCommentEvent, content).event
    if name == "create":
        made = read(_Named, content)
        return RefMoved(made.full, None, something(made.sha))
    if name == "delete":
        return RefDeleted(read(_Named, content).full)
    return Ignored(f"nothing is done for the event {name!r}")
