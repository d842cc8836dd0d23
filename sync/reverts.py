"""Going back in git too: a change request that gives an environment the files it had at an earlier commit.

A rollback changes what is active and pins it there; the ref still names what failed. One commit on top of it, with the
files of the earlier revision, brings both together again without rewriting any history.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from runner.errors import ConflictError, MainstemError
from runner.rules import SETTINGS_FILE
from runner.store import Store
from runner.store.records import AuditEntry, Environment
from sync.activation import RevisionResult
from sync.edits import Edits
from sync.orders import Orders
from sync.plan_text import short
from sync.planning import list_files, read_layout
from sync.proposals import OURS, Proposal, Proposals, Wish
from sync.signatures.key_list import KEY_FILE
from sync.sources import Source

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Reverts:
    """Proposes to go back."""

    store: Store
    orders: Orders
    proposals: Proposals
    clock: Callable[[], datetime]

    def propose(self, name: str, commit: str | None, *, actor: str, reason: str) -> Proposal:
        """Propose that the files of an environment are again what they were at `commit`; nothing active changes.

        Without a commit that is the one at which the environment is pinned, or else what was active before.

        Raises:
            NotFoundError: `environment.missing`, `environment.revision.none`, `repository.commit.missing`.
            ConflictError: `proposal.revert.none` when the newest commit has these files already.
            MainstemError: as `Proposals.make`; `flow.invalid` when the old files are not valid any more.
        """
        environment, target = self.orders.back_to(name, commit)
        wish = Wish(
            environment,
            lambda source, head: _edits(source, environment, head, target),
            f"Revert {name} to {short(target)}",
            actor,
            branch=f"{OURS}revert-{name}-{short(target)}",
            reason=reason,
        )
        made = self.proposals.make(wish)
        if made is None:
            raise ConflictError(
                "proposal.revert.none",
                f"the newest commit of {environment.ref} has the files of {short(target)} already",
                hint=f"mainstem sync resume {name}",
            )
        detail = {"commit": target, "reason": reason, "proposal": made.url or made.branch}
        entry = AuditEntry(self.clock(), actor, "sync.revert", f"environment/{name}", "PROPOSED", detail)
        self.store.write(lambda db: db.audit.add(entry))
        return made

    def follow(self, result: RevisionResult, reason: str) -> None:
        """Propose to go back in git where an environment was taken back by itself; what keeps that is logged."""
        fields = {"environment": result.environment, "commit": result.commit}
        try:
            made = self.propose(result.environment, result.commit, actor="mainstem", reason=reason)
        except MainstemError as error:
            log.warning("a rollback is not proposed to git: %s", error, extra={**fields, "code": error.code})
        else:
            log.info("a rollback is proposed to git", extra={**fields, "proposal": made.url or made.branch})


def _edits(source: Source, environment: Environment, head: str | None, target: str) -> Edits:
    """Return what makes the files of an environment at `head` those that it had at `target`."""
    assert head is not None, "nothing is proposed for a ref without a commit"
    source.bring(target)
    now, then = _files(source, environment, head), _files(source, environment, target)
    changed = {path: blob for path, blob in then.items() if now.get(path) != blob}
    source.ensure(changed.values())
    gone: dict[str, bytes | None] = dict.fromkeys(now.keys() - then.keys())
    return gone | {path: source.repository.blob(blob) for path, blob in changed.items()}


def _files(source: Source, environment: Environment, commit: str) -> dict[str, str]:
    """Return the files that an environment is made of at a commit, with the one that says where they are.

    The list of keys is none of them: a key that was taken out must not come back because flows go back.
    """
    files = dict(list_files(source, commit, read_layout(source, commit, environment.path)).files)
    files.pop(KEY_FILE, None)
    settings = source.repository.find(commit, SETTINGS_FILE)
    return files | {SETTINGS_FILE: settings} if settings is not None else files
