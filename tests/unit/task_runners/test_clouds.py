"""Decisions of the task runners of clouds that no server is needed for."""

from __future__ import annotations

from typing import Any

import pytest

from task_runners.azure_batch import Batch as AzureBatch
from task_runners.azure_batch import under_way
from task_runners.cloud_job import Seen, end_of, ended, job_name, without_ends
from task_runners.errors import FailureReason, TaskRunnerError
from task_runners.google_batch import Batch as GoogleBatch
from task_runners.google_job import label_value
from task_runners.log_pages import RawLine, moment_of
from task_runners.spec import JobHandle, Phase, RunnerContext, TaskSpec
from task_runners.staging.wrapper import Report

NOW = moment_of("2026-01-01T00:00:00Z")


@pytest.mark.parametrize(
    ("seen", "report", "expected"),
    [
        (Seen(Phase.SUCCEEDED), None, (Phase.SUCCEEDED, 0, None)),
        (Seen(Phase.SUCCEEDED), Report(0), (Phase.SUCCEEDED, 0, None)),
        (Seen(Phase.FAILED), Report(7), (Phase.FAILED, 7, FailureReason.APP_EXIT)),
        (Seen(Phase.FAILED, 9), Report(7), (Phase.FAILED, 9, FailureReason.APP_EXIT)),
        (Seen(Phase.FAILED), Report(137, oom_kills=1), (Phase.FAILED, 137, FailureReason.OOM_KILLED)),
        (Seen(Phase.FAILED), Report(137), (Phase.FAILED, 137, FailureReason.APP_EXIT)),
        (Seen(Phase.FAILED, 125), None, (Phase.FAILED, 125, FailureReason.INPUT_FILES)),
        (Seen(Phase.FAILED, 125), Report(125), (Phase.FAILED, 125, FailureReason.APP_EXIT)),
        (Seen(Phase.FAILED), Report(fault="fetch"), (Phase.FAILED, None, FailureReason.INPUT_FILES)),
        (Seen(Phase.FAILED), None, (Phase.FAILED, None, FailureReason.KILLED)),
        (
            Seen(Phase.FAILED, None, FailureReason.PREEMPTED, "gone"),
            None,
            (Phase.FAILED, None, FailureReason.PREEMPTED),
        ),
        (Seen(Phase.LOST, None, FailureReason.LOST, "?"), None, (Phase.LOST, None, FailureReason.LOST)),
    ],
)
def test_how_a_job_ended_comes_from_the_engine_and_from_the_report(
    seen: Seen, report: Report | None, expected: tuple[Any, ...]
) -> None:
    status = ended(seen, report)

    assert (status.phase, status.exit_code, status.failure_reason) == expected


def test_the_last_lines_are_taken_out_of_the_log() -> None:
    end = end_of(JobHandle("r", "job-1"))
    texts = [
        b"one",
        b"last" + end.encode() + b"-1",
        end.encode() + b"-2\r",
        b"mainstem-end-job-12-1",
        b"x " + end.encode(),
    ]

    kept, found = without_ends([RawLine(NOW, text) for text in texts], end)

    assert [line.text for line in kept] == [b"one", b"last", b"mainstem-end-job-12-1", b"x " + end.encode()]
    assert found == {"1", "2"}


@pytest.mark.parametrize(
    ("known", "task", "expected"),
    [
        (None, {"state": "active"}, (Phase.PENDING, None)),
        (None, {"state": "running", "nodeInfo": {"nodeId": "a"}}, (Phase.RUNNING, None)),
        ("a", {"state": "running", "nodeInfo": {"nodeId": "a"}}, (Phase.RUNNING, None)),
        ("a", {"state": "active", "nodeInfo": {"nodeId": "a"}}, (Phase.FAILED, FailureReason.PREEMPTED)),
        ("a", {"state": "running", "nodeInfo": {"nodeId": "b"}}, (Phase.FAILED, FailureReason.PREEMPTED)),
        (None, {"state": "active", "executionInfo": {"requeueCount": 1}}, (Phase.FAILED, FailureReason.PREEMPTED)),
    ],
)
def test_a_task_that_azure_put_back_into_its_queue_has_lost_its_node(
    known: str | None, task: dict[str, Any], expected: tuple[Any, ...]
) -> None:
    seen = under_way(known, task)

    assert (seen.phase, seen.reason) == expected


@pytest.mark.parametrize(
    ("labels", "start"),
    [
        (
            {"mainstem.io/namespace": "company.team", "flow-id": "ETL_daily", "task-id": "Load"},
            "company-team-etl-daily-load-",
        ),
        ({"namespace": "9lives", "flow-id": "a"}, "m-9lives-a-"),
        ({"namespace": "ü", "flow-id": "ñ"}, "m-"),
        ({"namespace": "n" * 200}, "n" * 57 + "-"),
        ({}, "run-1-"),
    ],
)
def test_names_of_jobs_fit_every_cloud(labels: dict[str, str], start: str) -> None:
    name = job_name(TaskSpec(("x",), "Run 1", labels=labels))

    assert name.startswith(start)
    assert len(name) <= 63
    assert name[0].isalpha()
    assert name != job_name(TaskSpec(("x",), "Run 1", labels=labels))


def test_labels_of_google_are_lower_case_and_short() -> None:
    assert label_value("Company.Team/ü") == "company-team"
    assert label_value("a" * 70) == "a" * 63


GOOGLE = {"projectId": "p", "region": "r"}
AZURE = {"account": "a", "endpoint": "https://evil.example.org", "poolId": "p"}
BLOB = {"endpoint": "https://evil.example.org", "sharedKeyAccountName": "a", "containerName": "c"}


@pytest.mark.parametrize(
    "runner",
    [
        GoogleBatch.model_validate({**GOOGLE, "endpointOverride": "https://evil.example.org"}),
        GoogleBatch.model_validate({**GOOGLE, "endpointOverride": "https://googleapis.com.evil.example.org"}),
        GoogleBatch.model_validate({**GOOGLE, "endpointOverride": "https://evil-googleapis.com"}),
        AzureBatch.model_validate(AZURE),
    ],
)
def test_a_host_that_a_flow_names_gets_no_token_of_the_server(runner: GoogleBatch | AzureBatch) -> None:
    with pytest.raises(TaskRunnerError) as caught:
        list(runner.list_owned(RunnerContext(on_line=print)))

    assert caught.value.code == "cloud.endpoint.foreign"


def test_neither_does_one_for_files() -> None:
    google = GoogleBatch.model_validate(
        {**GOOGLE, "bucket": "b", "storageEndpointOverride": "https://evil.example.org"}
    )
    azure = AzureBatch.model_validate({**AZURE, "blobStorage": BLOB})

    for runner in (google, azure):
        with pytest.raises(TaskRunnerError) as caught:
            runner._open_store()
        assert caught.value.code == "cloud.endpoint.foreign"
