"""Every storage that the settings can name, each on a server of its kind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.ids import new_id
from runner.plugin import Storage
from runner.settings import Settings
from runner.storage.base import open_storage
from runner.storage.bucket import BucketStorage
from tests.servers.object_stores import azurite_server, gcs_server, make_bucket, moto_server, options_for

SERVERS = {"s3": "moto_server", "gs": "gcs_server", "az": "azurite_server"}


@pytest.fixture(params=["local", *SERVERS])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Storage]:
    if request.param == "local":
        yield open_storage(Settings(home=tmp_path))
        return
    options = options_for(request.param, request.getfixturevalue(SERVERS[request.param]))
    make_bucket(request.param, "storage", options)
    place = f"{request.param}://storage/{new_id()}"
    opened = open_storage(Settings(home=tmp_path, storage=place, storage_options=options))
    assert isinstance(opened, BucketStorage)
    yield opened
    opened.close()
