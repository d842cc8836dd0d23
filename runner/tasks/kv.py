"""Tasks on the key-value store of a namespace."""

from __future__ import annotations

from typing import Any

from pydantic import AliasChoices, Field

from runner.durations import parse_duration
from runner.errors import TaskError
from runner.expressions import is_truthy
from runner.flows.models import Template
from runner.key_values import checked_key, lookup, typed_value
from runner.plugin import Context, Outputs, Task


class Set(Task):
    """Store a value.

    `value` is rendered to its native type; `kvType` (STRING, NUMBER, BOOLEAN, DATETIME, DATE, DURATION, JSON) reads
    a text as that type. `ttl` is a duration after which the key is gone. Without `overwrite` an existing key fails.
    """

    key: Template
    value: Any
    namespace: Template = "{{ flow.namespace }}"
    overwrite: Any = True
    ttl: Any = None
    kv_type: Any = None
    kv_description: Any = Field(
        default=None, validation_alias=AliasChoices("kvDescription", "descriptionKv", "kv_description")
    )

    def run(self, ctx: Context) -> Outputs:
        """Store the value; there are no outputs."""
        kind = ctx.render(self.kv_type) or None
        name, value = typed_value(ctx.render_typed(self.value), kind)
        ctx.kv.put(
            ctx.render(self.namespace),
            checked_key(ctx.render(self.key)),
            value,
            kind=name,
            ttl=None if self.ttl is None else parse_duration(ctx.render(self.ttl)),
            description=None if self.kv_description is None else ctx.render(self.kv_description),
            overwrite=is_truthy(ctx.render(self.overwrite)),
        )
        return {}


class Get(Task):
    """Return the output `value`: that of the key in the namespace, or in the nearest namespace around it.

    A missing key fails the task unless `errorOnMissing` is false; then the value is null.
    """

    key: Template
    namespace: Template = "{{ flow.namespace }}"
    error_on_missing: Any = True

    def run(self, ctx: Context) -> Outputs:
        """Return `value`."""
        key, namespace = ctx.render(self.key), ctx.render(self.namespace)
        found, value = lookup(ctx.kv, namespace, key)
        if not found and is_truthy(ctx.render(self.error_on_missing)):
            raise _missing(key, namespace)
        return {"value": value}


class GetKeys(Task):
    """Return the output `keys`: those of the namespace that start with `prefix`, sorted."""

    prefix: Any = None
    namespace: Template = "{{ flow.namespace }}"

    def run(self, ctx: Context) -> Outputs:
        """Return `keys`."""
        return {"keys": ctx.kv.keys(ctx.render(self.namespace), ctx.render(self.prefix))}


class Delete(Task):
    """Remove a key; the output `deleted` says whether it was there."""

    key: Template
    namespace: Template = "{{ flow.namespace }}"
    error_on_missing: Any = False

    def run(self, ctx: Context) -> Outputs:
        """Return `deleted`."""
        key, namespace = ctx.render(self.key), ctx.render(self.namespace)
        deleted = ctx.kv.delete(namespace, key)
        if not deleted and is_truthy(ctx.render(self.error_on_missing)):
            raise _missing(key, namespace)
        return {"deleted": deleted}


def _missing(key: str, namespace: str) -> TaskError:
    message = f"No value found for key '{key}' in namespace '{namespace}' and `errorOnMissing` is set to true"
    return TaskError("kv.key.missing", message)
