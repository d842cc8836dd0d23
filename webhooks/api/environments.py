"""Repositories, the environments that follow them, their revisions, plans and deliveries: routes of our own."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from runner.access import Permission
from runner.errors import ConflictError, InvalidError, NotFoundError
from runner.store.records import Delivery, Environment, Repository
from webhooks.call import Call, page_of
from webhooks.routes import Endpoint
from webhooks.shapes import delivery_json, environment_json, repository_json, revision_json

if TYPE_CHECKING:
    from sync.service import SyncService

_BASE: Final = "/api/v1/{tenant}"
_COMMIT: Final = re.compile(r"[0-9a-f]{7,64}")
_DELIVERY_RESULTS: Final = frozenset({"ACCEPTED", "IGNORED", "DUPLICATE", "REFUSED"})


def repositories(call: Call) -> dict[str, Any]:
    """Answer with all repositories, without anything secret."""
    rows = call.services.store.read(lambda db: db.repositories.all())
    return page_of((repository_json(row) for row in rows), len(rows))


def environments(call: Call) -> dict[str, Any]:
    """Answer with all environments and what is active in each."""
    rows = call.services.store.read(lambda db: db.environments.all())
    return page_of((environment_json(row) for row in rows), len(rows))


def environment(call: Call) -> dict[str, Any]:
    """Answer with one environment."""
    return environment_json(_environment(call))


def revisions(call: Call) -> dict[str, Any]:
    """Answer with the latest revisions of an environment, the newest first."""
    name, paging = _environment(call).name, call.paging(50)
    wanted = paging.offset + paging.size
    rows = call.services.store.read(lambda db: db.revisions.list(name, wanted))
    return page_of((revision_json(row) for row in rows[paging.offset :]), len(rows))


def plan(call: Call) -> dict[str, Any]:
    """Answer with what a commit (the head of the ref without one) would change; changes nothing."""
    found = _environment(call)
    commit = call.query("commit")
    if commit is not None and not _COMMIT.fullmatch(commit):
        raise InvalidError("commit.invalid", f"{commit[:100]!r} is no commit id")
    return _sync(call).plan(found.name, commit).as_json()


def sync(call: Call) -> dict[str, Any]:
    """Look at the repository now; with `allowDeletes` let a held commit delete what it deletes."""
    found = _environment(call)
    body = call.json_map() if call.body.strip() else {}
    allowed = body.get("allowDeletes")
    if allowed is not None:
        if not isinstance(allowed, str) or not _COMMIT.fullmatch(allowed):
            raise InvalidError("commit.invalid", "allowDeletes must be the id of the held commit")
        assert call.identity is not None, "the route knows its caller"
        call.services.access.require(call.identity, Permission.SYNC_FORCE)
        call.note(found.name, allowDeletes=allowed)
        results = [_sync(call).allow_deletes(found.name, allowed, call.actor)]
    else:
        call.note(found.name, verb="sync")
        results = _sync(call).reconcile_repository(found.repository, actor=call.actor, reason="api")
    call.services.catalogue.invalidate()
    return {"environment": environment_json(_environment(call)), "results": [item.as_json() for item in results]}


def deliveries(call: Call) -> dict[str, Any]:
    """Answer with the latest webhook deliveries of a repository, the newest first."""
    name, limit, result = _repository(call).name, call.number("limit", 50, least=1) or 50, call.query("result")
    if limit > 1_000:
        raise InvalidError("request.page.invalid", f"limit={limit} is more than 1000")
    if result is not None and result not in _DELIVERY_RESULTS:
        raise InvalidError(
            "delivery.result.unknown", f"no result {result!r}", hint=", ".join(sorted(_DELIVERY_RESULTS))
        )
    rows = call.services.store.read(lambda db: db.deliveries.list(name, limit, result))
    return page_of((delivery_json(row) for row in rows), len(rows))


def replay(call: Call) -> dict[str, Any]:
    """Do again what a delivery asked for: payloads are hints, so that is to look at the repository now."""
    name, number = _repository(call).name, call.path("id")

    def find(db: Any) -> Delivery | None:
        return db.deliveries.get(int(number)) if number.isascii() and number.isdigit() and len(number) < 19 else None

    delivery = call.services.store.read(find)
    if delivery is None or delivery.repository != name:
        raise NotFoundError("delivery.missing", f"no delivery {number} of the repository {name!r}")
    call.note(name, verb="replay", delivery=delivery.id)
    reason = f"replay of delivery {delivery.delivery_id}"
    results = _sync(call).reconcile_repository(name, actor=call.actor, reason=reason)
    call.services.catalogue.invalidate()
    return {"delivery": delivery_json(delivery), "results": [item.as_json() for item in results]}


def _environment(call: Call) -> Environment:
    name = call.path("name")
    found: Environment | None = call.services.store.read(lambda db: db.environments.get(name))
    if found is None:
        raise NotFoundError("environment.missing", f"no environment named {name!r}")
    return found


def _repository(call: Call) -> Repository:
    name = call.path("name")
    found: Repository | None = call.services.store.read(lambda db: db.repositories.get(name))
    if found is None:
        raise NotFoundError("repository.missing", f"no repository named {name!r}")
    return found


def _sync(call: Call) -> SyncService:
    if call.services.sync is None:
        raise ConflictError("sync.elsewhere", "this process does not follow repositories", hint="ask the sync-agent")
    return call.services.sync


def endpoints() -> list[Endpoint]:
    """Return the routes of this file."""
    read, run, tag, json = Permission.SYNC_READ, Permission.SYNC_RUN, "sync", "application/json"
    one = _BASE + "/environments/{name}"
    received = _BASE + "/repositories/{name}/deliveries"
    return [
        Endpoint("GET", _BASE + "/repositories", read, repositories, "All repositories", tag),
        Endpoint("GET", _BASE + "/environments", read, environments, "All environments", tag),
        Endpoint("GET", one, read, environment, "One environment", tag),
        Endpoint("GET", one + "/revisions", read, revisions, "Revisions of an environment", tag),
        Endpoint("GET", one + "/plan", read, plan, "What a commit would change", tag),
        Endpoint("POST", one + "/sync", run, sync, "Look at the repository now", tag, takes=json),
        Endpoint("GET", received, Permission.DELIVERY_READ, deliveries, "Deliveries of a repository", tag),
        Endpoint("POST", received + "/{id}/replay", Permission.DELIVERY_REPLAY, replay, "Do a delivery again", tag),
    ]
