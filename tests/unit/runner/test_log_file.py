"""`logToFile`, over a real worker: the log of each attempt becomes a file, and one line says where it is."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from runner.errors import StoreError
from runner.executions.creation import NewExecution
from runner.executions.effects import Effects
from runner.executions.models import Attempt, Execution
from runner.key_values import MemoryKeyValues
from runner.local import LocalEngine
from runner.services import Host
from runner.settings import Settings
from runner.states import State
from runner.store import LogQuery, Store
from runner.store.queries import ExecutionQuery
from runner.store.records import FlowDraft
from runner.sweeper import STOPPED, Sweeper
from tests.servers.place import wait_until
from tests.servers.spool import installed_spool
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

SPOOLED = """\
id: f
namespace: team
tasks:
  - id: loud
    type: scripts.shell.Commands
    taskRunner: {{type: spool.Spool, root: {root}}}
    logToFile: true
    commands: [seq 5]
"""


@dataclass
class Place:
    """One worker, with its log and storage."""

    store: Store
    local: LocalEngine
    home: Path

    def run(self, source: str) -> Execution:
        return self.end(self.start(source))

    def start(self, source: str) -> Execution:
        blob = hashlib.sha1(source.encode()).hexdigest()
        self.store.write(lambda db: db.flows.put(FlowDraft("team", "f", blob, source, datetime.now(UTC))))
        return self.local.engine.create(NewExecution("team", "f"))

    def end(self, execution: Execution) -> Execution:
        ended = self.local.engine.wait(execution.id, 30)
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


def test_the_lines_stay_in_the_log_until_the_result_of_the_whole_directory_is_stored(place: Place) -> None:
    inner = BODY.format(more="", command="echo said").replace("\n", "\n    ").rstrip()
    go = place.home.parent / "go"
    wait = f"echo waiting; while [ ! -e {go} ]; do sleep 0.02; done"
    other = f"      - {{id: other, type: scripts.shell.Commands, commands: ['{wait}']}}\n"

    begun = place.start(f"{HEAD}  - id: room\n    type: core.flow.WorkingDirectory\n    tasks:\n    {inner}\n{other}")
    wait_until(lambda: "waiting" in place.log(begun), "the second task")
    before = place.log(begun)
    go.touch()
    ended = place.end(begun)

    (uri,) = [attempt.log_file for attempt in place.attempts(ended) if attempt.log_file]
    assert "said" in before
    assert "said" not in place.log(ended)
    assert f"the log of this attempt is in the file {uri}" in place.log(ended)


def test_a_store_that_is_away_when_the_lines_are_removed_does_not_run_the_task_again(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(_query: LogQuery) -> int:
        raise StoreError("store.unreachable", "away")

    monkeypatch.setattr(place.store.logs, "delete_matching", away)

    ended = place.run(HEAD + BODY.format(more="", command="echo said"))

    assert ended.state is State.SUCCESS
    assert len(place.attempts(ended)) == 1
    assert [lines[-1] for lines in place.files(ended)] == ["INFO said"]
    assert place.log(ended)[-1] == "said"


@pytest.mark.parametrize("moment", ["_judged", "_record"])
def test_a_worker_that_is_lost_around_the_writing_of_the_file_costs_no_line(
    place: Place, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, host = place.local.worker, place.local.engine.host
    engine = LocalEngine(place.store, host).engine  # it finds out, and takes nothing itself
    monkeypatch.setattr(first, "beat", lambda: None)  # or it learns that it was taken for lost
    go_on = getattr(first, moment)

    def lost(*given: Any) -> Any:
        monkeypatch.setattr(first, moment, go_on)
        Sweeper(engine, Effects(engine), own_worker=lambda: "").take_back(first.id, STOPPED)
        with LocalEngine(place.store, host) as other:
            wait_until(lambda: other.worker.adopt() == 0 and _has_ended(place), "the result of the other worker")
        return go_on(*given)  # as one that was only slow does

    monkeypatch.setattr(first, moment, lost)
    with installed_spool():
        ended = place.run(SPOOLED.format(root=place.home.parent / "spool"))
        wait_until(lambda: not first.busy, "the late end of the first worker")
    place.store.logs.flush()

    assert ended.state is State.SUCCESS, ended.error
    assert [(attempt.number, attempt.epoch) for attempt in place.attempts(ended)] == [(1, 2)]
    (lines,) = place.files(ended)
    assert [line for line in lines if line.startswith("INFO ")] == [f"INFO {number}" for number in range(1, 6)]
    assert [line for line in place.log(ended) if line.isdigit()] == []


def _has_ended(place: Place) -> bool:
    (execution,) = place.store.read(lambda db: db.executions.search(ExecutionQuery())).items
    return execution.state.is_terminal
