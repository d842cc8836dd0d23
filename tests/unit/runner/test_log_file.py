"""`logToFile`, over a real worker: the log of each attempt becomes a file, and one line says where it is."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from runner.executions.creation import NewExecution
from runner.executions.models import Attempt, Execution
from runner.key_values import MemoryKeyValues
from runner.local import LocalEngine
from runner.services import Host
from runner.settings import Settings
from runner.states import State
from runner.store import LogQuery, Store
from runner.store.records import FlowDraft
from tests.servers.store import fresh_store
from webhooks.shapes import attempt_json

HEAD = "id: f\nnamespace: team\ntasks:\n"
BODY = """\
  - id: loud
    type: scripts.shell.Commands
    taskRunner: {{type: core.runner.Process}}
    logToFile: true
    {more}
    commands: [{command}]
"""


@dataclass
class Place:
    """One worker, with its log and storage."""

    store: Store
    local: LocalEngine
    home: Path

    def run(self, source: str) -> Execution:
        blob = hashlib.sha1(source.encode()).hexdigest()
        self.store.write(lambda db: db.flows.put(FlowDraft("team", "f", blob, source, datetime.now(UTC))))
        ended = self.local.engine.wait(self.local.engine.create(NewExecution("team", "f")).id, 30)
        assert ended is not None
        self.store.logs.flush()
        return ended

    def attempts(self, execution: Execution) -> list[Attempt]:
        return self.store.read(lambda db: db.executions.attempts(execution.id))

    def log(self, execution: Execution) -> list[str]:
        return [entry.message for entry in self.store.logs.search(LogQuery(execution_id=execution.id)).items]

    def files(self, execution: Execution) -> list[list[str]]:
        """Return the lines of the files that the attempts name, without their times."""
        found = []
        for uri in (attempt.log_file for attempt in self.attempts(execution)):
            assert uri is not None
            with self.local.engine.host.storage.open(uri) as file:
                found.append([line.partition(" ")[2] for line in file.read().decode().splitlines()])
        return found


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    settings = Settings(home=tmp_path / "home", work=tmp_path / "work")
    store = fresh_store(f"sqlite:///{tmp_path / 'state.db'}", durability="off")
    environment = {"PATH": os.environ["PATH"]}
    host = Host.open(
        settings, MemoryKeyValues(), environment=environment, store=store, log=lambda entry: store.logs.append([entry])
    )
    with LocalEngine(store, host) as local:
        yield Place(store, local, tmp_path / "home")
    store.close()


def test_each_attempt_has_a_file_of_its_own(place: Place) -> None:
    retry = "retry: {type: constant, interval: PT0.01S, maxAttempts: 2}"

    ended = place.run(HEAD + BODY.format(more=retry, command="'echo said; exit 3'"))

    attempts, files = place.attempts(ended), place.files(ended)
    assert ended.state is State.FAILED
    assert [[line for line in lines if "said" in line] for lines in files] == [["INFO said"], ["INFO said"]]
    assert all(lines[-1].startswith("ERROR ") for lines in files), files
    assert place.log(ended) == [f"the log of this attempt is in the file {each.log_file}" for each in attempts]
    assert [attempt_json(each)["logFile"].rpartition("/")[2] for each in attempts] == ["attempt-1.log", "attempt-2.log"]


def test_a_task_in_a_working_directory_has_one_too_and_its_neighbours_log_as_ever(place: Place) -> None:
    inner = BODY.format(more="logLevel: ERROR", command="'echo said >&2'").replace("\n", "\n    ").rstrip()
    other = "      - {id: other, type: scripts.shell.Commands, commands: [echo plain]}\n"

    ended = place.run(f"{HEAD}  - id: room\n    type: core.flow.WorkingDirectory\n    tasks:\n    {inner}\n{other}")

    named = [attempt.log_file for attempt in place.attempts(ended) if attempt.log_file]
    assert ended.state is State.SUCCESS, ended.error
    assert len(named) == 1
    assert f"the log of this attempt is in the file {named[0]}" in place.log(ended)  # whatever `logLevel` leaves out
    assert "plain" in place.log(ended)


def test_a_log_that_cannot_be_moved_stays_where_it_is(place: Place) -> None:
    storage = place.home / "storage"
    shutil.rmtree(storage, ignore_errors=True)
    storage.write_text("no folder")

    ended = place.run(HEAD + BODY.format(more="", command="echo said"))

    assert ended.state is State.SUCCESS
    assert [attempt.log_file for attempt in place.attempts(ended)] == [None]
    assert "said" in place.log(ended)
    assert any(line.startswith("the log of this attempt is not moved to a file: ") for line in place.log(ended))
