"""What the doctor says of a storage, on servers of each kind."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner.settings import Settings
from tests.contract.storage.conftest import SERVERS
from tests.servers.object_stores import make_bucket, options_for
from webhooks.checkup.databases import check_storage
from webhooks.checkup.finding import Patient, Weight


@pytest.mark.parametrize("kind", SERVERS)
def test_a_bucket_that_works_is_well_and_a_missing_one_is_named(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str
) -> None:
    options = options_for(kind, request.getfixturevalue(SERVERS[kind]))
    make_bucket(kind, "storage", options)

    def examined(bucket: str) -> tuple[Weight, str]:
        settings = Settings(home=tmp_path, storage=f"{kind}://{bucket}/x", storage_options=options)
        found = check_storage(Patient(settings, {}))
        return found.weight, found.message

    assert examined("storage") == (Weight.OK, f"{kind}://storage/x takes, gives and removes a file")
    weight, message = examined("nobody-made-it")
    assert weight is Weight.ERROR
    assert "nobody-made-it" in message


def test_an_option_that_is_mistyped_is_named(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, storage="s3://bucket", storage_options={"regoin": "eu-central-1"})

    found = check_storage(Patient(settings, {}))

    assert (found.weight, found.message) == (Weight.ERROR, "there is no option 'regoin'")
    assert "region" in str(found.advice)
