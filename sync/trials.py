"""The tests of flows that a repository requires to pass before a commit is activated: run here, beside the looks.

Whoever looks at a repository holds its lock, so tests are begun and asked about again at the next look. What came of
them is kept in the store: of several processes that look at a repository one runs them, under a right of the database
that ends with it, and all take what came of them.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

from runner.errors import Problem
from runner.settings import Settings
from runner.store import Store
from runner.store.records import CommitTests
from sync.layout import layout_of
from sync.plan import Plan, problem_of
from sync.reviews.confinement import confinement_of
from sync.reviews.flow_tests import Tested, TestRun, TestsError, has_tests, write_out
from sync.reviews.run_queue import RunQueue
from sync.sources import Source

log = logging.getLogger(__name__)

_NO_TESTS: Final = Tested("there are no tests", is_good=True)
_NEVER: Final = Tested("no tests run on this server (reviews.tests: never)", is_good=False)
_LONGEST_S: Final = 300.0
_BROKEN: Final = Tested("the tests could not be run: see the log of the server", is_good=False)


@dataclass(eq=False, frozen=True, slots=True)
class _Trial:
    """The tests of a commit on top of what is active, which run here or wait for it; `claim` keeps others from them."""

    environment: str
    repository: str
    commit: str
    base: str | None
    root: str
    run: TestRun
    claim: ExitStack

    def is_of(self, plan: Plan) -> bool:
        return (self.commit, self.base) == (plan.commit, plan.base)


class Trials:
    """Runs the tests of one commit per environment: a newer commit, or another base, ends those before.

    Those of a commit end after `longest_s` seconds at the latest, and have failed then.
    """

    def __init__(
        self,
        store: Store,
        settings: Settings,
        *,
        longest_s: float = _LONGEST_S,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._longest_s = longest_s
        self._store = store
        self._settings = settings
        self._clock = clock
        self._queue = RunQueue("flow-tests")
        self._lock = threading.Lock()
        self._trials: dict[str, _Trial] = {}

    def of(self, plan: Plan, repository: str, source: Source, *, is_anew: bool = False) -> Tested | None:
        """Return what came of the tests of a plan's commit, None while they run; the first question begins them.

        With `is_anew` tests that failed begin again: one may have failed by what was there at that time.

        Raises:
            FetchError: the files of the commit cannot be fetched.
        """
        if self._settings.reviews.tests == "never":
            return _NEVER
        with source.repository.lock:
            if self._runs_here(plan):
                return None
            known = self._known(plan)
            if known is not None and (known.is_good or not is_anew):
                return known
            return self._begun(plan, repository, source, known)

    def ended(self) -> list[str]:
        """Return the repositories of which tests have ended since the last time."""
        return self._queue.ended()

    def close(self) -> None:
        """Stop the tests that run; those that wait their turn take their folders away and end."""
        self._queue.close()

    def _runs_here(self, plan: Plan) -> bool:
        """Whether the tests of a plan run here, or wait to; those of another commit are ended."""
        with self._lock:
            trial = self._trials.get(plan.environment)
            if trial is None or trial.is_of(plan):
                return trial is not None
            del self._trials[plan.environment]
        trial.run.stop()
        return False

    def _known(self, plan: Plan) -> Tested | None:
        """Return what came of the tests of a plan, in whichever process."""
        row = self._store.read(lambda db: db.commit_tests.get(plan.environment))
        if row is None or (row.commit, row.base) != (plan.commit, plan.base):
            return None
        return Tested(row.text, row.is_good, tuple(problem_of(each) for each in row.problems))

    def _begun(self, plan: Plan, repository: str, source: Source, before: Tested | None) -> Tested | None:
        """Begin the tests of a plan, of which `before` is known and is to be forgotten; None where they run now."""
        root = layout_of(plan.path, plan.rules).root
        if not has_tests(source.repository.listing(plan.commit, root).files):
            return _NO_TESTS
        with ExitStack() as claim:
            if not claim.enter_context(self._store.exclusive(f"tests {plan.environment} {plan.commit} {plan.base}")):
                return None  # another process runs them
            known = self._known(plan)
            if known != before:
                return known  # another has run them meanwhile
            self._store.write(lambda db: db.commit_tests.delete(plan.environment))
            confinement = confinement_of(self._settings, self._store, repository, is_fork=False)
            try:
                run = TestRun(write_out(source, plan.commit, root), confinement, longest_s=self._longest_s)
            except TestsError as error:
                return Tested(error.message, is_good=False)
            trial = _Trial(plan.environment, repository, plan.commit, plan.base, root, run, claim.pop_all())
        with self._lock:
            self._trials[trial.environment] = trial
        self._queue.put([run], lambda: self._carry_out(trial))
        return None

    def _carry_out(self, trial: _Trial) -> None:
        with trial.claim:
            try:
                tested = trial.run.answer()
            except Exception:  # nobody looks at the future of this call
                log.exception("the tests of a commit failed to run", extra={"commit": trial.commit})
                tested = _BROKEN
            self._end(trial, tested)

    def _end(self, trial: _Trial, tested: Tested) -> None:
        """Write what came of a trial, unless it was ended: to begin again after the restart, or for another commit."""
        with self._lock:
            is_wanted = self._trials.get(trial.environment) is trial and not self._queue.is_closed
        try:
            if is_wanted:
                self._store.write(lambda db: db.commit_tests.put(self._row(trial, tested)))
        except Exception:  # the store is away: they begin again at the next look
            log.exception("what came of tests cannot be written", extra={"commit": trial.commit})
        with self._lock:
            if self._trials.get(trial.environment) is trial:
                del self._trials[trial.environment]
        if is_wanted:
            self._queue.tell(trial.repository)

    def _row(self, trial: _Trial, tested: Tested) -> CommitTests:
        problems = tuple(_placed(each, trial.root).as_json() for each in tested.problems)
        return CommitTests(
            trial.environment, trial.commit, self._clock(), tested.is_good, tested.text, problems, trial.base
        )


def _placed(problem: Problem, root: str) -> Problem:
    """Return a problem whose file is one of the repository, where it was one below the folder of the flows."""
    return replace(problem, file=f"{root}/{problem.file}".lstrip("/")) if problem.file else problem
