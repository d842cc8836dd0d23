"""Deprecated tasks that keep a map between executions; they are key-value pairs of the namespace (use `kv`)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from runner.errors import TaskError
from runner.expressions import is_truthy
from runner.flows.models import Template
from runner.key_values import checked_key
from runner.plugin import Context, Outputs, Task


class _State(Task):
    """A state has a `name`; it belongs to the flow, or with `namespace: true` to all flows of the namespace.

    In a loop each value has a state of its own unless `taskrunValue` is false.
    """

    name: Template = "default"
    namespace: Any = False
    taskrun_value: Any = True

    def key(self, ctx: Context) -> str:
        """Return the key under which the state is stored."""
        owner = "" if is_truthy(ctx.render(self.namespace)) else f"{ctx.flow.id}_"
        value = ctx.task_run.value if is_truthy(ctx.render(self.taskrun_value)) else None
        suffix = f"_{hashlib.sha256(value.encode()).hexdigest()[:16]}" if value is not None else ""
        return checked_key(f"{owner}states_{ctx.render(self.name)}{suffix}")

    def stored(self, ctx: Context) -> dict[str, Any] | None:
        """Return the state, None when there is none."""
        found, value = ctx.kv.get(ctx.flow.namespace, self.key(ctx))
        return dict(value) if found and isinstance(value, Mapping) else None


class Set(_State):
    """Merge `data` into a state: maps deep, lists end to end, other values replaced. Outputs `count` and `key`."""

    data: Any

    def run(self, ctx: Context) -> Outputs:
        """Return how many entries the state has now, and its key."""
        data = ctx.render_typed(self.data)
        if not isinstance(data, Mapping):
            raise TaskError("state.data.invalid", "`data` must be a map")
        merged, key = merge(self.stored(ctx) or {}, data), self.key(ctx)
        ctx.kv.put(ctx.flow.namespace, key, merged, kind="JSON")
        return {"count": len(merged), "key": key}


class Get(_State):
    """Return the outputs `data`, the state, and `count`, how many entries it has; empty when there is none."""

    error_on_missing: Any = False

    def run(self, ctx: Context) -> Outputs:
        """Return `count` and `data`."""
        data = self.stored(ctx)
        if data is None and is_truthy(ctx.render(self.error_on_missing)):
            raise _missing(self.key(ctx))
        return {"count": len(data or {}), "data": data or {}}


class Delete(_State):
    """Remove a state; the output `deleted` says whether it was there."""

    error_on_missing: Any = False

    def run(self, ctx: Context) -> Outputs:
        """Return `deleted`."""
        deleted = ctx.kv.delete(ctx.flow.namespace, self.key(ctx))
        if not deleted and is_truthy(ctx.render(self.error_on_missing)):
            raise _missing(self.key(ctx))
        return {"deleted": deleted}


def merge(old: Any, new: Any) -> Any:
    """Return `new` merged into `old`: maps by key, lists one after the other; a null leaves what is there."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        return {**old, **{key: merge(old.get(key), value) for key, value in new.items()}}
    if isinstance(old, list) and isinstance(new, list):
        return [*old, *new]
    return old if new is None else new


def _missing(key: str) -> TaskError:
    return TaskError("state.missing", f"Unable to find the state {key!r}")
