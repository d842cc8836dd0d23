"""A session: the areas of the store, bound to the connection of one transaction."""

from __future__ import annotations

from runner.store.access import Audit, Tokens
from runner.store.claims import Claims
from runner.store.connection import Connection
from runner.store.dashboards import Dashboards
from runner.store.deliveries import Deliveries, Idempotency
from runner.store.engines import Engines
from runner.store.execution_search import ExecutionSearch
from runner.store.executions import ExecutionRows
from runner.store.expiry import Expiry
from runner.store.flows import Flows
from runner.store.ledger import Revisions
from runner.store.metrics import Metrics
from runner.store.outbox import Outbox
from runner.store.reports import ReportState
from runner.store.repositories import CommitTestRows, Environments, ForgeLimits, Pins, Repositories
from runner.store.review_commands import ReviewCommands
from runner.store.reviews import Reviews
from runner.store.secrets import Secrets
from runner.store.triggers import Triggers
from runner.store.values import KeyValues
from runner.store.workers import Uids, Workers


class Executions(ExecutionRows, ExecutionSearch):
    """Everything about executions: their rows, and questions about many of them."""


class Session:
    """What `Store.read` and `Store.write` give to their function; it must not be used after that has returned."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.executions = Executions(connection)
        self.claims = Claims(connection)
        self.workers = Workers(connection)
        self.uids = Uids(connection)
        self.outbox = Outbox(connection)
        self.flows = Flows(connection)
        self.repositories = Repositories(connection)
        self.forge_limits = ForgeLimits(connection)
        self.environments = Environments(connection)
        self.commit_tests = CommitTestRows(connection)
        self.pins = Pins(connection)
        self.reviews = Reviews(connection)
        self.review_commands = ReviewCommands(connection)
        self.revisions = Revisions(connection)
        self.triggers = Triggers(connection)
        self.deliveries = Deliveries(connection)
        self.idempotency = Idempotency(connection)
        self.kv = KeyValues(connection)
        self.secrets = Secrets(connection)
        self.dashboards = Dashboards(connection)
        self.engines = Engines(connection)
        self.tokens = Tokens(connection)
        self.audit = Audit(connection)
        self.metrics = Metrics(connection)
        self.expiry = Expiry(connection)
        self.reports = ReportState(connection)
