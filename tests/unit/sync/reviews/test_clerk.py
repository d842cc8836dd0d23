"""Tests of change requests that wait for their turn: whose they are meanwhile, and what ends them."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.servers.dialects import STRANGER
from tests.servers.review_world import SUITE, World, flow

pytestmark = pytest.mark.parametrize("forge", ["github"], indirect=True)


@dataclass
class Queue:
    """The queue of tests of a world: `block` lets nothing pass it, and time goes on as it is told."""

    world: World
    rooms: Path
    late: timedelta = timedelta()
    blocks: list[threading.Event] = field(default_factory=list)

    @property
    def clerk(self) -> Any:
        return self.world.service._reviewer._clerk

    def now(self) -> datetime:
        return datetime.now(UTC) + self.late

    def block(self) -> Callable[[], None]:
        """Let what is queued from now on wait until the answer is called."""
        event = threading.Event()
        self.blocks.append(event)
        self.clerk._queue._pool.submit(event.wait, 60)
        return event.set

    def rest(self) -> None:
        """Wait until all that is queued now has run."""
        self.clerk._queue._pool.submit(bool).result(60)

    def open(self, number: int = 7) -> None:
        """Open a change request with tests and let it be looked at."""
        branch = f"topic-{number}"
        self.world.commit(branch, {"flows/a.yaml": flow("a", branch), "flows/w/tests/a.yaml": SUITE})
        self.world.forge.open(number, branch)
        assert self.world.look(number)

    def told(self, number: int = 7) -> list[tuple[str, str | None]]:
        return [(each.state, each.answer) for each in self.world.commands(number)]

    def stuck(self) -> list[int]:
        return self.world.service._store.read(lambda db: db.review_commands.stuck("r", self.now()))

    def calls(self) -> int:
        """Return how often the forge is asked when nothing new has come, a poll after the claims have run out."""
        self.late += timedelta(minutes=16)
        assert self.world.service.review("r")
        self.world.forge.calls.clear()
        self.late += timedelta(minutes=16)
        assert self.world.service.review("r")
        return len(self.world.forge.calls)


@pytest.fixture
def queue(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Queue]:
    rooms = tmp_path / "rooms"
    rooms.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(rooms))
    queue = Queue(world, rooms)
    world.service._reviewer._clock = queue.clerk._clock = queue.now
    yield queue
    for event in queue.blocks:
        event.set()


def test_tests_that_wait_long_are_queued_and_run_once(queue: Queue) -> None:
    first = queue.block()
    queue.open(7)
    second = queue.block()
    queue.open(8)

    queue.late = timedelta(minutes=16)
    assert queue.world.service.review("r")
    waiting = len(list(queue.rooms.iterdir()))
    first()
    while queue.told(7) == [("RUNNING", None)]:
        threading.Event().wait(0.01)
    stuck = queue.stuck()
    second()
    queue.rest()

    assert waiting == 2
    assert stuck == []
    assert [queue.told(7), queue.told(8)] == [[("DONE", "1 passed")]] * 2
    assert list(queue.rooms.iterdir()) == []


def test_what_another_process_took_over_meanwhile_is_left_to_it(queue: Queue) -> None:
    release = queue.block()
    queue.open()
    [command] = queue.world.commands()
    queue.late = timedelta(minutes=16)
    store = queue.world.service._store

    taken = store.write(lambda db: db.review_commands.begin("r", command.comment, queue.now()))
    release()
    queue.rest()

    assert taken
    assert queue.told() == [("RUNNING", None)]
    assert list(queue.rooms.iterdir()) == []


def test_a_merge_ends_the_tests_that_wait_and_says_so(queue: Queue) -> None:
    release = queue.block()
    queue.open()
    queue.world.forge.pulls[7].state = "closed"

    assert queue.world.look()
    release()
    queue.rest()

    assert queue.told() == [("DONE", "stopped when the change request was closed or went elsewhere")]
    assert queue.world.service.expire_pins() == []
    assert list(queue.rooms.iterdir()) == []


@pytest.mark.parametrize("is_known", [True, False])
def test_what_a_dead_process_left_on_a_closed_or_lost_change_request_is_not_asked_about_again(
    queue: Queue, *, is_known: bool
) -> None:
    queue.block()
    queue.open()
    queue.clerk._jobs.clear()  # as after a restart
    if is_known:
        queue.world.forge.pulls[7].state = "closed"
    else:
        del queue.world.forge.pulls[7]

    calls = queue.calls()

    assert calls == 0
    assert [state for state, _ in queue.told()] == ["DONE"]


class Calls(list[Any]):
    """The calls that a forge gets, each with whether another thread could have had the lock meanwhile."""

    def __init__(self, lock: Any) -> None:
        super().__init__()
        self._lock = lock

    def append(self, call: Any) -> None:
        is_free = self._lock.acquire(blocking=False)
        if is_free:
            self._lock.release()
        super().append((*call, is_free))


def test_a_forge_is_asked_about_commands_while_nobody_waits_for_the_repository(world: World) -> None:
    world.commit("topic", {"flows/a.yaml": flow("a", "bye")})
    world.forge.open(7, "topic")
    assert world.look()
    world.command("/mainstem approve")
    world.command("/mainstem plan", author=STRANGER)
    world.forge.calls = Calls(world.service._origins.for_reviews("r").repository.lock)

    assert world.service.review("r")

    paths = [path.rsplit("/", 1)[-1] for _, path, _ in world.forge.calls]
    assert (paths.count("permission"), paths.count("reactions")) == (2, 2)
    assert [path for _, path, is_free in world.forge.calls if not is_free] == []
