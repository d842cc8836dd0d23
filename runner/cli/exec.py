"""`mainstem exec`: start, list, follow and stop executions on a server."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import click

from runner.cli.client import Client, options
from runner.cli.groups import SuggestingGroup
from runner.cli.names import flow_name, label
from runner.cli.table import moment, safe, show_json, show_rows
from runner.errors import InvalidError, NotFoundError
from runner.states import State

_FAILED: Final = frozenset({"FAILED", "KILLED", "CANCELLED"})
_FINDING_EXIT: Final = 1
_TIMEOUT_EXIT: Final = 124
_COLUMNS: Final = ("id", "state", "namespace", "flow", "revision", "started", "duration")


@click.group("exec", cls=SuggestingGroup)
def command() -> None:
    """Start, list, follow, repeat and stop executions."""


def _accompanied(function: Any) -> Any:
    """Add the options of commands that start something and may stay until it ends: see `_accompany`."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print the execution as JSON."),
        click.option(
            "--timeout", type=float, default=3600.0, show_default=True, metavar="SECONDS", help="Stop waiting then."
        ),
        click.option("-f", "--follow", is_flag=True, help="Show the log until the end; exit 1 when it failed."),
        click.option("-w", "--wait", is_flag=True, help="Wait for the end; exit 1 when it failed."),
    ):
        function = option(function)
    return function


@command.command("run")
@click.argument("flow", metavar="NAMESPACE.FLOW")
@click.option("-i", "--input", "inputs", multiple=True, metavar="NAME=VALUE", help="An input; NAME=@path sends a file.")
@click.option("-l", "--label", "labels", multiple=True, metavar="KEY=VALUE", help="A label of the execution.")
@click.option("--revision", type=int, help="Revision of the flow; the active one without it.")
@_accompanied
@options
def run(
    client: Client,
    flow: str,
    *,
    inputs: tuple[str, ...],
    labels: tuple[str, ...],
    revision: int | None,
    **staying: Any,
) -> int:
    """Start a flow; NAMESPACE/FLOW works too, for ids with dots."""
    namespace, flow_id = flow_name(flow)
    parameters = {**_pinned(revision), "labels": [":".join(label(text)) for text in labels]}
    with _parts(inputs) as parts:
        _demand_known(client, f"/flows/{namespace}/{flow_id}", parts, revision)
        path = f"/executions/{namespace}/{flow_id}"
        execution = client.post(path, params=parameters, files=parts or None)
    return _accompany(client, execution, **staying)


@command.command("restart")
@click.argument("execution_id", metavar="ID")
@click.option("--revision", type=int, help="Do so at this revision, in a new execution.")
@_accompanied
@options
def restart(client: Client, execution_id: str, *, revision: int | None, **staying: Any) -> int:
    """Run again what failed in an execution, and what comes after it."""
    execution = client.post(f"/executions/{execution_id}/actions/restart", params=_pinned(revision))
    return _accompany(client, execution, **staying)


@command.command("replay")
@click.argument("execution_id", metavar="ID")
@click.option("--task", metavar="TASK", help="From this task on, or TASK[VALUE] in a loop; what came before is kept.")
@click.option("-i", "--input", "inputs", multiple=True, metavar="NAME=VALUE", help="Another input; the others stay.")
@click.option("--revision", type=int, help="At this revision; that of the execution without it.")
@_accompanied
@options
def replay(
    client: Client,
    execution_id: str,
    *,
    task: str | None,
    inputs: tuple[str, ...],
    revision: int | None,
    **staying: Any,
) -> int:
    """Start a new execution like another one, from its beginning or from a task."""
    seen = client.get(f"/executions/{execution_id}") if task or inputs else {}
    parameters = _pinned(revision)
    if task:
        parameters["taskRunId"] = _run_of(seen, task)
    verb = "replay-with-inputs" if inputs else "replay"
    with _parts(inputs) as parts:
        if inputs:
            pinned = seen["flowRevision"] if revision is None else revision
            _demand_known(client, f"/flows/{seen['namespace']}/{seen['flowId']}", parts, pinned)
        execution = client.post(f"/executions/{execution_id}/actions/{verb}", params=parameters, files=parts or None)
    return _accompany(client, execution, **staying)


def _pinned(revision: int | None) -> dict[str, Any]:
    return {} if revision is None else {"revision": revision}


def _run_of(execution: Mapping[str, Any], task: str) -> str:
    """Return the id of the task run that a user calls `task` or `task[value]`."""
    from runner.flows.spelling import did_you_mean

    runs = {_run_name(run): str(run["id"]) for run in execution.get("taskRunList", ())}
    if task not in runs:
        hint = did_you_mean(task, runs) or (f"there are {', '.join(list(runs)[:20])}" if runs else None)
        raise NotFoundError("execution.run.missing", f"{execution['id']} has no task run {task!r}", hint=hint)
    return runs[task]


def _run_name(run: Mapping[str, Any]) -> str:
    return f"{run['taskId']}[{run['value']}]" if run.get("value") else str(run["taskId"])


def _accompany(
    client: Client, execution: dict[str, Any], *, wait: bool, follow: bool, timeout: float, as_json: bool
) -> int:
    """Show an execution that was just started, or stay until its end; return the exit code."""
    until = time.monotonic() + timeout
    if follow:
        click.echo(f"execution {execution['id']}", err=True)
        _show_log(client, execution["id"], {}, follow=True, seconds=timeout)
    if wait or follow:
        execution = _wait(client, execution["id"], timeout, until)
    _show(execution, as_json=as_json)
    return _exit_code(execution) if wait or follow else 0


@command.command("list")
@click.option("-n", "--namespace", help="This namespace and those below it.")
@click.option("--flow", "flow_id", help="Executions of this flow id.")
@click.option(
    "-s",
    "--state",
    "states",
    multiple=True,
    type=click.Choice([str(state) for state in State], case_sensitive=False),
    metavar="STATE",
    help="In this state, such as FAILED; may be repeated.",
)
@click.option("-l", "--label", "labels", multiple=True, metavar="KEY=VALUE", help="With this label.")
@click.option("--since", metavar="DURATION", help="Started within this time, such as PT1H.")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="At most this many.")
@click.option("-q", "--quiet", is_flag=True, help="Print ids only.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@options
def list_(
    client: Client,
    *,
    states: tuple[str, ...],
    labels: tuple[str, ...],
    limit: int,
    quiet: bool,
    as_json: bool,
    **narrowed: str | None,
) -> None:
    """List executions, the newest first."""
    given = {
        "filters[namespace][PREFIX]": narrowed["namespace"],
        "filters[flowId][EQUALS]": narrowed["flow_id"],
        "filters[timeRange][EQUALS]": narrowed["since"],
        "filters[state][IN]": ",".join(state.upper() for state in states) or None,
    }
    for text in labels:
        key, value = label(text)
        given[f"filters[labels][EQUALS][{key}]"] = value
    parameters = {"size": limit, **{key: value for key, value in given.items() if value is not None}}
    page = client.get("/executions/search", params=parameters)
    if as_json:
        show_json(page)
    elif quiet:
        for row in page["results"]:
            click.echo(row["id"])
    else:
        show_rows((_row(row) for row in page["results"]), _COLUMNS)


@command.command("get")
@click.argument("execution_id", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@options
def get(client: Client, execution_id: str, *, as_json: bool) -> None:
    """Show an execution and its task runs."""
    _show(client.get(f"/executions/{execution_id}"), as_json=as_json)


@command.command("logs")
@click.argument("execution_id", metavar="[ID]", required=False)
@click.option("-f", "--follow", is_flag=True, help="Go on until the execution has ended; exit 1 when it failed.")
@click.option("--level", type=click.Choice(["TRACE", "DEBUG", "INFO", "WARN", "ERROR"], case_sensitive=False))
@click.option("--task", help="Lines of this task only.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one line each.")
@options
def logs(
    client: Client, execution_id: str | None, *, follow: bool, level: str | None, task: str | None, as_json: bool
) -> int:
    """Show the log of an execution; without ID that of the newest one."""
    if execution_id is None:
        execution_id = _newest(client)
    given = {"minLevel": level.upper() if level else None, "taskId": task}
    parameters = {key: value for key, value in given.items() if value is not None}
    _show_log(client, execution_id, parameters, follow=follow, as_json=as_json)
    if not follow:
        return 0
    execution = client.get(f"/executions/{execution_id}")
    # To the other stream: what is piped stays the log.
    click.echo(_headline(execution), err=True)
    return _exit_code(execution)


@command.command("download")
@click.argument("execution_id", metavar="ID")
@click.option("-d", "--directory", type=click.Path(file_okay=False, path_type=Path), default=".", help="Where to (.).")
@options
def download(client: Client, execution_id: str, *, directory: Path) -> None:
    """Save the output files of an execution as TASK/NAME, in a loop TASK/VALUE/NAME, and print their paths."""
    from runner.cli.files import placed

    runs = client.get(f"/executions/{execution_id}").get("taskRunList", ())
    outputs = ((run["taskId"], run.get("value"), run.get("outputs") or {}) for run in runs)
    for relative, uri in placed(outputs).items():
        target = directory / relative
        target.parent.mkdir(parents=True, exist_ok=True)
        client.download(f"/executions/{execution_id}/file", target, params={"path": uri})
        click.echo(target)


def _acting(name: str, method: str, summary: str) -> None:
    @click.argument("execution_id", metavar="ID")
    @click.option("--json", "as_json", is_flag=True, help="Print the execution as JSON.")
    @options
    def act(client: Client, execution_id: str, *, as_json: bool) -> None:
        execution = client.request(method, f"/executions/{execution_id}/actions/{name}")
        if as_json:
            show_json(execution)
        else:
            click.echo(f"{execution_id} {execution['state']['current']}")

    act.__doc__ = summary
    command.command(name)(act)


_acting("kill", "DELETE", "Stop an execution and what it started.")
_acting("pause", "POST", "Start nothing more of an execution until it is resumed.")


@command.command("resume")
@click.argument("execution_id", metavar="ID")
@click.option("-i", "--input", "inputs", multiple=True, metavar="NAME=VALUE", help="What the pause asks for.")
@click.option("--json", "as_json", is_flag=True, help="Print the execution as JSON.")
@options
def resume(client: Client, execution_id: str, *, inputs: tuple[str, ...], as_json: bool) -> None:
    """Go on with a paused execution."""
    with _parts(inputs) as parts:
        execution = client.post(f"/executions/{execution_id}/actions/resume", files=parts or None)
    if as_json:
        show_json(execution)
    else:
        click.echo(f"{execution_id} {execution['state']['current']}")


@command.command("delete")
@click.argument("execution_ids", metavar="ID...", nargs=-1, required=True)
@click.option("--keep-logs", is_flag=True, help="Leave the log.")
@click.option("--keep-files", is_flag=True, help="Leave the files.")
@options
def delete(client: Client, execution_ids: tuple[str, ...], *, keep_logs: bool, keep_files: bool) -> None:
    """Remove executions that have ended."""
    parameters = {"deleteLogs": not keep_logs, "deleteStorage": not keep_files}
    for execution_id in execution_ids:
        client.delete(f"/executions/{execution_id}", params={key: str(on).lower() for key, on in parameters.items()})
        click.echo(execution_id)


@contextlib.contextmanager
def _parts(inputs: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """Give the parts of a multipart body; files are open as long as the block runs."""
    with contextlib.ExitStack() as files:
        parts: dict[str, Any] = {}
        for text in inputs:
            name, equals, value = text.partition("=")
            if not equals or not name:
                raise click.BadParameter(f"{text!r} is not NAME=VALUE", param_hint="--input")
            if value.startswith("@"):
                path = Path(value[1:])
                try:
                    parts[name] = (path.name, files.enter_context(path.open("rb")))
                except OSError as error:
                    raise InvalidError("input.file.unreadable", f"{path} cannot be read: {error.strerror}") from None
            else:
                parts[name] = (None, value)
        yield parts


def _demand_known(client: Client, path: str, inputs: Mapping[str, Any], revision: int | None) -> None:
    """Refuse inputs that the flow does not have; the server ignores them, but on a terminal they are mistyped."""
    from runner.cli.inputs import demand_known, demand_sent

    if inputs:
        flow = client.get(path, params={} if revision is None else {"revision": revision})
        name = f"{flow['namespace']}.{flow['id']}"
        declared = flow.get("inputs") or ()
        demand_known(inputs, [each["id"] for each in declared], name)
        texts = {key: value for key, (file_name, value) in inputs.items() if file_name is None}
        demand_sent(texts, [each["id"] for each in declared if each["type"] == "FILE"])


def _wait(client: Client, execution_id: str, timeout_s: float, until: float) -> dict[str, Any]:
    """Return the execution when it has ended; end the process at `until`, which is `timeout_s` after the start."""
    seconds = max(until - time.monotonic(), 0.01)
    try:
        with client.events(f"/executions/{execution_id}/follow", seconds=seconds) as frames:
            for kind, execution in frames:
                if kind == "end":
                    ended: dict[str, Any] = execution
                    return ended
    except TimeoutError:
        click.echo(
            f"error: {execution_id} has not ended within {timeout_s:g} s; it goes on\n"
            f"  hint: follow it with mainstem exec logs -f {execution_id}",
            err=True,
        )
        sys.exit(_TIMEOUT_EXIT)
    stored: dict[str, Any] = client.get(f"/executions/{execution_id}")
    return stored


def _show_log(
    client: Client,
    execution_id: str,
    parameters: Mapping[str, str],
    *,
    follow: bool,
    as_json: bool = False,
    seconds: float | None = None,
) -> None:
    if not follow:
        for line in client.get(f"/logs/{execution_id}", params=parameters):
            _show_line(line, as_json=as_json)
        return
    try:
        with client.events(f"/logs/{execution_id}/follow", params=parameters, seconds=seconds) as frames:
            for kind, line in frames:
                if kind == "end":
                    return
                _show_line(line, as_json=as_json)
    except TimeoutError:
        return  # whoever waits for the end says so
    except KeyboardInterrupt:
        click.echo(f"\nthe execution goes on; follow it again: mainstem exec logs -f {execution_id}", err=True)
        raise


def _show_line(line: Mapping[str, Any], *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(line, ensure_ascii=False))
        return
    clock = str(line["timestamp"])[11:23]
    click.echo(safe(f"{clock} {line['level']:<5} {line.get('taskId') or '-'}  {line['message']}"))


def _newest(client: Client) -> str:
    rows = client.get("/executions/search", params={"size": 1})["results"]
    if not rows:
        raise NotFoundError("execution.none", "there are no executions yet", hint="mainstem exec run NAMESPACE.FLOW")
    return str(rows[0]["id"])


def _row(execution: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": execution["id"],
        "state": execution["state"]["current"],
        "namespace": execution["namespace"],
        "flow": execution["flowId"],
        "revision": execution["flowRevision"],
        "started": moment(execution["state"]["startDate"]),
        "duration": lasted(execution["state"]),
    }


def _show(execution: Mapping[str, Any], *, as_json: bool) -> None:
    if as_json:
        show_json(execution)
        return
    click.echo(_headline(execution))
    if execution.get("error"):
        click.echo(safe(f"  {execution['error']}"))
    for run in execution.get("taskRunList", ()):
        error = f"  {run['error']}" if run.get("error") else ""
        click.echo(safe(f"  {_run_name(run)}  {run['state']['current']}  {lasted(run['state'])}{error}"))
    for key, value in (execution.get("outputs") or {}).items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        click.echo(safe(f"  {key} = {text}"))
    if execution["state"]["current"] == State.FAILED:
        click.echo(f"  run what failed again: mainstem exec restart {execution['id']}")
    if execution["state"]["current"] in _FAILED:
        click.echo(f"  its log: mainstem exec logs {execution['id']}")


def _headline(execution: Mapping[str, Any]) -> str:
    name = f"{execution['namespace']}.{execution['flowId']}"
    return f"{name}  {execution['id']}  {execution['state']['current']}  {lasted(execution['state'])}"


def lasted(state: Mapping[str, Any]) -> str:
    """Return how long a state of the API has lasted since it first ran, as the pages and the reports count it."""
    from runner.durations import parse_duration
    from runner.reports.text import seconds

    begun = next((each["date"] for each in state["histories"] if each["state"] == "RUNNING"), state["startDate"])
    waited = datetime.fromisoformat(begun) - datetime.fromisoformat(state["startDate"])
    return seconds(max((parse_duration(state["duration"]) - waited).total_seconds(), 0.0))


def _exit_code(execution: Mapping[str, Any]) -> int:
    return _FINDING_EXIT if execution["state"]["current"] in _FAILED else 0
