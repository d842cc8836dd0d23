"""The whole API over a real store and a real engine, called in process."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from runner.access import AccessControl, Role
from runner.key_values import MemoryKeyValues
from runner.local import LocalEngine
from runner.metrics import Process
from runner.services import Host
from runner.settings import EnvironmentSettings, Settings
from runner.store import Store
from runner.store.records import FlowDraft
from sync.commit_record import Author
from sync.service import SyncService
from tests.openapi import check_answer
from tests.servers.store import fresh_store
from webhooks.app import create_app
from webhooks.services import Services


@dataclass
class Api:
    """Calls the API as an admin unless another token is named."""

    services: Services
    app: Any
    tokens: dict[str, str]
    loop: asyncio.AbstractEventLoop
    client: httpx.AsyncClient

    def request(self, method: str, path: str, *, token: str | None = "admin", **options: Any) -> httpx.Response:
        headers = dict(options.pop("headers", None) or {})
        if token is not None:
            headers["authorization"] = f"Bearer {self.tokens.get(token, token)}"
        answer = self.loop.run_until_complete(self.client.request(method, path, headers=headers, **options))
        check_answer(answer)
        return answer

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.request("GET", path, **options)

    def post(self, path: str, **options: Any) -> httpx.Response:
        return self.request("POST", path, **options)

    def put(self, path: str, **options: Any) -> httpx.Response:
        return self.request("PUT", path, **options)

    def delete(self, path: str, **options: Any) -> httpx.Response:
        return self.request("DELETE", path, **options)

    def store_flow(self, source: str, namespace: str = "company.team", flow_id: str = "hello") -> None:
        blob = hashlib.sha1(source.encode()).hexdigest()
        draft = FlowDraft(namespace, flow_id, blob, source, datetime.now(UTC), "default", "c" * 40, "flows/x.yaml")
        self.services.store.write(lambda db: db.flows.put(draft))
        self.services.catalogue.invalidate()

    def wait_for(self, execution_id: str, *states: str) -> dict[str, Any]:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            body: dict[str, Any] = self.get(f"/api/v1/main/executions/{execution_id}").json()
            if body["state"]["current"] in states:
                return body
            time.sleep(0.01)
        raise AssertionError(f"still {body['state']['current']}")


def _process() -> Process:
    return Process("up", datetime.now(UTC))


@pytest.fixture
def make_services(tmp_path: Path) -> Iterator[Callable[..., Services]]:
    opened: list[tuple[Store, LocalEngine]] = []
    closing: list[SyncService] = []

    def make(
        *, is_syncing: bool = False, environments: tuple[EnvironmentSettings, ...] = (), **options: Any
    ) -> Services:
        settings = Settings(
            home=tmp_path / "home", work=tmp_path / "work", url="http://127.0.0.1:8420", environments=environments
        )
        settings.home.mkdir()
        store = fresh_store(settings.database_url, durability="off")
        ports: dict[str, Any] = {"log": lambda entry: store.logs.append([entry]), "store": store}
        host = Host.open(settings, MemoryKeyValues(), environment={}, **ports)
        local = LocalEngine(store, host)
        local.__enter__()
        opened.append((store, local))
        access = AccessControl(store)
        catalogue = local.engine.catalogue
        sync = None
        if is_syncing:
            sync = SyncService(store, catalogue, settings)
            sync.ensure_declared()
            host = replace(host, files=sync.file_reader())
            closing.append(sync)
        return Services(settings, store, local.engine, catalogue, sync, access, host, _process, **options)

    yield make
    for sync in closing:
        sync.close()
    for store, local in opened:
        local.close()
        store.close()


@pytest.fixture
def api(make_services: Callable[..., Services]) -> Iterator[Api]:
    with serving(make_services()) as api:
        yield api


@pytest.fixture
def git_api(make_services: Callable[..., Services]) -> Iterator[Api]:
    """The API with a hosted repository behind it: what is written becomes commits."""
    with serving(make_services(is_syncing=True)) as api:
        yield api


@pytest.fixture
def proposing_api(make_services: Callable[..., Services]) -> Iterator[Api]:
    """The API with a hosted repository behind it whose environment takes only proposals; it has the flow `w.a`."""
    environment = EnvironmentSettings(name="default", repository="hosted", writes="propose")
    services = make_services(is_syncing=True, environments=(environment,))
    assert services.sync is not None
    repository = services.sync.repository("hosted").repository
    files = {"flows/w/a.yaml": FLOW_A.encode()}
    first = repository.commit_changes(
        None, files, author=Author("ann", "ann@example.org"), message="first", at=datetime.now(UTC)
    )
    repository.set_head("refs/heads/main", None, first)
    services.sync.reconcile_repository("hosted", actor="ann")
    with serving(services) as api:
        yield api


FLOW_A = """\
id: a
namespace: w
tasks:
  - id: say
    type: core.log.Log
    message: hello
"""


@contextmanager
def serving(services: Services) -> Iterator[Api]:
    """Give the API over `services`, with a token of each role and one of the namespace `other`."""
    tokens = {str(role): services.access.create(str(role), role)[0] for role in Role}
    tokens["other"] = services.access.create("other", Role.ADMIN, namespaces=["other"])[0]
    app = create_app(services)
    loop = asyncio.new_event_loop()
    client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test", timeout=30)
    yield Api(services, app, tokens, loop, client)
    loop.run_until_complete(client.aclose())
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
