"""What an expression may ask of the outside, and the scope in which it is rendered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol, cast
from zoneinfo import ZoneInfo

from runner.errors import ExpressionError
from runner.expressions.limits import DEFAULT_LIMITS, Limits


class Services(Protocol):
    """The port through which functions read clocks, secrets, files and randomness.

    Each method raises an `ExpressionError` (or another `MainstemError`) with a sentence for the user when it cannot
    answer. `zone` is the time zone of the server, used where an expression names none.
    """

    @property
    def zone(self) -> ZoneInfo: ...  # noqa: D102 - described above

    def now(self) -> datetime:
        """Return the present time, aware of its zone."""

    def secret(self, key: str, namespace: str | None = None, subkey: str | None = None) -> str:
        """Return the secret `key`, or the field `subkey` of a JSON secret."""

    def kv(self, key: str, namespace: str | None = None, *, error_on_missing: bool = True) -> Any:
        """Return the typed value of `key` in `namespace` (the flow's by default), None if absent and allowed to be."""

    def read_file(self, uri_or_path: str) -> bytes:
        """Return the content of a storage URI or of a namespace file."""

    def file_size(self, uri: str) -> int:
        """Return the size in bytes."""

    def file_exists(self, uri: str) -> bool:
        """Return whether the file exists."""

    def file_uri(self, path: str) -> str:
        """Return the storage URI of the namespace file at `path`."""

    def random_int(self, lower: int, upper: int) -> int:
        """Return a number of [lower, upper)."""

    def random_bytes(self, count: int) -> bytes:
        """Return `count` unpredictable bytes."""

    def random_port(self) -> int:
        """Return a TCP port that is free on this host at this moment."""

    def new_id(self) -> str:
        """Return a fresh identifier."""

    def uuid(self) -> str:
        """Return a random UUID."""

    def error_logs(self) -> list[dict[str, Any]]:
        """Return the ERROR log entries of the execution."""

    def tasks_with_state(self, state: str) -> list[dict[str, Any]]:
        """Return `taskId`, `state` and, in loops, `value` of each task run in `state`."""

    def http(self, uri: str, **options: Any) -> Any:
        """Return the parsed body of a response; options: method query body content_type headers options accept."""

    def environment(self, name: str, default: str | None = None) -> str | None:
        """Return the variable `name` of those that flows may see."""


class _NoServices:
    """Refuses everything but a time zone, for static evaluation and for tests of pure expressions."""

    zone = ZoneInfo("UTC")

    def __getattr__(self, name: str) -> Any:
        raise ExpressionError("expression.function.unavailable", f"`{name}` is not available to this expression")


NO_SERVICES = cast("Services", _NoServices())


@dataclass(frozen=True, slots=True)
class Scope:
    """Everything a template sees: its variables, the services, the limits.

    `variables` may compute a root when it is first read. `recursive` renders results again until they are stable and
    takes `render` and `renderOnce` away, as the server option `recursiveRendering` of old Kestra versions did.
    """

    variables: Mapping[str, Any]
    services: Services = NO_SERVICES
    limits: Limits = DEFAULT_LIMITS
    recursive: bool = False
