"""GitHub: `X-Hub-Signature-256` over the raw body; the older SHA-1 header counts for nothing.

Facts: docs.github.com, "Validating webhook deliveries" and "Webhook events and payloads". A redelivery repeats the
delivery's id. The signature holds no time.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sync.forges.base import Event, Headers, Ignored, Notice, PayloadError, Ping, Proof, delivery_id
from sync.forges.payloads import Account, IssueCommentEvent, Named, Payload, PullRequestEvent, Push, document, read
from sync.forges.signatures import demand_hex


class _Envelope(Payload):
    repository: Named | None = None
    sender: Account | None = None


class GitHub:
    """Deliveries of github.com and GitHub Enterprise."""

    names_repository = True
    event_header = "x-github-event"

    def verify(self, headers: Headers, raw: bytes, secrets: Sequence[str], now: datetime) -> Proof:  # noqa: ARG002 - no time is signed
        """Return the proof of a delivery; see `Forge.verify`."""
        given = headers.one("x-hub-signature-256")
        demand_hex(given, raw, secrets, prefix="sha256=", header="X-Hub-Signature-256")
        return Proof(delivery_id(headers.one("x-github-delivery"), raw), headers.one("x-github-event") or "")

    def parse(self, proof: Proof, headers: Headers, raw: bytes) -> Notice:
        """Return what a delivery says; see `Forge.parse`. Creations and deletions come as pushes too."""
        if not proof.event:
            raise PayloadError("the header X-GitHub-Event is missing")
        content = document(headers, raw)
        envelope = read(_Envelope, content)
        return Notice(
            (_event(proof.event, content),),
            repository=envelope.repository.full_name if envelope.repository else None,
            actor=envelope.sender.login if envelope.sender else None,
        )


def _event(name: str, content: object) -> Event:
    if name == "ping":
        return Ping()
    if name == "push":
        return read(Push, content).event
    if name == "pull_request":
        return read(PullRequestEvent, content).event
    if name == "issue_comment":
        return read(IssueCommentEvent, content).event
    return Ignored(f"nothing is done for the event {name!r}")
