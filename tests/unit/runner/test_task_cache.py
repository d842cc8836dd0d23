"""The cache of a task, over a real worker: a body runs again only when it is asked for something else."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from runner.executions.creation import NewExecution
from runner.key_values import MemoryKeyValues
from runner.local import LocalEngine
from runner.services import Host
from runner.settings import Settings
from runner.states import State
from runner.store.records import FlowDraft
from tests.servers.store import fresh_store

FLOW = """\
id: work
namespace: team
inputs: [{{id: word, type: STRING, defaults: a}}]
tasks:
  - id: t
    type: core.flow.ForEach
    values: [x, y]
    tasks:
      - id: body
        type: scripts.shell.Commands
        taskRunner: {{type: core.runner.Process}}
        taskCache: {cache}
        env: {{LEDGER: "{ledger}"}}
        outputFiles: [out.txt]
        commands:
          - echo "{{{{ inputs.word }}}}{{{{ taskrun.value }}}}" >> $LEDGER
          - cd {{{{ workingDir }}}} && echo {{{{ inputs.word }}}} > out.txt
          - echo '::{{"outputs":{{"n":1}}}}::'
          - test "{{{{ inputs.word }}}}" != bad
"""


@dataclass
class Place:
    """One flow on one worker, whose clock is moved by hand."""

    local: LocalEngine
    ledger: Path
    clock: list[datetime]

    def run(self, word: str = "a") -> list[Any]:
        """Run the flow; return the state and the outputs of both bodies."""
        engine = self.local.engine
        ended = engine.wait(engine.create(NewExecution("team", "work", inputs={"word": word})).id, 30)
        assert ended is not None
        outputs = engine.store.read(lambda db: db.executions.outputs(ended.id))
        runs = engine.store.read(lambda db: db.executions.runs(ended.id))
        return [ended.state, *(outputs.get(run.id) for run in runs if run.task_id == "body")]

    def said(self) -> list[str]:
        return self.ledger.read_text().split()


@pytest.fixture
def place(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Place]:
    clock = [datetime(2026, 1, 1, tzinfo=UTC)]
    settings = Settings(home=tmp_path / "home", work=tmp_path / "work")
    store = fresh_store(f"sqlite:///{tmp_path / 'state.db'}", durability="off")
    host = Host.open(settings, MemoryKeyValues(), environment={"PATH": os.environ["PATH"]})
    source = FLOW.format(cache=getattr(request, "param", "{enabled: true, ttl: PT1H}"), ledger=tmp_path / "ledger")
    blob = hashlib.sha1(source.encode()).hexdigest()
    draft = FlowDraft("team", "work", blob, source, datetime.now(UTC), "default", "c" * 40, "flows/x.yaml")
    store.write(lambda db: db.flows.put(draft))
    with LocalEngine(store, replace(host, clock=lambda: clock[0])) as local:
        yield Place(local, tmp_path / "ledger", clock)
    store.close()


def test_a_body_asked_for_the_same_is_not_run_again(place: Place) -> None:
    first = place.run()
    second = place.run()
    third = place.run("b")

    storage = place.local.engine.host.storage
    with storage.open(second[1]["outputFiles"]["out.txt"]) as file:
        assert file.read() == b"a\n"
    assert [second[0], second[1]["vars"], second[2]["exitCode"]] == [State.SUCCESS, {"n": 1}, 0]
    assert second[1]["outputFiles"] != first[1]["outputFiles"]
    assert first[1]["vars"] == {"n": 1}
    assert third[0] is State.SUCCESS
    assert place.said() == ["ax", "ay", "bx", "by"]


def test_a_result_is_good_for_its_time_to_live(place: Place) -> None:
    place.run()
    place.clock[0] += timedelta(minutes=59)
    place.run()
    place.clock[0] += timedelta(minutes=1)

    place.run()

    assert place.said() == ["ax", "ay", "ax", "ay"]


def test_a_result_whose_files_are_gone_is_made_anew(place: Place) -> None:
    first = place.run()
    place.local.engine.host.storage.delete(first[1]["outputFiles"]["out.txt"])

    place.run()

    assert place.said() == ["ax", "ay", "ax"]


def test_a_failure_is_not_kept(place: Place) -> None:
    states = [place.run("bad")[0], place.run("bad")[0]]

    assert states == [State.FAILED] * 2
    assert place.said() == ["badx", "badx"]


@pytest.mark.parametrize("place", ["{enabled: false}", "null"], indirect=True)
def test_without_the_cache_every_body_runs(place: Place) -> None:
    place.run()
    place.run()

    assert place.said() == ["ax", "ay", "ax", "ay"]
