"""One bucket of each kind, on servers that speak the published interfaces."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import pytest

from runner.ids import new_id
from task_runners.staging.object_store import ObjectStore, open_object_store
from tests.servers.object_stores import (
    azurite_server,
    gcs_server,
    make_bucket,
    moto_server,
    options_for,
    service_account,
)

KINDS = ["s3", "gs", "az"]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def options(request: pytest.FixtureRequest, kind: str, optional: Callable[[str, str], NoReturn]) -> dict[str, str]:
    server: dict[str, str] = {"s3": "moto_server", "gs": "gcs_server", "az": "azurite_server"}
    address: Any = request.getfixturevalue(server[kind])
    return options_for(kind, address)


@pytest.fixture
def store(kind: str, options: dict[str, str]) -> Iterator[ObjectStore]:
    make_bucket(kind, "bucket", options)
    opened = open_object_store(f"{kind}://bucket/{new_id()}/some prefix/", options)
    yield opened
    opened.close()
