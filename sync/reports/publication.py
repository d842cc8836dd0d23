"""One commit of reports for one repository: from rows of the outbox to files, a commit, and what is remembered."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any, Final

from runner.executions.models import Execution, OutboxRow
from runner.reports.badge import badge_json, badge_svg
from runner.reports.board import BoardEnvironment, BoardFlow, board, day_page, flow_page, root_page
from runner.reports.document import run_document
from runner.reports.record import Counts, FlowRecord, folded
from runner.reports.rows import RunRow, row_of
from runner.reports.run_page import run_page
from runner.reports.values import Mask
from runner.settings import ReportSettings
from runner.states import State
from runner.store import Store
from runner.store.records import Environment, Repository
from runner.store.session import Session
from sync.reports.branch import ReportBranch
from sync.reports.gathering import Gathering, commit_note
from sync.reports.ledger import FlowKey, Ledger, Pending, read_records, write_pending, write_records
from sync.repository import GitRepository

_MOST_PAGES: Final = 200  # of one commit
_IDS_A_READ: Final = 500
_ALWAYS: Final = frozenset({State.FAILED, State.KILLED, State.WARNING})

Files = dict[str, bytes | None]
Records = dict[str, dict[FlowKey, FlowRecord]]


@dataclass(slots=True)
class _Batch:
    """What one commit tells: its runs, and the flows as they are before and after them."""

    rows: list[RunRow]
    executions: Mapping[str, Execution]
    before: Records
    after: Records
    first: frozenset[str] = frozenset()
    touched: dict[FlowKey, FlowRecord] = field(default_factory=dict)

    def record_before(self, row: RunRow) -> FlowRecord | None:
        return self.before[row.environment].get(row.key)


@dataclass(frozen=True, slots=True)
class Publication:
    """Writes reports to the branch of one repository. Made for one use; the caller keeps others away."""

    repository: str
    writer: str
    environments: Sequence[Environment]
    declared: Repository
    git: GitRepository
    settings: ReportSettings
    store: Store
    branch: ReportBranch
    gathering: Gathering
    mask: Mask

    def write(self, outbox: Sequence[OutboxRow], now: datetime) -> int:
        """Commit what the rows tell, and remove them; give how many commits were made.

        What is about to be committed is remembered first. Found after a crash, it is not written again when its file
        of rows is on the branch: only what should have followed the commit is done.

        Raises:
            MainstemError: the branch cannot be read or written; the rows stay.
        """
        ledger = self.store.read(lambda db: Ledger.read(db, self.repository, self.writer))
        pending = ledger.pending
        if pending is not None and self.branch.has(pending.path):
            self._settle(ledger, pending, now)
            settled = {row_id for row_id, _ in pending.rows}
            outbox = [row for row in outbox if row.id not in settled]
        batch = self._batch([row.key for row in outbox])
        ids = [(row.id, row.key) for row in outbox]
        if not batch.rows:
            self.store.write(lambda db: db.outbox.delete([row_id for row_id, _ in ids]))
            return 0
        files, path, pages = self._files(ledger, batch, now)
        self.store.write(lambda db: write_pending(db, self.repository, self.writer, Pending(path, tuple(ids), pages)))
        month = f"{now.astimezone(UTC):%Y-%m}"
        restart = ledger.month not in {"", month}
        self.branch.commit(files, message=self._message(batch.rows), at=now, restart=restart)
        ledger.month = month
        self._remember(ledger, batch, [row_id for row_id, _ in ids])
        return 1

    def _settle(self, ledger: Ledger, pending: Pending, now: datetime) -> None:
        """Do what should have followed a commit that a crash cut off."""
        batch = self._batch([execution_id for _, execution_id in pending.rows])
        ledger.pages.update(pending.pages)
        day = pending.path.removeprefix("runs/")[:10]
        if day not in ledger.days:
            ledger.days.append(day)
        ledger.month = ledger.month or day[:7].replace("/", "-")
        ledger.counted(now, min(len(batch.rows), ledger.lines_left(now, self.settings.max_rows_per_hour)))
        self._remember(ledger, batch, [row_id for row_id, _ in pending.rows])

    def _batch(self, execution_ids: Sequence[str]) -> _Batch:
        names = [environment.name for environment in self.environments]
        ids = list(dict.fromkeys(execution_ids))

        def read(db: Session) -> tuple[dict[str, Execution], Records]:
            found: dict[str, Execution] = {}
            for start in range(0, len(ids), _IDS_A_READ):
                found.update(db.executions.get_many(ids[start : start + _IDS_A_READ]))
            return found, read_records(db, names)

        executions, before = self.store.read(read)
        # One that was restarted meanwhile will end again, with another row of the outbox.
        rows = [row_of(each, self.mask) for each in executions.values() if each.state.is_terminal]
        return self._folded([row for row in rows if row.environment in before], executions, before)

    @staticmethod
    def _folded(rows: list[RunRow], executions: Mapping[str, Execution], before: Records) -> _Batch:
        rows.sort(key=lambda row: (row.end, row.id))
        after = {environment: dict(records) for environment, records in before.items()}
        by_flow: dict[tuple[str, FlowKey], list[RunRow]] = {}
        for row in rows:
            by_flow.setdefault((row.environment, row.key), []).append(row)
        batch = _Batch(rows, executions, before, after)
        first: set[str] = set()
        for (environment, key), found in by_flow.items():
            record, changed = folded(after[environment].get(key) or FlowRecord(*key), found)
            after[environment][key] = batch.touched[key] = record
            first |= changed
        batch.first = frozenset(first)
        return batch

    def _remember(self, ledger: Ledger, batch: _Batch, outbox_ids: Sequence[int]) -> None:
        def write(db: Session) -> None:
            db.outbox.delete(outbox_ids)
            ledger.write(db, self.repository, self.writer)
            for environment, records in batch.after.items():
                write_records(db, environment, [each for each in records.values() if each in batch.touched.values()])

        self.store.write(write)

    # files

    def _files(self, ledger: Ledger, batch: _Batch, now: datetime) -> tuple[Files, str, dict[str, bool]]:
        """Return what the commit changes, the path of its file of rows, and its new pages."""
        day = f"{now.astimezone(UTC):%Y/%m/%d}"
        path = f"runs/{day}/{now.astimezone(UTC):%H%M%S}-{self.writer}.jsonl"
        lines, counted = self._lines(ledger, batch.rows, now)
        ledger.counted(now, counted)
        pages = self._chosen(batch)
        ledger.pages.update(pages)
        for each in (day, *sorted({_day(row.end) for row in batch.rows})):
            if each not in ledger.days:
                ledger.days.append(each)
        files: Files = dict.fromkeys(ledger.outdated(batch.touched, self.settings, now))
        files[path] = lines
        files.update(self._run_pages(batch, {stem for stem in pages if stem in ledger.pages}))
        files.update(self._boards(batch, ledger.pages, now))
        files.update(self._days(batch))
        gone = [name for name in files if files[name] is None and name.count("/") == 3]
        # A page of a day that is too old already is not written into the folder that goes.
        for name in [name for name in files if any(name.startswith(f"{folder}/") for folder in gone)]:
            del files[name]
        return files, path, pages

    def _lines(self, ledger: Ledger, rows: Sequence[RunRow], now: datetime) -> tuple[bytes, int]:
        """Return the file of rows: a line for each run, and beyond the hour's limit exact counts for each flow."""
        left = ledger.lines_left(now, self.settings.max_rows_per_hour)
        urgent = sorted(rows, key=lambda row: row.state not in _ALWAYS) if len(rows) > left else list(rows)
        lines: list[Mapping[str, Any]] = [row.as_json() for row in urgent[:left]]
        lines += _counted(urgent[left:])
        return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode(), min(left, len(rows))

    def _chosen(self, batch: _Batch) -> dict[str, bool]:
        """Return the stems of the runs that get a page, the most urgent first, and which stay for long."""
        recent = {row.id for record in batch.touched.values() for row in record.recent}
        urgent = [row for row in batch.rows if row.state in _ALWAYS or row.id in batch.first]
        everything = self.settings.include == "all"
        others = [row for row in reversed(batch.rows) if row.id in recent or everything]
        chosen = {row.stem: True for row in urgent[-_MOST_PAGES:]}
        for row in others:
            if len(chosen) < _MOST_PAGES:
                chosen.setdefault(row.stem, everything)
        return chosen

    def _run_pages(self, batch: _Batch, stems: Iterable[str]) -> Files:
        wanted = set(stems)
        files: Files = {}
        for row in batch.rows:
            if row.stem not in wanted:
                continue
            details = self.gathering.details(
                row,
                batch.executions[row.id],
                batch.record_before(row),
                note=commit_note(row.commit, self.git, self.declared),
                is_first_of_revision=row.id in batch.first,
            )
            document = run_document(details, self.mask)
            files[f"{row.stem}.md"] = run_page(details, self.mask).encode()
            files[f"{row.stem}.json"] = (json.dumps(document, ensure_ascii=False, indent=1) + "\n").encode()
        return files

    def _boards(self, batch: _Batch, pages: Mapping[str, bool], now: datetime) -> Files:
        next_at = self._next_fires()
        boards = [self._board(environment, batch, next_at) for environment in self.environments]
        files: Files = {"README.md": root_page(boards, now).encode()}
        for each in boards:
            files[f"{each.name}/README.md"] = board(each, now, pages).encode()
        for key, record in batch.touched.items():
            folder = f"flows/{record.namespace}/{record.flow}"
            files[f"{folder}/README.md"] = flow_page(record, now, pages, next_at.get(key)).encode()
            files[f"{folder}/badge.svg"] = badge_svg(record.flow, record.last).encode()
            files[f"{folder}/badge.json"] = (json.dumps(badge_json(record.flow, record.last)) + "\n").encode()
        return files

    def _board(self, environment: Environment, batch: _Batch, next_at: Mapping[FlowKey, datetime]) -> BoardEnvironment:
        records = batch.after[environment.name]
        active = self.store.read(lambda db: db.flows.of_environment(environment.name))
        keys = sorted({(version.namespace, version.flow_id) for version in active})
        flows = [BoardFlow(*key, records.get(key), next_at.get(key)) for key in keys]
        return BoardEnvironment(environment.name, environment.ref, environment.active, environment.state, flows)

    def _next_fires(self) -> dict[FlowKey, datetime]:
        found: dict[FlowKey, datetime] = {}
        for trigger in self.store.read(lambda db: db.triggers.all()):
            key = (trigger.namespace, trigger.flow_id)
            if trigger.next_at is not None and not trigger.disabled:
                found[key] = min(found.get(key, trigger.next_at), trigger.next_at)
        return found

    @staticmethod
    def _days(batch: _Batch) -> Files:
        """Return the README of each day on which a run of this commit ended."""
        files: Files = {}
        for day in sorted({row.end.astimezone(UTC).date() for row in batch.rows}):
            files[f"runs/{day:%Y/%m/%d}/README.md"] = day_page(day, _counts_of(batch.after, day)).encode()
        return files

    def _message(self, rows: Sequence[RunRow]) -> str:
        failed = sum(row.state in {State.FAILED, State.KILLED} for row in rows)
        runs = f"{len(rows)} run{'s' if len(rows) != 1 else ''}"
        # The word in brackets keeps CI systems of forges from building this branch.
        return f"reports: {runs}, {failed} failed [skip ci]\n\nMainstem-Report: {self.writer}\n"


def _counts_of(records: Records, day: date) -> dict[FlowKey, Counts]:
    found: dict[FlowKey, Counts] = {}
    for by_flow in records.values():
        for key, record in by_flow.items():
            counts = record.days.get(day.isoformat())
            if counts:
                found[key] = counts
    return found


def _counted(rows: Sequence[RunRow]) -> list[dict[str, Any]]:
    """Return a line with counts by state for each flow, in place of lines for its runs."""
    by_flow: dict[tuple[str, FlowKey], dict[str, Any]] = {}
    for row in rows:
        line = by_flow.setdefault(
            (row.environment, row.key),
            {"environment": row.environment, "namespace": row.namespace, "flow": row.flow, "counts": {}},
        )
        line["counts"][row.state.value] = line["counts"].get(row.state.value, 0) + 1
    return list(by_flow.values())


def _day(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y/%m/%d}"
