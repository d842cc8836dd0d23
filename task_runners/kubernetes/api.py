"""The dozen calls of core/v1 that a pod per task needs, on JSON as it travels."""

from __future__ import annotations

import contextlib
import json
import random
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from task_runners.kubernetes.connection import Connection

__all__ = ["Api", "ApiError", "Object"]

Object = dict[str, Any]

_AGAIN: Final = frozenset({0, 429, 500, 502, 503, 504})
_PAGE: Final = 500
_WATCH_S: Final = 300  # the server ends a watch after this long
_SILENCE_S: Final = 120.0  # bookmarks come each minute: a watch that says nothing for longer is dead
_LONGEST_WAIT_S: Final = 15.0


class ApiError(Exception):
    """The API server refused, or did not answer: HTTP code (0: no answer), reason, what it said."""

    def __init__(self, code: int, reason: str, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.code, self.reason, self.message, self.retry_after = code, reason, message, retry_after

    @property
    def may_pass(self) -> bool:
        """Whether the same request may succeed later."""
        return self.code in _AGAIN


class Api:
    """One namespace of an API server. Safe to use from several threads."""

    def __init__(self, connection: Connection, namespace: str, pause: Callable[[float], None] = time.sleep) -> None:
        self.connection = connection
        self.namespace = namespace
        self._pause = pause

    def close(self) -> None:
        """Close all connections."""
        self.connection.client.close()

    # --- objects ------------------------------------------------------------------------------------------------------

    def create(self, resource: str, obj: Object, *, tries: int = 6) -> Object:
        """Create an object. Raises `ApiError`, with 409 when there is one of this name."""
        return self._ask("POST", self.path(resource), body=obj, tries=tries)

    def pod(self, name: str, *, tries: int = 2) -> Object | None:
        """Return a pod, None when there is none."""
        try:
            return self._ask("GET", self.path("pods", name), tries=tries)
        except ApiError as error:
            if error.code == 404:
                return None
            raise

    def pods(self, selector: str) -> tuple[str, list[Object]]:
        """Return the version of the list and all pods that `selector` names, page by page."""
        found: list[Object] = []
        params = {"labelSelector": selector, "limit": str(_PAGE)}
        while True:
            page = self._ask("GET", self.path("pods"), params=params, tries=3)
            found += page["items"]
            if not page["metadata"].get("continue"):
                return str(page["metadata"]["resourceVersion"]), found
            params["continue"] = page["metadata"]["continue"]

    def delete(self, resource: str, name: str, *, grace_s: int | None = None, tries: int = 4) -> None:
        """Delete an object; one that is not there is no error."""
        options = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
        body: Object = options if grace_s is None else {**options, "gracePeriodSeconds": grace_s}
        try:
            self._ask("DELETE", self.path(resource, name), body=body, tries=tries)
        except ApiError as error:
            if error.code != 404:
                raise

    def events(self, uid: str) -> list[Object]:
        """Return what was said about the object `uid`, the oldest first."""
        params = {"fieldSelector": f"involvedObject.uid={uid}", "limit": "100"}
        found = self._ask("GET", self.path("events"), params=params)["items"]
        return sorted(found, key=lambda event: str(event.get("firstTimestamp") or event.get("eventTime") or ""))

    def watch(self, selector: str, version: str) -> Iterator[Object]:
        """Yield the changes of pods after `version`, until the server ends it.

        Raises:
            ApiError: it broke; with 410 when `version` is too old.
        """
        import httpx2

        params = {
            "watch": "true",
            "labelSelector": selector,
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(_WATCH_S),
        }
        timeout = httpx2.Timeout(30.0, read=_SILENCE_S)
        with self._stream(self.path("pods"), params, timeout) as answer:
            for line in answer.iter_lines():
                change = json.loads(line)
                if change["type"] == "ERROR":
                    raise _refused(int(change["object"].get("code", 500)), change["object"])
                yield change

    @contextlib.contextmanager
    def log(
        self, name: str, container: str, *, since: str | None, follow_s: float | None = None
    ) -> Iterator[Iterator[bytes]]:
        """Give the log of a container in pieces, each line with its time stamp; `since` is RFC 3339.

        With `follow_s` it goes on until the container ends, or says nothing for so many seconds.
        """
        import httpx2

        params = {"container": container, "timestamps": "true"}
        params |= {"sinceTime": since} if since else {}
        params |= {"follow": "true"} if follow_s is not None else {}
        timeout = None if follow_s is None else httpx2.Timeout(30.0, read=follow_s)
        with self._stream(self.path("pods", name, "log"), params, timeout) as answer:
            yield answer.iter_bytes()

    # --- requests -----------------------------------------------------------------------------------------------------

    def path(self, *parts: str) -> str:
        """Return the path of a resource of the namespace."""
        return "/".join(("", "api", "v1", "namespaces", self.namespace, *parts))

    def _ask(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: Object | None = None,
        tries: int = 1,
    ) -> Object:
        """Return the answer; what may pass is tried again with growing pauses, those that the server asks for first."""
        for number in range(tries):
            try:
                return self._ask_once(method, path, params, body)
            except ApiError as error:
                if not error.may_pass or number + 1 == tries:
                    raise
                pause = error.retry_after or 0.2 * 2**number
                self._pause(min(pause, _LONGEST_WAIT_S) * random.uniform(1.0, 1.2))  # noqa: S311 - not a secret
        raise AssertionError(tries)

    def _ask_once(self, method: str, path: str, params: Mapping[str, str] | None, body: Object | None) -> Object:
        with _network_errors():
            answer = self.connection.client.request(method, path, params=params, json=body)
        document = _document(answer.content)
        if answer.is_error:
            raise _refused(answer.status_code, document, answer.headers.get("Retry-After"))
        return document

    @contextlib.contextmanager
    def _stream(self, path: str, params: Mapping[str, str], timeout: Any = None) -> Iterator[Any]:
        options = {} if timeout is None else {"timeout": timeout}
        with _network_errors(), self.connection.client.stream("GET", path, params=params, **options) as answer:
            if answer.is_error:
                raise _refused(answer.status_code, _document(answer.read()), answer.headers.get("Retry-After"))
            yield answer


@contextlib.contextmanager
def _network_errors() -> Iterator[None]:
    import httpx2

    try:
        yield
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
        raise ApiError(0, "Unreachable", str(error) or type(error).__name__) from error


def _document(content: bytes) -> Object:
    try:
        found = json.loads(content)
    except ValueError:
        # A proxy between us and the API server answers in its own words.
        return {"message": content[:200].decode("utf-8", "replace")}
    return found if isinstance(found, dict) else {}


def _refused(code: int, status: Mapping[str, Any], retry_after: str | None = None) -> ApiError:
    wait = retry_after or (status.get("details") or {}).get("retryAfterSeconds")
    seconds = float(wait) if wait is not None and str(wait).replace(".", "", 1).isdigit() else None
    return ApiError(code, str(status.get("reason") or code), str(status.get("message") or "no reason given"), seconds)
