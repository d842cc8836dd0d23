"""The log of webhook deliveries: what came, what became of it, and doing it again."""

from __future__ import annotations

import base64
from typing import Any, Final

from runner.access import Permission
from runner.errors import ConflictError, InvalidError, NotFoundError
from runner.store.records import Delivery
from sync.forges.base import change_number
from sync.hook_check import check_hook
from webhooks.answers.instance import DELIVERY, HOOK_CHECK, REPLAYED, WHOLE_DELIVERY
from webhooks.api.environments import sync_of
from webhooks.call import Call, page_of
from webhooks.parameters import number, text
from webhooks.routes import Endpoint
from webhooks.schemas import page
from webhooks.shapes import delivery_json

_BASE: Final = "/api/v1/{tenant}"
_RESULTS: Final = frozenset({"ACCEPTED", "IGNORED", "DUPLICATE", "REFUSED"})
_MOST: Final = 1_000
_LONGEST_NUMBER: Final = 18


def deliveries(call: Call) -> dict[str, Any]:
    """Answer with the latest deliveries, the newest first, of one repository or of all."""
    name, limit, result = call.query("repository"), call.count("limit"), call.query("result")
    if result is not None and result not in _RESULTS:
        raise InvalidError("delivery.result.unknown", f"no result {result!r}", hint=", ".join(sorted(_RESULTS)))
    store = call.services.store
    if name is not None and store.read(lambda db: db.repositories.get(name)) is None:
        raise NotFoundError("repository.missing", f"no repository named {name!r}")
    rows = store.read(lambda db: db.deliveries.list(name, limit, result))
    return page_of((delivery_json(row) for row in rows), len(rows))


def delivery(call: Call) -> dict[str, Any]:
    """Answer with one delivery, its headers (without those that prove it), and the first 64 KiB of its body."""
    found = _delivery(call)
    try:
        body, encoding = found.body.decode(), "text"
    except UnicodeDecodeError:
        body, encoding = base64.b64encode(found.body).decode(), "base64"
    return {**delivery_json(found), "headers": found.headers, "body": body, "bodyEncoding": encoding}


def replay(call: Call) -> dict[str, Any]:
    """Do again what a delivery asked for: payloads are hints, so that is to look at the repository now."""
    found, store = _delivery(call), call.services.store
    if found.result == "REFUSED":
        raise ConflictError(
            "delivery.refused",
            f"delivery {found.id} was refused: {found.reason}",
            hint="mend that and let the forge send it again; mainstem sync run looks at the repository in any case",
        )
    call.note(found.repository, verb="replay", delivery=found.id)
    reason = f"replay of delivery {found.delivery_id}"
    results = sync_of(call).reconcile_repository(found.repository, actor=call.actor, reason=reason)
    change = change_number(found.ref)
    if change is not None:
        sync_of(call).review_again(found.repository, change)
    store.write(lambda db: db.deliveries.set_result(found.id, "ACCEPTED", f"replayed by {call.actor}"))
    call.services.catalogue.invalidate()
    return {"delivery": delivery_json(_delivery(call)), "results": [item.as_json() for item in results]}


def test(call: Call) -> dict[str, Any]:
    """Send a signed sample to the receiver of a repository, or of an environment's, and say how it was answered."""
    name = call.path("name")
    environment = call.services.store.read(lambda db: db.environments.get(name))
    repository = sync_of(call).credentials(environment.repository if environment else name)
    call.note(repository.name, verb="webhook.test")
    if not (repository.webhook_secret or "").strip():
        raise ConflictError(
            "hook.secret.missing",
            f"repository {repository.name} has no webhook secret, so it takes no webhooks",
            hint="set webhookSecret in mainstem.yaml, and the same at the forge",
        )
    url = f"{call.services.settings.public_url}/hooks/{repository.name}"
    return check_hook(url, repository.webhook_secret or "").as_json()


def _delivery(call: Call) -> Delivery:
    name = call.path("id")
    row_id = int(name) if name.isascii() and name.isdigit() and len(name) <= _LONGEST_NUMBER else 0
    found: Delivery | None = call.services.store.read(lambda db: db.deliveries.get(row_id))
    if found is None:
        raise NotFoundError("delivery.missing", f"no delivery {name[:50]}", hint="mainstem sync deliveries")
    return found


def endpoints() -> list[Endpoint]:
    """Return the routes of this file."""
    read, again, tag = Permission.DELIVERY_READ, Permission.DELIVERY_REPLAY, "sync"
    all_of_them, newest = _BASE + "/deliveries", "Webhook deliveries, the newest first"
    some = (
        text("repository", "Of this repository."),
        text("result", "What became of them: ACCEPTED, IGNORED, DUPLICATE or REFUSED."),
        number("limit", "At most so many.", 50, least=1, most=_MOST),
    )
    return [
        Endpoint("GET", all_of_them, read, deliveries, newest, tag, query=some, answer=page(DELIVERY)),
        Endpoint(
            "GET", all_of_them + "/{id}", read, delivery, "One delivery with its body", tag, answer=WHOLE_DELIVERY
        ),
        Endpoint(
            "POST",
            _BASE + "/hooks/{name}/test",
            again,
            test,
            "Send a signed sample to a receiver",
            tag,
            answer=HOOK_CHECK,
        ),
        Endpoint("POST", all_of_them + "/{id}/replay", again, replay, "Do a delivery again", tag, answer=REPLAYED),
    ]
