"""Previews of change requests: how their namespaces are called, and what their executions may not do.

A preview is what a change request would make of some namespaces, beside those that are active: the flows of
`company.team` in `preview.pr-7.company.team`. Nothing starts there by itself. What runs there reads none of the secrets
of `company.team`, starts nothing outside of it, and there is a bound on how much of it there may be.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from runner.errors import ConflictError
from runner.states import State

if TYPE_CHECKING:
    from runner.settings import PreviewSettings
    from runner.store import Store

_NAMESPACE: Final = re.compile(r"(?P<root>preview\.pr-[1-9][0-9]{0,9})(?:\.(?P<base>.+))?")
_FORK: Final = re.compile(r".+\.fork-[1-9][0-9]{0,9}")


def root_of_change(number: int) -> str:
    """Return the namespace below which the previews of a change request lie."""
    return f"preview.pr-{number}"


def preview_of(number: int, namespace: str) -> str:
    """Return what a namespace is called in the preview of a change request."""
    return f"{root_of_change(number)}.{namespace}"


def root_of(namespace: str) -> str | None:
    """Return `preview.pr-7` of a namespace in the preview of change request 7; None outside of previews."""
    found = _NAMESPACE.fullmatch(namespace)
    return found["root"] if found else None


def base_of(namespace: str) -> str | None:
    """Return the namespace that one is a preview of, None outside of previews."""
    found = _NAMESPACE.fullmatch(namespace)
    return found["base"] if found else None


def environment_of(base: str, number: int, *, is_fork: bool) -> str:
    """Return the name of the environment of a preview. No environment that is declared has a dot in its name."""
    return f"{base}.{'fork' if is_fork else 'pr'}-{number}"


def is_of_fork(environment: str | None) -> bool:
    """Return whether an environment is the preview of a fork."""
    return environment is not None and _FORK.fullmatch(environment) is not None


def demand_inside(parent: str, child: str) -> None:
    """Raise `ConflictError` `preview.boundary` when a flow of a preview would start one outside of it."""
    root = root_of(parent)
    if root is not None and root_of(child) != root:
        raise ConflictError(
            "preview.boundary",
            f"a flow of the preview {root} may not start flows of {child!r}",
            hint="name the namespace as it is written there, or by {{ flow.namespace }}",
        )


def demand_room(store: Store, limits: PreviewSettings, namespace: str) -> None:
    """Raise `ConflictError` `preview.quota` when a preview has as many executions as it may have, or run at once."""
    from runner.store import ExecutionQuery

    root = root_of(namespace)
    if root is None:
        return
    open_states = tuple(state for state in State if not state.is_terminal)
    every, running = store.read(
        lambda db: (
            db.executions.search(ExecutionQuery(namespace=root, size=1)).total,
            db.executions.search(ExecutionQuery(namespace=root, states=open_states, size=1)).total,
        )
    )
    if every >= limits.max_executions:
        message = f"the preview {root} has had {every} executions, as many as it may have"
        raise ConflictError("preview.quota", message, hint="previews.maxExecutions in the settings")
    if running >= limits.max_running:
        message = f"{running} executions of the preview {root} have not ended, as many as may run at once"
        raise ConflictError("preview.quota", message, hint="wait for one, or set previews.maxRunning")
