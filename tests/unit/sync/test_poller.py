from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from runner.errors import NotFoundError
from runner.store import Session
from runner.store.records import Repository
from sync.activation import Outcome, RevisionResult
from sync.following import MISSING, MOVED
from sync.poller import Poller, next_wait
from tests.servers.store import fresh_store


class Recorder:
    """Stands in for the service: says when it was asked, and can be made to wait or to fail."""

    def __init__(self) -> None:
        self.looks: list[tuple[str, str]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.error: Exception | None = None
        self.expired: list[str] = []
        self.watching: Exception | None = None
        self.result = RevisionResult("default", Outcome.UNCHANGED)

    def reconcile_repository(self, name: str, *, actor: str, reason: str) -> list[RevisionResult]:
        assert reason == "poll"
        self.looks.append((name, actor))
        self.gate.wait(60)
        if self.error:
            raise self.error
        return [self.result]

    def expire_pins(self) -> list[str]:
        expired, self.expired = self.expired, []
        return expired

    def review(self, name: str, results: list[RevisionResult]) -> bool:
        return bool(results) or not name

    def maintain(self, name: str) -> bool:
        return not name

    def check_drift(self, name: str) -> None:
        assert name

    def take_back_failing(self) -> None:
        if self.watching is not None:
            raise self.watching


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        threading.Event().wait(0.005)


@pytest.fixture
def polled(tmp_path: Path) -> Iterator[Any]:
    store = fresh_store(f"sqlite:///{tmp_path / 'state.db'}")
    recorder = Recorder()
    poller = Poller(recorder, store)  # type: ignore[arg-type]  # the recorder has what the poller uses

    def start(*repositories: Repository) -> tuple[Poller, Recorder]:
        def declare(db: Session) -> None:
            for repository in repositories:
                db.repositories.put(repository)

        store.write(declare)
        poller.start()
        return poller, recorder

    yield start
    recorder.gate.set()
    poller.stop()
    store.close()


@pytest.mark.parametrize(
    ("failures", "chance", "wait"),
    [(0, 0.5, 60), (0, 0.0, 54), (0, 1.0, 66), (1, 0.5, 120), (3, 0.5, 480), (50, 0.5, 3_600)],
)
def test_the_wait_grows_with_failures_up_to_an_hour(failures: int, chance: float, wait: float) -> None:
    assert next_wait(60, failures, chance) == pytest.approx(wait)


def test_every_repository_is_looked_at_at_once(polled: Any) -> None:
    _, recorder = polled(Repository("a", "https://a"), Repository("b", "https://b"))

    wait_for(lambda: len(recorder.looks) == 2)

    assert sorted(recorder.looks) == [("a", "poll"), ("b", "poll")]


@pytest.mark.parametrize("watching", [RuntimeError("no store"), NotFoundError("revision.none", "nothing")])
def test_a_failing_watch_over_deployments_keeps_no_repository_from_being_looked_at(
    polled: Any, watching: Exception
) -> None:
    poller, recorder = polled()
    recorder.watching = watching
    poller._store.write(lambda db: db.repositories.put(Repository("a", "https://a")))

    poller.request("nothing")  # ends the pause before the list is read again

    wait_for(lambda: ("a", "poll") in recorder.looks)


def test_an_environment_whose_pin_ran_out_is_looked_at_without_waiting_for_the_interval(polled: Any) -> None:
    poller, recorder = polled(Repository("a", "https://a"))
    wait_for(lambda: len(recorder.looks) == 1)

    recorder.expired = ["a"]
    poller.request("nothing")  # ends the pause between two looks at the list

    wait_for(lambda: recorder.looks.count(("a", "webhook")) == 1)


def test_a_burst_of_requests_is_one_look(polled: Any) -> None:
    poller, recorder = polled(Repository("a", "https://a"))
    wait_for(lambda: len(recorder.looks) == 1)
    recorder.gate.clear()
    poller.request("a", "github")
    wait_for(lambda: len(recorder.looks) == 2)

    for _ in range(100):
        poller.request("a", "github")
    recorder.gate.set()
    wait_for(lambda: len(recorder.looks) == 3)

    assert recorder.looks[1:] == [("a", "github")] * 2


def test_a_failing_repository_does_not_end_polling(polled: Any) -> None:
    poller, recorder = polled()
    recorder.error = RuntimeError("boom")
    poller.request("a")
    wait_for(lambda: len(recorder.looks) == 1)
    recorder.error = NotFoundError("repository.missing", "gone")

    poller.request("b")
    wait_for(lambda: len(recorder.looks) == 2)

    assert [name for name, _ in recorder.looks] == ["a", "b"]


def test_a_repository_that_hangs_keeps_no_other_waiting(polled: Any) -> None:
    poller, recorder = polled(Repository("slow", "https://a"), Repository("other", "https://b"))
    wait_for(lambda: len(recorder.looks) == 2)
    recorder.gate.clear()
    poller.request("slow", "ann")
    wait_for(lambda: len(recorder.looks) == 3)

    poller.request("other", "ben")
    for _ in range(50):
        poller.request("slow", "ann")

    wait_for(lambda: ("other", "ben") in recorder.looks)
    assert recorder.looks[2:] == [("slow", "ann"), ("other", "ben")]


def test_a_requested_look_that_fails_is_tried_again_long_before_the_interval(
    polled: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sync.poller._RETRY_S", 0.01)
    poller, recorder = polled(Repository("a", "https://a", interval_s=3_600))
    wait_for(lambda: len(recorder.looks) == 1)
    recorder.error = NotFoundError("repository.missing", "away for a moment")

    poller.request("a", "ann")
    wait_for(lambda: len(recorder.looks) >= 4)
    recorder.error = None
    wait_for(lambda: not poller._unmet)

    looks = list(recorder.looks)
    assert set(looks[1:]) == {("a", "ann")}
    assert poller._due["a"] > time.monotonic() + 3_000


@pytest.mark.alone("its thread must come up in time")
@pytest.mark.parametrize(
    "result",
    [
        RevisionResult("default", Outcome.WAITING),
        RevisionResult("default", Outcome.FAILED, code=MISSING),
        RevisionResult("default", Outcome.FAILED, code=MOVED),
    ],
    ids=["waits", "gone", "moved"],
)
def test_what_only_time_can_change_is_looked_at_in_the_interval(polled: Any, result: RevisionResult) -> None:
    poller, recorder = polled(Repository("r", "http://x", interval_s=1))
    recorder.result = result
    wait_for(lambda: ("r", "poll") in recorder.looks)
    poller.request("r")
    wait_for(lambda: ("r", "webhook") in recorder.looks)

    wait_for(lambda: recorder.looks[-1] == ("r", "poll"))

    assert poller._failures["r"] == 0


@pytest.mark.alone("half a second must hold all but the wait")
def test_stopping_takes_less_than_a_second_even_while_a_fetch_hangs(polled: Any) -> None:
    poller, recorder = polled(Repository("a", "https://a"))
    recorder.gate.clear()
    wait_for(lambda: len(recorder.looks) == 1)
    started = time.monotonic()

    poller.stop()

    assert time.monotonic() - started < 1.5
