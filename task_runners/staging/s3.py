"""Buckets of S3, and of servers that speak like it, on boto3."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import timedelta
from typing import IO, ClassVar, Final

from task_runners.aws_access import AwsAccess, aws_calls
from task_runners.cloud import refused
from task_runners.errors import TaskRunnerError
from task_runners.staging.object_store import CHUNK_BYTES, ObjectStore
from task_runners.staging.port import SignedUpload

__all__ = ["S3Store"]

_PER_DELETE: Final = 1000  # keys that one request may name
_OPTIONS: Final = {
    "endpoint": "endpoint",
    "region": "region",
    "accessKeyId": "access_key_id",
    "secretKeyId": "secret_key_id",
    "sessionToken": "session_token",
    "stsRoleArn": "sts_role_arn",
    "stsRoleExternalId": "sts_role_external_id",
    "stsRoleSessionName": "sts_role_session_name",
    "stsEndpoint": "sts_endpoint",
}


class S3Store(ObjectStore):
    """One bucket. Files over 8 MiB travel in parts, several at a time."""

    options_known: ClassVar[frozenset[str]] = frozenset(_OPTIONS)

    def __init__(
        self, bucket: str, prefix: str, options: Mapping[str, str] | None = None, access: AwsAccess | None = None
    ) -> None:
        super().__init__(bucket, prefix, options or {})
        given = {_OPTIONS[name]: value for name, value in (options or {}).items()}
        self._access = replace(access or AwsAccess(), **given)  # type: ignore[arg-type]  # all of these are texts
        self._client = self._access.client("s3")

    def _send(self, name: str, source: IO[bytes], size: int) -> None:
        with self._calls(name):
            if size <= CHUNK_BYTES:
                self._client.put_object(Bucket=self.bucket, Key=name, Body=source.read(size))
            else:
                self._client.upload_fileobj(_Unclosed(source), self.bucket, name)

    def _read(self, name: str) -> Iterator[bytes]:
        with self._calls(name):
            body = self._client.get_object(Bucket=self.bucket, Key=name)["Body"]
            yield from body.iter_chunks(CHUNK_BYTES)

    def _size(self, name: str) -> int:
        with self._calls(name):
            return int(self._client.head_object(Bucket=self.bucket, Key=name)["ContentLength"])

    def _list(self, prefix: str) -> Iterator[str]:
        with self._calls(prefix):
            for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix):
                yield from (item["Key"] for item in page.get("Contents", ()))

    def _delete(self, names: list[str]) -> None:
        for start in range(0, len(names), _PER_DELETE):
            objects = [{"Key": name} for name in names[start : start + _PER_DELETE]]
            with self._calls(names[start]):
                answer = self._client.delete_objects(Bucket=self.bucket, Delete={"Objects": objects, "Quiet": True})
            for fault in answer.get("Errors", ()):
                raise refused(f"the bucket {self.bucket!r}", f"{fault.get('Key')!r} stays: {fault.get('Message')}")

    def _sign_get(self, name: str, lifetime: timedelta) -> str:
        asked = {"Bucket": self.bucket, "Key": name}
        with self._calls(name):
            return str(
                self._client.generate_presigned_url("get_object", Params=asked, ExpiresIn=int(lifetime.total_seconds()))
            )

    def _sign_put(self, name: str, lifetime: timedelta) -> SignedUpload:
        asked = {"Bucket": self.bucket, "Key": name}
        seconds = int(lifetime.total_seconds())
        with self._calls(name):
            url = self._client.generate_presigned_url("put_object", Params=asked, ExpiresIn=seconds)
        return SignedUpload(url)

    def _calls(self, name: str) -> AbstractContextManager[None]:
        return _translated(self.bucket, name)


def _translated(bucket: str, name: str) -> AbstractContextManager[None]:
    def fault(code: str, message: str, error: Exception) -> TaskRunnerError | None:
        del message, error
        if code in {"NoSuchKey", "404", "NotFound"}:
            return TaskRunnerError("bucket.object.missing", f"the bucket {bucket!r} has no object {name!r}")
        if code == "NoSuchBucket":
            return TaskRunnerError("bucket.unknown", f"there is no bucket {bucket!r}")
        return None

    return aws_calls(f"the bucket {bucket!r}", fault)


class _Unclosed:
    """A file that stays open, since the transfers of boto3 close what they have read."""

    def __init__(self, file: IO[bytes]) -> None:
        self.read, self.seek, self.tell = file.read, file.seek, file.tell

    def close(self) -> None:
        """Leave it open."""
