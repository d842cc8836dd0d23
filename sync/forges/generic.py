"""Any other sender: a body of ours, signed after Standard Webhooks, for example by a `post-receive` hook.

    {"type": "push", "ref": "refs/heads/main", "before": "<sha>", "after": "<sha>",
     "repository": "acme/flows", "actor": "ann"}

Only `type` and, for a push, `ref` are needed. `docs/webhooks.md` has a hook that sends it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sync.forges.base import Event, Headers, Ignored, Notice, Ping, Proof, delivery_id
from sync.forges.payloads import Payload, Push, document, read
from sync.forges.signatures import demand_standard


class _Envelope(Payload):
    type: str
    repository: str | None = None
    actor: str | None = None


class Generic:
    """Deliveries in the form of this product."""

    names_repository = False
    event_header = "webhook-id"

    def verify(self, headers: Headers, raw: bytes, secrets: Sequence[str], now: datetime) -> Proof:
        """Return the proof of a delivery; see `Forge.verify`."""
        return Proof(delivery_id(demand_standard(headers, raw, secrets, now), raw), "")

    def parse(self, proof: Proof, headers: Headers, raw: bytes) -> Notice:  # noqa: ARG002 - the body says all
        """Return what a delivery says; see `Forge.parse`."""
        content = document(headers, raw)
        envelope = read(_Envelope, content)
        event = _event(envelope.type, content)
        return Notice((event,), repository=envelope.repository, actor=envelope.actor, kind=envelope.type)


def _event(name: str, content: object) -> Event:
    if name == "ping":
        return Ping()
    if name == "push":
        return read(Push, content).event
    return Ignored(f"nothing is done for the type {name[:100]!r}")
