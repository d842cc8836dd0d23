"""Repositories, the environments that follow them, their revisions and plans: routes of our own."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from runner.access import Permission
from runner.durations import parse_duration
from runner.errors import ConflictError, InvalidError, MainstemError, NotFoundError
from runner.store import Session
from runner.store.records import Environment, ForgeLimit
from sync.reverts import unproposed
from webhooks.answers.flows import PROPOSED
from webhooks.answers.instance import ENVIRONMENT, PLAN, RECONCILED, REPOSITORY, REVISION
from webhooks.call import Call, page_of
from webhooks.parameters import paging, text
from webhooks.routes import Endpoint
from webhooks.schemas import DURATION, FLAG, TEXT, optional, page, record
from webhooks.shapes import environment_json, limit_json, pin_json, repository_json, revision_json

if TYPE_CHECKING:
    from sync.activation import RevisionResult
    from sync.service import SyncService

_BASE: Final = "/api/v1/{tenant}"
_REVISIONS: Final = 50
_COMMIT: Final = re.compile(r"[0-9a-f]{7,64}")


def repositories(call: Call) -> dict[str, Any]:
    """Answer with all repositories, without anything secret."""
    rows, limits = call.services.store.read(lambda db: (db.repositories.all(), db.forge_limits.all()))
    now, known = datetime.now(UTC), {each.repository: each for each in limits}
    return page_of(
        (repository_json(row) | {"forgeLimit": limit_json(known.get(row.name), now)} for row in rows), len(rows)
    )


def environments(call: Call) -> dict[str, Any]:
    """Answer with all environments and what is active in each."""
    rows = call.services.store.read(lambda db: db.environments.all())
    return page_of((_described(call, row) for row in rows), len(rows))


def environment(call: Call) -> dict[str, Any]:
    """Answer with one environment."""
    return _described(call, _environment(call))


def revisions(call: Call) -> dict[str, Any]:
    """Answer with the latest revisions of an environment, the newest first."""
    name, pages = _environment(call).name, call.paging()
    wanted = pages.offset + pages.size
    rows = call.services.store.read(lambda db: db.revisions.list(name, wanted))
    return page_of((revision_json(row) for row in rows[pages.offset :]), len(rows))


def plan(call: Call) -> dict[str, Any]:
    """Answer with what a commit (the head of the ref without one) would change; changes nothing."""
    found = _environment(call)
    commit = call.query("commit")
    if commit is not None and not _COMMIT.fullmatch(commit):
        raise InvalidError("commit.invalid", f"{commit[:100]!r} is no commit id")
    return sync_of(call).plan(found.name, commit).as_json()


def drift(call: Call) -> dict[str, Any]:
    """Answer with the plan that would bring the flows back to the active commit; without changes nothing drifted."""
    name = _environment(call).name
    found = sync_of(call).drift(name)
    if found is None:
        raise NotFoundError("environment.revision.none", f"environment {name}: nothing is active yet")
    return found.as_json()


def heal(call: Call) -> dict[str, Any]:
    """Bring the flows back to the active commit."""
    found, reason = _environment(call), call.json_map().get("reason")
    if not isinstance(reason, str) or not reason.strip():
        raise InvalidError("environment.reason.missing", "say why: the ledger shows it")
    call.note(found.name, reason=reason)
    result = sync_of(call).heal(found.name, actor=call.actor, reason=" ".join(reason.split()))
    call.services.catalogue.invalidate()
    return {"environment": _described(call, _environment(call)), "results": [result.as_json()]}


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
        results = [sync_of(call).allow_deletes(found.name, allowed, call.actor)]
    else:
        call.note(found.name, verb="sync")
        results = sync_of(call).reconcile_repository(found.repository, actor=call.actor, reason="api")
    call.services.catalogue.invalidate()
    return {"environment": _described(call, _environment(call)), "results": [item.as_json() for item in results]}


def rollback(call: Call) -> dict[str, Any]:
    """Go back to the revision that was active before, or to `commit`, and stay there."""
    return _stay(call, "rollback")


def pin(call: Call) -> dict[str, Any]:
    """Go to `commit` and stay there, whatever the ref names."""
    return _stay(call, "pin")


def suspend(call: Call) -> dict[str, Any]:
    """Stay at what is active now, whatever the ref names."""
    return _stay(call, "suspend")


def _stay(call: Call, action: str) -> dict[str, Any]:
    found, body = _environment(call), call.json_map()
    commit, reason, length = body.get("commit"), body.get("reason") or "", body.get("for")
    if commit is not None and (not isinstance(commit, str) or not _COMMIT.fullmatch(commit)):
        raise InvalidError("commit.invalid", "commit must be a commit id of seven digits or more")
    if (action == "pin") != (commit is not None) and action != "rollback":
        raise InvalidError("commit.invalid", f"{action} takes {'a' if action == 'pin' else 'no'} commit")
    if not isinstance(reason, str) or not isinstance(length, str | None):
        raise InvalidError("environment.reason.missing", "`reason` and `for` are texts")
    until = datetime.now(UTC) + parse_duration(length) if length else None
    call.note(found.name, commit=commit, reason=reason)
    result = sync_of(call).stay(found.name, commit, action=action, actor=call.actor, reason=reason, until=until)
    call.services.catalogue.invalidate()
    answer = {"environment": _described(call, _environment(call)), "results": [result.as_json()]}
    return answer | (_followed_up(call, result, reason) if body.get("propose") is True else {})


def _followed_up(call: Call, result: RevisionResult, reason: str) -> dict[str, Any]:
    """Propose to go back in git too; what keeps that is no error, since the environment is back already."""
    try:
        made = sync_of(call).reverts.propose(result.environment, result.commit, actor=call.actor, reason=reason)
    except MainstemError as error:
        return {"pullRequest": None, "unproposed": f"{error.code}: {error.message}"}
    return {"pullRequest": made.as_json()}


def revert(call: Call) -> dict[str, Any]:
    """Propose that the files of an environment are those of `commit` again, or of what is pinned or was before."""
    found, body = _environment(call), call.json_map()
    commit, reason = body.get("commit"), body.get("reason")
    if commit is not None and (not isinstance(commit, str) or not _COMMIT.fullmatch(commit)):
        raise InvalidError("commit.invalid", "commit must be a commit id of seven digits or more")
    if not isinstance(reason, str) or not reason.strip():
        raise InvalidError("environment.reason.missing", "say why: the change request shows it")
    call.proposals.append(
        sync_of(call).reverts.propose(found.name, commit, actor=call.actor, reason=" ".join(reason.split()))
    )
    return {"environment": _described(call, found)}


def resume(call: Call) -> dict[str, Any]:
    """Follow the ref again, and look at the repository now."""
    found = _environment(call)
    body = call.json_map() if call.body.strip() else {}
    reason = body.get("reason")
    if not isinstance(reason, str | None):
        raise InvalidError("environment.reason.missing", "`reason` is a text")
    call.note(found.name, reason=reason)
    results = sync_of(call).resume(found.name, actor=call.actor, reason=reason)
    call.services.catalogue.invalidate()
    return {"environment": _described(call, _environment(call)), "results": [item.as_json() for item in results]}


def _described(call: Call, found: Environment) -> dict[str, Any]:
    def read(db: Session) -> tuple[dict[str, Any] | None, dict[str, Any] | None, ForgeLimit | None]:
        pin = db.pins.get(found.name)
        held_by = pin_json(pin) | {"unproposed": unproposed(db, pin)} if pin else None
        limit = db.forge_limits.get(found.repository)
        return held_by, db.revisions.signature_of(found.name, found.active or ""), limit

    held_by, signature, limit = call.services.store.read(read)
    return {
        **environment_json(found),
        "pin": held_by,
        "signature": signature,
        "forgeLimit": limit_json(limit, datetime.now(UTC)),
    }


def _environment(call: Call) -> Environment:
    name = call.path("name")
    found: Environment | None = call.services.store.read(lambda db: db.environments.get(name))
    if found is None:
        raise NotFoundError("environment.missing", f"no environment named {name!r}", hint="mainstem sync status")
    return found


def sync_of(call: Call) -> SyncService:
    """Return the part that follows repositories. Raises `ConflictError` `sync.elsewhere` where it does not run."""
    if call.services.sync is None:
        raise ConflictError("sync.elsewhere", "this process does not follow repositories", hint="ask the sync-agent")
    return call.services.sync


def endpoints() -> list[Endpoint]:
    """Return the routes of this file."""
    read, tag = Permission.SYNC_READ, "sync"
    one, every = _BASE + "/environments/{name}", _BASE + "/repositories"
    commit = (text("commit", "A commit; the head of the ref without it."),)
    return [
        Endpoint("GET", every, read, repositories, "All repositories", tag, answer=page(REPOSITORY)),
        Endpoint("GET", _BASE + "/environments", read, environments, "All environments", tag, answer=page(ENVIRONMENT)),
        Endpoint("GET", one, read, environment, "One environment", tag, answer=ENVIRONMENT),
        Endpoint(
            "GET",
            one + "/revisions",
            read,
            revisions,
            "Revisions of an environment",
            tag,
            query=paging(_REVISIONS),
            answer=page(REVISION),
        ),
        Endpoint("GET", one + "/plan", read, plan, "What a commit would change", tag, query=commit, answer=PLAN),
        Endpoint("GET", one + "/drift", read, drift, "What differs from the active commit", tag, answer=PLAN),
        Endpoint(
            "POST",
            one + "/revert",
            Permission.SYNC_FORCE,
            revert,
            "Propose to go back to an earlier revision in git",
            tag,
            takes="application/json",
            status=202,
            body=record(reason=TEXT, commit=optional(TEXT)),
            answer=PROPOSED,
        ),
        *_verbs(one),
    ]


def _verbs(one: str) -> list[Endpoint]:
    """Return the routes that change what is active."""
    run, force = Permission.SYNC_RUN, Permission.SYNC_FORCE
    stays = {"reason": TEXT, "for": optional(DURATION)}
    verbs = (
        ("sync", run, sync, "Look at the repository now", record(allowDeletes=optional(TEXT))),
        ("heal", force, heal, "Bring flows back to the active commit", record(reason=TEXT)),
        (
            "rollback",
            force,
            rollback,
            "Go back to an earlier revision",
            record(stays, commit=optional(TEXT), propose=optional(FLAG)),
        ),
        ("pin", force, pin, "Stay at a commit", record(stays, commit=TEXT)),
        ("suspend", force, suspend, "Stay at what is active", record(stays)),
        ("resume", force, resume, "Follow the ref again", record(reason=optional(TEXT))),
    )
    return [
        Endpoint(
            "POST",
            f"{one}/{name}",
            permission,
            handler,
            summary,
            "sync",
            takes="application/json",
            body=body,
            answer=RECONCILED,
        )
        for name, permission, handler, summary, body in verbs
    ]
