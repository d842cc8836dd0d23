"""Functions that read files of the internal storage and of namespaces."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

from runner.errors import ExpressionError
from runner.expressions.frame import Frame
from runner.expressions.registry import function
from runner.expressions.values import to_text


@function()
def read(frame: Frame, path: str, version: Any = None) -> str:  # noqa: ARG001 - namespace files are those of the pinned commit
    """Return the text of a storage URI of this execution, or of a namespace file given by its path.

    Example:
        {{ read('greeting.txt') }} -> hello
    """
    return frame.services.read_file(_path(path)).decode("utf-8", "replace")


@function("fileURI")
def file_uri(frame: Frame, path: str) -> str:
    """Return the storage URI of the namespace file at `path`.

    Example:
        {{ fileURI('greeting.txt') }} -> kestra:///company/team/_files/greeting.txt
    """
    if ".." in to_text(path).replace("\\", "/").split("/"):
        raise ExpressionError("expression.value", "Path must not contain '../'")
    return frame.services.file_uri(to_text(path))


@function("fileSize")
def file_size(frame: Frame, path: str) -> int:
    """Return the size of a file in bytes.

    Example:
        {{ fileSize('greeting.txt') }} -> 5
    """
    return frame.services.file_size(_path(path))


@function("fileExists")
def file_exists(frame: Frame, path: str) -> bool:
    """Return whether the file exists.

    Example:
        {{ fileExists('greeting.txt') }} {{ fileExists('none.txt') }} -> true false
    """
    return frame.services.file_exists(_path(path))


@function("isFileEmpty", "fileEmpty")
def is_file_empty(frame: Frame, path: str) -> bool:
    """Return whether the file has no content.

    Example:
        {{ isFileEmpty('greeting.txt') }} -> false
    """
    return frame.services.file_size(_path(path)) == 0


def _path(path: Any) -> str:
    """Return the address as text; whether this execution may read it is the services' decision."""
    text = to_text(path)
    if not text:
        raise ExpressionError("expression.argument", "a file function expects an argument 'path' with type string.")
    if ".." in unquote(text).replace("\\", "/").split("/"):
        raise ExpressionError("expression.value", "Path must not contain '../'")
    return text
