"""The errors of the product, one small tree.

    MainstemError              code, sentence, hint
    ├── FlowError              a flow, template, input or repository content is wrong; may carry many problems
    │   └── ExpressionError    an expression cannot be compiled or rendered
    │       └── UndefinedError     it names something that does not exist
    ├── TaskError              a task body failed; carries the outputs that survive the failure
    ├── AccessError            no valid token (401) or not allowed (403)
    ├── NotFoundError          404
    ├── ConflictError          409: the state of the thing does not allow it, or somebody was faster
    ├── InvalidError           422: an argument or a document is not acceptable
    ├── OverloadedError        503: the backlog is too long; carries `retry_after_s`
    ├── StorageError           503: the storage of files cannot do what it was asked
    └── StoreError             the database cannot do what it was asked (schema too old, disk full ...)

Codes are dotted words `<thing>.<property>.<fault>` and never change; `mainstem explain CODE` describes each.
An error is raised near its cause and caught at three places only: the task boundary, the HTTP boundary, the CLI.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

__all__ = [
    "AccessError",
    "ConflictError",
    "ExpressionError",
    "FlowError",
    "InvalidError",
    "MainstemError",
    "NotFoundError",
    "OverloadedError",
    "Problem",
    "Severity",
    "StorageError",
    "StoreError",
    "TaskError",
    "UndefinedError",
]


class Severity(enum.StrEnum):
    """How bad a problem is: only an `ERROR` keeps a revision from being activated."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


@dataclass(frozen=True, slots=True)
class Problem:
    """A finding in a file, for the CLI, the API, an editor and a pull request alike.

    `line` and `column` count from 1; both are None when the finding is about the file as a whole.
    """

    code: str
    message: str
    severity: Severity = Severity.ERROR
    file: str | None = None
    line: int | None = None
    column: int | None = None
    hint: str | None = None

    @property
    def sentence(self) -> str:
        """The message, and the hint after it where there is one."""
        return f"{self.message}; {self.hint}" if self.hint else self.message

    def as_json(self) -> dict[str, Any]:
        """Return the keys `file line column code severity message hint`, in this order."""
        fields = asdict(self)
        return {key: fields[key] for key in ("file", "line", "column", "code", "severity", "message", "hint")}


class MainstemError(Exception):
    """The root: a stable `code`, a sentence with the offending value, and a hint that says what to do."""

    status = 500
    exit_code = 1

    def __init__(self, code: str, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message


class FlowError(MainstemError):
    """A flow or a file beside it is wrong. `problems` holds every finding, with its position where there is one."""

    status = 422

    def __init__(
        self, code: str, message: str, *, hint: str | None = None, problems: Sequence[Problem] | None = None
    ) -> None:
        super().__init__(code, message, hint=hint)
        self.problems: tuple[Problem, ...] = tuple(problems) if problems else (Problem(code, message, hint=hint),)


class ExpressionError(FlowError):
    """An expression cannot be compiled or rendered. `line` and `column` count inside it, from 1, where known."""

    line: int | None = None
    column: int | None = None


class UndefinedError(ExpressionError):
    """An expression names a variable, key or index that does not exist."""


class TaskError(MainstemError):
    """A task body failed. `outputs` survive the failure (exit code, files, variables)."""

    def __init__(
        self, code: str, message: str, *, hint: str | None = None, outputs: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(code, message, hint=hint)
        self.outputs: dict[str, Any] = dict(outputs or {})


class AccessError(MainstemError):
    """No valid token (`status` 401) or a token that may not do this (403)."""

    exit_code = 4

    def __init__(self, code: str, message: str, *, hint: str | None = None, status: int = 403) -> None:
        super().__init__(code, message, hint=hint)
        self.status = status


class NotFoundError(MainstemError):
    """What was named does not exist."""

    status = 404
    exit_code = 3


class ConflictError(MainstemError):
    """The state of the thing does not allow it, or somebody was faster."""

    status = 409


class InvalidError(MainstemError):
    """An argument or a document is not acceptable."""

    status = 422


class OverloadedError(MainstemError):
    """The backlog is too long; try again after `retry_after_s` seconds."""

    status = 503

    def __init__(self, code: str, message: str, *, retry_after_s: int = 1) -> None:
        super().__init__(code, message)
        self.retry_after_s = retry_after_s


class StorageError(MainstemError):
    """The storage of files cannot be reached, or refuses."""

    status = 503


class StoreError(MainstemError):
    """The database cannot do what it was asked."""
