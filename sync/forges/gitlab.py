"""GitLab: a signing token after Standard Webhooks, or the older secret token that travels in the clear.

A secret that begins with `whsec_` is a signing token and is never accepted as a secret token, nor the other way round.
Facts: docs.gitlab.com/user/project/integrations/webhooks. After four failures in a row GitLab switches a webhook off
for a while, so whatever is authentic and of no interest is answered with success.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime

from sync.forges.base import Event, Headers, Ignored, Notice, PayloadError, Proof, delivery_id
from sync.forges.payloads import Payload, Push, document, read
from sync.forges.signatures import SIGNING_PREFIX, demand_standard, demand_token


class _Project(Payload):
    path_with_namespace: str | None = None


class _Envelope(Payload):
    object_kind: str | None = None
    event_name: str | None = None
    user_username: str | None = None
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
            actor=envelope.user_username,
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


def _event(kind: str, content: object) -> Event:
    if kind in {"push", "tag_push"}:
        return read(Push, content).event
    return Ignored(f"nothing is done for the event {kind[:100]!r}")
