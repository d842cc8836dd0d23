"""The database: the truth about repositories, flows, executions and everything they leave."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from runner.store.database import Store
    from runner.store.logs import LogQuery, LogStore
    from runner.store.queries import ExecutionQuery, Page
    from runner.store.session import Session

__all__ = ["ExecutionQuery", "LogQuery", "LogStore", "Page", "Session", "Store"]

_PLACES: Final = {
    "ExecutionQuery": "queries",
    "LogQuery": "logs",
    "LogStore": "logs",
    "Page": "queries",
    "Session": "session",
    "Store": "database",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for: whoever only needs a row's class must not wait for SQLAlchemy."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
