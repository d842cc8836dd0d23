"""Clouds that refuse, fail and break off: no line is lost or doubled, and a failure says what it was."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from task_runners.azure_batch import Batch as AzureBatch
from task_runners.base import FailureReason, Phase, TaskRunnerError
from task_runners.cloud import forget
from task_runners.cloud_job import CloudTaskRunner
from task_runners.cloud_run import CloudRun
from task_runners.google_batch import Batch as GoogleBatch
from tests.contract.task_runners.conftest import QUICK, cloud_bench
from tests.servers.clouds.azure import Azure
from tests.servers.clouds.gate import CUT, Gate
from tests.servers.clouds.google import Google
from tests.servers.stand_in import serving

if TYPE_CHECKING:
    from task_runners.base import WorkDir
    from tests.contract.task_runners.conftest import Bench

PLACES: dict[str, type[CloudTaskRunner]] = {"google_batch": GoogleBatch, "cloud_run": CloudRun, "azure": AzureBatch}
# Where the log of a job is read, and where its state is.
LOGS = {"google_batch": "POST /v2/entries:list", "cloud_run": "POST /v2/entries:list", "azure": "GET .*/stdout.txt"}
STATES = {"google_batch": "GET .*/jobs/[^/]+", "cloud_run": "GET .*/executions/[^/]+", "azure": "GET .*/tasks/[^/]+"}


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def gate(request: pytest.FixtureRequest, place: str) -> Gate:
    cloud: Google | Azure = request.getfixturevalue("azure_cloud" if place == "azure" else "google_cloud")
    return Gate(cloud.application)


@pytest.fixture
def bench(request: pytest.FixtureRequest, place: str, gate: Gate, workdir: WorkDir) -> Iterator[Bench]:
    values: dict[str, Any] = request.getfixturevalue("azure" if place == "azure" else "google")
    with serving(gate, "gated") as url:
        own = {"endpoint": url} if place == "azure" else {"endpointOverride": url, "loggingEndpointOverride": url}
        yield from cloud_bench(PLACES[place].model_validate({**values, **own, **QUICK}), workdir)
        forget()


def test_refusals_that_pass_and_answers_that_break_off_lose_nothing(bench: Bench, gate: Gate, place: str) -> None:
    gate.fail(1, 429, "POST .*/jobs")
    gate.fail(1, 500, STATES[place])
    gate.fail(1, CUT, STATES[place])
    gate.fail(1, 503, LOGS[place])
    gate.fail(2, CUT, LOGS[place])

    result = bench.run("for i in 1 2 3; do echo line $i; sleep 0.3; done; echo x > out", output_globs=("out",))

    assert (result.status, gate.waiting) == (Phase.SUCCEEDED, 0)
    assert bench.texts() == ["line 1", "line 2", "line 3"]
    assert result.output_files["out"].read_text() == "x\n"


@pytest.mark.parametrize("status", [401, 403])
def test_credentials_that_are_refused_are_told_as_such_and_leave_nothing(bench: Bench, gate: Gate, status: int) -> None:
    gate.fail(1, status, "POST .*/jobs")

    with pytest.raises(TaskRunnerError, match="does not let us in") as caught:
        bench.run("echo never")

    assert (caught.value.code, caught.value.failure_reason) == ("cloud.access.denied", FailureReason.DENIED)
    assert list(bench.runner.list_owned(bench.context())) == []


def test_a_job_that_the_cloud_has_forgotten_is_lost(bench: Bench, gate: Gate, place: str) -> None:
    ctx = bench.context()
    handle = bench.runner.submit(bench.spec("sleep", "60"), bench.workdir, ctx)
    gate.fail(3, 404, STATES[place])

    status = bench.runner.poll(handle, ctx)

    assert (status.phase, status.failure_reason) == (Phase.LOST, FailureReason.LOST)
