"""`taskCache`: the outputs of a task that succeeded, taken again while its rendered definition stays the same.

An entry is a file of internal storage beside those of the flow. Its name has the moment it was made and a digest of
what the task was asked for: its properties as rendered, the loop value, and the commit where it uses namespace files.
"""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from runner.context import TaskContext
from runner.errors import MainstemError
from runner.expressions import to_json
from runner.flows.models import Task
from runner.plugin import Outcome
from runner.states import State
from runner.storage.uris import flow_uri, slug, uris_in

_MOST_ENTRIES: Final = 100
_BESIDE: Final = {"id", "description", "disabled", "retry", "timeout", "run_if", "task_cache", "allow_failure"}


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """The place of one result in the cache of its task."""

    ctx: TaskContext
    folder: str
    key: str
    ttl_ms: float | None

    @classmethod
    def of(cls, ctx: TaskContext, task: Task) -> CacheEntry | None:
        """Return the place for what `task` does in `ctx`; None when it has no cache, or cannot be told apart."""
        cache = task.task_cache
        if cache is None or not cache.enabled:
            return None
        try:
            key = _key(ctx, task)
        except MainstemError as error:
            ctx.log("WARN", f"the cache of the task is not used: {error.message}")
            return None
        folder = f"{flow_uri(ctx.flow.namespace, ctx.flow.id)}{slug(task.id)}/task-cache/"
        return cls(ctx, folder, key, cache.ttl.total_seconds() * 1000 if cache.ttl is not None else None)

    def outcome(self) -> Outcome | None:
        """Return the kept result; None when there is none, it is too old, or files that it names are gone."""
        uri = self._newest()
        if uri is None or self._is_over(uri):
            return None
        try:
            with self.ctx.storage.open(uri) as file:
                entry = json.loads(file.read())
            text: str = entry["outputs"]
            for path, stored in sorted(entry["files"].items(), key=lambda item: -len(item[1])):
                text = text.replace(stored, self._copied(stored, path))
        except MainstemError:
            return None  # removed meanwhile
        self.ctx.log("INFO", "the outputs come from the cache of the task")
        outputs: dict[str, Any] = json.loads(text)
        return Outcome(outputs)

    def _copied(self, stored: str, path: str) -> str:
        """Return the address of a copy that belongs to this execution, which may not read the files of others."""
        own = self.ctx.uri(path)
        with self.ctx.storage.open(stored) as file:
            self.ctx.storage.put(own, file)
        return own

    def keep(self, outcome: Outcome) -> None:
        """Keep a result for next time, unless it is more than outputs or no success; older ones make room."""
        if outcome != Outcome(outcome.outputs, exit_code=outcome.exit_code) or outcome.state is not State.SUCCESS:
            return
        try:
            text = to_json(dict(outcome.outputs))
            # Only what this run itself has written: an address that a body made up opens no door.
            own = self.ctx.uri("_").removesuffix("_")
            files = {uri.removeprefix(own): uri for uri in uris_in(text) if uri.startswith(own)}
            self._put(to_json({"outputs": text, "files": files}).encode())
        except MainstemError as error:  # the task itself has done its work
            self.ctx.log("WARN", f"the outputs are not kept in the cache of the task: {error.message}")

    def _put(self, content: bytes) -> None:
        known = self.ctx.storage.list(self.folder)
        self.ctx.storage.put(f"{self.folder}{self._now():015d}-{self.key}.json", io.BytesIO(content))
        for uri in known[: max(0, len(known) - _MOST_ENTRIES + 1)]:
            self.ctx.storage.delete(uri)

    def _newest(self) -> str | None:
        return max((uri for uri in self.ctx.storage.list(self.folder) if self.key in uri), default=None)

    def _is_over(self, uri: str) -> bool:
        made = int(uri.rpartition("/")[2].partition("-")[0])
        return self.ttl_ms is not None and self._now() - made >= self.ttl_ms

    def _now(self) -> int:
        return int((self.ctx.host.clock() - datetime.fromtimestamp(0, UTC)).total_seconds() * 1000)


def _key(ctx: TaskContext, task: Task) -> str:
    """Return a digest of what the task is asked for. Raises `MainstemError` when a property does not render."""
    asked = task.model_dump(mode="json", exclude=_BESIDE)
    rendered = ctx.with_variables(workingDir="", outputDir="").render_deep(asked)
    commit = ctx.execution.commit if getattr(task, "namespace_files", None) else None
    text = json.dumps([rendered, ctx.task_run.value, commit], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()
