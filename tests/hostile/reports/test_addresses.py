"""A body prints addresses of files that are none of its own: a report, which many read, tells nothing of them."""

from __future__ import annotations

import hashlib
import io
from typing import Any

import pytest

from runner.storage.uris import execution_uri
from tests.unit.sync.reports.conftest import start  # noqa: F401 - a fixture

CONTENT = b"wages of all"


@pytest.mark.parametrize(
    "address",
    [
        execution_uri("payroll", "pay", "01abc") + "tasks/list/1/wages.csv",
        execution_uri("weather", "report", "01other") + "tasks/list/1/wages.csv",
        "kestra:///payroll/_files/wages.csv",
    ],
)
def test_a_report_tells_neither_size_nor_digest_of_files_that_the_run_may_not_read(
    start: Any,  # noqa: F811 - a fixture
    address: str,
) -> None:
    server = start(formats=("provenance",))
    server.deploy("weather.report")
    server.host.storage.put(address, io.BytesIO(CONTENT))
    run = server.ended()
    server.with_task(run, address)

    server.write()

    told = "".join(text for name, text in server.branch.files().items() if run.id in name)
    assert address in told  # it is an output, and shown as such
    assert hashlib.sha256(CONTENT).hexdigest() not in told
    assert f'"size": {len(CONTENT)}' not in told
