"""Which stored files an execution may read."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from runner.executions.models import Execution
from runner.flows.models import Flow
from runner.storage.uris import SCHEME, execution_of, execution_uri, flow_uri, namespace_file_of, path_of

_MAXIMUM_DEPTH = 20  # levels of subflows that are followed


def may_read(
    uri: str,
    execution: Execution,
    flow: Flow,
    *,
    lookup: Callable[[str], Execution | None] = lambda _id: None,
    sees: Callable[[str], bool] = lambda _namespace: True,
) -> bool:
    """Return whether `execution` of `flow` may read the file at `uri`.

    It may read its own files, those of the execution that triggered it or that it repeats, those of executions above
    and below it in a tree of subflows (`lookup` gives an execution by id), and files of its namespace and the
    namespaces around it. Kestra's `read()` knows the first two and the namespace. Where a person asks by way of it,
    `sees` tells of which namespaces they may see anything, and `lookup` knows the executions of those alone.

    Raises:
        InvalidError: `storage.uri.invalid`.
    """
    path = f"{SCHEME}/{path_of(uri)}"
    if any(path.startswith(folder) for folder in _own_folders(execution, flow, sees)):
        return True
    file = namespace_file_of(uri)
    if file is not None:
        is_around = flow.namespace == file.namespace or flow.namespace.startswith(f"{file.namespace}.")
        return is_around and sees(file.namespace)
    owner_id = execution_of(uri)
    owner = lookup(owner_id) if owner_id else None
    if owner is None or not path.startswith(execution_uri(owner.namespace, owner.flow_id, owner.id)):
        return False
    return execution.id in _ancestors(owner, lookup) or owner.id in _ancestors(execution, lookup)


def _own_folders(execution: Execution, flow: Flow, sees: Callable[[str], bool]) -> Iterator[str]:
    for own in {execution.id, execution.original_id, execution.parent_id} - {None, ""}:
        yield f"{flow_uri(flow.namespace, flow.id)}executions/{own}/"
    cause = execution.trigger.variables if execution.trigger else {}
    names = [cause.get("namespace"), cause.get("flowId"), cause.get("executionId")]
    if all(isinstance(name, str) and name for name in names) and sees(str(names[0])):
        yield execution_uri(*[str(name) for name in names])


def _ancestors(execution: Execution, lookup: Callable[[str], Execution | None]) -> set[str]:
    found: set[str] = set()
    parent_id = execution.parent_execution_id
    while parent_id and parent_id not in found and len(found) < _MAXIMUM_DEPTH:
        found.add(parent_id)
        parent = lookup(parent_id)
        parent_id = parent.parent_execution_id if parent else None
    return found
