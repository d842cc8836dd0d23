"""A service with repositories and environments of a test's own, on a store of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from runner.flows.catalogue import Catalogue
from runner.settings import EnvironmentSettings, RepositorySettings, Settings
from runner.store import Store
from sync.service import SyncService
from tests.servers.store import fresh_store


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., SyncService]]:
    opened: list[tuple[SyncService, Store]] = []

    def make(
        *environments: EnvironmentSettings, repositories: tuple[RepositorySettings, ...] = (), **options: Any
    ) -> SyncService:
        settings = Settings(home=tmp_path / "home", environments=environments, repositories=repositories)
        settings.home.mkdir(exist_ok=True)
        store = fresh_store(settings.database_url, durability="off")
        service = SyncService(store, Catalogue(store), settings, **options)
        service.ensure_declared()
        opened.append((service, store))
        return service

    yield make
    for service, store in opened:
        service.close()
        store.close()
