"""One execution of a flow for each batch of a file: cut the file, start a flow for each piece, join what they give.

`ForEachItem` shows as a container with three runs, `<id>_split`, `<id>_items` and `<id>_merge`, as in Kestra.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from runner.context import open_uri, store_of
from runner.errors import TaskError
from runner.expressions.values import to_json
from runner.flows.models import Model, Tasks, Template
from runner.ids import new_id
from runner.plugin import Context, Outputs, Task
from runner.storage.uris import is_uri
from runner.tasks.flow import Flowable, Subflow
from runner.tasks.storage import cut, size_of

_CHUNK = 1 << 16


class Batch(Model):
    """How a file is cut into pieces: by `bytes`, else into `partitions`, else every so many `rows`."""

    rows: Any = 1
    bytes: Any = None
    partitions: Any = None
    separator: Any = "\n"


class ForEachItem(Flowable):
    """Start a flow for each batch of a file's rows, and wait for all of them unless told otherwise.

    The `inputs` and `labels` for the called flow see `taskrun.items`, the address of the batch, and
    `taskrun.iteration`, which counts from 1. Outputs of `<id>_items`: `numberOfBatches` and `iterations`, the number of
    executions by state; of `<id>_merge`: `subflowOutputs`, a file with the outputs of each execution on a line.
    """

    items: Template
    batch: Batch = Batch()
    namespace: Template
    flow_id: Template
    revision: int | None = None
    inputs: dict[str, Any] | None = None
    labels: Any = None
    wait: bool = True
    transmit_failed: bool = True
    inherit_labels: bool | Template = False
    schedule_date: Template | None = None
    restart_behavior: str = "RETRY_FAILED"

    def engine_branches(self) -> Iterator[tuple[str, Tasks]]:
        """Yield the three tasks that the engine runs, then `errors` and `finally`."""
        shared = {name: getattr(self, name) for name in ("log_level", "log_to_file", "timeout", "retry")}
        called = {name: getattr(self, name) for name in Subflow.model_fields if name in ForEachItem.model_fields}
        items = {**called, "id": f"{self.id}_items", "type": self._type("Executable"), **_ALWAYS}
        yield (
            "tasks",
            (
                Split(id=f"{self.id}_split", type=self._type("Split"), items=self.items, batch=self.batch, **shared),
                Items(**items),
                Merge(id=f"{self.id}_merge", type=self._type("MergeOutputs"), **shared),
            ),
        )
        yield "errors", self.errors
        yield "finally", self.finally_

    def _type(self, part: str) -> str:
        return f"io.kestra.plugin.core.flow.ForEachItem$ForEachItem{part}"


# What the container decides about itself does not count for its parts.
_ALWAYS: dict[str, Any] = {"run_if": "true", "allow_failure": False, "allow_warning": False, "disabled": False}


class Split(Task):
    """Cut a file; output `splits`, the address of a list of the pieces' addresses."""

    items: Template
    batch: Batch

    def run(self, ctx: Context) -> Outputs:
        """Return `splits`."""
        uri = ctx.render(self.items)
        if not is_uri(uri):
            message = f"Unable to split the items from {uri}, this is not an internal storage URI!"
            raise TaskError("storage.uri.invalid", message)
        pieces, suffix = [], PurePosixPath(uri).suffix
        with open_uri(ctx, uri) as file:
            for piece in self._pieces(ctx, file.read()):
                pieces.append(ctx.uri(f"{new_id()}{suffix}"))
                ctx.storage.put(pieces[-1], io.BytesIO(piece))
        splits = ctx.uri("splits.txt")
        ctx.storage.put(splits, io.BytesIO("".join(f"{piece}\n" for piece in pieces).encode()))
        return {"splits": splits}

    def _pieces(self, ctx: Context, content: bytes) -> Iterator[bytes]:
        batch = self.batch
        return cut(
            content,
            ctx.render(batch.separator).encode(),
            size=None if batch.bytes is None else size_of(ctx.render(batch.bytes)),
            partitions=None if batch.partitions is None else int(ctx.render(batch.partitions)),
            rows=int(ctx.render(batch.rows)),
        )


class Items(Subflow):
    """Start the flow for each piece; the engine counts the executions that have ended."""


class Merge(Task):
    """Write the outputs of all executions to a file, in the order of the batches; output `subflowOutputs`."""

    def run(self, ctx: Context) -> Outputs:
        """Return `subflowOutputs`; nothing when no execution gave any outputs."""
        store, parent = store_of(ctx), ctx.task_run.parent_id
        children = store.read(lambda db: db.executions.children(ctx.execution.id))
        siblings = {
            run.id for run in store.read(lambda db: db.executions.runs(ctx.execution.id)) if run.parent_id == parent
        }
        own = [child for child in children if child.outputs and child.parent_task_run_id in siblings]
        if not own:
            return {}
        own.sort(key=lambda child: child.trigger.variables.get("taskRunIteration", 0) if child.trigger else 0)
        uri = ctx.uri("outputs.ion")
        with tempfile.TemporaryFile(dir=ctx.work_dir()) as file:
            for child in own:
                file.write(f"{to_json(child.outputs)}\n".encode())
            file.seek(0)
            ctx.storage.put(uri, file)
        return {"subflowOutputs": uri}
