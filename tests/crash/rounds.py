"""Rounds of synchronisation, each in a process of its own that may be told at which point to kill itself.

Run as a program it has everything imported and forks a process for each line it reads, so that a round costs no start.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, Self

from runner.executions.models import OUTBOX_REPORT, Execution, OutboxRow
from runner.flows.catalogue import Catalogue
from runner.services import Host
from runner.settings import EnvironmentSettings, ReportSettings, RepositorySettings, Settings
from runner.states import State
from runner.store import Store
from runner.stored_key_values import StoredKeyValues
from sync.hosted import RECEIVE, HostedRepository
from sync.reports.writer import ReportWriter
from sync.service import SyncService
from tests.crash.points import kill_at

NOW = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
Stand = dict[str, Any]
"""How an environment stands; see `_Server.look`."""


@dataclass
class Rounds:
    """The program, spoken to line by line."""

    process: subprocess.Popen[str]

    @classmethod
    def started(cls) -> Self:
        command = [sys.executable, "-m", "tests.crash.rounds"]
        return cls(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))

    def run(self, home: Path, act: str, *, point: str | None = None, **options: Any) -> tuple[Stand, Stand] | None:
        """Run one round; return how all stood at its beginning and its end, or None when it killed itself."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"home": str(home), "act": act, "point": point, **options}) + "\n")
        self.process.stdin.flush()
        status, text = json.loads(self.process.stdout.readline())
        assert status in ((0, 9) if point else (0,)), text
        return tuple(json.loads(text)) if status == 0 else None

    def end(self) -> None:
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()
        self.process.wait(20)


class _Server:
    """What a server does with git, on a home that others of it worked on before."""

    def __init__(self, home: Path, url: str | None, on_invalid: Literal["block", "quarantine"]) -> None:
        declared: dict[str, Any] = {}
        if url is not None:
            declared["repositories"] = (RepositorySettings(name="forge", url=url),)
            declared["environments"] = (EnvironmentSettings(name="default", repository="forge", on_invalid=on_invalid),)
        self.settings = Settings(home=home, reports=ReportSettings(ledger_notes="all"), **declared)
        self.store = Store.open(self.settings.database_url)
        self.catalogue = Catalogue(self.store)
        self.service = SyncService(self.store, self.catalogue, self.settings, clock=lambda: NOW)
        self.service.ensure_declared()

    def end(self, ids: list[str]) -> None:
        """Put runs that ended into the store, as the engine leaves them behind."""

        def write(db: Any) -> None:
            for each in ids:
                db.executions.insert(_ended(each))
                db.outbox.add([OutboxRow(OUTBOX_REPORT, each, {"environment": "default"})])

        self.store.write(write)

    def follow(self) -> None:
        """Look at the repositories, then write the reports that wait: what polling does."""
        for name in self.store.read(lambda db: [each.repository for each in db.environments.all()]):
            self.service.reconcile_repository(name, actor="poll")
        later = NOW + timedelta(minutes=1)
        key_values = StoredKeyValues(self.store, lambda: later)
        host = Host.open(self.settings, key_values, environment={}, clock=lambda: later, store=self.store)
        ReportWriter(self.settings, self.store, self.catalogue, self.service, host).flush()

    def write(self, source: str) -> None:
        """Write a flow through the API's door."""
        self.service.write_flow(source, actor="ann")

    def push(self, body: str) -> None:
        """Take a push, given in hexadecimal digits, as the HTTP server would."""
        hosted = HostedRepository(self.service)
        hosted.answer(RECEIVE, io.BytesIO(bytes.fromhex(body)), lambda _: None, actor="ann")

    def look(self) -> Stand:
        """Return how the environment stands, what of it contradicts itself, and how many runs are not reported yet."""
        environment = self.service.environment("default")
        flows = self.store.read(lambda db: db.flows.list())
        broken = self.store.read(lambda db: db.revisions.broken("default"))
        revisions = self.service.history("default")
        return {
            "active": environment.active,
            "state": environment.state,
            "flows": {f"{each.namespace}.{each.flow_id}": [each.revision, each.blob, each.commit] for each in flows},
            "triggers": sorted(each.trigger_id for each in self.store.read(lambda db: db.triggers.all())),
            "revisions": [[each.commit, each.result] for each in reversed(revisions)],
            "wrong": [*self.store.check(), *([f"ledger row {broken}"] if broken is not None else [])],
            "unreported": self.store.read(lambda db: db.outbox.counts()).get(OUTBOX_REPORT, (0, None))[0],
        }

    def close(self) -> None:
        self.service.close()
        self.store.close()


def _ended(execution_id: str) -> Execution:
    begun = NOW - timedelta(seconds=2)
    return Execution(
        id=execution_id,
        namespace="team",
        flow_id="stays",
        flow_revision=1,
        state=State.SUCCESS,
        created_at=begun,
        started_at=begun,
        ended_at=NOW,
        environment="default",
        histories=((State.CREATED, begun), (State.SUCCESS, NOW)),
    )


def _round(
    home: str,
    act: str,
    point: str | None,
    url: str | None = None,
    on_invalid: Literal["block", "quarantine"] = "block",
    **options: Any,
) -> Any:
    server = _Server(Path(home), url, on_invalid)
    begun = server.look()
    if point is not None:
        kill_at(point)
    getattr(server, act)(**options)
    found = begun, server.look()
    server.close()
    return found


def _forked(request: dict[str, Any]) -> tuple[int, str]:
    """Run a round in a process of its own; return the signal or code that it ended with, and what it gave."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            text, code = json.dumps(_round(**request)), 0
        except BaseException as error:  # noqa: BLE001 - whatever it is, the parent must hear of it
            text = json.dumps(f"{type(error).__name__}: {error}")
        os.write(writer, text.encode())
        os._exit(code)
    os.close(writer)
    with os.fdopen(reader) as file:
        text = file.read()
    _, status = os.waitpid(child, 0)
    return abs(os.waitstatus_to_exitcode(status)), text


if __name__ == "__main__":
    for line in sys.stdin:
        sys.stdout.write(json.dumps(_forked(json.loads(line))) + "\n")
        sys.stdout.flush()
