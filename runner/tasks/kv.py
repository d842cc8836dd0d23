"""Tasks on the key-value store of a namespace."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pydantic import AliasChoices, Field

from runner.context import host_of, store_of, wide_namespace
from runner.durations import parse_duration
from runner.errors import TaskError
from runner.expressions import is_truthy
from runner.flows.models import Template
from runner.key_values import checked_key, lookup, typed_value
from runner.plugin import Context, Outputs, Task
from runner.previews import root_of

if TYPE_CHECKING:
    from runner.store import Store
    from runner.store.records import KeyValue

_PAGE = 1_000


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
            _writable(ctx, ctx.render(self.namespace)),
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
        key, namespace = ctx.render(self.key), _writable(ctx, ctx.render(self.namespace))
        deleted = ctx.kv.delete(namespace, key)
        if not deleted and is_truthy(ctx.render(self.error_on_missing)):
            raise _missing(key, namespace)
        return {"deleted": deleted}


class PurgeKV(Task):
    """Remove keys whose time to live is over, or all keys if `expiredOnly` is false; output `size`, how many.

    `namespaces` is a list (the flow's own by default, or all for a flow of `system`), each with those below it unless
    `includeChildNamespaces` is false.
    """

    namespaces: Any = None
    include_child_namespaces: bool = True
    expired_only: bool = True

    def run(self, ctx: Context) -> Outputs:
        """Return `size`."""
        given = [str(name) for name in ctx.render_typed(self.namespaces) or [""]]
        places = [wide_namespace(ctx, name) for name in given]
        store, now = store_of(ctx), host_of(ctx).clock()
        keys = [row for row in _all_keys(store) if any(self._covers(place, row.namespace) for place in places)]
        over = [row for row in keys if not self.expired_only or (row.expires_at is not None and row.expires_at <= now)]
        return {"size": sum(_remove(store, row) for row in over)}

    def _covers(self, place: str | None, namespace: str) -> bool:
        if place is None or place == namespace:
            return True
        return self.include_child_namespaces and namespace.startswith(f"{place}.")


def _writable(ctx: Context, namespace: str) -> str:
    """Return `namespace`. Raises `TaskError` `preview.boundary` when a flow of a preview would write outside of it."""
    root = root_of(ctx.flow.namespace)
    if root is None or root_of(namespace) == root:
        return namespace
    raise TaskError(
        "preview.boundary",
        f"a flow of the preview {root} may not change keys of {namespace!r}",
        hint="name the namespace as it is written there, or by {{ flow.namespace }}",
    )


def _all_keys(store: Store) -> Iterator[KeyValue]:
    page, rows = 0, _PAGE
    while rows == _PAGE:
        page += 1
        found = _page(store, page)
        yield from found
        rows = len(found)


def _page(store: Store, number: int) -> list[KeyValue]:
    return list(store.read(lambda db: db.kv.list(page=number, size=_PAGE)).items)


def _remove(store: Store, row: KeyValue) -> bool:
    return store.write(lambda db: db.kv.delete(row.namespace, row.key))


def _missing(key: str, namespace: str) -> TaskError:
    message = f"No value found for key '{key}' in namespace '{namespace}' and `errorOnMissing` is set to true"
    return TaskError("kv.key.missing", message)
