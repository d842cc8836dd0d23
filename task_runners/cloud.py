"""Calls to the HTTP interfaces of clouds: authentication, another try where that is safe, errors in our words."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import IO, Any, Final, Protocol, TypeVar, cast
from urllib.parse import urlsplit

import httpx

from task_runners.errors import FailureReason, TaskRunnerError

__all__ = ["CloudApi", "FileBody", "demand_known_host", "denied", "forget", "kept", "refused", "unreachable"]

_TRIES: Final = 5
_FIRST_WAIT_S: Final = 0.2
_LONGEST_WAIT_S: Final = 10.0
_PASSING: Final = {408, 429, 500, 502, 503, 504}
_MOST_KEPT: Final = 64
_PIECE_BYTES: Final = 256 * 1024
_TIMEOUT: Final = httpx.Timeout(60, connect=10)


class Closable(Protocol):
    """What holds connections."""

    def close(self) -> None:
        """Close them."""


T = TypeVar("T", bound=Closable)
_LOCK = threading.Lock()
_KEPT: dict[Hashable, Closable] = {}


def denied(what: str, message: str) -> TaskRunnerError:
    """Return the error for credentials that are missing, wrong, expired or not enough."""
    return TaskRunnerError(
        "cloud.access.denied",
        f"{what} does not let us in: {message[:300]}",
        hint="check the credentials, the role and its policy",
        failure_reason=FailureReason.DENIED,
    )


def refused(what: str, message: str, *, is_passing: bool = False) -> TaskRunnerError:
    """Return the error for a request that was understood and not granted."""
    return TaskRunnerError(
        "cloud.request.refused",
        f"{what} refused: {message[:500]}",
        failure_reason=FailureReason.UNAVAILABLE if is_passing else FailureReason.CONFIG_ERROR,
    )


def unreachable(what: str, error: Exception) -> TaskRunnerError:
    """Return the error for a server that does not answer, or not to the end."""
    return TaskRunnerError(
        "cloud.server.unreachable",
        f"{what} cannot be reached: {str(error)[:300] or type(error).__name__}",
        failure_reason=FailureReason.UNAVAILABLE,
    )


def demand_known_host(endpoint: str, suffixes: tuple[str, ...], own: str) -> None:
    """Refuse to show a token of this server to a host that a flow has named; an empty address means the usual one.

    Raises:
        TaskRunnerError: `cloud.endpoint.foreign`; `own` is the property by which the flow brings its own credentials.
    """
    parts = urlsplit(endpoint)
    if not endpoint or (parts.scheme == "https" and f".{parts.hostname or ''}".endswith(suffixes)):
        return
    raise TaskRunnerError(
        "cloud.endpoint.foreign",
        f"{endpoint[:200]!r} is no address of this cloud, so it gets no credentials of this server",
        hint=f"set `{own}`",
        failure_reason=FailureReason.POLICY,
    )


def kept(key: Hashable, make: Callable[[], T]) -> T:
    """Return what was made for this key before, or now: no look at a job has to begin with a new connection."""
    with _LOCK:
        if key not in _KEPT:
            if len(_KEPT) >= _MOST_KEPT:
                _KEPT.pop(next(iter(_KEPT)))  # its connections end with its last user
            _KEPT[key] = make()
        return cast("T", _KEPT[key])


def forget() -> None:
    """Close everything that is kept; nothing may use it after that."""
    with _LOCK:
        for each in _KEPT.values():
            each.close()
        _KEPT.clear()


class FileBody:
    """`size` bytes of a file from where it stands, as the body of a request that may be sent again."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file, self._start, self._size = file, file.tell(), size
        self.headers = {"Content-Length": str(size)}

    def __iter__(self) -> Iterator[bytes]:
        self._file.seek(self._start)
        left = self._size
        while left and (piece := self._file.read(min(left, _PIECE_BYTES))):
            left -= len(piece)
            yield piece


class CloudApi:
    """One HTTP interface. Safe to use from several threads; close it in the end.

    What fails on its way, and answers 408, 429 and 5xx, are tried again for some seconds, so every request must be one
    that may arrive twice: things are made under names that the caller chose, and `accept` is the answer to the second.
    """

    def __init__(
        self, what: str, base_url: str, auth: httpx.Auth | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        self.what = what
        self._client = httpx.Client(base_url=base_url, auth=auth, headers=headers, timeout=_TIMEOUT)

    def call(self, method: str, path: str, *, accept: tuple[int, ...] = (), **options: Any) -> httpx.Response:
        """Return a good answer, or one whose status is in `accept`.

        Raises:
            TaskRunnerError: `cloud.access.denied`, `cloud.request.refused`, `cloud.server.unreachable`.
        """
        wait = _FIRST_WAIT_S
        for left in reversed(range(_TRIES)):
            try:
                answer = self._client.request(method, path, **options)
                if answer.is_success or answer.status_code in accept:
                    return answer
                fault = self._fault(answer)
            except httpx.HTTPError as error:
                fault = unreachable(self.what, error)
            if not left or fault.failure_reason is not FailureReason.UNAVAILABLE:
                raise fault
            time.sleep(wait)
            wait = min(wait * 2, _LONGEST_WAIT_S)
        raise AssertionError

    @contextlib.contextmanager
    def stream(self, path: str, **options: Any) -> Iterator[httpx.Response]:
        """Give the answer to one GET while it arrives, whatever its status; never tried again."""
        try:
            with self._client.stream("GET", path, **options) as answer:
                yield answer
        except httpx.HTTPError as error:
            raise unreachable(self.what, error) from error

    def fault_of(self, answer: httpx.Response) -> TaskRunnerError:
        """Return the error for an answer that is not good, read to its end."""
        answer.read()
        return self._fault(answer)

    def close(self) -> None:
        """Close all connections."""
        self._client.close()

    def _fault(self, answer: httpx.Response) -> TaskRunnerError:
        message = f"{answer.status_code}: {_words(answer)}"
        if answer.status_code in {401, 403}:
            return denied(self.what, message)
        return refused(self.what, message, is_passing=answer.status_code in _PASSING)


def _words(answer: httpx.Response) -> str:
    """Return what the server says of a refusal: the message of its JSON, or the beginning of its text."""
    with contextlib.suppress(ValueError):
        said = answer.json()
        error = said.get("error", said) if isinstance(said, dict) else said
        message = error.get("message", error) if isinstance(error, dict) else error
        return str(message.get("value", message) if isinstance(message, dict) else message)
    return answer.text[:300]
