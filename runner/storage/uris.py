"""The addresses of stored files, `kestra:///<namespace>/<flow>/executions/<id>/…`, in the layout of Kestra.

An address is taken as it is written: nothing is percent-decoded, so that each file has one spelling and a check of the
text is a check of the file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath

from runner.errors import InvalidError
from task_runners.errors import TaskRunnerError
from task_runners.files import relative_parts

SCHEME = "kestra://"
NAMESPACE_FILE_SCHEME = "nsfile://"

_EXECUTION = re.compile(r"(?P<flow>(?:[^/]+/)+)executions/(?P<id>[^/]+)/")
_NAMESPACE_FILE = re.compile(r"(?P<namespace>(?:[^/]+/)+)_files/(?P<path>.+)")
_OTHER = re.compile(r"[^a-z0-9]+")
_URI = re.compile(r"kestra:///[^\s\"'`<>|;,(){}\[\]\\]+")


@dataclass(frozen=True, slots=True)
class NamespaceFile:
    """A file of a namespace: the dotted namespace and the path without leading slash."""

    namespace: str
    path: str


def is_uri(text: object) -> bool:
    """Return whether `text` is the address of a stored file."""
    return isinstance(text, str) and text.startswith(f"{SCHEME}/")


def path_of(uri: str) -> str:
    """Return the path behind `uri`, without leading slash and free of `..`, empty parts and control characters.

    Raises:
        InvalidError: `storage.uri.invalid`.
    """
    if not is_uri(uri):
        raise InvalidError("storage.uri.invalid", f"{uri[:200]!r} is not the address of a stored file: kestra:///...")
    try:
        return "/".join(relative_parts(uri.removeprefix(SCHEME).lstrip("/")))
    except TaskRunnerError as error:
        raise InvalidError("storage.uri.invalid", f"{uri[:200]!r} cannot be used: {error.message}") from None


def uris_in(text: str) -> list[str]:
    """Return the addresses that stand in `text`, each once, the longest first so that replacing them is safe."""
    return sorted({found.rstrip(".:") for found in _URI.findall(text)}, key=len, reverse=True)


def slug(name: str) -> str:
    """Return `name` in lower case with every run of other characters than letters and digits as one hyphen."""
    return _OTHER.sub("-", name.lower()).strip("-") or "_"


def flow_uri(namespace: str, flow_id: str) -> str:
    """Return the address of everything of one flow, ending with a slash."""
    return f"{SCHEME}/{_folders(namespace)}/{slug(flow_id)}/"


def execution_uri(namespace: str, flow_id: str, execution_id: str) -> str:
    """Return the address of everything of one execution, ending with a slash."""
    return f"{flow_uri(namespace, flow_id)}executions/{execution_id}/"


def task_uri(execution: str, task_id: str, task_run_id: str, name: str) -> str:
    """Return the address of the file `name` of a task run; `execution` is what `execution_uri` gave.

    Raises:
        InvalidError: `storage.uri.invalid` when `name` cannot be a path.
    """
    return _checked(f"{execution}tasks/{slug(task_id)}/{task_run_id}/{name}")


def input_uri(execution: str, input_id: str, name: str) -> str:
    """Return the address of the file `name` given as the input `input_id`.

    Only the last part of `name` counts, since browsers send whole paths.

    Raises:
        InvalidError: `storage.uri.invalid` when `name` cannot be a path.
    """
    return _checked(f"{execution}inputs/{slug(input_id)}/{PurePosixPath(name.replace(chr(92), '/')).name or 'file'}")


def trigger_uri(execution: str, trigger_id: str, name: str) -> str:
    """Return the address of the file `name` that a trigger left for its execution."""
    return _checked(f"{execution}trigger/{slug(trigger_id)}/{name}")


def namespace_file_uri(namespace: str, path: str) -> str:
    """Return the address of a namespace file."""
    return _checked(f"{SCHEME}/{_folders(namespace)}/_files/{path.lstrip('/')}")


def namespace_file_of(uri: str) -> NamespaceFile | None:
    """Return which namespace file `uri` names, or None when it is something else."""
    match = _NAMESPACE_FILE.fullmatch(path_of(uri))
    if match is None:
        return None
    return NamespaceFile(match["namespace"].rstrip("/").replace("/", "."), match["path"])


def execution_of(uri: str) -> str | None:
    """Return the id of the execution whose file `uri` names, or None."""
    match = _EXECUTION.match(path_of(uri))
    return match["id"] if match else None


def _folders(namespace: str) -> str:
    return "/".join(part for part in namespace.split(".") if part)


def _checked(uri: str) -> str:
    if path_of(uri) != uri.removeprefix(f"{SCHEME}/"):
        raise InvalidError("storage.uri.invalid", f"{uri[:200]!r} does not name one file")
    return uri
