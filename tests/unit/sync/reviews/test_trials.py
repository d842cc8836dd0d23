"""Tests of flows that a repository requires to pass before a commit is activated, and consent that waits for them."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from runner.flows.catalogue import Catalogue
from runner.settings import ReviewSettings
from runner.store import Store
from sync.activation import Outcome, RevisionResult
from sync.service import SyncService
from tests.servers.git import git
from tests.servers.review_world import SUITE, World, flow

pytestmark = pytest.mark.parametrize("forge", ["github"], indirect=True)

REQUIRED = "checks: {tests: required}\n"
FAILING = SUITE.replace("SUCCESS", "FAILED")
ENDLESS = """\
id: a
namespace: w
tasks:
  - id: wait
    type: core.flow.Sleep
    duration: PT1H
"""


@pytest.fixture(autouse=True)
def rooms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder in which tests of commits get theirs."""
    found = tmp_path / "rooms"
    found.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(found))
    return found


@pytest.fixture
def block(world: World) -> Iterator[Callable[[], None]]:
    """Let no tests run until it is called."""
    yield (unblock := blocked(world.service))
    unblock()


def blocked(service: SyncService) -> Callable[[], None]:
    event = threading.Event()
    service._trials._queue._pool.submit(event.wait, 60)
    return event.set


@pytest.fixture
def servers(world: World, postgres_url: str, tmp_path: Path) -> Iterator[tuple[SyncService, SyncService]]:
    """Return two servers on one database, each with a mirror of its own."""
    stores = Store.open(postgres_url), Store.open(postgres_url)
    homes = [world.service._settings.model_copy(update={"home": tmp_path / name}) for name in ("one", "two")]
    one, two = (SyncService(store, Catalogue(store), home) for store, home in zip(stores, homes, strict=True))
    one.ensure_declared()
    yield one, two
    for service in (one, two):
        service.close()
    for store in stores:
        store.close()


def push(world: World, suite: str = SUITE, message: str = "bye", **files: str | None) -> str:
    named = {f"flows/{name}.yaml": content for name, content in files.items()}
    tests = {"flows/w/tests/a.yaml": suite} if suite else {}
    return world.commit("main", {".mainstem.yaml": REQUIRED, "flows/a.yaml": flow("a", message), **tests, **named})


def look(service: SyncService, *, reason: str = "poll") -> RevisionResult:
    [result] = service.reconcile_repository("r", actor="test", reason=reason)
    return result


def ended(service: SyncService) -> None:
    """Wait until the tests of a commit have ended and ask for another look."""
    deadline = time.monotonic() + 60
    while "r" not in service.expire_pins():
        assert time.monotonic() < deadline
        threading.Event().wait(0.01)


def test_a_commit_is_active_when_its_tests_have_passed_and_never_when_one_fails(world: World, rooms: Path) -> None:
    before = world.service.environment("production").active
    bad = push(world, FAILING)
    waiting = look(world.service)
    world.service.review("r", [waiting])
    pending = dict(world.forge.status(bad))
    ended(world.service)
    failed = look(world.service)
    world.service.review("r", [failed])
    red = dict(world.forge.status(bad))
    settled = look(world.service)
    ordered = look(world.service, reason="manual")
    good = push(world)
    began = look(world.service)
    ended(world.service)

    passed = look(world.service)

    rows = world.service.history("production")
    assert (waiting.outcome, waiting.active) == (Outcome.WAITING, before)
    assert (waiting.message or "").endswith("UTC: its tests run")
    assert (failed.outcome, failed.active, settled.outcome) == (Outcome.UNCHECKED, before, Outcome.UNCHANGED)
    assert ordered.outcome is Outcome.WAITING  # an order runs failed tests once more
    assert failed.message is not None
    assert failed.message.startswith(
        f"revision {bad[:7]} not activated: its tests do not pass: 1 failed; flows/w/tests"
    )
    assert [(each["code"], each["file"], each["line"]) for each in rows[3].problems] == [
        ("flow.test.failed", "flows/w/tests/a.yaml", 8)
    ]
    assert (pending["is_good"], red["is_good"]) == (None, False)
    assert (began.outcome, passed.outcome, passed.active) == (Outcome.WAITING, Outcome.ACTIVE, good)
    assert [row.result for row in rows][:4] == ["ACTIVE", "WAITING", "WAITING", "UNCHECKED"]
    assert list(rooms.iterdir()) == []


def test_tests_that_hang_are_ended_and_have_failed(world: World, rooms: Path) -> None:
    world.service._trials._longest_s = 1.0
    push(world, a=ENDLESS)
    look(world.service)
    ended(world.service)

    found = look(world.service)

    assert found.outcome is Outcome.UNCHECKED
    assert "the tests could not be run: they had not ended after 1 s" in (found.message or "")
    assert list(rooms.iterdir()) == []


def test_a_newer_commit_ends_the_tests_of_the_one_before(world: World, block: Callable[[], None], rooms: Path) -> None:
    older = push(world, FAILING)
    look(world.service)
    first = world.service._trials._trials["production"].run
    newer = push(world)
    look(world.service)
    block()
    ended(world.service)

    found = look(world.service)

    assert first._process is None
    assert (found.outcome, found.active) == (Outcome.ACTIVE, newer)
    assert {row.result for row in world.service.history("production") if row.commit == older} == {"WAITING"}
    assert list(rooms.iterdir()) == []


def test_tests_that_a_restart_cut_short_begin_again(world: World, block: Callable[[], None], rooms: Path) -> None:
    commit = push(world)
    look(world.service)
    world.service.close()
    block()
    store, settings = world.service._store, world.service._settings
    restarted = SyncService(store, Catalogue(store), settings)

    began = look(restarted)
    ended(restarted)
    found = look(restarted)
    restarted.close()

    assert (began.outcome, found.outcome, found.active) == (Outcome.WAITING, Outcome.ACTIVE, commit)
    assert [row.result for row in restarted.history("production")][:2] == ["ACTIVE", "WAITING"]
    assert list(rooms.iterdir()) == []


def test_tests_that_a_look_begins_while_the_server_stops_leave_nothing_behind(world: World, rooms: Path) -> None:
    before = world.service.environment("production").active
    push(world)
    world.service._trials.close()

    found = look(world.service)

    assert (found.outcome, found.active) == (Outcome.WAITING, before)
    assert list(rooms.iterdir()) == []


def test_of_several_servers_one_runs_the_tests_and_all_take_what_came_of_them(
    world: World, servers: tuple[SyncService, SyncService], rooms: Path
) -> None:
    one, two = servers
    commit = push(world, FAILING)
    unblock = blocked(one)
    began = [look(one).outcome, look(two).outcome, look(two).outcome]
    rooms_of = [len(list(rooms.iterdir())), len(two._trials._trials)]
    unblock()
    ended(one)

    [other] = two.reconcile_repository("r", actor="test")

    assert began == [Outcome.WAITING] * 3
    assert rooms_of == [1, 0]
    assert (other.outcome, other.commit) == (Outcome.UNCHECKED, commit)
    assert "flows/w/tests/a.yaml:8" in (other.message or "")


def test_tests_of_a_server_that_died_are_begun_by_another(
    world: World, servers: tuple[SyncService, SyncService], postgres_url: str
) -> None:
    unblocks = [blocked(service) for service in servers]
    one, two = servers
    push(world)
    look(one)
    with psycopg.connect(
        postgres_url.replace("+psycopg", "")
    ) as server:  # the connections of one that dies end with it
        server.execute(
            "SELECT pg_terminate_backend(pid, 20000) FROM pg_locks JOIN pg_database ON pg_database.oid = database "
            "WHERE locktype = 'advisory' AND datname = current_database()"
        )

    found = look(two)

    begun = list(two._trials._trials)
    for service, unblock in zip(servers, unblocks, strict=True):
        service._trials.close()
        unblock()
    assert found.outcome is Outcome.WAITING
    assert begun == ["production"]


def test_a_commit_without_tests_has_none_to_wait_for(world: World) -> None:
    commit = push(world, "")

    found = look(world.service)

    assert (found.outcome, found.active) == (Outcome.ACTIVE, commit)


def test_a_server_that_runs_no_tests_says_so_and_activates_nothing(world: World) -> None:
    trials = world.service._trials
    trials._settings = trials._settings.model_copy(update={"reviews": ReviewSettings(tests="never")})
    push(world)

    found = look(world.service)

    assert found.outcome is Outcome.UNCHECKED
    assert "no tests run on this server (reviews.tests: never)" in (found.message or "")


def test_tests_stand_where_the_settings_of_the_repository_put_the_flows(world: World) -> None:
    rules = f"flows: pipelines\n{REQUIRED}"
    suite = {"pipelines/w/tests/a.yaml": FAILING, "flows/a.yaml": None, "flows/b.yaml": None}
    moved = {"pipelines/a.yaml": flow("a"), "pipelines/b.yaml": flow("b")}
    world.commit("main", {".mainstem.yaml": rules, **suite, **moved})
    look(world.service)
    ended(world.service)

    found = look(world.service)

    assert found.outcome is Outcome.UNCHECKED
    assert "pipelines/w/tests/a.yaml:8" in (found.message or "")


def test_consent_to_deletions_is_kept_for_that_commit_until_its_checks_are_green(world: World) -> None:
    checks = {".mainstem.yaml": "checks: {required: [ci]}\n"}
    deletes = world.commit("main", {**checks, "flows/a.yaml": None, "flows/b.yaml": None})
    held = look(world.service)
    allowed = world.service.allow_deletes("production", deletes[:12], "ann")
    waiting = [look(world.service).outcome, look(world.service).outcome]
    world.commit("main", {"flows/beside.txt": "of another commit"})
    other = look(world.service)
    world.work_tree.reset(deletes)
    git(world.work_tree.path, "push", "-q", "-f", str(world.forge.bare), "main")
    world.forge.results[deletes, "ci"] = "green"

    passed = look(world.service)

    rows = world.service.history("production")
    assert (held.outcome, allowed.outcome, other.outcome) == (Outcome.HELD, Outcome.WAITING, Outcome.HELD)
    assert waiting == [Outcome.WAITING] * 2
    assert (passed.outcome, passed.active) == (Outcome.ACTIVE, deletes)
    assert [(row.result, row.action, row.actor) for row in rows][:4] == [
        ("ACTIVE", "sync", "test"),
        ("HELD", "sync", "test"),
        ("WAITING", "allow", "ann"),
        ("HELD", "sync", "test"),
    ]


def test_consent_is_spent_once_the_commit_was_active(world: World) -> None:
    deletes = world.commit(
        "main",
        {".mainstem.yaml": "checks: {required: [ci]}\n", "flows/a.yaml": None, "flows/b.yaml": None},
    )
    look(world.service)
    world.service.allow_deletes("production", deletes[:12], "ann")
    world.forge.results[deletes, "ci"] = "green"
    active = look(world.service)
    world.service.stay("production", None, actor="bob", reason="it was needed", action="rollback")

    [resumed] = world.service.resume("production", actor="bob")

    assert active.outcome is Outcome.ACTIVE
    assert resumed.outcome is Outcome.HELD
