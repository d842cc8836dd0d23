"""What a delivery is worth: the repository that it is for, the proof, and what it asks for.

Nothing is parsed before the proof holds. An unknown name, a repository without a secret and a wrong signature end in
the same error, and cost about the same: what nobody can have signed is hashed too.
"""

from __future__ import annotations

import re
import secrets as randomness
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from runner.errors import NotFoundError
from runner.store import Store
from runner.store.records import Delivery, Repository
from sync.deliveries import DeliveryLog
from sync.forges.base import Comment, Forge, Headers, PayloadError, Proof, UnprovenError, shown
from sync.forges.generic import Generic
from sync.forges.registry import forge_of
from sync.forges.verdict import judge

_NAME: Final = re.compile(r"[\w-]{1,100}\Z")
_KEPT_BYTES: Final = 64 * 1024
_LONGEST_HEADER: Final = 300
# Headers that tell what a delivery was. Those that prove it are secrets, or as good as, and are not kept.
_KEPT_HEADERS: Final = (
    "content-type",
    "user-agent",
    "x-github-event",
    "x-github-delivery",
    "x-github-hook-id",
    "x-gitlab-event",
    "x-gitlab-event-uuid",
    "x-gitlab-instance",
    "idempotency-key",
    "x-gitea-event",
    "x-gitea-delivery",
    "x-forgejo-event",
    "x-forgejo-delivery",
    "x-event-key",
    "x-request-uuid",
    "x-hook-uuid",
    "x-attempt-number",
    "webhook-id",
    "webhook-timestamp",
)


@dataclass(frozen=True, slots=True)
class Judged:
    """A proven delivery, ready to be written.

    `error` is what its sender is told when its content is malformed, `comment` the command that it brings.
    """

    delivery: Delivery
    error: PayloadError | None = None
    comment: Comment | None = None


class Receiving:
    """Judges deliveries. Safe for any thread; a call hashes the whole body and reads the store.

    Args:
        store: its environments say which refs are followed.
        credentials: gives a repository with its secrets in the clear; raises `NotFoundError`.
        deliveries: told of those that prove nothing.
        clock: the time that deliveries are dated with and signed times are compared to.
    """

    def __init__(
        self,
        store: Store,
        credentials: Callable[[str], Repository],
        deliveries: DeliveryLog,
        clock: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._credentials = credentials
        self._deliveries = deliveries
        self._clock = clock
        self._nobodys = (randomness.token_hex(32),)

    def judge(self, name: str, headers: Headers, raw: bytes) -> Judged:
        """Return what the delivery for the repository `name` is worth. Raises `UnprovenError`."""
        now, repository = self._clock(), self._known(name)
        secrets = _secrets(repository) if repository else ()
        forge = _forge(repository, headers)
        try:
            proof = forge.verify(headers, raw, secrets or self._nobodys, now)
        except UnprovenError as error:
            if repository is not None:
                reason = error.message if secrets else "the repository has no webhook secret"
                self._deliveries.refuse(repository.name, reason, now)
            raise
        if repository is None or not secrets:
            raise UnprovenError("it is signed with a secret that nobody was told")
        return self._read(repository, forge, proof, headers, raw, now)

    def _known(self, name: str) -> Repository | None:
        if not _NAME.match(name):
            return None
        try:
            return self._credentials(name)
        except NotFoundError:
            return None

    def _read(
        self, repository: Repository, forge: Forge, proof: Proof, headers: Headers, raw: bytes, now: datetime
    ) -> Judged:
        delivery = Delivery(
            repository.name,
            proof.delivery_id,
            shown(proof.event) or "",
            now,
            "REFUSED",
            body=raw[:_KEPT_BYTES],
            headers=_kept(headers),
        )
        try:
            notice = forge.parse(proof, headers, raw)
            verdict = judge(notice, repository.url, self._follows(repository), names_repository=forge.names_repository)
        except PayloadError as error:
            return Judged(replace(delivery, reason=shown(error.message)), error)
        return Judged(
            replace(
                delivery,
                event=shown(proof.event or notice.kind) or "",
                result=verdict.result,
                ref=verdict.ref,
                before=verdict.before,
                after=verdict.after,
                actor=shown(notice.actor),
                reason=verdict.reason,
            ),
            comment=verdict.comment,
        )

    def _follows(self, repository: Repository) -> frozenset[str]:
        environments = self._store.read(lambda db: db.environments.of_repository(repository.name))
        return frozenset(environment.ref for environment in environments)


def _secrets(repository: Repository) -> tuple[str, ...]:
    """Return the secrets that count now. None at all means that everything is refused."""
    given = (repository.webhook_secret, repository.previous_webhook_secret)
    return tuple(secret for secret in given if secret and secret.strip())


def _forge(repository: Repository | None, headers: Headers) -> Forge:
    """Return how a delivery is to be read: as its repository's forge sends, or in our own form, which all may use."""
    forge = forge_of(repository.kind) if repository else None
    is_generic = headers.has("webhook-signature") and forge is not None and not headers.has(forge.event_header)
    return Generic() if forge is None or is_generic else forge


def _kept(headers: Headers) -> dict[str, str]:
    return {name: text for name in _KEPT_HEADERS if (text := shown(headers.first(name)[:_LONGEST_HEADER]))}
