from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from runner.flows.parse import parse_flow
from runner.store.records import FlowDraft
from tests.crash.ledger import Ledger
from tests.servers.deployment import Broker, Deployment
from tests.servers.embedded import Server
from tests.servers.postgres import postgres_server, postgres_template, postgres_url


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that bodies of another user may enter; pytest's own are closed to them."""
    path = Path(tempfile.mkdtemp(prefix="mainstem-crash-"))
    path.chmod(0o777)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def ledger(folder: Path) -> Ledger:
    return Ledger(folder / "ledger")


@pytest.fixture
def make_server(folder: Path) -> Iterator[Callable[..., Server]]:
    made: list[Server] = []

    def make(**options: str) -> Server:
        made.append(Server(folder, **options))
        return made[-1]

    yield make
    for server in made:
        server.end()


@pytest.fixture
def deployment(folder: Path, postgres_url: str) -> Iterator[Deployment]:
    made = Deployment(folder, postgres_url, Broker(folder).start())
    yield made
    made.end()


@pytest.fixture
def activate(deployment: Deployment) -> Callable[..., None]:
    """Put flows into the database of a deployment, as a sync agent does when it has read them."""

    def activate(*sources: str) -> None:
        with closing(deployment.open_store()) as store:
            for source in sources:
                flow = parse_flow(source).require()
                place = (flow.namespace or "", flow.id, hashlib.sha1(source.encode()).hexdigest(), source)
                draft = FlowDraft(*place, datetime.now(UTC), None, "c" * 40, f"flows/{flow.id}.yaml")
                store.write(lambda db, draft=draft: db.flows.put(draft))  # type: ignore[misc]  # bound now

    return activate
