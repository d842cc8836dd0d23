"""What became of a commit, said at its forge: active, not valid, held or waiting, with a link to its plan."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from runner.errors import MainstemError
from runner.reports.text import cut
from runner.store import Store
from runner.store.records import Environment, Revision
from sync.activation import Outcome
from sync.forges.api import LASTING, Check, ForgeApi
from sync.plan import plan_of
from sync.reviews.text import Reviewed, check_of

log = logging.getLogger(__name__)

_MOST_SUMMARY: Final = 140
_WORDS: Final = {outcome: "active" for outcome in Outcome if outcome.is_active} | {
    Outcome.WAITING: "waits for its required checks",
    Outcome.UNCHECKED: "not active, its required checks are not green",
}
_TOLD: Final = frozenset({*_WORDS, Outcome.INVALID, Outcome.HELD})


class Statuses:
    """Tells a forge the result of the newest revision of each environment, once, however often that fails before."""

    def __init__(self, store: Store, page_of: Callable[[str, str], str | None]) -> None:
        self._store = store
        self._page_of = page_of

    def untold(self, repository: str) -> list[tuple[Environment, Revision]]:
        """Return the environments of a repository whose newest result the forge does not know."""
        return self._store.read(
            lambda db: [
                (each, newest[0])
                for each in db.environments.of_repository(repository)
                if (newest := db.revisions.list(each.name, 1)) and newest[0].id > (each.told or 0)
            ]
        )

    def tell(self, api: ForgeApi, environment: Environment, revision: Revision) -> bool:
        """Put the status on the commit; False when it must be tried again."""
        try:
            if revision.result in _TOLD:
                api.set_status(revision.commit, self._check(environment, revision))
        except MainstemError as error:
            fields = {"environment": environment.name, "commit": revision.commit, "code": error.code}
            log.warning("the status of a commit cannot be set: %s", error, extra=fields)
            if error.code not in LASTING:
                return False
        self._store.write(lambda db: db.environments.set_told(environment.name, revision.id))
        return True

    def _check(self, environment: Environment, revision: Revision) -> Check:
        is_held = revision.result == Outcome.HELD
        plan = plan_of(
            {
                "environment": environment.name,
                "ref": environment.ref,
                "path": environment.path,
                "base": revision.previous,
                "commit": revision.commit,
                "author": revision.author,
                "message": revision.message,
                "changes": revision.changes,
                "problems": revision.problems,
                "unchanged": 0,
                "held": environment.message if is_held else None,
                "rewritten": False,
                "filesChanged": 0,
                "signature": revision.signature,
            }
        )
        check = check_of(Reviewed(environment.name, plan, self._page_of(environment.name, revision.commit)))
        result = Outcome(revision.result)
        word = _WORDS.get(result)
        if word is None:
            return check
        return replace(
            check,
            is_good=check.is_good and result is not Outcome.UNCHECKED,
            is_pending=result is Outcome.WAITING,
            summary=cut(f"{word}: {check.summary}", _MOST_SUMMARY),
        )
