"""Looks at change requests: plans what each would make of its environments, and tells its forge.

A webhook only says that a look is wanted. What is planned is the commit that the forge names when we ask, read from the
followed repository under a ref of the forge's own making. Nothing of the change request is run, and no secret is read:
a fork gets exactly what everybody gets, parsing and a plan.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from runner.errors import MainstemError
from runner.settings import Settings
from runner.store import Store
from runner.store.records import Environment, Repository, Review
from runner.store.session import Session
from sync.forges.api import LASTING, Change, ForgeApi
from sync.layout import layout_of
from sync.origins import Origins
from sync.planning import Planner
from sync.reviews.clerk import Clerk, Desk
from sync.reviews.commands import answers
from sync.reviews.previews import Previews
from sync.reviews.statuses import Statuses
from sync.reviews.tested import with_tests
from sync.reviews.text import MARKER, Reviewed, check_of, comment_of
from sync.sources import FetchError, Source

log = logging.getLogger(__name__)

_KEPT: Final = timedelta(days=30)
_MOVED: Final = "forge.change.moved"
_MOST_MIRROR: Final = 256 << 20
OpenApi = Callable[[Repository], ForgeApi | None]


def _want(repository: str, number: int, at: datetime, db: Session) -> None:
    db.reviews.want(repository, number, at)


class Reviewer:
    """Answers the change requests of repositories. Several processes may look at once: each review has one taker.

    Args:
        store: says what is wanted, and keeps where our comments are.
        origins: gives the mirror that change requests are read into, which is none of those that flows come from.
        planner: makes the plans.
        previews: makes the previews.
        settings: whose tests run, and how they are confined.
        page_of: an environment and a commit -> the address of the plan's page, or None.
        clock: the time that old reviews are forgotten by.
        api: opens the API of a repository at its forge.
    """

    def __init__(
        self,
        store: Store,
        origins: Origins,
        planner: Planner,
        previews: Previews,
        settings: Settings,
        page_of: Callable[[str, str], str | None],
        clock: Callable[[], datetime],
        api: OpenApi | None = None,
    ) -> None:
        self._store = store
        self._origins = origins
        self._planner = planner
        self._statuses = Statuses(store, page_of)
        self._clerk = Clerk(store, previews, settings, clock)
        self._clock = clock
        self._api = api or origins.open_api

    def want_open(self, environment: Environment) -> None:
        """Ask for a look at the open change requests of an environment's ref, since what they would change is new."""
        now = self._clock()
        self._store.write(lambda db: db.reviews.want_open(environment.repository, environment.following, now))

    def look(self, name: str) -> bool:
        """Tell the forge of a repository what it does not know; False when something must be tried again.

        That is the result of the newest revision of each environment, and the plan of every change request that wants
        a look.
        """
        untold = self._statuses.untold(name)
        wanted = self._wanted(name)
        if not wanted and not untold:
            return True
        api = self._api(self._origins.credentials(name))
        if api is None and not wanted:
            return True
        with api or contextlib.nullcontext():
            told = [self._statuses.tell(api, *each) for each in untold] if api else []
            told += [self._answered(api, review) for number in wanted if (review := self._taken(name, number))]
        before = self._clock() - _KEPT
        self._store.write(lambda db: db.reviews.prune(before) + db.review_commands.prune(before))
        self._origins.trim_reviews(name, _MOST_MIRROR)
        return all(told)

    def ended(self) -> list[str]:
        """Return the repositories that are to be looked at since tests of change requests have ended."""
        return self._clerk.ended()

    def close(self) -> None:
        """Stop what runs for change requests."""
        self._clerk.close()

    def _wanted(self, name: str) -> list[int]:
        """Return the change requests that want a look, with those whose tests ended with the process that ran them."""
        now = self._clock()
        stuck = self._store.read(lambda db: db.review_commands.stuck(name, now))
        for number in stuck:
            self._store.write(partial(_want, name, number, now))
        return self._store.read(lambda db: db.reviews.wanted(name))

    def _taken(self, name: str, number: int) -> Review | None:
        now = self._clock()
        return self._store.write(lambda db: db.reviews.take(name, number, now))

    def _answered(self, api: ForgeApi | None, review: Review) -> bool:
        fields = {"repository": review.repository, "number": review.number}
        try:
            found = self._answer(api, review) if api else replace(review, message="there is no API, or no token for it")
            self._store.write(lambda db: db.reviews.done(found))
        except MainstemError as error:
            log.warning("a change request cannot be reviewed: %s", error, extra={**fields, "code": error.code})
            if error.code in LASTING:
                self._clerk.give_up(review)
                given_up = replace(review, message=f"{error.code}: {error}")
                self._store.write(lambda db: db.reviews.done(given_up))
                return True
        except Exception:  # one change request must not keep the others from being answered
            log.exception("a review failed", extra=fields)
        else:
            return True
        self._store.write(lambda db: db.reviews.leave(review.repository, review.number))
        return False

    def _answer(self, api: ForgeApi, review: Review) -> Review:
        """Tell the forge what a change request would change; return what was found."""
        change = api.change(review.number)
        found = replace(review, base=change.base, is_open=change.is_open, message=None)
        environments = [each for each in self._environments(review.repository) if each.following == change.base]
        if not change.is_open or not environments:
            return self._left(found, "it is closed" if environments else f"no environment follows {change.base}")
        if change.head_ref is None:
            return self._left(found, "its commits lie in another repository, which nobody follows")
        source = self._origins.for_reviews(review.repository)
        heard = self._clerk.hear(api, review)
        with source.repository.lock:
            head = self._fetched(source, change)
            planned, remarks = self._merged(source, change, head)
            reviews = [self._reviewed(source, each, planned, head, change) for each in environments]
            folders = sorted({layout_of(each.plan.path, each.plan.rules).root for each in reviews})
            desk = Desk(heard, source, change, review, head, planned, environments, folders, _is_forbidden(reviews))
            answered = self._clerk.answer(desk)
        self._clerk.mark(api, answered)
        place = api.comment_url(review.number, review.comment) if review.comment else None
        checks = [with_tests(check_of(reviewed), answered.commands, head, place) for reviewed in reviews]
        text = comment_of(reviews, head, remarks, api.most_comment, answers(answered.commands, head))
        digest = hashlib.sha256(repr((head, checks, text)).encode()).hexdigest()
        if digest == review.digest:
            return found
        for check in checks:
            api.set_status(head, check)
        comment = api.upsert_comment(review.number, review.comment, MARKER, text)
        head_at = (review.head_at if head == review.head else None) or self._clock()
        return replace(found, head=head, head_at=head_at, comment=comment, digest=digest)

    def _left(self, found: Review, reason: str) -> Review:
        """Return what is written about a change request that gets no answer."""
        self._clerk.drop(found)
        return replace(found, message=reason)

    def _environments(self, repository: str) -> list[Environment]:
        return self._store.read(lambda db: db.environments.of_repository(repository))

    def _fetched(self, source: Source, change: Change) -> str:
        """Bring the base and the head; return the full id of the head."""
        assert change.head_ref is not None
        heads = source.heads([change.base, change.head_ref])
        head = heads.get(change.head_ref)
        if head is None or not head.startswith(change.head):
            raise FetchError(_MOVED, f"change request {change.number} has a newer commit than its forge told of")
        if change.base in heads:
            source.fetch(change.base, heads[change.base])
        source.fetch(change.head_ref, head)
        return head

    @staticmethod
    def _merged(source: Source, change: Change, head: str) -> tuple[str, Sequence[str]]:
        """Return the commit to plan, and remarks: the merge of the two that the forge tried, else the head."""
        base = source.repository.head(change.base)
        if base is None or source.repository.is_ancestor(base, head):
            return head, ()
        if change.merged_ref is not None:
            merged = source.heads([change.merged_ref]).get(change.merged_ref)
            if merged is not None:
                source.fetch(change.merged_ref, merged)
                if set(source.repository.commit(merged).parents) == {base, head}:
                    return merged, ("Planned as it will be after the merge.",)
        branch = change.base.removeprefix("refs/heads/")
        return head, (
            f"The newest commits of {branch} are not in this branch: the plan would undo them. Merge or rebase.",
        )

    def _reviewed(self, source: Source, environment: Environment, commit: str, head: str, change: Change) -> Reviewed:
        plan = self._planner.plan(source, environment.name, commit, is_trusted=not change.is_fork, is_admitted=True)
        # A merge that the forge tried is nobody's work: what somebody signed, or not, is the head.
        return Reviewed(environment.name, self._planner.judged(plan, source, environment, head))


def _is_forbidden(reviews: Sequence[Reviewed]) -> bool:
    return any(problem.code == "flow.task.forbidden" for each in reviews for problem in each.plan.faults)
