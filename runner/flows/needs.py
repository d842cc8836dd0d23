"""Which secrets and keys a flow reads by name, as far as its expressions write the name plainly. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

from runner.expressions import constant_calls
from runner.flows.models import Flow
from runner.tasks.kv import Set

_FUNCTIONS = frozenset({"secret", "kv"})


class Need(NamedTuple):
    """A secret or a key that a flow reads; `namespace` is where the search for it begins."""

    kind: Literal["secret", "kv"]
    namespace: str
    key: str

    def __str__(self) -> str:
        return f"{self.kind}('{self.key}') of {self.namespace}"


def needs_of(flow: Flow) -> list[Need]:
    """Return what the flow reads, sorted, each once.

    A key that the flow may do without (`errorOnMissing=false`), or that it sets itself, is none.
    """
    found = set(_needs(flow))
    made = {
        Need("kv", flow.namespace if "{" in task.namespace else task.namespace, task.key)
        for task in flow.all_tasks()
        if isinstance(task, Set)
    }
    return sorted(found - made)


def _needs(flow: Flow) -> Iterator[Need]:
    for text in _texts(flow.model_dump(by_alias=True, exclude_unset=True)):
        for name, given in constant_calls(text, _FUNCTIONS):
            key, namespace = given.get("key"), given.get("namespace")
            must_be = given.get("errorOnMissing", True) in {True, "true"}
            namespace = flow.namespace if namespace is None else namespace
            if isinstance(key, str) and isinstance(namespace, str) and must_be:
                yield Need("secret" if name == "secret" else "kv", namespace, key)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts(inner)
