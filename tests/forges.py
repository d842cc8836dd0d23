"""Webhook deliveries as the forges send them: our own payloads, with real signatures.

Loaded by the fixture `senders` of `tests/conftest.py`, because tests are no package when the installed wheel is tested.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

BEFORE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
AFTER = "9f2c1a7d30e45b6c8d9e0f1a2b3c4d5e6f708192"
SECRET = "correct horse battery staple"
SIGNING_SECRET = "whsec_" + base64.b64encode(b"thirty-two bytes of a signing key").decode()
_PAYLOADS = Path(__file__).parent / "payloads"
Sign = Callable[[bytes, str, str, datetime], dict[str, str]]


@dataclass(frozen=True)
class Sent:
    """A delivery: what to post."""

    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Sender:
    """A forge that delivers. `kind` is the repository's; `events` gives the headers of each shape of payload."""

    name: str
    kind: str
    secret: str
    sign: Sign
    events: Mapping[str, Mapping[str, str]]

    @property
    def shapes(self) -> list[str]:
        return sorted(self.events)

    def payload(self, shape: str) -> dict[str, Any]:
        folder = "gitea" if self.kind == "forgejo" else self.kind
        content: dict[str, Any] = json.loads((_PAYLOADS / folder / f"{shape}.json").read_text())
        return content

    def send(
        self,
        shape: str = "push",
        *,
        after: str = AFTER,
        secret: str | None = None,
        delivery: str | None = None,
        at: datetime | None = None,
        body: bytes | None = None,
    ) -> Sent:
        """Return a delivery, signed now and over the very bytes that are sent."""
        if body is None:
            body = json.dumps(self.payload(shape)).replace(AFTER, after).encode()
        delivery = delivery or str(uuid.uuid4())
        at = at or datetime.now(UTC)
        signed = self.sign(body, secret or self.secret, delivery, at)
        return Sent({"content-type": "application/json", **self.events[shape], **signed}, body)


def _hmac(secret: str, body: bytes) -> str:
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def _github(body: bytes, secret: str, delivery: str, _at: datetime) -> dict[str, str]:
    return {"x-hub-signature-256": f"sha256={_hmac(secret, body)}", "x-github-delivery": delivery}


def _bitbucket(body: bytes, secret: str, delivery: str, _at: datetime) -> dict[str, str]:
    return {"x-hub-signature": f"sha256={_hmac(secret, body)}", "x-request-uuid": delivery}


def _gitea(body: bytes, secret: str, delivery: str, _at: datetime) -> dict[str, str]:
    signature = _hmac(secret, body)
    copies = {
        "x-hub-signature-256": f"sha256={signature}",
        "x-gogs-signature": signature,
        "x-github-delivery": delivery,
    }
    return {"x-gitea-signature": signature, "x-gitea-delivery": delivery, **copies}


def _forgejo(body: bytes, secret: str, delivery: str, at: datetime) -> dict[str, str]:
    own = {"x-forgejo-signature": _hmac(secret, body), "x-forgejo-delivery": delivery}
    return {**_gitea(body, secret, delivery, at), **own}


def _gitlab_token(_body: bytes, secret: str, delivery: str, _at: datetime) -> dict[str, str]:
    return {"x-gitlab-token": secret, "x-gitlab-event-uuid": str(uuid.uuid4()), "idempotency-key": delivery}


def _standard(body: bytes, secret: str, delivery: str, at: datetime) -> dict[str, str]:
    key = base64.b64decode(secret.removeprefix("whsec_")) if secret.startswith("whsec_") else secret.encode()
    timestamp = str(int(at.timestamp()))
    digest = hmac.new(key, f"{delivery}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    signature = f"v1,{base64.b64encode(digest).decode()}"
    return {"webhook-id": delivery, "webhook-timestamp": timestamp, "webhook-signature": signature}


def _gitlab_signing(body: bytes, secret: str, delivery: str, at: datetime) -> dict[str, str]:
    return {**_standard(body, secret, delivery, at), "idempotency-key": delivery}


def _named(header: str, **events: str) -> dict[str, dict[str, str]]:
    return {shape: {header: event} for shape, event in events.items()}


_PUSHES = ("push", "tag", "deletion", "forced")
_COMMENTS = ("comment", "comment_edited", "comment_quoted")
_CHANGES = ("change_opened", "change_updated", "change_closed", "change_labeled")
_GITHUB = _named(
    "x-github-event",
    **dict.fromkeys(_PUSHES, "push"),
    **dict.fromkeys(_CHANGES, "pull_request"),
    **dict.fromkeys(_COMMENTS, "issue_comment"),
    ping="ping",
    uninteresting="star",
)
_GITLAB = _named(
    "x-gitlab-event",
    **dict.fromkeys(_PUSHES, "Push Hook") | {"tag": "Tag Push Hook"},
    **dict.fromkeys(_CHANGES, "Merge Request Hook"),
    **dict.fromkeys(_COMMENTS, "Note Hook"),
    uninteresting="Pipeline Hook",
)
_GITEA = {
    shape: {"x-gitea-event": event, "x-gogs-event": event, "x-github-event": event}
    for shape, event in {
        **dict.fromkeys(_PUSHES, "push"),
        **dict.fromkeys(_CHANGES, "pull_request"),
        **dict.fromkeys(_COMMENTS, "issue_comment"),
        "change_updated": "pull_request_sync",
        "deletion": "delete",
        "created": "create",
        "uninteresting": "issues",
    }.items()
}
_FORGEJO = {shape: {"x-forgejo-event": names["x-gitea-event"], **names} for shape, names in _GITEA.items()}
_BITBUCKET = _named(
    "x-event-key",
    **dict.fromkeys((*_PUSHES, "several"), "repo:push"),
    change_opened="pullrequest:created",
    change_updated="pullrequest:updated",
    change_closed="pullrequest:fulfilled",
    comment="pullrequest:comment_created",
    comment_edited="pullrequest:comment_updated",
    comment_quoted="pullrequest:comment_created",
    ping="diagnostics:ping",
    uninteresting="repo:commit_comment_created",
)
_GENERIC: dict[str, dict[str, str]] = {shape: {} for shape in (*_PUSHES, "ping", "uninteresting")}

SENDERS = {
    sender.name: sender
    for sender in (
        Sender("github", "github", SECRET, _github, _GITHUB),
        Sender("gitlab-token", "gitlab", SECRET, _gitlab_token, _GITLAB),
        Sender("gitlab-signing", "gitlab", SIGNING_SECRET, _gitlab_signing, _GITLAB),
        Sender("gitea", "gitea", SECRET, _gitea, _GITEA),
        Sender("forgejo", "forgejo", SECRET, _forgejo, _FORGEJO),
        Sender("bitbucket", "bitbucket", SECRET, _bitbucket, _BITBUCKET),
        Sender("generic", "generic", SIGNING_SECRET, _standard, _GENERIC),
    )
}
