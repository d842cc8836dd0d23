"""A real server on a free port of the loopback, and receivers of webhooks behind it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Mount
from starlette.types import ASGIApp

from runner.flows.catalogue import Catalogue
from runner.settings import EnvironmentSettings, RepositorySettings, Settings
from runner.store import Store
from runner.store.records import Delivery
from sync.service import SyncService
from tests.servers.store import fresh_store
from webhooks.guard import Guard
from webhooks.receivers import Receivers
from webhooks.server import address_of, bind, serve

Serving = Callable[[ASGIApp], int]


@pytest.fixture
def serving() -> Iterator[Serving]:
    """Return a function that serves an application and returns its port."""
    stops: list[tuple[asyncio.AbstractEventLoop, asyncio.Event, threading.Thread]] = []

    def start(app: ASGIApp) -> int:
        listener = bind("127.0.0.1", 0)
        loop, stop, ready = asyncio.new_event_loop(), asyncio.Event(), threading.Event()

        async def main() -> None:
            ready.set()
            await serve(app, "127.0.0.1", 0, stop, listener=listener)

        def run() -> None:
            loop.run_until_complete(main())
            loop.close()

        thread = threading.Thread(target=run)
        thread.start()
        assert ready.wait(30)
        stops.append((loop, stop, thread))
        return address_of(listener)[1]

    yield start
    for loop, stop, thread in stops:
        loop.call_soon_threadsafe(stop.set)
        thread.join(30)
        assert not thread.is_alive()


@dataclass
class Hooks:
    """A server with receivers for one repository, and what came of its deliveries."""

    url: str
    store: Store
    receivers: Receivers
    now: list[datetime]
    client: httpx.Client
    looks: list[tuple[str, str]] = field(default_factory=list)

    def post(self, sent: Any, name: str = "team", **headers: str) -> httpx.Response:
        return self.client.post(f"{self.url}/hooks/{name}", content=sent.body, headers={**sent.headers, **headers})

    @property
    def rows(self) -> list[Delivery]:
        self.store.flush()
        found = self.store.read(lambda db: [db.deliveries.get(row.id) for row in db.deliveries.list()])
        return [row for row in found if row is not None]


@pytest.fixture
def hooks_for(tmp_path: Path, serving: Callable[[ASGIApp], int]) -> Iterator[Callable[..., Hooks]]:
    closes: list[Callable[[], None]] = []

    def begin(kind: str, secret: str | None, previous: str | None = None, *, floor_s: float = 0.0) -> Hooks:
        url = "" if kind == "hosted" else "https://git.example.org/acme/flows.git"
        name = "hosted" if kind == "hosted" else "team"
        repository = RepositorySettings(
            name=name, url=url, kind=kind, webhook_secret=secret, previous_webhook_secret=previous
        )
        settings = Settings(
            home=tmp_path,
            repositories=(repository,),
            environments=(EnvironmentSettings(name="production", repository=name),),
        )
        store = fresh_store(settings.database_url)
        service = SyncService(store, Catalogue(store), settings)
        service.ensure_declared()
        now = [datetime.now(UTC)]
        looks: list[tuple[str, str]] = []
        receivers = Receivers(
            store,
            service.credentials,
            lambda repository, actor: looks.append((repository, actor)),
            clock=lambda: now[0],
            floor_s=floor_s,
        )
        app = Starlette(routes=[Mount("/hooks", app=receivers)], middleware=[Middleware(Guard)])
        client = httpx.Client(timeout=30)
        closes.extend([client.close, receivers.close, service.close, store.close])
        return Hooks(f"http://127.0.0.1:{serving(app)}", store, receivers, now, client, looks)

    yield begin
    for close in closes:
        close()
