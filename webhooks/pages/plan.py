"""The page of a plan: what a commit changed or would change in an environment, removals first."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Final

from runner.access import Permission
from runner.errors import InvalidError, NotFoundError
from runner.store import Session
from runner.store.records import Environment, Revision
from webhooks.api.environments import sync_of
from webhooks.call import Call
from webhooks.pages.page import Page, render
from webhooks.parameters import text
from webhooks.shapes import revision_json

Row = Mapping[str, Any]

_COMMIT: Final = re.compile(r"[0-9a-f]{7,64}")
# What takes something away must not be overlooked.
_ORDER: Final = {"REMOVED": 0, "QUARANTINED": 1, "RENAMED": 2, "MOVED": 3, "CHANGED": 4, "ADDED": 5}
_WORDS: Final = {"kv": "key"}


def show(call: Call) -> Any:
    """Answer with the plan of the commit that is named, without one with that of the head of the ref, made now."""
    name, commit = call.path("name"), call.query("commit")
    if commit is not None and not _COMMIT.fullmatch(commit):
        raise InvalidError("commit.invalid", f"{commit[:100]!r} is no commit id")

    def read(db: Session) -> tuple[Environment | None, Revision | None]:
        return db.environments.get(name), db.revisions.of_commit(name, commit) if commit else None

    environment, revision = call.services.store.read(read)
    if environment is None:
        raise NotFoundError("environment.missing", f"no environment named {name!r}", hint="mainstem sync status")
    plan = revision_json(revision) if revision is not None else sync_of(call).plan(name, commit).as_json()
    changes = _ordered(plan["changes"])
    # The old name of a flow that is renamed is a row of its own, and no flow that goes.
    counts = Counter(str(change["kind"]).lower() for change in changes if not change.get("renamedTo"))
    return render(
        call,
        "plan.html",
        environment=environment,
        revision=revision,
        plan=plan,
        changes=changes,
        counts=counts,
        beside=_beside(plan),
    )


def _beside(plan: Mapping[str, Any]) -> list[Row]:
    """Return the keys, secrets and dashboards that a plan touches; rows of the ledger do not hold them."""
    seeds = [
        {**row, "what": _WORDS.get(row["what"], row["what"]), "name": f"{row['namespace']}.{row['key']}"}
        for row in plan.get("keys", ())
    ]
    boards = [{**row, "what": "dashboard", "name": row["id"]} for row in plan.get("dashboards", ())]
    return _ordered([*seeds, *boards])


def _ordered(changes: Iterable[Row]) -> list[Row]:
    return sorted(changes, key=lambda change: _ORDER.get(str(change["kind"]).upper(), len(_ORDER)))


def pages() -> list[Page]:
    """Return the pages of this file."""
    return [
        Page(
            "/environments/{name}/plan",
            Permission.SYNC_READ,
            show,
            (text("commit", "This commit; the head of the ref without it."),),
        )
    ]
