"""The files of one commit of reports: the pages of runs, flows, days and environments, and the file of rows."""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

import orjson

from runner.reports.badge import badge_json, badge_svg
from runner.reports.board import BoardEnvironment, BoardFlow, board, day_page, flow_page, root_page
from runner.reports.deployment_page import Deployment
from runner.reports.details import CommitNote, Origin, RunDetails
from runner.reports.document import run_document
from runner.reports.junit import run_junit
from runner.reports.lineage import run_events
from runner.reports.provenance import provenance
from runner.reports.record import FlowRecord
from runner.reports.rows import RunRow
from runner.reports.run_page import run_page
from runner.reports.values import Mask
from runner.store import Store
from runner.store.records import Environment, Repository, Revision
from sync.reports.batch import Batch, FlowKey
from sync.reports.deployed import Deployed
from sync.reports.forge_links import commit_note, compare_url, line_url
from sync.reports.gathering import Gathering
from sync.repository import GitRepository

log = logging.getLogger(__name__)

Files = dict[str, bytes | None]
"""Contents by path; None removes a file or a folder."""


@dataclass(frozen=True, slots=True)
class Bindery:
    """Makes the files of reports for environments; `places` says by name where the flows of each come from.

    A repository that cannot be opened now is None.
    """

    environments: Sequence[Environment]
    places: Mapping[str, tuple[Repository, GitRepository | None]]
    store: Store
    gathering: Gathering
    mask: Mask
    formats: Collection[str] = ()

    def run_pages(self, batch: Batch, stems: Collection[str]) -> Files:
        """Return the page and the JSON of each run of the batch that is to have them."""
        files: Files = {}
        for row in batch.rows:
            if row.stem in stems:
                try:
                    files.update(self._run_files(batch, row))
                except Exception:  # one run must not keep the reports of all others from being written
                    log.exception("a run gets no page", extra={"execution": row.id})
        return files

    def _run_files(self, batch: Batch, row: RunRow) -> Files:
        details = self._details(batch, row)
        page, document = run_page(details, self.mask), run_document(details, self.mask)
        files: Files = {f"{row.stem}.md": _bytes(page), f"{row.stem}.json": _json(document, is_indented=True)}
        files.update({f"{row.stem}{ending}": content for ending, content in self._others(details)})
        return files

    def _others(self, details: RunDetails) -> Iterator[tuple[str, bytes]]:
        """Yield the endings and contents of what other programs read."""
        if "junit" in self.formats:
            yield ".junit.xml", _bytes(run_junit(details, self.mask))
        if "openlineage" in self.formats:
            yield ".openlineage.jsonl", row_file(list(run_events(details, self.mask)))
        statement = provenance(details, self.mask) if "provenance" in self.formats else None
        if statement is not None:
            yield ".intoto.json", _json(statement, is_indented=True)

    def _details(self, batch: Batch, row: RunRow) -> RunDetails:
        good = batch.good_before(row)
        declared, git = self.places[row.environment]
        details = self.gathering.details(
            row, batch.record_before(row), good, is_first_of_revision=row.id in batch.first
        )
        return replace(
            details,
            commit=commit_note(row.commit, git, declared),
            compare_url=compare_url(good.commit if good else None, row.commit, declared),
            origin=self._origin(row.environment),
        )

    def _origin(self, name: str) -> Origin:
        environment = next(each for each in self.environments if each.name == name)
        declared, _ = self.places[name]
        return Origin(declared.name, declared.url, environment.following, environment.path)

    def deployments(self, deployed: Sequence[Deployed]) -> Files:
        """Return the pages of what was deployed since the last commit, and the lists of the environments of it."""
        files: Files = {}
        for each in deployed:
            files.update(each.files(self._bound, self.mask))
        return files

    def _bound(self, row: Revision) -> Deployment:
        declared, git = self.places[row.environment]
        note = commit_note(row.commit, git, declared) or CommitNote(row.commit)
        return Deployment(
            row,
            note,
            compare_url(row.previous, row.commit, declared),
            partial(line_url, declared, row.commit),
        )

    def boards(
        self,
        batch: Batch,
        pages: Collection[str],
        now: datetime,
        *,
        deployed: Collection[str] = (),
        whole: bool = False,
    ) -> Files:
        """Return the boards, and the pages and badges of the flows that ran; with `whole` those of all flows.

        `deployed` names the environments with a list of deployments.
        """
        next_at = self._next_fires()
        boards = [self._board(environment, batch, next_at, deployed) for environment in self.environments]
        files: Files = {"README.md": _bytes(root_page(boards, now))}
        for each in boards:
            files[f"{each.name}/README.md"] = _bytes(board(each, now, pages))
        for record in _all_records(batch) if whole else batch.touched_records:
            files.update(_flow_files(record, now, pages, next_at.get((record.namespace, record.flow))))
        return files

    def _board(
        self,
        environment: Environment,
        batch: Batch,
        next_at: Mapping[FlowKey, datetime],
        deployed: Collection[str],
    ) -> BoardEnvironment:
        records = batch.after[environment.name]
        keys = self.store.read(lambda db: db.flows.keys_of_environment(environment.name))
        flows = [BoardFlow(*key, records.get(key), next_at.get(key)) for key in keys]
        message = self.mask(environment.message) if environment.message else None
        return BoardEnvironment(
            environment.name,
            environment.following,
            environment.active,
            environment.state,
            flows,
            message,
            has_deployments=environment.name in deployed,
        )

    def _next_fires(self) -> dict[FlowKey, datetime]:
        found: dict[FlowKey, datetime] = {}
        for trigger in self.store.read(lambda db: db.triggers.all()):
            key = (trigger.namespace, trigger.flow_id)
            if trigger.next_at is not None and not trigger.disabled:
                found[key] = min(found.get(key, trigger.next_at), trigger.next_at)
        return found


def day_files(batch: Batch) -> Files:
    """Return the README of each day on which a run of the batch ended."""
    days = sorted({row.end.astimezone(UTC).date() for row in batch.rows})
    return {f"runs/{day:%Y/%m/%d}/README.md": _bytes(day_page(day, batch.counts(day))) for day in days}


def row_file(lines: Sequence[Mapping[str, object]]) -> bytes:
    """Return lines of JSON."""
    return b"".join(_json(line) for line in lines)


def _flow_files(record: FlowRecord, now: datetime, pages: Collection[str], next_at: datetime | None) -> Files:
    folder = f"flows/{record.namespace}/{record.flow}"
    return {
        f"{folder}/README.md": _bytes(flow_page(record, now, pages, next_at)),
        f"{folder}/badge.svg": _bytes(badge_svg(record.flow, record.last)),
        f"{folder}/badge.json": _json(badge_json(record.flow, record.last)),
    }


def _all_records(batch: Batch) -> Iterator[FlowRecord]:
    for records in batch.after.values():
        yield from records.values()


def _json(value: Mapping[str, Any], *, is_indented: bool = False) -> bytes:
    options = orjson.OPT_APPEND_NEWLINE | (orjson.OPT_INDENT_2 if is_indented else 0)
    try:
        return orjson.dumps(value, option=options)
    except TypeError:  # a number of more than 64 bits, half a character: JSON has them, orjson has not
        return _bytes(json.dumps(value, ensure_ascii=False, indent=2 if is_indented else None) + "\n")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "replace")  # half a character, which JSON can name, is no reason to be without a page
