"""The roles over a Redis server that others run, as the one of a cloud: not the Valkey that is shipped."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

import pytest
import redis

from runner.store.records import FlowDraft
from tests.servers.deployment import Deployment, ForeignBroker
from tests.servers.locks import only_one

FLOW = """\
id: hello
namespace: crash
tasks:
  - {id: say, type: core.log.Log, message: hello}
  - {id: body, type: scripts.shell.Commands, commands: [echo done]}
"""
PLACE = ("crash", "hello", "b" * 40, FLOW, datetime(2026, 1, 1, tzinfo=UTC), None, "c" * 40, "flows/hello.yaml")


@pytest.fixture
def redis_url(optional: Callable[[str, str], NoReturn]) -> Iterator[str]:
    """The URL of a database of the server that MAINSTEM_TEST_REDIS names, which nobody else uses meanwhile."""
    url = os.environ.get("MAINSTEM_TEST_REDIS")
    if not url:
        optional("redis", "MAINSTEM_TEST_REDIS names no server, such as redis://127.0.0.1:6379/9")
    with only_one("redis"):
        yield url


@pytest.mark.timeout(180)
def test_executions_run_over_it_and_nothing_is_left_waiting(redis_url: str, postgres_url: str, folder: Path) -> None:
    deployment = Deployment(folder, postgres_url, ForeignBroker(redis_url))
    client = redis.Redis.from_url(redis_url)
    try:
        with closing(deployment.open_store()) as store:
            store.write(lambda db: db.flows.put(FlowDraft(*PLACE)))
        deployment.start("serve", "worker")
        deployment.api.execute(["hello"] * 5)
        deployment.wait_for_end(5, 60)
        codes = deployment.stop()
        waiting = [key for key in client.scan_iter("*") if client.type(key) == b"list"]
    finally:
        deployment.end()
        client.close()

    assert codes == {"serve": 0, "worker": 0}
    assert waiting == []
