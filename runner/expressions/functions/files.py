"""Functions that read files of the internal storage, and the rule for which ones a flow may read."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

from runner.errors import ExpressionError
from runner.expressions.frame import Frame
from runner.expressions.registry import function
from runner.expressions.values import to_text


@function()
def read(frame: Frame, path: str, version: Any = None) -> str:  # noqa: ARG001 - namespace files are those of the pinned commit
    """Return the text of a storage URI of this execution, or of a namespace file given by its path."""
    return frame.services.read_file(_allowed(frame, path)).decode("utf-8", "replace")


@function("fileURI")
def file_uri(frame: Frame, path: str) -> str:
    """Return the storage URI of the namespace file at `path`."""
    if ".." in to_text(path).replace("\\", "/").split("/"):
        raise ExpressionError("expression.value", "Path must not contain '../'")
    return frame.services.file_uri(to_text(path))


@function("fileSize")
def file_size(frame: Frame, path: str) -> int:
    """Return the size of a file in bytes."""
    return frame.services.file_size(_allowed(frame, path))


@function("fileExists")
def file_exists(frame: Frame, path: str) -> bool:
    """Return whether the file exists."""
    return frame.services.file_exists(_allowed(frame, path))


@function("isFileEmpty", "fileEmpty")
def is_file_empty(frame: Frame, path: str) -> bool:
    """Return whether the file has no content."""
    return frame.services.file_size(_allowed(frame, path)) == 0


def _allowed(frame: Frame, path: Any) -> str:
    text = to_text(path)
    if not text:
        raise ExpressionError("expression.argument", "a file function expects an argument 'path' with type string.")
    if text.startswith("kestra:") and not belongs(text, frame.variables):
        raise ExpressionError(
            "expression.file.denied", f"Unable to read the file '{text}' as it didn't belong to the current execution"
        )
    if ".." in unquote(text).replace("\\", "/").split("/"):
        raise ExpressionError("expression.value", "Path must not contain '../'")
    return text


def belongs(uri: str, variables: Mapping[str, Any]) -> bool:
    """Return whether a storage URI lies in this execution, the one that it repeats or was started by, or its namespace.

    The rule is Kestra's: files of another execution are out of reach even within one namespace.
    """
    path = unquote(urlsplit(uri).path)
    if ".." in path.replace("\\", "/").split("/"):
        return False
    flow, execution = _map(variables, "flow"), _map(variables, "execution")
    trigger = _map(variables, "trigger")
    homes = [
        (flow.get("namespace"), flow.get("id"), execution.get("id")),
        (flow.get("namespace"), flow.get("id"), execution.get("originalId")),
        (trigger.get("namespace"), trigger.get("flowId"), trigger.get("executionId")),
    ]
    if isinstance(flow.get("namespace"), str) and path.startswith(f"/{_folder(flow['namespace'])}/_files/"):
        return True
    return any(
        path.startswith(f"/{_folder(namespace)}/{slug(flow_id)}/executions/{execution_id}/")
        for namespace, flow_id, execution_id in homes
        if isinstance(namespace, str) and isinstance(flow_id, str) and isinstance(execution_id, str) and execution_id
    )


def _map(variables: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = variables.get(name)
    return value if isinstance(value, Mapping) else {}


def _folder(namespace: str) -> str:
    return namespace.replace(".", "/")


def slug(text: str) -> str:
    """Return an id as it stands in storage paths."""
    plain = unicodedata.normalize("NFD", re.sub(r"\s", "-", text))
    plain = re.sub(r"[^\w-]", "", plain, flags=re.ASCII).replace("_", "-")
    return re.sub(r"-{2,}", "-", plain).removeprefix("-").removesuffix("-").lower()
