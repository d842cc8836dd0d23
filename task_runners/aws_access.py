"""How AWS is reached: the properties that every AWS object may have, and the clients made of them."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from task_runners.cloud import denied, refused, unreachable
from task_runners.errors import TaskRunnerError

__all__ = ["AwsAccess", "aws_calls"]

Client = Any  # made by boto3 from its data files; there is no class to name

_SESSION_S: Final = 900  # the shortest that STS gives, and its default in Kestra
_LOCK = threading.Lock()  # making clients is not safe in several threads, using them is
_DENIED: Final = {
    "AccessDenied",
    "AccessDeniedException",
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "SignatureDoesNotMatch",
    "UnrecognizedClientException",
    "401",
    "403",
}
_PASSING: Final = {"ThrottlingException", "TooManyRequestsException", "RequestLimitExceeded", "SlowDown"}


@dataclass(frozen=True, slots=True)
class AwsAccess:
    """Where AWS is and who we are there; what is None comes from the ambient chain (environment, profile, role)."""

    region: str | None = None
    endpoint: str | None = None
    access_key_id: str | None = None
    secret_key_id: str | None = None
    session_token: str | None = None
    sts_role_arn: str | None = None
    sts_role_external_id: str | None = None
    sts_role_session_name: str | None = None
    sts_role_session_duration: timedelta = timedelta(seconds=_SESSION_S)
    sts_endpoint: str | None = None

    def client(self, service: str) -> Client:
        """Return a client of a service, the same for the same access. Safe to use from several threads.

        Raises:
            ImportError: the extra `aws` is not installed.
            TaskRunnerError: `cloud.access.denied`, `cloud.request.refused`, `cloud.server.unreachable`.
        """
        with _LOCK, aws_calls("AWS"):
            return _client(self, service)


@functools.lru_cache(maxsize=64)
def _client(access: AwsAccess, service: str) -> Client:
    import boto3
    from botocore.config import Config

    keys = {
        "aws_access_key_id": access.access_key_id,
        "aws_secret_access_key": access.secret_key_id,
        "aws_session_token": access.session_token,
    }
    session = boto3.Session(region_name=access.region, **keys)
    if access.sts_role_arn:
        session = boto3.Session(region_name=access.region, botocore_session=_in_role(access, session))
    config = Config(
        retries={"mode": "standard", "total_max_attempts": 5},
        connect_timeout=10,
        read_timeout=60,
        signature_version="s3v4" if service == "s3" else None,
        # What speaks like S3 elsewhere knows neither names of buckets as hosts nor the newer checksums.
        s3={"addressing_style": "path"} if access.endpoint else None,
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    return session.client(service, endpoint_url=access.endpoint, config=config)


def _in_role(access: AwsAccess, session: Any) -> Any:
    """Return a session whose credentials are those of the role, made anew before they expire."""
    import botocore.session
    from botocore.credentials import RefreshableCredentials

    sts = session.client("sts", endpoint_url=access.sts_endpoint or access.endpoint)
    asked = {
        "RoleArn": access.sts_role_arn,
        "RoleSessionName": access.sts_role_session_name or "mainstem",
        "DurationSeconds": max(_SESSION_S, int(access.sts_role_session_duration.total_seconds())),
        "ExternalId": access.sts_role_external_id,
    }

    def fetch() -> dict[str, str]:
        got = sts.assume_role(**{key: value for key, value in asked.items() if value is not None})["Credentials"]
        return {
            "access_key": got["AccessKeyId"],
            "secret_key": got["SecretAccessKey"],
            "token": got["SessionToken"],
            "expiry_time": got["Expiration"].isoformat(),
        }

    inner = botocore.session.get_session()
    inner._credentials = RefreshableCredentials.create_from_metadata(  # noqa: SLF001 - its one door for these
        metadata=fetch(), refresh_using=fetch, method="sts-assume-role"
    )
    return inner


@contextmanager
def aws_calls(
    what: str, fault: Callable[[str, str, Exception], TaskRunnerError | None] | None = None
) -> Iterator[None]:
    """Turn what boto3 raises into errors of this product; `fault` may know a better one for a code and message."""
    import botocore.exceptions

    try:
        yield
    except botocore.exceptions.ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        message = str(error.response.get("Error", {}).get("Message", "")) or str(error)
        status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        better = fault(code, message, error) if fault is not None else None
        raise better or _refused(what, code, message, status) from error
    except (botocore.exceptions.NoCredentialsError, botocore.exceptions.PartialCredentialsError) as error:
        raise denied(what, str(error)) from error
    except botocore.exceptions.NoRegionError as error:
        raise TaskRunnerError("cloud.request.refused", f"{what}: no region is given", hint="set `region`") from error
    except botocore.exceptions.BotoCoreError as error:
        raise unreachable(what, error) from error


def _refused(what: str, code: str, message: str, status: int) -> TaskRunnerError:
    if code in _DENIED:
        return denied(what, message)
    return refused(what, f"{code}: {message}", is_passing=status >= 500 or code in _PASSING)
