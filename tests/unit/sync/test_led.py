"""The webhook delivery that told of a commit stands in the ledger's row of that commit."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from runner.settings import EnvironmentSettings, RepositorySettings
from runner.store.records import Delivery, Revision
from sync.deliveries import DeliveryLog
from sync.service import SyncService
from tests.servers.review_world import flow
from tests.servers.work_tree import WorkTree

MAIN = "refs/heads/main"


class Remote:
    """A repository in which somebody commits, what follows it, and the webhooks that tell of commits."""

    def __init__(self, start: Callable[..., SyncService], work_tree: WorkTree) -> None:
        self._work_tree = work_tree
        repository = RepositorySettings(name="r", url=str(work_tree.path))
        self.service = start(EnvironmentSettings(name="production", repository="r"), repositories=(repository,))
        self._log = DeliveryLog(self.service._store)

    def commit(self, message: str) -> str:
        return self._work_tree.write({"flows/a.yaml": flow("a", message)})

    def tell(self, delivery: str, commit: str, ref: str = MAIN, actor: str | None = "ann") -> None:
        told = Delivery("r", delivery, "push", datetime.now(UTC), "ACCEPTED", ref=ref, after=commit, actor=actor)
        self._log.add(told).result(60)

    def look(self) -> Revision:
        self.service.reconcile_repository("r", actor="webhook")
        return self.service.history("production")[0]


@pytest.fixture
def remote(start: Callable[..., SyncService], work_tree: WorkTree) -> Remote:
    return Remote(start, work_tree)


def test_the_delivery_that_told_of_a_commit_is_in_its_row_and_in_the_chain(remote: Remote) -> None:
    commit = remote.commit("one")
    remote.tell("other", "0" * 40)
    remote.tell("elsewhere", commit, ref="refs/changes/7")
    remote.tell("d-1", commit)

    row = remote.look()

    store = remote.service._store
    broken = store.read(lambda db: db.revisions.broken("production"))
    store.write(lambda db: db.connection.driver.execute("UPDATE revisions SET sender = 'eve'"))
    assert (row.result, row.delivery, row.sender, broken) == ("ACTIVE", "d-1", "ann", None)
    assert store.read(lambda db: db.revisions.broken("production")) == row.id


def test_a_commit_that_polling_found_has_none(remote: Remote) -> None:
    remote.commit("one")

    row = remote.look()

    assert (row.result, row.delivery, row.sender) == ("ACTIVE", None, None)


def test_a_delivery_leads_to_one_activation_and_to_no_order(remote: Remote) -> None:
    first = remote.commit("one")
    remote.look()
    second = remote.commit("two")
    remote.tell("d-2", second)
    told = remote.look()
    remote.service.stay("production", first, actor="bob", reason="slow", action="rollback")
    ordered = remote.service.history("production")[0]
    remote.service.resume("production", actor="bob")

    resumed = remote.service.history("production")[0]

    assert (told.commit, told.delivery) == (second, "d-2")
    assert (ordered.action, ordered.delivery) == ("rollback", None)
    assert (resumed.commit, resumed.action, resumed.delivery) == (second, "sync", None)
