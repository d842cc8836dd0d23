"""`mainstem run FLOW.yaml`: run a flow here and now, without a server.

The same engine, in memory of this process: a throw-away database in a temporary home. The other flows below the
folder of the file are deployed too, so that subflows find what they call.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from runner.errors import InvalidError, MainstemError, NotFoundError, Severity

if TYPE_CHECKING:
    from runner.executions.models import Execution
    from runner.flows.models import Flow
    from runner.local import LocalEngine
    from runner.store import Store

_TIMEOUT_EXIT = 124
_INTERRUPT_EXIT = 130


@click.command("run")
@click.argument("file", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("-i", "--input", "inputs", multiple=True, metavar="NAME=VALUE", help="An input; NAME=@path sends a file.")
@click.option("-l", "--label", "labels", multiple=True, metavar="NAME=VALUE", help="A label of the execution.")
@click.option("--from-execution", "origin", metavar="ID|REPORT.json", help="Repeat a run with its inputs.")
@click.option("--until", metavar="TASK", help="Stop after the task at the top of the flow that holds TASK.")
@click.option("--timeout", type=float, default=3600.0, show_default=True, metavar="SECONDS", help="Give up after this.")
@click.option("--runner", "task_runner", help="Default task runner (process).")
@click.option("--json", "as_json", is_flag=True, help="Print the execution as the API shows it.")
def command(file: Path | None, **options: Any) -> int:
    """Run a flow file without a server, or repeat a run from its report.

    Exit code 0 when it ended SUCCESS or WARNING, 1 when it failed, 124 when the time is over.
    """
    logging.basicConfig(level="ERROR")
    if (file is None) == (options["origin"] is None):
        raise click.UsageError("name a flow file, or a run with --from-execution")
    room = Path(tempfile.mkdtemp(prefix="mainstem-run-"))
    try:
        repeated = _Repeated(options["origin"], room) if options["origin"] else None
        target = repeated.file if repeated else file
        assert target is not None
        inputs = {**(repeated.inputs if repeated else {}), **_pairs(options["inputs"], "input")}
        return _Run(target, room, options).run(inputs, _pairs(options["labels"], "label"))
    finally:
        shutil.rmtree(room, ignore_errors=True)


def _pairs(texts: tuple[str, ...], what: str) -> dict[str, str]:
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise click.UsageError(f"an {what} is written NAME=VALUE, got {text!r}")
        found[name] = value
    return found


class _Repeated:
    """A run that is repeated: its flow's source and its inputs, from a report or from a server."""

    def __init__(self, origin: str, room: Path) -> None:
        document = self._from_report(Path(origin)) if origin.endswith(".json") else self._from_server(origin)
        self.inputs: dict[str, Any] = document.get("inputs") or {}
        source = document.get("flow", {}).get("source")
        if not source:
            raise InvalidError(
                "report.flow.missing",
                f"{origin} does not hold the source of its flow",
                hint="it was written by an older version; check the commit out and run the file",
            )
        self.file = room / f"{document['namespace']}.{document['flowId']}.yaml"
        self.file.write_text(source, encoding="utf-8")

    def _from_report(self, path: Path) -> dict[str, Any]:
        try:
            document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise NotFoundError("report.missing", f"there is no report {path}") from None
        except ValueError as error:
            raise InvalidError("report.invalid", f"{path} is no report: {error}") from None
        return document

    def _from_server(self, execution_id: str) -> dict[str, Any]:
        from runner.cli.client import Client, resolve

        with Client(resolve(os.environ)) as client:
            execution: dict[str, Any] = client.get(f"/executions/{execution_id}")
            place = f"/flows/{execution['namespace']}/{execution['flowId']}"
            execution["flow"] = client.get(place, params={"revision": execution["flowRevision"], "source": "true"})
        return execution


class _Run:
    """One run of one file."""

    def __init__(self, file: Path, room: Path, options: Mapping[str, Any]) -> None:
        self.file = file
        self.room = room
        self.options = options
        self.root = file.absolute().parent

    def run(self, inputs: Mapping[str, Any], labels: Mapping[str, str]) -> int:
        """Deploy the flow, start it, show it, print how it ended."""
        from runner.executions.creation import NewExecution
        from runner.local import LocalEngine

        flow = self._checked_flow()
        _demand_known(inputs, flow)
        self.root = flow_root(self.file.absolute(), flow.namespace)
        store = self._store(flow)
        try:
            with LocalEngine(store, self._host(store)) as local:
                request = NewExecution(flow.namespace, flow.id, inputs=_with_files(inputs), labels=labels)
                execution = local.engine.create(request)
                return self._follow(local, execution.id)
        finally:
            store.close()

    # ---------------------------------------------------------------- preparing

    def _checked_flow(self) -> Flow:
        from runner.flows import diagnostics
        from runner.flows.parse import parse_flow

        content = self.file.read_bytes()
        parsed = parse_flow(content, file=str(self.file))
        errors = [problem for problem in parsed.problems if problem.severity is Severity.ERROR]
        for problem in errors:
            click.echo(diagnostics.block(problem, content.decode("utf-8", "replace")), err=True)
        if parsed.flow is None or errors:
            raise InvalidError("flow.invalid", f"{self.file} is no valid flow: {len(errors)} problems")
        return _until(parsed.flow, self.options["until"])

    def _store(self, flow: Flow) -> Store:
        from runner.store import Store

        store = Store.open(f"sqlite:///{self.room / 'state.db'}", durability="off")
        for other in self._neighbours():
            _deploy(store, *other)
        source = self.file.read_text(encoding="utf-8")
        if self.options["until"]:
            source = flow.model_dump_json(by_alias=True, exclude_defaults=True)
        _deploy(store, flow, source, str(self.file))
        return store

    def _neighbours(self) -> list[tuple[Flow, str, str]]:
        from runner.cli.validate import flow_files
        from runner.flows.parse import parse_flow

        found = []
        for path, namespace in flow_files((self.root,)):
            if path.samefile(self.file) or path.stat().st_size > 1 << 20:
                continue
            content = path.read_bytes()
            parsed = parse_flow(content, file=str(path), namespace=namespace, strict=False)
            if parsed.flow is not None:
                found.append((parsed.flow, content.decode(), str(path)))
        return found

    def _host(self, store: Store) -> Any:
        from runner.key_values import MemoryKeyValues
        from runner.namespace_files import DirectoryNamespaceFiles
        from runner.services import Host
        from runner.settings import Settings
        from runner.store import LogQuery

        settings = Settings.load(default_task_runner=self.options["task_runner"])
        secrets = settings.home / "secrets.yaml"
        if secrets.exists():
            shutil.copy2(secrets, self.room / "secrets.yaml")
        settings = settings.model_copy(update={"home": self.room, "work": self.room / "work"})

        def error_logs(execution_id: str) -> list[Any]:
            store.logs.flush()
            return store.logs.last(LogQuery(execution_id=execution_id, min_level="ERROR"), 100)

        return Host.open(
            settings,
            MemoryKeyValues(),
            environment=os.environ,
            log=lambda entry: store.logs.append([entry]),
            files=DirectoryNamespaceFiles(self.root),
            execution_of=lambda execution_id: store.read(lambda db: db.executions.get(execution_id)),
            runs_of=lambda execution_id: store.read(lambda db: db.executions.runs(execution_id)),
            error_logs_of=error_logs,
            store=store,
        )

    # ---------------------------------------------------------------- showing

    def _follow(self, local: LocalEngine, execution_id: str) -> int:
        from runner.cli.tree import LiveTree

        try:
            if self.options["as_json"]:
                execution = local.engine.wait(execution_id, self.options["timeout"])
            else:
                with LiveTree(local, execution_id, interactive=sys.stdout.isatty()):
                    execution = local.engine.wait(execution_id, self.options["timeout"])
        except KeyboardInterrupt:
            local.engine.kill(execution_id)
            local.engine.wait(execution_id, 10)
            return _INTERRUPT_EXIT
        if execution is None:
            click.echo(f"the run has not ended after {self.options['timeout']:g} s and is stopped", err=True)
            local.engine.kill(execution_id)
            local.engine.wait(execution_id, 10)
            return _TIMEOUT_EXIT
        if self.options["as_json"]:
            click.echo(_as_json(local, execution))
        return 1 if execution.state.is_failed else 0


def _demand_known(inputs: Mapping[str, Any], flow: Flow) -> None:
    """Refuse inputs that the flow does not have: on a server they are ignored, on a terminal they are mistyped."""
    from runner.flows.spelling import did_you_mean

    known = [each.id for each in flow.inputs]
    for name in inputs:
        if not any(name == each or name.startswith(f"{each}.") or each.startswith(f"{name}.") for each in known):
            hint = did_you_mean(name, known) or f"its inputs: {', '.join(known) or 'none'}"
            raise InvalidError("input.unknown", f"{flow.namespace}.{flow.id} has no input {name!r}", hint=hint)


def flow_root(file: Path, namespace: str) -> Path:
    """Return the folder of the namespaces: above `a.b/` or `a/b/` when the file of `a.b` lies in there."""
    for parts in ((namespace,), tuple(namespace.split("."))):
        folder = file.parent
        while folder.name in {"flows", "_flows"}:
            folder = folder.parent
        if folder.parts[-len(parts) :] == parts:
            return folder.parents[len(parts) - 1]
    return file.parent


def _as_json(local: LocalEngine, execution: Execution) -> str:
    """Return the execution in the API's shape; that shape stands in a package above this one, named by text."""
    import importlib

    shape: Callable[..., dict[str, Any]] = importlib.import_module("webhooks.shapes").execution_json
    store = local.engine.store
    runs = store.read(lambda db: db.executions.runs(execution.id))
    attempts = store.read(lambda db: db.executions.attempts(execution.id))
    outputs = store.read(lambda db: db.executions.outputs(execution.id))
    return json.dumps(shape(execution, runs, attempts=attempts, outputs=outputs), default=str)


def _deploy(store: Store, flow: Flow, source: str, path: str) -> None:
    import hashlib
    from datetime import UTC, datetime

    from runner.store.records import FlowDraft

    blob = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()
    draft = FlowDraft(flow.namespace, flow.id, blob, source, datetime.now(UTC), path=path)
    store.write(lambda db: db.flows.put(draft))


def _until(flow: Flow, task_id: str | None) -> Flow:
    """Return the flow cut after the top-level task that is or holds `task_id`."""
    from runner.flows.models import walk

    if task_id is None:
        return flow
    for number, task in enumerate(flow.tasks):
        if any(inner.id == task_id for inner in walk(task)):
            return flow.model_copy(update={"tasks": flow.tasks[: number + 1], "outputs": ()})
    raise NotFoundError("task.missing", f"the flow has no task {task_id!r} among its tasks")


def _with_files(inputs: Mapping[str, Any]) -> dict[str, Any]:
    from runner.flows.inputs import FileInput

    found: dict[str, Any] = {}
    for name, value in inputs.items():
        if isinstance(value, str) and value.startswith("@"):
            path = Path(value[1:])
            if not path.is_file():
                raise MainstemError("input.file.missing", f"the input {name} names the file {path}, which is not there")
            found[name] = FileInput(path.name, path.open("rb"))
        else:
            found[name] = value
    return found
