"""The tests of flows that a repository requires to pass before a commit is activated: run here, beside the looks.

Whoever looks at a repository holds its lock, so tests are begun and asked about again at the next look. What is known
of them lives in this process: after a restart they begin again.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Final

from runner.errors import Problem
from runner.settings import Settings
from runner.store import Store
from sync.layout import layout_of
from sync.plan import Plan
from sync.reviews.confinement import confinement_of
from sync.reviews.flow_tests import Tested, TestRun, TestsError, has_tests, write_out
from sync.sources import Source

log = logging.getLogger(__name__)

_NO_TESTS: Final = Tested("there are no tests", is_good=True)
_NEVER: Final = Tested("no tests run on this server (reviews.tests: never)", is_good=False)
_LONGEST_S: Final = 300.0
_BROKEN: Final = Tested("the tests could not be run: see the log of the server", is_good=False)


@dataclass(eq=False, slots=True)
class _Trial:
    """The tests of a commit on top of what is active. `tested` is None until they have ended."""

    environment: str
    repository: str
    commit: str
    base: str | None
    root: str
    run: TestRun | None = None
    tested: Tested | None = None

    def is_of(self, plan: Plan) -> bool:
        return (self.commit, self.base) == (plan.commit, plan.base)


class Trials:
    """Runs the tests of one commit per environment: a newer commit, or another base, ends those before.

    Those of a commit end after `longest_s` seconds at the latest, and have failed then.
    """

    def __init__(self, store: Store, settings: Settings, *, longest_s: float = _LONGEST_S) -> None:
        self._longest_s = longest_s
        self._store = store
        self._settings = settings
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="flow-tests")
        self._lock = threading.Lock()
        self._trials: dict[str, _Trial] = {}
        self._ended: set[str] = set()
        self._is_closed = False

    def of(self, plan: Plan, repository: str, source: Source, *, is_anew: bool = False) -> Tested | None:
        """Return what came of the tests of a plan's commit, None while they run; the first question begins them.

        With `is_anew` tests that failed begin again: one may have failed by what was there at that time.

        Raises:
            FetchError: the files of the commit cannot be fetched.
        """
        if self._settings.reviews.tests == "never":
            return _NEVER
        with source.repository.lock:
            known = self._trials.get(plan.environment)
            has_failed = known is not None and known.tested is not None and not known.tested.is_good
            if known is not None and known.is_of(plan) and not (is_anew and has_failed):
                return known.tested
            return self._begun(plan, repository, source)

    def ended(self) -> list[str]:
        """Return the repositories of which tests have ended since the last time."""
        with self._lock:
            found, self._ended = sorted(self._ended), set()
        return found

    def close(self) -> None:
        """Stop the tests that run; those that wait their turn take their folders away and end."""
        with self._lock:
            self._is_closed, trials = True, list(self._trials.values())
        for trial in trials:
            if trial.run is not None:
                trial.run.stop()
        self._pool.shutdown(wait=False)

    def _begun(self, plan: Plan, repository: str, source: Source) -> Tested | None:
        root = layout_of(plan.path, plan.rules).root
        trial = _Trial(plan.environment, repository, plan.commit, plan.base, root)
        if not has_tests(source.repository.listing(plan.commit, root).files):
            trial.tested = _NO_TESTS
        else:
            confinement = confinement_of(self._settings, self._store, repository, is_fork=False)
            try:
                trial.run = TestRun(write_out(source, plan.commit, root), confinement, longest_s=self._longest_s)
            except TestsError as error:
                trial.tested = Tested(error.message, is_good=False)
        self._take_up(trial)
        return trial.tested

    def _take_up(self, trial: _Trial) -> None:
        """Put a trial in the place of the one before, which ends, and let it run if it has something to run."""
        with self._lock:
            before = self._trials.get(trial.environment)
            self._trials[trial.environment] = trial
        if before is not None and before.run is not None:
            before.run.stop()
        if trial.run is not None:
            self._pool.submit(self._run, trial, trial.run.answer)

    def _run(self, trial: _Trial, answer: Callable[[], Tested]) -> None:
        try:
            tested = answer()
        except Exception:  # nobody looks at the future of this call
            log.exception("the tests of a commit failed to run", extra={"commit": trial.commit})
            tested = _BROKEN
        with self._lock:
            if self._is_closed or self._trials[trial.environment] is not trial:
                return  # they were ended: to begin again after the restart, or for those of another commit
            trial.tested = replace(tested, problems=tuple(_placed(each, trial.root) for each in tested.problems))
            self._ended.add(trial.repository)


def _placed(problem: Problem, root: str) -> Problem:
    """Return a problem whose file is one of the repository, where it was one below the folder of the flows."""
    return replace(problem, file=f"{root}/{problem.file}".lstrip("/")) if problem.file else problem
