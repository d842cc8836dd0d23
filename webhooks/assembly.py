"""Puts the parts of a server together, for every way to run one: `up`, the distributed roles, tests."""

from __future__ import annotations

import logging
import os
import queue
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from starlette.applications import Starlette

from runner.access import AccessControl
from runner.executions.models import LogEntry, Metric, TaskRun
from runner.flows.catalogue import Catalogue
from runner.links import plan_page
from runner.metrics import Process
from runner.news import REPOSITORIES
from runner.rules_in_force import RulesInForce
from runner.runtime import Roles, Runtime
from runner.services import Host
from runner.settings import Settings
from runner.store import LogQuery, Store
from runner.stored_key_values import StoredKeyValues
from sync.needs import is_known
from sync.poller import Poller
from sync.reports.writer import ReportWriter
from sync.service import SyncService
from task_runners.control_groups import AUTO, NONE, ControlGroups, find_control_groups
from webhooks.app import create_app
from webhooks.routes import Mounted
from webhooks.services import Services

_ERROR_LOGS = 100
log = logging.getLogger(__name__)


def utc_now() -> datetime:
    """Return the present time, aware, in UTC."""
    return datetime.now(UTC)


@dataclass(slots=True)
class Parts:
    """The parts of one server process, made but not started."""

    settings: Settings
    store: Store
    host: Host
    catalogue: Catalogue
    sync: SyncService
    runtime: Runtime
    access: AccessControl
    reports: ReportWriter
    poller: Poller

    def look_at(self, repository: str, actor: str) -> None:
        """Have a repository looked at soon, here or by the processes that do it. Returns at once."""
        news = self.runtime.news
        if self.runtime.roles.syncs or news is None:
            self.poller.request(repository, actor)
        else:
            news.tell(REPOSITORIES, [repository])


def make_parts(
    settings: Settings, store: Store, broker_url: str, *, roles: Roles | None = None, environment: Mapping[str, str]
) -> Parts:
    """Return the parts of a server on an open store.

    Raises:
        MainstemError: secrets, storage or declared repositories are not acceptable.
    """
    catalogue = Catalogue(store)
    sync = SyncService(
        store,
        catalogue,
        settings,
        home=settings.home.absolute(),
        # Without an address that others reach, a link leads nowhere.
        page_of=lambda environment, commit: (
            f"{settings.public_url}{plan_page(environment, commit)}" if settings.url else None
        ),
        holds=lambda kind, namespace, key: is_known(host.secrets, host.kv, kind, namespace, key),
    )
    host = make_host(settings, store, sync, environment)
    if roles is None or roles.works:
        host = replace(host, control_groups=_control_groups(settings))
    runtime = Runtime(settings, store, catalogue, host, broker_url, roles or Roles())
    reports = ReportWriter(settings, store, catalogue, sync, host)
    poller = Poller(sync, store)
    if runtime.news is not None and runtime.roles.syncs:
        runtime.news.on(REPOSITORIES, poller.request_all)
    return Parts(settings, store, host, catalogue, sync, runtime, AccessControl(store), reports, poller)


def make_host(settings: Settings, store: Store, sync: SyncService, environment: Mapping[str, str]) -> Host:
    """Return what all tasks of this process share, reading and writing the store."""
    metrics = _MetricWriter(store)
    return Host.open(
        settings,
        StoredKeyValues(store, utc_now),
        environment=environment,
        log=lambda entry: store.logs.append([entry]),
        metric=metrics.add,
        files=sync.file_reader(),
        file_writer=sync.file_writer(),
        flow_writer=sync.flow_writer(),
        execution_of=lambda execution_id: store.read(lambda db: db.executions.get(execution_id)),
        runs_of=lambda execution_id: _runs(store, execution_id),
        error_logs_of=lambda execution_id: _error_logs(store, execution_id),
        repositories=lambda: len(store.read(lambda db: db.environments.active_repositories())),
        rules_of=RulesInForce(store),
        store=store,
        uid_of=_Uids(store, settings) if os.geteuid() == 0 else lambda _namespace: None,
    )


def _control_groups(settings: Settings) -> ControlGroups:
    """Return where bodies get control groups, without those that a server before this one left."""
    wish = settings.process_runner.cgroup
    groups = find_control_groups(wish)
    is_expected = groups.path is not None or wish not in {AUTO, NONE}
    log.log(logging.WARNING if is_expected and groups.missing else logging.INFO, groups.summary)
    removed = groups.sweep()
    if removed:
        log.warning("control groups without a keeper were removed", extra={"count": removed})
    return groups


def make_app(parts: Parts, process: Callable[[], Process], *, mounted: tuple[Mounted, ...] = ()) -> Starlette:
    """Return the web application of a server; `process` gives the figures of this process."""
    return create_app(
        Services(
            settings=parts.settings,
            store=parts.store,
            engine=parts.runtime.engine,
            catalogue=parts.catalogue,
            sync=parts.sync,
            access=parts.access,
            host=parts.host,
            process=process,
            ready=parts.runtime.problems,
            mounted=mounted,
        )
    )


def _runs(store: Store, execution_id: str) -> list[TaskRun]:
    return store.read(lambda db: db.executions.runs(execution_id))


def _error_logs(store: Store, execution_id: str) -> list[LogEntry]:
    store.logs.flush()
    return store.logs.last(LogQuery(execution_id=execution_id, min_level="ERROR"), _ERROR_LOGS)


class _Uids:
    """The user under which bodies of a namespace run when the server is root: its own, without a name or a home."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store = store
        self._base = settings.process_runner.uid_base
        self._known: dict[str, int] = {}

    def __call__(self, namespace: str) -> int:
        known = self._known.get(namespace)
        if known is None:
            number = self._store.write(lambda db: db.uids.allocate(namespace))
            known = self._known[namespace] = self._base + number
        return known


class _MetricWriter:
    """Writes the metrics of tasks in batches, off the threads that emit them."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: queue.SimpleQueue[Metric] = queue.SimpleQueue()
        threading.Thread(target=self._serve, name="metrics", daemon=True).start()

    def add(self, metric: Metric) -> None:
        """Write a metric soon."""
        self._waiting.put(metric)

    def _serve(self) -> None:
        while True:
            batch = [self._waiting.get()]
            while not self._waiting.empty():
                batch.append(self._waiting.get())
            self._store.submit(lambda db, batch=batch: db.metrics.add(batch))  # type: ignore[misc]  # bound now
