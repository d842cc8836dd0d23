"""A real server for cases: everything `mainstem up` runs, in this process, with its API on a port of its own."""

from __future__ import annotations

import asyncio
import hashlib
import os
import tempfile
import threading
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self
from zoneinfo import ZoneInfo

import httpx

from runner.executions.creation import NewExecution
from runner.executions.models import Execution, LogEntry, Metric
from runner.flows.models import Flow
from runner.flows.parse import parse_flow
from runner.settings import ReportSettings, Settings
from runner.store import ExecutionQuery, LogQuery, Session
from runner.store.records import FlowDraft
from runner.triggers.activation import activated
from runner.triggers.conditions import RenderText
from runner.triggers.control import switched
from runner.triggers.starting import renderer
from sync.commit_record import Author
from tests.conformance.views import View
from webhooks.assembly import make_app
from webhooks.server import address_of, bind, serve
from webhooks.up import EmbeddedServer

API = "/api/v1/main"
_WORKERS = 4
_MOST_EXECUTIONS = 1_000


class CaseServer:
    """A server that cases run on, one at a time. Use it in a `with` statement; `setup` is that of a case."""

    def __init__(self, setup: Mapping[str, Any]) -> None:
        self._setup = setup
        self._exit = ExitStack()
        self._deployed: set[tuple[str, str]] = set()
        self._commit: str | None = None
        self.client: httpx.Client
        self._server: EmbeddedServer

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:  # what was started is ended, be it by an interrupt
            self._exit.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._exit.close()

    def _start(self) -> None:
        home = Path(self._exit.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
        home.chmod(0o711)  # bodies of flows run under users of their own when the runner is root
        for name, text in (self._setup.get("env") or {}).items():
            # A server reads secrets from the environment of its process, which is this one.
            os.environ[name] = str(text)
            self._exit.callback(os.environ.pop, name, None)
        listener = bind("127.0.0.1", 0)
        self._exit.callback(listener.close)
        host, port = address_of(listener)
        self._set_key(home / "home")
        settings = Settings(
            home=home / "home",
            work=home / "work",
            port=0,
            workers=_WORKERS,
            grace_period_s=0,
            globals=dict(self._setup.get("globals") or {}),
            url=self._setup.get("base_url") or f"http://{host}:{port}",
            reports=ReportSettings(enabled=False),
        )
        self._server = self._exit.enter_context(EmbeddedServer(settings))
        self._commit = self._commit_files(self._setup.get("namespace_files") or {})
        loop, stop = asyncio.new_event_loop(), asyncio.Event()
        app = make_app(self._server.parts, self._server.process)

        def answer() -> None:
            loop.run_until_complete(serve(app, host, port, stop, listener=listener))
            loop.run_until_complete(loop.shutdown_default_executor())
            loop.close()

        thread = threading.Thread(target=answer, name="api", daemon=True)
        thread.start()
        self._exit.callback(thread.join, 10)
        self._exit.callback(lambda: loop.call_soon_threadsafe(stop.set))
        self.client = self._exit.enter_context(
            httpx.Client(
                base_url=f"http://{host}:{port}",
                headers={"authorization": f"Bearer {self._server.token}"},
                follow_redirects=True,
                timeout=60,
            )
        )

    def _set_key(self, home: Path) -> None:
        """Give the server the case's key for encryption, if it has one of a fitting length."""
        key = str(self._setup.get("encryption_secret_key") or "")
        if key:
            home.mkdir(mode=0o700)
            (home / "encryption.key").write_text(key, encoding="utf-8")

    def _commit_files(self, files: Mapping[str, Any]) -> str | None:
        """Commit the namespace files of a setup, by namespace, to the hosted repository; return the commit."""
        if not files:
            return None
        changes: dict[str, bytes | None] = {
            f"flows/{namespace}/_files/{path.lstrip('/')}": str(text).encode()
            for namespace, paths in files.items()
            for path, text in paths.items()
        }
        repository = self._server.parts.sync.repository("hosted").repository
        author = Author("conformance", "conformance@localhost")
        return repository.commit_changes(None, changes, author=author, message="Files", at=datetime.now(UTC))

    # ---------------------------------------------------------------- flows and what stands beside them

    def deploy(self, sources: Iterable[str]) -> list[Flow]:
        """Activate flows together. Raises `FlowError` for one that is not valid."""
        parts, now = self._server.parts, datetime.now(UTC)
        flows = [(parse_flow(source).require(), source) for source in sources]

        def switch(db: Session) -> None:
            for flow, source in flows:
                blob = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()
                labels = dict(flow.labels)
                environment = "default" if self._commit else None
                db.flows.put(
                    FlowDraft(
                        flow.namespace,
                        flow.id,
                        blob,
                        source,
                        now,
                        environment,
                        self._commit,
                        disabled=flow.disabled,
                        labels=labels,
                    )
                )
            activated(db, [flow for flow, _ in flows], [], now, parts.host.zone)

        parts.store.write(switch)
        self._after_switch()
        self._deployed.update((flow.namespace, flow.id) for flow, _ in flows)
        return [flow for flow, _ in flows]

    def clear(self) -> None:
        """Kill what still runs and remove all flows, so that the next case finds nothing at work."""
        parts, now = self._server.parts, datetime.now(UTC)

        def remove(db: Session) -> list[str]:
            for namespace, flow_id in self._deployed:
                db.flows.remove(namespace, flow_id, now, None)
            activated(db, [], self._deployed, now, parts.host.zone)
            return db.executions.open_ids()

        still_open = parts.store.write(remove)
        self._after_switch()
        self._deployed.clear()
        for execution_id in still_open:
            self.client.delete(f"{API}/executions/{execution_id}/kill")

    def _after_switch(self) -> None:
        parts = self._server.parts
        parts.catalogue.invalidate()
        if parts.runtime.scheduler is not None:
            parts.runtime.scheduler.wake()

    def put_key_values(self, values: Mapping[str, Mapping[str, Any]]) -> None:
        """Store key-value pairs by namespace, over what an earlier case left there."""
        store = self._server.parts.host.kv
        for namespace, pairs in values.items():
            for key in store.keys(namespace):
                store.delete(namespace, key)
            for key, value in pairs.items():
                store.put(namespace, key, value)

    def key_value(self, namespace: str, key: str) -> Any:
        """Return a stored value, None when there is none."""
        return self._server.parts.host.kv.get(namespace, key)[1]

    def switch_trigger(self, flow: Flow, trigger_id: str, *, disabled: bool) -> None:
        """Switch a trigger off or on, as a person would."""
        parts, now = self._server.parts, datetime.now(UTC)

        def put(db: Session) -> None:
            row = db.triggers.get(flow.namespace, flow.id, trigger_id)
            assert row is not None, f"no trigger {trigger_id}"
            db.triggers.put(switched(row, now, disabled=disabled))

        parts.store.write(put)

    def trigger_is_disabled(self, namespace: str, flow_id: str, trigger_id: str) -> bool | None:
        """Return whether a trigger is switched off, None when there is no such trigger."""
        row = self._server.parts.store.read(lambda db: db.triggers.get(namespace, flow_id, trigger_id))
        return row.disabled if row is not None else None

    @property
    def zone(self) -> ZoneInfo:
        """Return the server's time zone."""
        return self._server.parts.host.zone

    def renderer(self, flow: Flow) -> RenderText:
        """Return what renders the templates of a deployed flow's triggers."""
        parts = self._server.parts
        return renderer(parts.host, flow, parts.catalogue.version(flow.namespace, flow.id), datetime.now(UTC))

    # ---------------------------------------------------------------- executions

    def create(self, new: NewExecution) -> str:
        """Create an execution past the API and return its id."""
        return self._server.parts.runtime.engine.create(new).id

    def view(self, execution_id: str) -> View:
        """Return an execution as it is now. Raises `httpx.HTTPStatusError` when there is none."""
        answer = self.client.get(f"{API}/executions/{execution_id}")
        answer.raise_for_status()
        return View(answer.json())

    def executions(self, flow: str, since: datetime) -> list[Execution]:
        """Return the executions of a flow (`namespace.id`) that began after `since`, the oldest first."""
        namespace, _, flow_id = flow.rpartition(".")
        query = ExecutionQuery(namespace=namespace, exact=True, flow_id=flow_id, since=since, size=_MOST_EXECUTIONS)
        store = self._server.parts.store
        return list(store.read(lambda db: db.executions.search(query)).items)[::-1]

    def children(self, execution_id: str) -> list[str]:
        """Return the ids of the executions that an execution started through subflow tasks."""
        store = self._server.parts.store
        return [child.id for child in store.read(lambda db: db.executions.children(execution_id))]

    def logs(self, execution_id: str) -> list[LogEntry]:
        """Return the lines of log of an execution."""
        logs = self._server.parts.store.logs
        logs.flush()
        return list(logs.search(LogQuery(execution_id=execution_id, size=1_000)).items)

    def metrics(self, execution_id: str) -> list[Metric]:
        """Return the metrics of an execution."""
        return list(self._server.parts.store.read(lambda db: db.metrics.of_execution(execution_id)).items)

    def read(self, uri: str) -> bytes:
        """Return a stored file."""
        with self._server.parts.host.storage.open(uri) as file:
            return file.read()
