"""How the pieces of a pod that a flow gives are laid over the pod that we make."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

__all__ = ["merged"]


def merged(defaults: Mapping[str, Any], specific: Mapping[str, Any]) -> dict[str, Any]:
    """Return `specific` over `defaults`: maps go deep, of lists the defaults come first, else the specific value wins.

    Entries of lists that have the same `name` (environment variables, volumes, ports) are one, the specific one.
    """
    result = dict(defaults)
    for key, value in specific.items():
        before = result.get(key)
        if isinstance(before, Mapping) and isinstance(value, Mapping):
            result[key] = merged(before, value)
        elif _is_list(before) and _is_list(value) and key not in {"command", "args"}:
            result[key] = _joined(before, value)
        else:
            result[key] = value
    return result


def _is_list(value: Any) -> TypeGuard[Sequence[Any]]:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _joined(defaults: Sequence[Any], specific: Sequence[Any]) -> list[Any]:
    names = [entry["name"] for entry in specific if _is_named(entry)]
    kept = [entry for entry in defaults if not (_is_named(entry) and entry["name"] in names)]
    return [*kept, *(entry for entry in specific if entry not in kept)]


def _is_named(entry: Any) -> bool:
    # Mounts share the name of their volume: each of them is its own.
    return isinstance(entry, Mapping) and "name" in entry and "mountPath" not in entry
