"""Outputs between tasks and the store: what is small stands in the row of its run, what is large lies in storage.

The row of a run with large outputs holds only where they are, so that rows stay small whatever a task puts out.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any, Final

import orjson

from runner.errors import MainstemError, TaskError
from runner.executions.models import Execution, TaskRun
from runner.plugin import Storage
from runner.storage.uris import execution_uri, task_uri
from runner.store.columns import dump

INLINE_BYTES: Final = 64 * 1024
MOST_BYTES: Final = 16 * 1024 * 1024
_STORED: Final = "$stored"


def kept(storage: Storage, execution: Execution, run: TaskRun, outputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the row of a run holds for its outputs; large ones are written to storage.

    Raises:
        TaskError: `task.outputs.deep`, or `task.outputs.large` for more than 16 MiB.
    """
    encoded = _encoded(outputs)
    if len(encoded) <= INLINE_BYTES:
        return dict(outputs)
    if len(encoded) > MOST_BYTES:
        raise TaskError(
            "task.outputs.large",
            f"the outputs hold {len(encoded)} bytes, more than {MOST_BYTES}",
            hint="put large results into an output file",
        )
    own = execution_uri(execution.namespace, execution.flow_id, execution.id)
    # Named by the attempt: a worker that was taken for dead must not write over what a later one put out.
    uri = task_uri(own, run.task_id, run.id, f"outputs-{run.attempts}.json")
    storage.put(uri, io.BytesIO(encoded))
    return {_STORED: uri}


def restored(storage: Storage, rows: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the outputs by run id, with those that lie in storage; those that were purged from there are empty."""
    return {run_id: _restored(storage, row) if row.keys() == {_STORED} else row for run_id, row in rows.items()}


def _restored(storage: Storage, row: Mapping[str, Any]) -> dict[str, Any]:
    try:
        with storage.open(row[_STORED]) as file:
            found: dict[str, Any] = orjson.loads(file.read())
    except MainstemError:
        return {}
    return found


def _encoded(outputs: Mapping[str, Any]) -> bytes:
    try:
        return orjson.dumps(outputs)
    except TypeError as error:
        if "ecursion" in str(error):
            raise TaskError("task.outputs.deep", "the outputs are nested more than 250 levels deep") from None
    try:
        return dump(outputs).encode()
    except MainstemError as error:
        raise TaskError("task.outputs.deep", error.message) from None
