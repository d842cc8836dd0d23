"""One commit of reports for one repository: from rows of the outbox to files, a commit, and what is remembered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from runner.executions.models import OutboxRow
from runner.reports.rows import RunRow
from runner.settings import ReportSettings
from runner.states import State
from runner.store import Store
from runner.store.records import Environment
from runner.store.session import Session
from sync.reports.batch import Batch, FlowKey, Records, lines
from sync.reports.branch import ReportBranch
from sync.reports.deployed import Deployed
from sync.reports.ended import ended_rows
from sync.reports.files import Bindery, Files, day_files, row_file
from sync.reports.ledger import Ledger, Pending, RecordShelf, write_pending
from sync.reports.stands import changed, remember, told

_NAMES_A_SECOND: Final = 20


@dataclass(frozen=True, slots=True)
class _Draft:
    """A commit that is to be made: its files, the name of its file of rows, its pages, and flows to be forgotten."""

    files: Files
    path: str
    pages: Mapping[str, bool]
    forgotten: Sequence[tuple[str, FlowKey]] = ()
    deployed: Sequence[Deployed] = ()


@dataclass(frozen=True, slots=True)
class Publication:
    """Writes reports to the branch of one repository. Made for one use; the caller keeps others away."""

    repository: str
    writer: str
    settings: ReportSettings
    store: Store
    branch: ReportBranch
    bindery: Bindery
    shelf: RecordShelf

    def write(self, outbox: Sequence[OutboxRow], now: datetime) -> int:
        """Commit what the rows tell, and remove them; give how many commits were made.

        What is about to be committed is remembered first. Found after a crash, it is not written again when its file
        of rows is on the branch: only what should have followed the commit is done.

        Raises:
            MainstemError: the branch cannot be read or written; the rows stay.
        """
        ledger = self.store.read(lambda db: Ledger.read(db, self.repository, self.writer))
        pending, names = ledger.pending, self._names(now)
        there = self.branch.look([*names, *([pending.path] if pending else [])])
        if pending is not None and there is not None and pending.path in there:
            self._settle(ledger, pending, now)
            settled = {row_id for row_id, _ in pending.rows}
            outbox = [row for row in outbox if row.id not in settled]
        batch = self._batch([row.key for row in outbox])
        ids = tuple((row.id, row.key) for row in outbox)
        if not batch.rows:
            self.store.write(lambda db: db.outbox.delete([row_id for row_id, _ in ids]))
            return self._refresh(ledger, batch, now, is_there=there is not None)
        if there is None:
            ledger.forget_branch()  # it is new, or somebody removed it: nothing on it can be linked to
        path = next(name for name in names if not there or name not in there)
        draft = self._draft(ledger, batch, path, now, is_new=there is None)
        remembered = Pending(path, ids, dict(draft.pages))
        self.store.write(lambda db: write_pending(db, self.repository, self.writer, remembered))
        month = f"{now.astimezone(UTC):%Y-%m}"
        restart = ledger.month not in {"", month}
        self.branch.commit(draft.files, message=self._message(batch.rows), at=now, restart=restart)
        ledger.month = month
        self._remember(ledger, batch, ids, draft)
        return 1

    def _refresh(self, ledger: Ledger, batch: Batch, now: datetime, *, is_there: bool) -> int:
        """Write the boards when environments stand otherwise than they say, or something was deployed.

        Give how many commits were made. A branch that is not there is not made for that: its first run writes it all.
        """
        environments = self.bindery.environments
        restless = changed(self.store.read(lambda db: told(db, self.repository)), environments)
        deployed = self._deployed(now)
        fresh = [each for each in deployed if each.rows]
        if not restless and not fresh:
            return 0
        if is_there:
            files = self.bindery.deployments(deployed)
            files.update(self.bindery.boards(batch, ledger.pages, now, deployed=_listed(deployed)))
            message = self._stand_message(restless) if restless else self._deployed_message(fresh)
            self.branch.commit(files, message=message, at=now)

        def write(db: Session) -> None:
            remember(db, self.repository, environments)
            for each in deployed:
                each.remember(db, is_there=is_there)

        self.store.write(write)
        return int(is_there)

    def _deployed(self, now: datetime, *, is_new: bool = False) -> list[Deployed]:
        first = now - timedelta(days=self.settings.retention_days)
        names = [environment.name for environment in self.bindery.environments]
        return self.store.read(lambda db: [Deployed.read(db, name, first, is_new=is_new) for name in names])

    def _settle(self, ledger: Ledger, pending: Pending, now: datetime) -> None:
        """Do what should have followed a commit that a crash cut off."""
        batch = self._batch([execution_id for _, execution_id in pending.rows])
        ledger.pages.update(pending.pages)
        day = pending.path.removeprefix("runs/")[:10]
        ledger.add_days([day])
        ledger.month = ledger.month or day[:7].replace("/", "-")
        ledger.counted(now, min(len(batch.rows), ledger.lines_left(now, self.settings.max_rows_per_hour)))
        self._remember(ledger, batch, pending.rows)

    def _batch(self, execution_ids: Sequence[str]) -> Batch:
        names = [environment.name for environment in self.bindery.environments]
        ids = list(dict.fromkeys(execution_ids))

        def read(db: Session) -> tuple[list[RunRow], Records]:
            return ended_rows(db, ids, self.bindery.mask), self.shelf.read(db, names)

        return Batch.of(*self.store.read(read))

    def _remember(
        self,
        ledger: Ledger,
        batch: Batch,
        rows: Sequence[tuple[int, str]],
        draft: _Draft | None = None,
    ) -> None:
        def write(db: Session) -> None:
            db.outbox.delete([row_id for row_id, _ in rows])
            ledger.write(db, self.repository, self.writer)
            remember(db, self.repository, self.bindery.environments)
            self.shelf.write(db, [(environment, batch.after[environment][key]) for environment, key in batch.touched])
            if draft is not None:
                self.shelf.forget(db, draft.forgotten)
                for each in draft.deployed:
                    each.remember(db)

        self.store.write(write)

    # what the commit holds

    def _names(self, now: datetime) -> list[str]:
        """Return the paths that the file of rows may have; two commits of one second must not share one."""
        first = f"runs/{now.astimezone(UTC):%Y/%m/%d/%H%M%S}-{self.writer}"
        return [f"{first}.jsonl", *(f"{first}-{number}.jsonl" for number in range(2, _NAMES_A_SECOND))]

    def _draft(self, ledger: Ledger, batch: Batch, path: str, now: datetime, *, is_new: bool) -> _Draft:
        left = ledger.lines_left(now, self.settings.max_rows_per_hour)
        found, counted = lines(batch.rows, left)
        ledger.counted(now, counted)
        pages = batch.pages(everything=self.settings.include == "all")
        ledger.pages.update(pages)
        ledger.add_days([_day(now), *sorted({_day(row.end) for row in batch.rows})])
        files: Files = dict.fromkeys(ledger.outdated(batch.touched_records, self.settings, now))
        forgotten = self._long_gone(batch, now)
        files.update({f"flows/{namespace}/{flow}": None for _, (namespace, flow) in forgotten})
        gone = tuple(f"{name}/" for name, content in files.items() if content is None)
        files[path] = row_file(found)
        wanted = pages.keys() & ledger.pages.keys()
        files.update(self.bindery.run_pages(batch, wanted))
        for stem in [stem for stem in wanted if f"{stem}.md" not in files]:  # it could not be made: nothing links to it
            del pages[stem], ledger.pages[stem]
        deployed = self._deployed(now, is_new=is_new)
        files.update(self.bindery.deployments(deployed))
        files.update(self.bindery.boards(batch, ledger.pages, now, deployed=_listed(deployed), whole=is_new))
        files.update(day_files(batch))
        # What belongs to a day that is too old already is not written into the folder that goes.
        kept = {name: content for name, content in files.items() if not name.startswith(gone)}
        return _Draft(kept, path, pages, forgotten, deployed)

    def _long_gone(self, batch: Batch, now: datetime) -> list[tuple[str, FlowKey]]:
        """Return flows that no environment has any more and that have not run for as long as reports are kept."""
        first = now - timedelta(days=self.settings.retention_days)
        quiet = [
            (environment, key)
            for environment, records in batch.after.items()
            for key, record in records.items()
            if record.last is None or record.last.end < first
        ]
        if not quiet:
            return []
        names = [environment.name for environment in self.bindery.environments]
        active = self.store.read(lambda db: {key for name in names for key in db.flows.keys_of_environment(name)})
        return [(environment, key) for environment, key in quiet if key not in active]

    def _stand_message(self, environments: Sequence[Environment]) -> str:
        stands = ", ".join(f"{each.name} is {each.state}" for each in environments)
        return f"reports: {stands} [skip ci]\n\nMainstem-Report: {self.writer}\n"

    def _deployed_message(self, deployed: Sequence[Deployed]) -> str:
        last = ", ".join(f"{each.environment} {each.rows[0].commit[:7]} {each.rows[0].result}" for each in deployed)
        return f"reports: {last} [skip ci]\n\nMainstem-Report: {self.writer}\n"

    def _message(self, rows: Sequence[RunRow]) -> str:
        failed = sum(row.state in {State.FAILED, State.KILLED} for row in rows)
        runs = f"{len(rows)} run{'s' if len(rows) != 1 else ''}"
        # The word in brackets keeps CI systems of forges from building this branch.
        return f"reports: {runs}, {failed} failed [skip ci]\n\nMainstem-Report: {self.writer}\n"


def _listed(deployed: Sequence[Deployed]) -> list[str]:
    """Return the environments that have a list of deployments on the branch."""
    return [each.environment for each in deployed if each.told.last]


def _day(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y/%m/%d}"
