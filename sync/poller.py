"""Look at every repository again and again, and at once when somebody says that it has changed."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple, TypeVar

from runner.errors import MainstemError
from runner.store import Store
from sync.activation import Outcome, RevisionResult
from sync.following import MISSING, MOVED
from sync.origins import HOSTED
from sync.service import SyncService

log = logging.getLogger(__name__)

_JITTER: Final = 0.1
_LONGEST_S: Final = 3_600.0
_MOST_FAILURES: Final = 6
_HOSTED_S: Final = 300.0
_STOP_S: Final = 1.0
_PAUSE_S: Final = 5.0
_DRIFT_S: Final = 300.0
_POLL: Final = "poll"
_THREADS: Final = 3
_RETRY_S: Final = 5.0
T = TypeVar("T")


class _Seen(NamedTuple):
    """Whether all environments of a repository could be looked at, and whether one waits for its checks."""

    is_whole: bool
    waits: bool = False


def next_wait(interval_s: float, failures: int, chance: float) -> float:
    """Return the seconds until the next look: the interval, doubled per failure in a row up to an hour.

    `chance` between 0 and 1 spreads many servers over a tenth of the interval on either side.
    """
    wait = min(interval_s * 2.0 ** min(failures, _MOST_FAILURES), max(_LONGEST_S, interval_s))
    return wait * (1 - _JITTER + 2 * _JITTER * chance)


class Poller:
    """A few threads that reconcile repositories when their interval has passed or when they are requested.

    Requests for one repository that come while it waits or runs are one: a burst of deliveries is one fetch. A
    repository that hangs keeps one thread busy and nobody else waiting. A requested look that fails is tried again
    within seconds, since the one who told of a push will not tell again.
    """

    def __init__(
        self,
        service: SyncService,
        store: Store,
        *,
        chance: Callable[[], float] = random.random,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._service = service
        self._store = store
        self._chance = chance
        self._monotonic = monotonic
        self._wake = threading.Condition()
        self._requested: dict[str, str] = {}
        self._due: dict[str, float] = {}
        self._failures: dict[str, int] = {}
        self._unmet: dict[str, str] = {}  # requests whose looks have failed so far, with who caused them
        self._drift_due: dict[str, float] = {}
        self._busy: set[str] = set()
        self._is_stopping = False
        self._threads = [
            threading.Thread(target=self._run, name=f"sync-poller-{number}", daemon=True) for number in range(_THREADS)
        ]

    def start(self) -> None:
        """Start the threads; the first look at everything comes at once."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End the threads. A fetch that hangs is left to the end of the process after a second."""
        with self._wake:
            self._is_stopping = True
            self._wake.notify_all()
        deadline = time.monotonic() + _STOP_S
        for thread in self._threads:
            if thread.is_alive():
                thread.join(max(0.0, deadline - time.monotonic()))

    def request(self, repository: str, actor: str = "webhook") -> None:
        """Look at `repository` as soon as possible. Returns at once."""
        with self._wake:
            self._requested[repository] = actor
            self._wake.notify_all()

    def request_all(self, repositories: Iterable[str]) -> None:
        """As `request`, for several that other processes named."""
        for repository in repositories:
            self.request(repository)

    def _run(self) -> None:
        while True:
            self._do("pins and previews cannot be ended", lambda: self.request_all(self._service.expire_pins()))
            self._do("deployments cannot be watched", self._service.take_back_failing)
            intervals = self._do("the repositories cannot be listed", self._intervals) or {}
            chosen = self._next(intervals)
            if chosen is None:
                return
            name, actor = chosen
            if name:
                seen = self._look(name, actor)
                self._done(name, actor, intervals.get(name, _HOSTED_S), seen)

    @staticmethod
    def _do(failure: str, work: Callable[[], T]) -> T | None:
        try:
            return work()
        except Exception:  # a store that is away, or one part that fails, must not end polling: it is asked again
            log.exception(failure)
            return None

    def _intervals(self) -> dict[str, float]:
        rows = self._store.read(lambda db: db.repositories.all())
        # The hosted repository answers each push itself; polling only finds what a crash left between ref and store.
        return {row.name: _HOSTED_S if row.kind == HOSTED else float(max(1, row.interval_s)) for row in rows}

    def _next(self, intervals: dict[str, float]) -> tuple[str, str] | None:
        """Wait for the next repository that is due or requested; None when stopping, a nameless one to look anew.

        It is busy from then on, until `_done`.
        """
        with self._wake:
            now = self._monotonic()
            for name in intervals:
                self._due.setdefault(name, now)
            while not self._is_stopping:
                requested = next((name for name in self._requested if name not in self._busy), None)
                if requested is not None:
                    self._busy.add(requested)
                    return requested, self._requested.pop(requested)
                now = self._monotonic()
                due = {name: at for name, at in self._due.items() if name in intervals and name not in self._busy}
                first = min(due, key=due.__getitem__, default=None)
                if first is not None and due[first] <= now:
                    self._busy.add(first)
                    return first, self._unmet.get(first, _POLL)
                left = due[first] - now if first is not None else _PAUSE_S
                if not self._wake.wait(min(left, _PAUSE_S)) and left >= _PAUSE_S:
                    return "", ""  # repositories may have been added meanwhile
        return None

    def _look(self, name: str, actor: str) -> _Seen:
        """Reconcile a repository."""
        try:
            results = self._service.reconcile_repository(name, actor=actor, reason="poll")
            if actor == _POLL:
                self._service.maintain(name)
                self._check_drift(name)
        except MainstemError as error:
            log.warning("a repository cannot be reconciled", extra={"repository": name, "code": error.code})
            return _Seen(is_whole=False)
        except Exception:  # one repository must not end polling of the others
            log.exception("reconciling failed", extra={"repository": name})
            return _Seen(is_whole=False)
        # A ref that is gone and a tag that was moved stay so: to look again soon would not mend it.
        failed = [each for each in results if each.outcome is Outcome.FAILED and each.code not in {MISSING, MOVED}]
        waits = any(each.outcome is Outcome.WAITING for each in results)
        return _Seen(is_whole=self._reviewed(name, results) and not failed, waits=waits)

    def _check_drift(self, name: str) -> None:
        """Compare active flows with git, from time to time: it reads all of them."""
        now = self._monotonic()
        if now < self._drift_due.get(name, now):
            return
        self._drift_due[name] = now + _DRIFT_S
        try:
            self._service.check_drift(name)
        except MainstemError as error:
            log.warning("flows cannot be compared with git", extra={"repository": name, "code": error.code})

    def _reviewed(self, name: str, results: Iterable[RevisionResult]) -> bool:
        try:
            return self._service.review(name, results)
        except Exception:  # reviews must not end the looks at what flows come from
            log.exception("change requests cannot be reviewed", extra={"repository": name})
            return False

    def _done(self, name: str, actor: str, interval_s: float, seen: _Seen) -> None:
        with self._wake:
            self._busy.discard(name)
            # Nobody tells when checks have ended, so after a push they are asked for soon, and then less and less
            # often, until the interval is no longer than that.
            hurries = seen.waits and actor != _POLL
            soon_s = _RETRY_S * 2.0 ** (self._failures.get(name, 0) + 1)
            is_met = seen.is_whole and not (hurries and soon_s < interval_s)
            if is_met:
                self._unmet.pop(name, None)
            elif actor != _POLL:
                self._unmet[name] = actor
                interval_s = min(interval_s, _RETRY_S)
            self._failures[name] = 0 if is_met else self._failures.get(name, 0) + 1
            self._due[name] = self._monotonic() + next_wait(interval_s, self._failures[name], self._chance())
            self._wake.notify_all()
