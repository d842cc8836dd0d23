"""A process that ends at any step between the outbox and the branch: nothing is lost, nothing is told twice."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import Any

import pytest

from runner.settings import EnvironmentSettings, RepositorySettings
from runner.states import State
from sync.repository import GitRepository
from sync.sources import FetchError, Source


class Killed(BaseException):
    """The process ends here: nobody catches it."""


@dataclass
class Fate:
    """Counts steps, and at one of them raises, before the step is done or after it."""

    at: int = 0
    after: bool = False
    error: Callable[[], BaseException] = Killed
    steps: int = 0
    names: list[str] = field(default_factory=list)

    def step(self, name: str, action: Callable[[], Any]) -> Any:
        self.steps += 1
        self.names.append(name)
        if self.steps == self.at and not self.after:
            raise self.error()
        result = action()
        if self.steps == self.at:
            raise self.error()
        return result


class FatefulStore:
    """A store each of whose calls is a step."""

    def __init__(self, store: Any, fate: Fate) -> None:
        self._store = store
        self._fate = fate
        self.logs = store.logs

    def exclusive(self, name: str) -> Any:
        return self._store.exclusive(name)

    def read(self, function: Callable[[Any], Any]) -> Any:
        return self._fate.step("read", lambda: self._store.read(function))

    def write(self, function: Callable[[Any], Any]) -> Any:
        return self._fate.step("write", lambda: self._store.write(function))


class FatefulSource:
    """A repository each of whose calls is a step."""

    def __init__(self, source: Source, fate: Fate) -> None:
        self._source = source
        self._fate = fate

    @property
    def repository(self) -> GitRepository:
        return self._source.repository

    def heads(self, refs: Collection[str]) -> dict[str, str]:
        found: dict[str, str] = self._fate.step("heads", lambda: self._source.heads(refs))
        return found

    def fetch(self, ref: str, commit: str) -> None:
        self._fate.step("fetch", lambda: self._source.fetch(ref, commit))

    def ensure(self, blobs: Iterable[str]) -> None:
        self._fate.step("ensure", lambda: self._source.ensure(blobs))

    def push(self, ref: str, expected: str | None, new: str) -> bool:
        return bool(self._fate.step("push", lambda: self._source.push(ref, expected, new)))

    def close(self) -> None:
        self._source.close()


class FatefulService:
    """A sync service whose repositories are full of steps."""

    def __init__(self, service: Any, fate: Fate) -> None:
        self._service = service
        self._fate = fate

    def report_source(self, name: str) -> Any:
        return FatefulSource(self._service.report_source(name), self._fate)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._service, name)


def _writer(server: Any, fate: Fate) -> Any:
    real = server.service
    server.service = FatefulService(real, fate)
    try:
        return server.restarted(FatefulStore(server.store, fate))
    finally:
        server.service = real


def _tell(server: Any, fate: Fate) -> list[str]:
    """Write a run, then three under a fate, then one more and what is left of them as the next process would."""
    ids = [server.ended().id]
    server.write()
    ids += [server.ended(state=state).id for state in (State.SUCCESS, State.FAILED, State.SUCCESS)]
    writer = _writer(server, fate)
    try:
        writer.run_once()
    except Killed:
        ids.append(server.ended(state=State.WARNING).id)
    server.now = server.now.replace(hour=13)  # beyond every back-off
    server.restarted()
    assert server.writer.flush()
    return sorted(ids)


def _steps(start: Any, **where: Any) -> list[str]:
    server, fate = _made(start, **where), Fate()
    _tell(server, fate)
    return fate.names


def _made(start: Any, url: str | None = None) -> Any:
    repositories = (RepositorySettings(name="away", url=url),) if url else ()
    environments = (EnvironmentSettings(name="default", repository="away" if url else "hosted"),)
    server = start(*environments, repositories=repositories)
    if url is None:
        server.deploy("weather.report")
    return server


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_process_killed_at_any_step_neither_loses_nor_repeats_a_run(start: Any, *, after: bool) -> None:
    steps = _steps(start)

    for number in range(1, len(steps) + 1):
        server = _made(start)
        ids = _tell(server, Fate(number, after=after))

        where = f"{'after' if after else 'before'} step {number}, {steps[number - 1]}"
        assert server.branch.runs() == ids, where
        counted = sum(count for counts in server.counts().values() for count in counts.values())
        assert counted == len(ids), where
        assert server.branch.dead_links() == [], where
    assert {"read", "write", "heads", "fetch", "push"} <= set(steps)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_an_error_at_any_step_of_git_neither_loses_nor_repeats_a_run(start: Any, *, after: bool) -> None:
    steps = _steps(start)
    numbers = [number for number, name in enumerate(steps, start=1) if name not in {"read", "write"}]

    for number in numbers:
        server = _made(start)
        fate = Fate(number, after=after, error=lambda: FetchError("repository.unreachable", "the reply was lost"))
        ids = _tell(server, fate)

        assert server.branch.runs() == ids, f"step {number}, {steps[number - 1]}"
        assert sum(server.counts()["weather/report"].values()) == len(ids)
    assert len(numbers) >= 4


def test_a_lost_reply_of_a_server_elsewhere_is_not_taken_for_a_failure(
    start: Any, git_server: Any, branch_of: Any
) -> None:
    path = git_server.repository("w.git")
    pushed = next(
        number for number, name in enumerate(_steps(start, url=f"{git_server.url}/w.git"), start=1) if name == "push"
    )
    before = len(branch_of(path).runs())
    server = _made(start, url=f"{git_server.url}/w.git")

    ids = _tell(server, Fate(pushed, after=True, error=lambda: FetchError("repository.unreachable", "no reply")))

    assert before == 4
    assert [each for each in branch_of(path).runs() if each in ids] == ids
    assert git_server.fsck("w.git") == ""


def test_a_mirror_that_grew_large_is_thrown_away_and_made_again(
    start: Any, git_server: Any, branch_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = git_server.repository("w.git")
    server = _made(start, url=f"{git_server.url}/w.git")
    mirror = server.settings.home / "mirrors" / "away.reports.git"
    ids = [server.ended().id]
    server.write()
    monkeypatch.setattr("sync.reports.writer._MOST_MIRROR_BYTES", 100)
    held = mirror.exists()

    server.writer._tidy(1)
    gone = not mirror.exists()
    ids.append(server.ended().id)
    server.write()

    assert (held, gone) == (True, True)
    assert branch_of(path).runs() == sorted(ids)
    assert len(branch_of(path).commits()) == 2
    assert branch_of(path).dead_links() == []


def test_two_servers_that_write_to_one_branch_tell_every_run_once(start: Any, git_server: Any, branch_of: Any) -> None:
    path = git_server.repository("w.git")
    servers = [_made(start, url=f"{git_server.url}/w.git") for _ in range(2)]
    ids = []
    for number in range(3):
        for server in servers:
            ids += [server.ended(state=State.FAILED if number else State.SUCCESS).id for _ in range(2)]
            server.write(seconds=10)

    branch = branch_of(path)

    assert branch.runs() == sorted(ids)
    assert len(branch.commits()) == 6
    assert git_server.fsck("w.git") == ""
