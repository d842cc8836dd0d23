"""Runs a task as a job of AWS Batch: on Fargate, EC2 or EKS, in one container."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, Final, Literal

from task_runners.aws_access import AwsAccess, aws_calls
from task_runners.aws_batch_job import (
    Platform,
    Resources,
    check_size,
    definition,
    platform_of,
    seen,
    tag_value,
    tags,
)
from task_runners.cloud_job import CloudTaskRunner, Seen
from task_runners.errors import FailureReason, TaskRunnerError
from task_runners.log_pages import LogCursor, LogPage, RawLine
from task_runners.spec import JobHandle, Phase, RunnerContext, TaskSpec
from task_runners.staging.object_store import ObjectStore
from task_runners.staging.s3 import S3Store
from task_runners.staging.wrapper import Wrapped

__all__ = ["Batch"]

_PRIORITY: Final = 10
_READY_S: Final = 60.0
_OWNED_TAG: Final = "mainstem-taskrun-id"


class Batch(CloudTaskRunner):
    """Runs the command in a container of the task's image, through a job queue that is named or made for the job.

    The images' own entry point has to end in `exec "$@"`, if there is one: a Batch job cannot replace it. The exit code
    is the body's. Standard error comes with standard output. Limits of the server on tasks are not known there; what a
    job may use is `resources`.
    """

    type: Literal["ee.aws.runner.Batch", "io.kestra.plugin.ee.aws.runner.Batch"] = "ee.aws.runner.Batch"
    region: str
    endpoint_override: str | None = None
    access_key_id: str | None = None
    secret_key_id: str | None = None
    session_token: str | None = None
    sts_role_arn: str | None = None
    sts_role_external_id: str | None = None
    sts_role_session_name: str | None = None
    sts_role_session_duration: timedelta = timedelta(minutes=15)
    sts_endpoint_override: str | None = None
    compute_environment_arn: str
    job_queue_arn: str | None = None
    bucket: str | None = None
    execution_role_arn: str | None = None
    task_role_arn: str | None = None
    resources: Resources = Resources()
    sidecar_resources: Resources | None = None
    """Accepted for flows of others: there are no sidecars, so the task has its whole size."""
    log_group: str = "/aws/batch/job"

    _margin: ClassVar[timedelta] = timedelta(minutes=2)

    def _label(self, value: str) -> str:
        return tag_value(value)

    # --- what the base class asks for ---------------------------------------------------------------------------------

    def _check(self, spec: TaskSpec) -> None:  # noqa: ARG002 - the port's
        if self._platform() is not Platform.FARGATE:
            return
        check_size(self.resources.request)
        if not self.execution_role_arn:
            raise TaskRunnerError(
                "runner.property.missing",
                "Fargate needs `executionRoleArn`",
                hint="a role that may pull and write logs",
            )

    def _open_store(self) -> ObjectStore | None:
        return S3Store(self.bucket, "", access=self._access()) if self.bucket else None

    def _start(self, handle: JobHandle, wrapped: Wrapped, spec: TaskSpec, ctx: RunnerContext) -> Mapping[str, Any]:
        request = definition(
            handle.id,
            self._platform(),
            wrapped,
            str(spec.image),
            tags(self._labels(spec)),
            self.resources.request,
            execution_role=self.execution_role_arn,
            task_role=self.task_role_arn,
            longest=self._longest(spec) + spec.grace + self._margin,
        )
        with self._calls():
            made = self._batch.register_job_definition(**request)["jobDefinitionArn"]
            queue = self.job_queue_arn or self._make_queue(handle.id, spec, ctx)
            job = self._batch.submit_job(
                jobName=handle.id, jobQueue=queue, jobDefinition=made, tags=tags(self._labels(spec)), propagateTags=True
            )
        return {"job": job["jobId"], "queue": queue}

    def _find(self, handle: JobHandle, ctx: RunnerContext) -> Mapping[str, Any] | None:  # noqa: ARG002 - the port's
        queue = self.job_queue_arn or handle.id
        with self._calls(), contextlib.suppress(self._batch.exceptions.ClientException):
            found = self._batch.list_jobs(jobQueue=queue, filters=[{"name": "JOB_NAME", "values": [handle.id]}])
            for job in found["jobSummaryList"]:
                return {"job": job["jobId"], "queue": queue}
        return None

    def _seen(self, handle: JobHandle, ctx: RunnerContext) -> Seen:  # noqa: ARG002 - the port's
        with self._calls():
            jobs = self._batch.describe_jobs(jobs=[handle.data["job"]])["jobs"]
        if not jobs:
            return Seen(Phase.LOST, None, FailureReason.LOST, "AWS Batch does not know the job any more")
        return seen(jobs[0])

    def _page(self, handle: JobHandle, since: LogCursor | None, ctx: RunnerContext, *, is_final: bool) -> LogPage:  # noqa: ARG002 - the port's
        stream = handle.data.get("stream")
        if stream is None:
            return LogPage(is_settled=is_final)
        # A job that was started again has a new log; what a token was for stands before it.
        known, _, token = (since.token or "" if since is not None else "").rpartition(" ")
        asked = {"nextToken": token} if token and known == stream else {}
        client = self._access().client("logs")
        with self._calls(), contextlib.suppress(client.exceptions.ResourceNotFoundException):
            page = client.get_log_events(logGroupName=self.log_group, logStreamName=stream, startFromHead=True, **asked)
            after = page["nextForwardToken"]
            lines = [_line(event) for event in page["events"]]
            return LogPage(lines, f"{stream} {after}", is_exact=True, has_more=after != token, is_settled=False)
        return LogPage(is_settled=False)

    def cancel(self, handle: JobHandle, grace: timedelta, ctx: RunnerContext) -> None:  # noqa: ARG002 - the port's
        """End the job: Batch sends SIGTERM, and SIGKILL 30 seconds later whatever `grace` says."""
        if handle.data.get("job"):
            with self._calls():
                self._batch.terminate_job(jobId=handle.data["job"], reason="ended by Mainstem")

    def _discard(self, handle: JobHandle, ctx: RunnerContext) -> None:
        data = handle.data if handle.data.get("job") else self._find(handle, ctx)
        with self._calls():
            if data is not None:
                self._batch.terminate_job(jobId=data["job"], reason="ended by Mainstem")
            if self.job_queue_arn is None:
                self._remove_queue(handle.id, ctx)
            # Last: by its definition a job is found again when nobody knows it any more.
            for made in self._definitions(jobDefinitionName=handle.id):
                self._batch.deregister_job_definition(jobDefinition=made["jobDefinitionArn"])

    # --- AWS ----------------------------------------------------------------------------------------------------------

    def _access(self) -> AwsAccess:
        return AwsAccess(
            self.region,
            self.endpoint_override,
            self.access_key_id,
            self.secret_key_id,
            self.session_token,
            self.sts_role_arn,
            self.sts_role_external_id,
            self.sts_role_session_name,
            self.sts_role_session_duration,
            self.sts_endpoint_override,
        )

    @property
    def _batch(self) -> Any:
        return self._access().client("batch")

    def _calls(self) -> contextlib.AbstractContextManager[None]:
        return aws_calls("AWS Batch")

    def _platform(self) -> Platform:
        with self._calls():
            found = self._batch.describe_compute_environments(computeEnvironments=[self.compute_environment_arn])
        if not found["computeEnvironments"]:
            raise TaskRunnerError(
                "runner.environment.missing", f"there is no compute environment {self.compute_environment_arn!r}"
            )
        return platform_of(found["computeEnvironments"][0])

    def _make_queue(self, name: str, spec: TaskSpec, ctx: RunnerContext) -> str:
        order = [{"order": 1, "computeEnvironment": self.compute_environment_arn}]
        made = self._batch.create_job_queue(
            jobQueueName=name,
            state="ENABLED",
            priority=_PRIORITY,
            computeEnvironmentOrder=order,
            tags=tags(self._labels(spec)),
        )
        self._until(name, ctx, lambda queue: queue is None or queue.get("status", "VALID") == "VALID")
        return str(made["jobQueueArn"])

    def _remove_queue(self, name: str, ctx: RunnerContext) -> None:
        if self._queue(name) is None:
            return
        self._batch.update_job_queue(jobQueue=name, state="DISABLED")
        self._until(name, ctx, lambda queue: queue is None or queue.get("status") != "UPDATING")
        self._batch.delete_job_queue(jobQueue=name)

    def _queue(self, name: str) -> Mapping[str, Any] | None:
        found = self._batch.describe_job_queues(jobQueues=[name])["jobQueues"]
        alive = [queue for queue in found if queue.get("status") not in {"DELETED", "DELETING"}]
        return alive[0] if alive else None

    def _until(self, name: str, ctx: RunnerContext, is_so: Any) -> None:
        deadline = ctx.clock() + _READY_S
        while not is_so(self._queue(name)) and ctx.clock() < deadline:
            self.pause(ctx, 0.5)

    def _definitions(self, **asked: Any) -> Iterator[Mapping[str, Any]]:
        for page in self._batch.get_paginator("describe_job_definitions").paginate(status="ACTIVE", **asked):
            yield from page["jobDefinitions"]

    def _owned(self, ctx: RunnerContext) -> Iterator[tuple[JobHandle, Mapping[str, str]]]:
        with self._calls():
            found = [made for made in self._definitions() if _OWNED_TAG in made.get("tags", {})]
        for made in found:
            labels = {key.removeprefix("mainstem-"): value for key, value in made["tags"].items()}
            name = JobHandle(self.type, made["jobDefinitionName"])
            yield replace(name, data=dict(self._find(name, ctx) or {})), labels


def _line(event: Mapping[str, Any]) -> RawLine:
    return RawLine(datetime.fromtimestamp(event["timestamp"] / 1000, UTC), event["message"].encode())
