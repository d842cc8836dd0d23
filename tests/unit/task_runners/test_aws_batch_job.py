"""AWS Batch in values; the requests are judged by the service's own description in botocore."""

from __future__ import annotations

import contextlib
from datetime import timedelta
from typing import Any

import pytest

from task_runners.aws_batch_job import Platform, Request, check_size, definition, platform_of, seen, tag_value, tags
from task_runners.errors import FailureReason, TaskRunnerError
from task_runners.spec import Phase
from task_runners.staging.wrapper import staged

ROLE = "arn:aws:iam::1:role/r"


def described(platform: Platform) -> dict[str, Any]:
    return definition(
        "team-flow-a1b2c",
        platform,
        staged("/tmp/w", "end", "https://x"),
        "python:3.13",
        tags({"namespace": tag_value("team & co")}),
        Request(cpu=0.5, memory=1024),
        execution_role=ROLE,
        task_role=ROLE,
        longest=timedelta(minutes=5),
    )


@pytest.mark.parametrize("platform", list(Platform))
def test_a_definition_is_one_that_the_service_takes(platform: Platform) -> None:
    botocore = pytest.importorskip("botocore.validate")
    loaders = pytest.importorskip("botocore.session").get_session()
    shape = loaders.get_service_model("batch").operation_model("RegisterJobDefinition").input_shape

    report = botocore.ParamValidator().validate(described(platform), shape)

    assert report.generate_report() == ""


def test_each_platform_gets_what_it_knows() -> None:
    fargate, machines, cluster = (described(platform) for platform in Platform)

    assert fargate["containerProperties"]["networkConfiguration"] == {"assignPublicIp": "ENABLED"}
    assert "networkConfiguration" not in machines["containerProperties"]
    assert cluster["eksProperties"]["podProperties"]["containers"][0]["resources"]["limits"] == {
        "cpu": "0.5",
        "memory": "1024Mi",
    }
    assert fargate["timeout"] == {"attemptDurationSeconds": 300}
    assert fargate["tags"] == {"mainstem-namespace": "team _ co", "kestra-namespace": "team _ co"}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"computeResources": {"type": "FARGATE_SPOT"}}, Platform.FARGATE),
        ({"computeResources": {"type": "SPOT"}}, Platform.EC2),
        ({"containerOrchestrationType": "EKS"}, Platform.EKS),
        ({}, Platform.EC2),
    ],
)
def test_the_platform_is_that_of_the_environment(environment: dict[str, Any], expected: Platform) -> None:
    assert platform_of(environment) is expected


@pytest.mark.parametrize(
    ("cpu", "memory", "is_a_size"),
    [
        (0.25, 512, True),
        (0.25, 1536, False),
        (0.25, 4096, False),
        (0.5, 4096, True),
        (1, 2048, True),
        (1, 1024, False),
        (1, 2500, False),
        (3, 8192, False),
        (16, 122880, True),
        (16, 36864, False),
    ],
)
def test_fargate_has_certain_sizes_only(cpu: float, memory: int, is_a_size: bool) -> None:  # noqa: FBT001 - a column
    refused = contextlib.nullcontext() if is_a_size else pytest.raises(TaskRunnerError, match="Fargate")

    with refused:
        check_size(Request(cpu=cpu, memory=memory))


@pytest.mark.parametrize(
    ("job", "expected"),
    [
        ({"status": "RUNNABLE"}, (Phase.PENDING, None, None)),
        ({"status": "RUNNING"}, (Phase.RUNNING, None, None)),
        ({"status": "SUCCEEDED", "container": {"exitCode": 0}}, (Phase.SUCCEEDED, 0, None)),
        ({"status": "FAILED", "container": {"exitCode": 7}}, (Phase.FAILED, 7, None)),
        (
            {"status": "FAILED", "statusReason": "Host EC2 (instance i-0abc) terminated."},
            (Phase.FAILED, None, FailureReason.PREEMPTED),
        ),
        (
            {"status": "FAILED", "container": {"exitCode": 137, "reason": "OutOfMemoryError: Container killed"}},
            (Phase.FAILED, 137, FailureReason.OOM_KILLED),
        ),
        (
            {"status": "FAILED", "container": {"reason": "CannotPullContainerError: pull image manifest"}},
            (Phase.FAILED, None, FailureReason.IMAGE_PULL),
        ),
        (
            {"status": "RUNNABLE", "statusReason": "MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT"},
            (Phase.PENDING, None, FailureReason.CONFIG_ERROR),
        ),
        (
            {"status": "FAILED", "eksProperties": {"podProperties": {"containers": [{"exitCode": 3}]}}},
            (Phase.FAILED, 3, None),
        ),
    ],
)
def test_what_the_service_says_of_a_job(job: dict[str, Any], expected: tuple[Any, ...]) -> None:
    found = seen(job)

    assert (found.phase, found.exit_code, found.reason) == expected


def test_the_log_of_the_last_attempt_is_read() -> None:
    attempts = [{"container": {"logStreamName": "first"}}, {"container": {"logStreamName": "second"}}]

    assert seen({"status": "RUNNING", "attempts": attempts}).data == {"stream": "second"}
    assert seen({"status": "RUNNING", "attempts": attempts, "container": {"logStreamName": "third"}}).data == {
        "stream": "third"
    }
