"""Polling triggers over a real store, engine and HTTP server, on a clock that the test moves."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from runner.executions.engine import Engine
from runner.executions.models import Commit, Execution
from runner.flows.catalogue import Catalogue
from runner.key_values import MemoryKeyValues
from runner.poller import Poller
from runner.services import Host
from runner.settings import Settings
from runner.states import State
from runner.store import Store
from runner.store.records import FlowDraft, TriggerState
from runner.triggers.activation import activated
from runner.triggers.control import switched
from tests.servers.busy_secrets import BusySecrets
from tests.servers.store import fresh_store
from tests.unit.runner.test_scheduler import Bell

UTC_ZONE = ZoneInfo("UTC")


@dataclass
class Site:
    """A server that answers with `body`, and counts how often it was asked."""

    url: str = ""
    status: int = 200
    body: str = '{"ready": true}'
    asked: int = 0


@pytest.fixture
def site() -> Iterator[Site]:
    state = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.asked += 1
            self.send_response(state.status)
            self.end_headers()
            self.wfile.write(state.body.encode())

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_address[1]}/"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield state
    server.shutdown()
    server.server_close()


@dataclass
class Watch:
    """A poller with what it works on."""

    store: Store
    engine: Engine
    poller: Poller
    clock: list[datetime] = field(default_factory=lambda: [datetime(2024, 3, 1, tzinfo=UTC)])

    @property
    def now(self) -> datetime:
        return self.clock[0]

    def deploy(self, trigger: str) -> None:
        source = f"id: f\nnamespace: a.b\ntasks: [{{id: one, type: core.debug.Return}}]\ntriggers: [{trigger}]\n"
        draft = FlowDraft("a.b", "f", hashlib.sha1(source.encode()).hexdigest(), source, self.now)
        self.store.write(lambda db: db.flows.put(draft))
        self.engine.catalogue.invalidate()
        flow = self.engine.catalogue.get("a.b", "f")
        self.store.write(lambda db: activated(db, [flow], [], self.now, UTC_ZONE))

    @property
    def row(self) -> TriggerState:
        found = self.store.read(lambda db: db.triggers.get("a.b", "f", "w"))
        assert found is not None
        return found

    def look(self) -> None:
        """Begin what is due now, and wait until it has been looked at."""
        for row in self.store.read(lambda db: db.triggers.due(self.now)):
            self.poller.begin(row, self.now)
        deadline = time.monotonic() + 60
        while self.poller._going_on and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not self.poller._going_on

    def executions(self) -> list[Execution]:
        return [self.engine.get(each) for each in self.store.read(lambda db: db.executions.open_ids())]

    def end(self) -> None:
        """Let the open executions end."""
        for each in self.executions():
            loaded = self.store.read(lambda db, key=each.id: db.executions.load(key))  # type: ignore[misc]  # bound now
            assert loaded is not None
            ended = loaded.execution.enter(State.SUCCESS, self.now)
            commit = Commit(ended, loaded.execution.version)
            self.store.write(lambda db, commit=commit: db.executions.commit(commit))  # type: ignore[misc]  # bound now

    def wait(self, seconds: float) -> None:
        self.clock[0] += timedelta(seconds=seconds)


@pytest.fixture
def watch(tmp_path: Path) -> Iterator[Watch]:
    settings = Settings(home=tmp_path / "home", work=tmp_path / "work")
    settings.home.mkdir()
    store = fresh_store(settings.database_url, durability="off")
    clock = [datetime(2024, 3, 1, tzinfo=UTC)]
    host = Host.open(settings, MemoryKeyValues(), environment={}, clock=lambda: clock[0])
    engine = Engine(store, Catalogue(store), host, Bell())
    poller = Poller(engine, host.clock)
    yield Watch(store, engine, poller, clock)
    poller.stop()
    store.close()


def asking(site: Site, more: str = "") -> str:
    return f"{{id: w, type: core.http.Trigger, uri: '{site.url}', interval: PT1M{more}}}"


READY = ", responseCondition: '{{ fromJson(response.body).ready }}'"


def test_an_answer_that_meets_the_condition_starts_an_execution_with_it(watch: Watch, site: Site) -> None:
    watch.deploy(asking(site, READY))

    watch.look()

    (execution,) = watch.executions()
    assert execution.trigger is not None
    assert (execution.trigger.id, execution.trigger.variables["body"]) == ("w", '{"ready": true}')
    assert watch.row.execution_id == execution.id
    assert watch.row.next_at == watch.now + timedelta(minutes=1)


@pytest.mark.parametrize(("status", "body"), [(200, '{"ready": false}'), (503, '{"ready": false}'), (200, "no JSON")])
def test_any_other_answer_starts_nothing_and_is_asked_for_again(
    watch: Watch, site: Site, status: int, body: str
) -> None:
    site.status, site.body = status, body
    watch.deploy(asking(site, READY))

    watch.look()
    watch.wait(60)
    watch.look()

    assert (watch.executions(), site.asked) == ([], 2)


def test_an_address_that_does_not_answer_is_tried_again(watch: Watch, site: Site) -> None:
    url, site.url = site.url, "http://127.0.0.1:1/"
    watch.deploy(asking(site))

    watch.look()
    site.url = url

    assert watch.executions() == []
    assert watch.row.next_at == watch.now + timedelta(minutes=1)


def test_nothing_is_asked_while_the_last_execution_goes_on(watch: Watch, site: Site) -> None:
    watch.deploy(asking(site))

    for _ in range(3):
        watch.look()
        watch.wait(60)
    before = site.asked
    watch.end()
    watch.look()

    assert (before, site.asked, len(watch.executions())) == (1, 2, 1)


def test_a_condition_that_does_not_hold_starts_nothing(watch: Watch, site: Site) -> None:
    watch.deploy(
        asking(site, ", conditions: [{type: core.condition.Expression, expression: '{{ trigger.code > 400 }}'}]")
    )

    watch.look()

    assert (watch.executions(), site.asked) == ([], 1)


def test_of_two_that_see_the_same_date_one_asks(watch: Watch, site: Site) -> None:
    watch.deploy(asking(site))
    row = watch.row

    watch.poller.begin(row, watch.now)
    watch.poller.begin(row, watch.now)
    watch.look()

    assert site.asked == 1


def test_a_script_starts_something_when_it_begins_to_meet_its_condition(watch: Watch, tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    tmp_path.chmod(0o755)
    script = f"test -e {flag} && exit 3; exit 0"
    more = ", exitCondition: exit 3, interval: PT1M, allowConcurrent: true"
    watch.deploy(f"{{id: w, type: scripts.shell.ScriptTrigger, script: '{script}'{more}}}")

    counts = []
    for exists in (False, True, True, False, True):
        flag.touch() if exists else flag.unlink(missing_ok=True)
        watch.look()
        watch.wait(60)
        counts.append(len(watch.executions()))

    assert counts == [0, 1, 1, 1, 2]
    trigger = watch.executions()[0].trigger
    assert trigger is not None
    assert {key: trigger.variables[key] for key in ("condition", "exitCode", "vars")} == {
        "condition": "exit 3",
        "exitCode": 3,
        "vars": {},
    }


def test_a_script_may_be_judged_by_what_it_prints(watch: Watch) -> None:
    printed = '::{"outputs": {"stock": "empty"}}::'
    command = f"'echo ''{printed}'''"
    watch.deploy(f"{{id: w, type: scripts.shell.CommandsTrigger, commands: [{command}], exitCondition: emp.y}}")

    watch.look()

    (execution,) = watch.executions()
    assert execution.trigger is not None
    assert execution.trigger.variables["vars"] == {"stock": "empty"}


@pytest.mark.parametrize(
    ("more", "states"),
    [("", []), (", failOnTriggerError: true", [State.FAILED])],
)
def test_a_look_that_fails_leaves_a_failed_execution_only_when_told(
    watch: Watch, more: str, states: list[State]
) -> None:
    watch.deploy(f"{{id: w, type: core.http.Trigger, uri: 'http://127.0.0.1:1/', interval: PT1M{more}}}")

    watch.look()

    found = watch.store.read(lambda db: db.executions.last_of_flow("a.b", "f", 10))
    assert [each.state for each in found] == states
    assert watch.row.next_at == watch.now + timedelta(minutes=1)


def test_a_condition_that_cannot_be_decided_leaves_a_failed_execution_each_time(watch: Watch, site: Site) -> None:
    watch.deploy(asking(site, ", when: '{{ nothing.at.all }}'"))

    watch.look()
    watch.wait(60)
    watch.look()

    found = watch.store.read(lambda db: db.executions.last_of_flow("a.b", "f", 10))
    assert [each.state for each in found] == [State.FAILED, State.FAILED]
    assert all(each.error for each in found)


def test_a_poll_that_was_stopped_and_switched_on_again_looks_again(watch: Watch, site: Site) -> None:
    watch.deploy(asking(site, ", stopAfter: [SUCCESS]"))
    watch.look()
    watch.end()
    watch.wait(60)
    watch.look()
    stopped = watch.row.disabled
    watch.wait(60)
    watch.store.write(lambda db: db.triggers.put(switched(watch.row, watch.now, disabled=False)))

    watch.look()

    assert stopped
    assert not watch.row.disabled
    assert site.asked == 2


def test_the_log_holds_no_secret_of_a_look_that_failed(watch: Watch, caplog: pytest.LogCaptureFixture) -> None:
    watch.engine.host.masker.add("word-of-secret")
    watch.deploy("{id: w, type: core.http.Trigger, uri: 'ftp://word-of-secret', interval: PT1M}")

    watch.look()

    (record,) = [each for each in caplog.records if each.getMessage() == "a trigger could not be looked at"]
    assert "word-of-secret" not in vars(record)["error"]
    assert "***" in vars(record)["error"]


def test_what_was_found_while_the_store_was_busy_is_found_again(watch: Watch, site: Site) -> None:
    watch.engine.host.secrets._backends = (BusySecrets(),)
    watch.deploy(asking(site, READY + """, inputs: {x: "{{ secret('KEY') }}"}"""))

    watch.look()
    watch.wait(60)
    watch.look()

    found = watch.store.read(lambda db: db.executions.last_of_flow("a.b", "f", 10))
    assert [each.state for each in found] == [State.CREATED]
    assert site.asked == 2
