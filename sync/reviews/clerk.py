"""Carries out the commands in comments on change requests, for those whom the forge lets push, and for no other.

Nothing that a delivery said is trusted: the comment is read again, and the forge is asked what its author may do.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from runner.errors import MainstemError
from runner.reports.text import code, inline
from runner.rules import SETTINGS_FILE
from runner.settings import Settings
from runner.store import Store
from runner.store.records import Environment, Review, ReviewCommand
from runner.store.session import Session
from sync.forges.api import LASTING, ApiError, Change, ForgeApi, Remark
from sync.forges.base import command_line
from sync.reviews.commands import AUTOMATIC, RUNS, Asked, Verb, asked, is_approved, unbound
from sync.reviews.confinement import confinement_of
from sync.reviews.flow_tests import Tested, TestRun, has_tests, write_out
from sync.reviews.previews import Previews
from sync.reviews.run_queue import RunQueue
from sync.reviews.tested import FAILED
from sync.sources import Source

log = logging.getLogger(__name__)

_FORBIDDEN: Final = f"flows use tasks that {code(SETTINGS_FILE)} forbids"
_LEFT: Final = "the tests could not be run: the server that ran them stopped"


@dataclass(frozen=True, slots=True)
class Heard:
    """What the forge says about a command: the comment, and why its author may ask for nothing, None who may."""

    remark: Remark
    refusal: str | None


@dataclass(frozen=True, slots=True)
class Answered:
    """The commands on a change request as they are now, and what was carried out of them, or refused."""

    commands: Sequence[ReviewCommand]
    receipts: Sequence[tuple[ReviewCommand, bool]]


@dataclass(frozen=True, slots=True)
class Desk:
    """What is on the table in one look at a change request; `planned` is the commit to test: the head, or its merge.

    `heard` is what the forge says about the commands that are open, by comment; None about one that is no command.
    `folders` are those of the flows, as the planned commit itself puts them in each of the environments.
    `is_forbidden` says that flows use tasks which the repository forbids itself, so that none of them is to run.
    """

    heard: Mapping[str, Heard | None]
    source: Source
    change: Change
    review: Review
    head: str
    planned: str
    environments: Sequence[Environment]
    folders: Sequence[str]
    is_forbidden: bool = False


@dataclass(eq=False, slots=True)
class _Job:
    """Tests of one command that run or wait here. `claimed` is the time of our claim on it, by which it is ours."""

    command: ReviewCommand
    head: str
    runs: Sequence[TestRun]
    claimed: datetime

    @property
    def key(self) -> tuple[str, str]:
        return self.command.repository, self.command.comment

    def is_about(self, review: Review) -> bool:
        return (self.command.repository, self.command.number) == (review.repository, review.number)

    def stop(self) -> None:
        for run in self.runs:
            run.stop()


class Clerk:
    """Carries out commands. Tests run one after another in a thread of this process; what else there is, at once."""

    def __init__(self, store: Store, previews: Previews, settings: Settings, clock: Callable[[], datetime]) -> None:
        self._store = store
        self._previews = previews
        self._settings = settings
        self._clock = clock
        self._queue = RunQueue("review-tests")
        self._lock = threading.Lock()
        self._jobs: dict[tuple[str, str], _Job] = {}

    def hear(self, api: ForgeApi, review: Review) -> dict[str, Heard | None]:
        """Ask the forge about the commands that are open on a change request.

        It may take its time, so this is for before the repository is locked.

        Raises:
            ApiError: the forge cannot be asked just now.
        """
        opened = [command for command in self._of(review) if command.state == "OPEN"]
        return {command.comment: self._heard(api, command) for command in opened}

    def answer(self, desk: Desk) -> Answered:
        """Carry out what is asked for on a change request. The forge is not asked; what came meanwhile stays open."""
        receipts: list[tuple[ReviewCommand, bool]] = []
        for command in self._of(desk.review):
            if command.state == "OPEN" and command.comment in desk.heard:
                receipts += self._carried_out(desk, command)
            elif command.state == "RUNNING":
                self._test(desk, command, desk.head)  # begins again what a process left behind that died
        self._test_by_itself(desk)
        return Answered(self._of(desk.review), receipts)

    def mark(self, api: ForgeApi, answered: Answered) -> None:
        """Mark the comments of the commands that were carried out, or refused, in a look."""
        for command, is_good in answered.receipts:
            try:
                api.react(command.number, command.comment, is_good=is_good)
            except ApiError as error:  # a receipt and no more: the answer stands in our comment
                log.info("a comment cannot be marked: %s", error, extra={"code": error.code})

    def drop(self, review: Review) -> None:
        """End the commands on a change request that is closed, or of no environment, its tests and its previews."""
        self._previews.remove(review.repository, review.number)
        for command in self._of(review):
            if command.state == "OPEN":
                self._end(command, None, None)
            elif command.state == "RUNNING":
                self._end(command, None, "stopped when the change request was closed or went elsewhere")
        with self._lock:
            jobs = [job for job in self._jobs.values() if job.is_about(review)]
        for job in jobs:
            job.stop()

    def give_up(self, review: Review) -> None:
        """End the tests on a change request that a dead process left behind: its forge lets nobody begin them again."""
        now = self._clock()
        self._store.write(lambda db: db.review_commands.give_up(review.repository, review.number, now, _LEFT))

    def ended(self) -> list[str]:
        """Return the repositories whose change requests have new results of tests since the last time."""
        return self._queue.ended()

    def close(self) -> None:
        """Stop the tests that run."""
        self._queue.close()

    def _of(self, review: Review) -> list[ReviewCommand]:
        return self._store.read(lambda db: db.review_commands.of(review.repository, review.number))

    def _heard(self, api: ForgeApi, command: ReviewCommand) -> Heard | None:
        try:
            remark = api.remark(command.number, command.comment)
        except ApiError as error:
            if error.code not in LASTING:
                raise
            remark = None
        # What is gone, was edited, or was written by a program is no command, and nothing is said to it.
        if remark is None or remark.is_bot or command_line(remark.text) != command.line:
            return None
        return Heard(remark, _no_right(api, remark))

    def _carried_out(self, desk: Desk, command: ReviewCommand) -> Iterator[tuple[ReviewCommand, bool]]:
        """Carry a command out, or end it; yield it with whether it was good, unless nothing is said to it."""
        heard = desk.heard[command.comment]
        if heard is None:
            self._end(command, None, None)
            return
        command = replace(command, account=heard.remark.account, name=heard.remark.name)
        wanted = asked(command.line)
        refusal = heard.refusal or self._refusal(desk, command, heard.remark, wanted)
        if refusal is not None or wanted is None:
            self._end(command, None, f"refused: {refusal}" if refusal else "there is no such command")
        elif wanted.verb is Verb.TEST:
            self._test(desk, command, desk.head)
        else:
            self._end(command, desk.head, self._done(desk, wanted, command.name))
        yield command, refusal is None and wanted is not None

    def _refusal(self, desk: Desk, command: ReviewCommand, remark: Remark, wanted: Asked | None) -> str | None:
        """Return why a command of somebody who may push is not carried out."""
        if wanted is None:
            return None
        reason = unbound(wanted, command, remark, desk.review, desk.head)
        return reason if reason is not None or wanted.verb not in RUNS else self._closed(desk, wanted.verb)

    def _closed(self, desk: Desk, verb: Verb) -> str | None:
        """Return why code of the newest commit is not run for anybody; None when it may be."""
        if verb is Verb.TEST and self._settings.reviews.tests == "never":
            return "no tests run on this server"
        if desk.is_forbidden:
            return _FORBIDDEN
        if not self._needs_approval(desk, verb) or is_approved(self._of(desk.review), desk.head):
            return None
        what = "code of a fork is" if desk.change.is_fork else "tests are"
        return f"{what} run for nobody before {code(f'/mainstem {Verb.APPROVE}')}"

    def _needs_approval(self, desk: Desk, verb: Verb) -> bool:
        """Return whether a commit is to be approved before its code runs."""
        return desk.change.is_fork or (verb is Verb.TEST and self._settings.reviews.tests == "approved")

    def _done(self, desk: Desk, wanted: Asked, name: str) -> str:
        if wanted.verb is Verb.PREVIEW:
            made = [self._previews.make(desk.source, each, desk.change, desk.head, name) for each in desk.environments]
            return "\n".join(made)
        if wanted.verb is Verb.PLAN:
            return f"planned {code(desk.head[:12])}"
        is_needed = self._needs_approval(desk, Verb.TEST)
        more = "its code may be run here" if is_needed else "nothing needed it: the branch is not of a fork"
        return f"approved {code(desk.head[:12])}, and no other commit; {more}"

    def _end(self, command: ReviewCommand, commit: str | None, answer: str | None) -> None:
        ended = replace(command, state="DONE", commit=commit, answer=answer)
        self._store.write(lambda db: db.review_commands.end(ended))

    # tests

    def _test_by_itself(self, desk: Desk) -> None:
        """Test a commit that has tests when its author may push, once."""
        if self._settings.reviews.tests != "trusted" or desk.is_forbidden:
            return
        name = f"{AUTOMATIC}{desk.change.number}:{desk.planned}"
        known = {each.comment for each in self._of(desk.review)}
        if desk.change.is_fork or name in known or not self._paths(desk):
            return
        now, review = self._clock(), desk.review
        command = ReviewCommand(review.repository, name, review.number, f"/mainstem {Verb.TEST}", "", "", now)
        self._store.write(lambda db: db.review_commands.add(command))
        self._test(desk, command, desk.head)

    @staticmethod
    def _paths(desk: Desk) -> list[str]:
        """Return the folders of flows that hold tests."""
        return [
            path for path in sorted(desk.folders) if has_tests(desk.source.repository.listing(desk.planned, path).files)
        ]

    def _test(self, desk: Desk, command: ReviewCommand, head: str) -> None:
        with self._lock:
            if (command.repository, command.comment) in self._jobs:
                return
        now = self._clock()
        if not self._store.write(lambda db: db.review_commands.begin(command.repository, command.comment, now)):
            return
        reason = self._closed(desk, Verb.TEST)
        if reason is not None:
            self._end(command, None, f"refused: {reason}")
            return
        repository, is_fork = desk.review.repository, desk.change.is_fork
        confinement = confinement_of(self._settings, self._store, repository, is_fork=is_fork)
        try:
            rooms = [write_out(desk.source, desk.planned, path) for path in self._paths(desk)]
        except MainstemError as error:
            self._end(command, head, f"the tests could not be run: {inline(error.message)}")
            return
        if not rooms:
            self._end(command, head, "there are no tests")
            return
        job = _Job(command, head, [TestRun(room, confinement) for room in rooms], now)
        with self._lock:
            self._jobs[job.key] = job
        self._queue.put(job.runs, lambda: self._run(job))

    def _run(self, job: _Job) -> None:
        try:
            found = list(self._outcomes(job))
            self._finish(job, Tested("\n".join(each.text for each in found), all(each.is_good for each in found)))
        except Exception:  # nobody looks at the future of this call
            log.exception("tests of a change request failed to run", extra={"repository": job.command.repository})
            self._finish(job, Tested("the tests could not be run: see the log of the server", is_good=False))
        finally:
            with self._lock:
                del self._jobs[job.key]

    def _outcomes(self, job: _Job) -> Iterator[Tested]:
        for run in job.runs:
            try:
                is_ours = self._renewed(job)
            except Exception:  # the store is away: it is asked again before the outcome is written
                log.exception("a claim cannot be renewed", extra={"repository": job.command.repository})
                is_ours = True
            if not is_ours:
                run.stop()  # it ends at once, and takes its folder away
            yield run.answer()

    def _renewed(self, job: _Job) -> bool:
        """Renew our claims on all that runs or waits here; return whether the one on `job` was still ours.

        Those that wait are renewed too: each run takes minutes, and a claim that began when it was queued would be over
        before its turn.
        """
        if self._queue.is_closed:
            return False
        with self._lock:
            jobs = list(self._jobs.values())
        now = self._clock()
        held = self._store.write(
            lambda db: [each for each in jobs if db.review_commands.renew(*each.key, each.claimed, now)]
        )
        for each in held:
            each.claimed = now
        return job in held

    def _finish(self, job: _Job, tested: Tested) -> None:
        """Write what came of a job, unless its command is another's by now or was ended meanwhile."""
        if self._queue.is_closed:
            return  # the claim runs out, and another process begins again
        state, now = "DONE" if tested.is_good else FAILED, self._clock()
        ended = replace(job.command, state=state, commit=job.head, answer=tested.text)

        def write(db: Session) -> bool:
            if not db.review_commands.renew(*job.key, job.claimed, now):
                return False
            db.review_commands.end(ended)
            db.reviews.want(ended.repository, ended.number, now)
            return True

        if self._store.write(write):
            self._queue.tell(ended.repository)


def _no_right(api: ForgeApi, remark: Remark) -> str | None:
    try:
        if api.may_write(remark):
            return None
    except ApiError as error:
        if error.code not in LASTING:
            raise
        return "the forge does not tell this server who may push: its token may not ask"
    return "only who may push to the repository may ask for that"
