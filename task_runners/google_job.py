"""What the two task runners of Google Cloud share: access, the bucket, labels, pages of Cloud Logging."""

from __future__ import annotations

import abc
import re
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from pydantic import field_validator

from task_runners.capture import Stream
from task_runners.cloud import CloudApi, demand_known_host, kept
from task_runners.cloud_job import CloudTaskRunner
from task_runners.google_access import SCOPE, GoogleAccess
from task_runners.log_pages import LogCursor, LogPage, RawLine, moment_of
from task_runners.spec import JobHandle, RunnerContext, TaskSpec
from task_runners.staging.google_storage import GoogleStore
from task_runners.staging.object_store import ObjectStore

__all__ = ["GoogleTaskRunner", "label_value"]

OWNED: Final = "mainstem-taskrun-id"
_LOGGING: Final = "https://logging.googleapis.com"
_PER_PAGE: Final = 1000
_MOST_PAGES: Final = 5
_NO_LABEL: Final = re.compile(r"[^a-z0-9_-]")
_LABEL_CHARS: Final = 63


def label_value(value: str) -> str:
    """Return `value` as Google's labels take it: lower case, at most 63 letters, digits, `_` and `-`."""
    return _NO_LABEL.sub("-", value.lower())[:_LABEL_CHARS].rstrip("-_")


class GoogleTaskRunner(CloudTaskRunner, abc.ABC):
    """A task runner of Google Cloud. An endpoint without TLS is an emulator and gets no token."""

    project_id: str
    region: str
    service_account: str | None = None
    """JSON key of a service account; without it the ambient credentials."""
    impersonated_service_account: str | None = None
    scopes: tuple[str, ...] = (SCOPE,)
    bucket: str | None = None
    endpoint_override: str | None = None
    logging_endpoint_override: str | None = None
    storage_endpoint_override: str | None = None
    wait_for_log_interval: timedelta = timedelta(seconds=5)
    """How late a line may come into Cloud Logging after later ones."""

    @field_validator("project_id", "region")
    @classmethod
    def _named(cls, value: str) -> str:
        if not re.fullmatch(r"[\w.:-]+", value):
            raise ValueError(f"{value!r} is no name of one")
        return value

    def _late(self) -> timedelta:
        return self.wait_for_log_interval

    def _access(self) -> GoogleAccess:
        return GoogleAccess(self.service_account, self.impersonated_service_account, self.scopes)

    def _open_store(self) -> ObjectStore | None:
        if not self.bucket:
            return None
        self._demand_ours(self.storage_endpoint_override or "")
        options = {"endpoint": self.storage_endpoint_override} if self.storage_endpoint_override else {}
        bucket, access = self.bucket, self._access()
        key = (bucket, self.storage_endpoint_override, access)
        return kept(key, lambda: GoogleStore(bucket, "", options, access))

    def _demand_ours(self, endpoint: str) -> None:
        if self.service_account is None and not endpoint.startswith("http://"):  # which gets no token at all
            demand_known_host(endpoint, (".googleapis.com",), "serviceAccount")

    def _api_at(self, what: str, endpoint: str) -> CloudApi:
        self._demand_ours(endpoint)
        access = self._access()

        def make() -> CloudApi:
            return CloudApi(what, endpoint.rstrip("/"), None if endpoint.startswith("http://") else access.auth())

        return kept((what, endpoint, access), make)

    @property
    def _place(self) -> str:
        return f"projects/{self.project_id}/locations/{self.region}"

    @abc.abstractmethod
    def _log_filter(self, handle: JobHandle) -> str | None:
        """Return what chooses the lines of the job in Cloud Logging; None while it can have none."""

    def _page(self, handle: JobHandle, since: LogCursor | None, ctx: RunnerContext, *, is_final: bool) -> LogPage:  # noqa: ARG002 - the port's
        chosen = self._log_filter(handle)
        if chosen is None:
            return LogPage(is_settled=is_final)
        if since is not None:
            chosen += f' AND timestamp>="{since.timestamp.isoformat()}"'
        lines: list[RawLine] = []
        token: str | None = None
        for _ in range(_MOST_PAGES):
            answer = self._entries(chosen, token)
            lines += [_line(entry) for entry in answer.get("entries", ())]
            token = answer.get("nextPageToken")
            if not token:
                break
        return LogPage(lines, has_more=token is not None, is_settled=False)

    def _entries(self, chosen: str, token: str | None) -> dict[str, Any]:
        api = self._api_at("Cloud Logging", self.logging_endpoint_override or _LOGGING)
        asked = {
            "resourceNames": [f"projects/{self.project_id}"],
            "filter": chosen,
            "orderBy": "timestamp asc",
            "pageSize": _PER_PAGE,
            **({"pageToken": token} if token else {}),
        }
        answer: dict[str, Any] = api.call("POST", "/v2/entries:list", json=asked).json()
        return answer

    def _label(self, value: str) -> str:
        return label_value(value)

    def _prefixed(self, spec: TaskSpec) -> dict[str, str]:
        return {f"mainstem-{key}": value for key, value in self._labels(spec).items()}

    def _owned(self, ctx: RunnerContext) -> Iterator[tuple[JobHandle, Mapping[str, str]]]:
        ours = [job for job in self._jobs() if OWNED in job.get("labels", {})]
        for job in sorted(ours, key=lambda each: str(each.get("createTime", ""))):
            yield (
                self._handle_of(job, ctx),
                {key.removeprefix("mainstem-"): text for key, text in job["labels"].items()},
            )

    def _handle_of(self, job: Mapping[str, Any], ctx: RunnerContext) -> JobHandle:
        name = str(job["name"]).rpartition("/")[2]
        bare = JobHandle(self.type, name, None, moment_of(job["createTime"]) if job.get("createTime") else None)
        return JobHandle(self.type, name, None, bare.created_at, dict(self._find(bare, ctx) or {}))

    @abc.abstractmethod
    def _jobs(self) -> Iterator[Mapping[str, Any]]:
        """Yield all jobs of the project and region."""

    def _listed(self, api: CloudApi, path: str, key: str) -> Iterator[Mapping[str, Any]]:
        asked: dict[str, str] = {}
        while True:
            page = api.call("GET", path, params=asked).json()
            yield from page.get(key, ())
            if not page.get("nextPageToken"):
                return
            asked["pageToken"] = page["nextPageToken"]


def _line(entry: Mapping[str, Any]) -> RawLine:
    payload = entry.get("jsonPayload", {})
    text = entry.get("textPayload", payload.get("message", ""))
    is_error = str(entry.get("logName", "")).endswith("stderr") or entry.get("severity") == "ERROR"
    at: datetime = moment_of(entry["timestamp"])
    return RawLine(at, str(text).rstrip("\n").encode(), Stream.STDERR if is_error else Stream.STDOUT)
