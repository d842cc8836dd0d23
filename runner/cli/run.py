"""`mainstem run FLOW.yaml`: run a flow here and now, without a server.

The same engine, in memory of this process: a throw-away database in a temporary folder. The other flows below the
folder of the file that it may call are deployed too.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from runner.cli.names import label
from runner.errors import InvalidError, NotFoundError, Severity

_KEY_WORDS = ("kv", "render", ".state.", ".states.")
"""One of these is in every text that can ask for a key: the function, what renders other texts, types of tasks."""

if TYPE_CHECKING:
    from runner.cli.ending import Ending
    from runner.cli.origin import EarlierRun
    from runner.cli.waiting import Waiting
    from runner.flows.models import Flow
    from runner.local import LocalEngine
    from runner.services import Host
    from runner.store import Store


@click.command("run")
@click.argument("file", required=False, type=click.Path(exists=True, path_type=Path))
@click.option("-i", "--input", "inputs", multiple=True, metavar="NAME=VALUE", help="An input; NAME=@path sends a file.")
@click.option("-l", "--label", "labels", multiple=True, metavar="KEY=VALUE", help="A label of the execution.")
@click.option("--from-execution", "origin", metavar="ID|REPORT.json", help="Repeat a run with its inputs.")
@click.option("--until", metavar="TASK", help="Stop after the task at the top of the flow that holds TASK.")
@click.option("--resume", "resumes", is_flag=True, help="Go on at every Pause without asking.")
@click.option("--timeout", type=float, default=3600.0, show_default=True, metavar="SECONDS", help="Give up after this.")
@click.option("--runner", "task_runner", help="Default task runner (process).")
@click.option(
    "--files",
    "directory",
    type=click.Path(file_okay=False, path_type=Path),
    help="Save output files in this folder, as TASK/NAME.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the execution as the API shows it.")
@click.option("--url", help="With --from-execution ID: address of the server (MAINSTEM_URL).")
@click.option("--token", help="With --from-execution ID: token of the server (MAINSTEM_TOKEN).")
@click.option("--context", help="With --from-execution ID: name of a server in the context file.")
def command(file: Path | None, **options: Any) -> int:
    """Run a flow file without a server, or repeat a run.

    --from-execution takes the file of a report (its JSON on the reports branch), the id of a run that failed on this
    machine, or the id of an execution of a server. In a clone that has the commit of the run, its flows and namespace
    files are those of that commit. The key-value store begins with the keys of files `_kv.yaml` in the folders around.

    Exit code 0 when it ended SUCCESS or WARNING, 1 when it failed, 124 when the time is over, 130 after Ctrl-C.
    """
    from runner.cli.waiting import Terminated, terminable

    logging.basicConfig(level="ERROR")
    if (file is None) == (options["origin"] is None):
        raise click.UsageError("name a flow file, or a run with --from-execution")
    if file is not None and file.is_dir():
        raise click.UsageError(f"{file} is a folder; name one flow{_first_in(file)}")
    _demand_runner(options["task_runner"])
    room = Path(tempfile.mkdtemp(prefix="mainstem-run-"))
    try:
        with terminable(), ExitStack() as files:
            given = _with_files(_pairs(options["inputs"]), files)
            repeated = _earlier(options) if options["origin"] else None
            return _Run(file, repeated, room, options).run(given, dict(map(label, options["labels"])), files)
    except Terminated:
        return 143
    finally:
        shutil.rmtree(room, ignore_errors=True)


def _first_in(folder: Path) -> str:
    """Return the first flow file of a folder, as an example."""
    found = sorted(each for each in folder.glob("*.y*ml") if each.is_file() and not each.name.startswith(("_", ".")))
    return f", such as {found[0]}" if found else " in it"


def _demand_runner(name: str | None) -> None:
    from task_runners.errors import TaskRunnerError
    from task_runners.registry import runner_class

    try:
        if name is not None:
            runner_class(name)
    except TaskRunnerError as error:
        raise InvalidError(error.code, error.message, hint=error.hint) from None


def _earlier(options: Mapping[str, Any]) -> EarlierRun:
    from runner.cli.client import Client, resolve
    from runner.cli.origin import find_run

    named = {key: options[key] for key in ("url", "token", "context")}
    client = Client(resolve(os.environ, **named)) if any(named.values()) else None
    return find_run(options["origin"], os.environ, client)


def _pairs(texts: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise click.BadParameter(f"{text!r} is not NAME=VALUE", param_hint="--input")
        found[name] = value
    return found


def _beginning(file: Path) -> bytes:
    """Return as much of a file as it takes to see that it is too large for a flow."""
    from runner.flows.loader import MAX_BYTES

    with file.open("rb") as opened:
        return opened.read(MAX_BYTES + 1)


class _Run:
    """One run of one flow: of a file, or of an earlier run."""

    def __init__(self, file: Path | None, repeated: EarlierRun | None, room: Path, options: Mapping[str, Any]) -> None:
        self.repeated = repeated
        self.room = room
        self.options = options
        if repeated is None:
            assert file is not None
            self.file, self.source = file, _beginning(file)
        else:
            self.file, self.source = self._file_of(repeated), repeated.source.encode()
        self.root = self.file.absolute().parent
        self.defaults: str | None = None
        self.texts: Sequence[str] = ()
        """What the flows say that may run, and what they inherit."""

    def _file_of(self, run: EarlierRun) -> Path:
        """Return where the flow of an earlier run lies: in its commit, in its old place, else alone in the room."""
        from runner.cli.checkout import check_out, file_of

        if run.flow_file is not None and run.flow_file.is_file():
            return run.flow_file
        tree = self.room / "commit"
        places = tuple(place for place in (Path.cwd(), run.place) if place)
        if run.commit and check_out(run.commit, places, tree):
            found = file_of(run.source, tree)
            if found is not None:
                return found
        if run.commit:
            place = f": git clone {run.repository_url}" if run.repository_url else ""
            click.echo(
                f"commit {run.commit[:7]} is in no repository here: subflows and namespace files are missing\n"
                f"  hint: call this inside a clone of the flows{place}",
                err=True,
            )
        alone = self.room / "flow" / f"{run.flow_name}.yaml"
        alone.parent.mkdir()
        alone.write_text(run.source, encoding="utf-8")
        return alone

    def run(self, given: Mapping[str, Any], labels: Mapping[str, str], files: ExitStack) -> int:
        """Deploy the flow, start it, show it, print how it ended."""
        from runner.cli.inputs import demand_known
        from runner.cli.local_host import open_host
        from runner.executions.creation import NewExecution
        from runner.local import LocalEngine
        from runner.working_copy import flow_root

        flow = self._checked_flow()
        inputs = dict(given)
        if self.repeated is not None:
            inputs = _opened(self.repeated.inputs(given, self.room / "inputs"), files)
        demand_known(inputs, [each.id for each in flow.inputs], f"{flow.namespace}.{flow.id}")
        self.root = flow_root(self.file.absolute(), flow.namespace)
        store = self._store(flow)
        try:
            runner = self.options["task_runner"]
            host = open_host(self.room, os.environ, files=self.root, store=store, task_runner=runner)
            self._sow(host)
            with LocalEngine(store, host, hands_over=False) as local:
                trigger = self.repeated.trigger if self.repeated else None
                # By its revision, the first in a store of its own: who runs the file of a draft means the draft.
                request = NewExecution(flow.namespace, flow.id, 1, inputs, labels, trigger)
                execution = local.engine.create(request)
                return self._follow(local, execution.id, flow, _paths(inputs))
        finally:
            store.close()

    # ---------------------------------------------------------------- preparing

    def _checked_flow(self) -> Flow:
        from runner.flows import diagnostics
        from runner.flows.namespace_defaults import stated_namespace
        from runner.flows.parse import parse_flow
        from runner.working_copy import defaults_around

        space = stated_namespace(self.source) or ""
        kept = self.repeated.defaults if self.repeated is not None else None
        defaults, problems = (kept, []) if kept is not None else defaults_around(self.file, space, self.source)
        self.defaults = defaults.text(space, self.source)
        parsed = parse_flow(self.source, file=str(self.file), inherited=defaults.around(space, self.source))
        errors = [each for each in (*problems, *parsed.problems) if each.severity is Severity.ERROR]
        for problem in errors:
            text = self.source if problem.file == str(self.file) else Path(problem.file or "").read_bytes()
            click.echo(diagnostics.block(problem, text.decode("utf-8", "replace")), err=True)
        if parsed.flow is None or errors:
            count = f"{len(errors)} problem{'' if len(errors) == 1 else 's'}"
            raise InvalidError("flow.invalid", f"{self.file} is no valid flow: {count}")
        return _until(parsed.flow, self.options["until"])

    def _sow(self, host: Host) -> None:
        """Put the keys that the folders of namespaces have for the store; those of a file with errors are missing."""
        from runner.flows.seeds import SeedFile
        from runner.working_copy import seeds_of

        if not any(word in text for text in self.texts for word in _KEY_WORDS):
            return  # nothing asks for a key, so what may be a whole home is not searched for them
        for file in seeds_of([self.root]):
            for seed in file.seeds if isinstance(file, SeedFile) else ():
                value = json.dumps(seed.value) if seed.kind == "JSON" else seed.value
                host.kv.put(seed.namespace, seed.key, value, kind=seed.kind, ttl=seed.ttl)

    def _store(self, flow: Flow) -> Store:
        from runner.local import deploy
        from runner.store import Store
        from runner.working_copy import flows_called

        store = Store.open(f"sqlite:///{self.room / 'state.db'}", durability="off")
        source = self.source.decode("utf-8")
        others = flows_called(self.root, self.file, f"{source}\n{self.defaults or ''}")
        for other in others:
            deploy(store, *other)
        self.texts = [
            source,
            self.defaults or "",
            *(part or "" for _, text, _, around in others for part in (text, around)),
        ]
        if self.options["until"]:
            source = _cut(source, flow)
        deploy(store, flow, source, str(self.file), self.defaults)
        return store

    # ---------------------------------------------------------------- showing

    def _follow(self, local: LocalEngine, execution_id: str, flow: Flow, paths: Mapping[str, str]) -> int:
        from runner.cli.ending import Ending
        from runner.cli.waiting import End, Waiting

        timeout, resumes = self.options["timeout"], self.options["resumes"]
        execution, end = self._shown(local, Waiting(local, execution_id, timeout_s=timeout, resumes=resumes))
        ending = Ending.load(local.engine.store, local.engine.host.storage, execution)
        if self.options["as_json"]:
            click.echo(_as_json(ending))
        else:
            from runner.cli.tree import open_console

            ending.show(open_console())
        if self.options["directory"] is not None:
            self._save_files(local, ending, self.options["directory"])
        if end is End.TIMEOUT:
            click.echo(f"the run had not ended after {timeout:g} s and was stopped", err=True)
        if end is not End.ITSELF:
            return int(end.value or 0)
        if not execution.state.is_failed:
            return 0
        if self._keep(local, ending, flow, paths):
            click.echo(ending.repeat_line(flow), err=self.options["as_json"])
        return 1

    def _save_files(self, local: LocalEngine, ending: Ending, directory: Path) -> None:
        from runner.cli.files import placed

        outputs = ((run.task_id, run.value, ending.outputs.get(run.id) or {}) for run in ending.runs)
        for relative, uri in placed(outputs).items():
            target = directory / relative
            target.parent.mkdir(parents=True, exist_ok=True)
            with local.engine.host.storage.open(uri) as source, target.open("wb") as file:
                shutil.copyfileobj(source, file)
            click.echo(target, err=self.options["as_json"])

    def _shown(self, local: LocalEngine, waiting: Waiting) -> Any:
        from runner.cli.tree import LiveTree, open_console
        from runner.cli.waiting import NoScreen

        if self.options["as_json"]:
            return waiting.wait(NoScreen())
        with LiveTree(local, waiting.execution_id, open_console()) as tree:
            return waiting.wait(tree)

    def _keep(self, local: LocalEngine, ending: Ending, flow: Flow, paths: Mapping[str, str]) -> bool:
        """Keep the run, so that its id can be given to --from-execution."""
        from runner.cli.origin import keep_run
        from runner.reports.details import RunDetails
        from runner.reports.document import run_document
        from runner.reports.rows import row_of

        mask = local.engine.host.masker.mask
        details = RunDetails(
            row=row_of(ending.execution, mask),
            execution=ending.execution,
            runs=ending.runs,
            attempts=ending.attempts,
            outputs=ending.outputs,
            source=self.source.decode("utf-8"),
            defaults=self.defaults,
            secret_inputs=frozenset(each.id for each in flow.inputs if each.type == "SECRET"),
        )
        inside = self.file.is_relative_to(self.room)
        document = run_document(details, mask) | {"inputFiles": dict(paths)}
        document |= {"file": None if inside else str(self.file.absolute())}
        document |= {"commit": self.repeated.commit if self.repeated else None}
        return keep_run(document, os.environ)


def _as_json(ending: Ending) -> str:
    """Return the execution in the API's shape; that shape stands in a package above this one, named by text."""
    import importlib

    shape: Callable[..., dict[str, Any]] = importlib.import_module("webhooks.shapes").execution_json
    body = shape(ending.execution, ending.runs, attempts=ending.attempts, outputs=ending.outputs)
    return json.dumps(body, default=str, ensure_ascii=False, indent=2 if sys.stdout.isatty() else None)


def _until(flow: Flow, task_id: str | None) -> Flow:
    """Return the flow cut after the top-level task that is or holds `task_id`."""
    from runner.flows.models import walk
    from runner.flows.spelling import did_you_mean

    if task_id is None:
        return flow
    known = []
    for number, task in enumerate(flow.tasks):
        inside = [inner.id for inner in walk(task)]
        if task_id in inside:
            return flow.model_copy(update={"tasks": flow.tasks[: number + 1], "outputs": ()})
        known += inside
    hint = did_you_mean(task_id, known) or f"its tasks: {', '.join(known)}"
    raise NotFoundError("task.missing", f"the flow has no task {task_id!r} among its tasks", hint=hint)


def _cut(source: str, flow: Flow) -> str:
    """Return the source of a flow with as many of its tasks as `flow` has: the defaults are yet to come into both."""
    from runner.flows.loader import examine
    from runner.flows.parse import holds_tests

    document = examine(source, companion=holds_tests)[0].value
    kept = {key: value for key, value in document.items() if key != "outputs"}
    return json.dumps({**kept, "tasks": document["tasks"][: len(flow.tasks)]}, default=str)


def _with_files(inputs: Mapping[str, str], files: ExitStack) -> dict[str, Any]:
    """Return inputs with the files of `NAME=@path` opened."""
    return _opened({name: Path(value[1:]) if value.startswith("@") else value for name, value in inputs.items()}, files)


def _opened(inputs: Mapping[str, Any], files: ExitStack) -> dict[str, Any]:
    from runner.flows.inputs import FileInput

    found: dict[str, Any] = {}
    for name, value in inputs.items():
        found[name] = value
        if isinstance(value, Path):
            if not value.is_file():
                raise InvalidError("input.file.missing", f"the input {name} names the file {value}, which is not there")
            found[name] = FileInput(value.name, files.enter_context(value.open("rb")))
    return found


def _paths(inputs: Mapping[str, Any]) -> dict[str, str]:
    """Return where the files among the inputs lie."""
    from runner.flows.inputs import FileInput

    return {
        name: str(Path(value.source.name).absolute()) for name, value in inputs.items() if isinstance(value, FileInput)
    }
