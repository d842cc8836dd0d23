"""A service that follows the repository of a forge stand-in, and a clone to commit to it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import pytest

from runner.settings import EnvironmentSettings, RepositorySettings
from runner.store.records import Delivery
from sync.deliveries import DeliveryLog
from sync.forges.base import Comment
from sync.service import SyncService
from tests.servers.dialects import MEMBER, NAMES, TOKEN
from tests.servers.git import git

FLOW = """\
id: {id}
namespace: w
tasks:
  - id: say
    type: core.log.{task}
    message: {message}
"""
# A suite of tests for the flow `a`, which passes.
SUITE = """\
id: greetings
namespace: w
flowId: a
testCases:
  - id: right
    type: io.kestra.core.tests.flow.UnitTest
    assertions:
      - value: "{{ execution.state }}"
        equalTo: SUCCESS
"""


def flow(name: str, message: str = "hello", task: str = "Log") -> str:
    return FLOW.format(id=name, message=message, task=task)


@dataclass
class World:
    """A service that follows the forge's repository, and a clone."""

    service: SyncService
    forge: Any
    work_tree: Any
    log: DeliveryLog

    def commit(self, branch: str, files: dict[str, str | None]) -> str:
        git(self.work_tree.path, "checkout", "-q", "-B", branch)
        commit: str = self.work_tree.write(files)
        git(self.work_tree.path, "push", "-q", "-f", str(self.forge.bare), branch)
        return commit

    def want(self, number: int = 7) -> None:
        self.service._store.write(lambda db: db.reviews.want("r", number, datetime.now(UTC)))

    def look(self, number: int = 7) -> bool:
        self.want(number)
        return self.service.review("r")

    def command(self, line: str, number: int = 7, author: int = MEMBER, *, at: datetime | None = None) -> int:
        """Let somebody comment, and the webhook tell of it; return the comment's id."""
        comment: int = self.forge.say(number, line, author, at=at)
        self.hear(comment, line, number, author)
        return comment

    def hear(self, comment: int, line: str, number: int = 7, author: int = MEMBER) -> str:
        """Write what a webhook tells of a comment; return what became of the delivery."""
        now = datetime.now(UTC)
        account = f"{{{author}}}" if self.forge.kind == "bitbucket" else str(author)
        told = Comment(number, str(comment), line, account, NAMES[author])
        delivery = Delivery("r", f"d-{comment}-{line}", "comment", now, "ACCEPTED", ref=told.ref)
        return self.log.add(delivery, told).result(60).result

    def answers(self, number: int = 7) -> list[str]:
        """Look until no tests run; return the lines of our comment about commands."""
        deadline = time.monotonic() + 60
        assert self.service.review("r")
        while any(each.state == "RUNNING" for each in self.commands(number)):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert self.service.review("r")
        return [line for line in self.forge.ours(number)[0].splitlines() if line.startswith(("- `/mainstem", "  - "))]

    def commands(self, number: int = 7) -> list[Any]:
        return self.service._store.read(lambda db: db.review_commands.of("r", number))

    def row(self, number: int = 7) -> Any:
        return self.service._store.read(lambda db: db.reviews.get("r", number))


@pytest.fixture
def world(start: Callable[..., SyncService], git_server: Any, forge: Any, work_tree: Any) -> World:
    return world_of(start, git_server, forge, work_tree)


def world_of(
    start: Callable[..., SyncService], git_server: Any, forge: Any, work_tree: Any, **environment: Any
) -> World:
    """Return the world of an environment with these settings, which has looked at two flows on `main`."""
    repository = RepositorySettings(
        name="r", url=f"{git_server.url}/acme/flows.git", kind=forge.kind, api_url=forge.url, api_token=TOKEN
    )
    service = start(EnvironmentSettings(name="production", repository="r", **environment), repositories=(repository,))
    reviewer = service._reviewer
    opened = reviewer._api

    def impatient(known: Any) -> Any:
        api = opened(known)
        if api is not None:
            api._sleep = lambda _seconds: None
        return api

    reviewer._api = impatient
    service._checks = replace(service._checks, api=impatient)
    world = World(service, forge, work_tree, DeliveryLog(service._store))
    world.commit("main", {"flows/a.yaml": flow("a"), "flows/b.yaml": flow("b")})
    service.reconcile_repository("r", actor="poll")
    service.review("r")  # the commit is told that it is active, which most tests are not about
    forge.statuses.clear()
    forge.calls.clear()
    return world
