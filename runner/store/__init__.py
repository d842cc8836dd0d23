"""The database: the truth about repositories, flows, executions and everything they leave."""

from runner.store.database import Store
from runner.store.logs import LogQuery, LogStore
from runner.store.queries import ExecutionQuery, Page
from runner.store.session import Session

__all__ = ["ExecutionQuery", "LogQuery", "LogStore", "Page", "Session", "Store"]
