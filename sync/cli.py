"""`mainstem plan` and `mainstem sync`: what a commit would change, where environments stand, what webhooks came."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from zoneinfo import ZoneInfo

import click

from runner.cli.client import Client, options, resolve
from runner.cli.deliveries import deliveries, delivery
from runner.cli.groups import SuggestingGroup
from runner.cli.table import moment, show_rows
from runner.errors import InvalidError, NotFoundError
from sync.history import HEADS, cells, noted
from sync.remarks import remarks
from sync.signatures.verdict import CommitSignature, described

if TYPE_CHECKING:
    from runner.errors import Problem
    from runner.policies import FlowUse
    from runner.settings import Settings
    from sync.comparison import Snapshot
    from sync.plan import Plan

_FINDING: Final = 1
_CHANGES: Final = 5
_SIGNS: Final = {"added": "+", "changed": "~", "moved": "~", "renamed": "~", "removed": "-", "quarantined": "!"}
_BAD: Final = frozenset({"QUARANTINED", "INVALID", "HELD", "FAILED"})


def _asks(function: Any) -> Any:
    """Add the options of a command that asks a server in some cases only; they are in its `given`."""
    texts = {"context": "Name of a server in the context file.", "token": "Token of the server (MAINSTEM_TOKEN)."}
    for name, text in (texts | {"url": "Address of the server (MAINSTEM_URL)."}).items():
        function = click.option(f"--{name}", help=text)(function)
    return function


def _client(given: Mapping[str, Any]) -> Client:
    return Client(resolve(os.environ, **{name: given[name] for name in ("url", "token", "context")}))


@click.command("plan")
@click.argument("path", default=".", type=click.Path(path_type=Path))
@click.option("--base", help="A revision of the repository of PATH, or a folder. Default: HEAD.")
@click.option("--head", help="A revision of the repository of PATH, or a folder. Default: PATH as it is now.")
@click.option("--flows", help="The folder of the flows below PATH. Default: flows, if there is one.")
@click.option("--zone", default="UTC", show_default=True, help="The time zone of schedules that name none.")
@click.option("--environment", "-e", help="Ask the server for the plan of this environment instead.")
@click.option("--commit", help="With --environment: the commit. Default: what its ref names now.")
@_asks
@click.option(
    "--format",
    "style",
    type=click.Choice(["text", "json", "markdown", "sarif", "github", "gitlab"]),
    default="text",
    show_default=True,
    help="`markdown` is what change requests are told; the last three are the problems alone.",
)
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
def plan(path: Path, environment: str | None, style: str, *, as_json: bool, **given: Any) -> int:
    """Show what would change: between two revisions or folders, or on the server.

    Exit code 0 without changes, 5 with changes, 1 with problems.
    """
    if environment is not None:
        found = _asked(environment, given)
        frame: Frame = _placed
        head = f"plan for environment {environment} at {found.commit[:7]}"
    else:
        found, frame, head = _local(path, given)
    click.echo(_written("json" if as_json else style, found, head, frame))
    if not found.is_whole:
        return _FINDING
    is_changed = found.changes or found.sown or found.dashboard_changes or found.rules_changed
    return _CHANGES if is_changed else 0


Frame = Callable[["Problem"], list[str]]


def _asked(environment: str, given: Mapping[str, Any]) -> Plan:
    """Return the plan that the server makes."""
    from sync.plan import plan_of

    with _client(given) as client:
        params = {"commit": given["commit"]} if given["commit"] else {}
        return plan_of(client.get(f"/environments/{environment}/plan", params=params))


def _local(path: Path, given: Mapping[str, Any]) -> tuple[Plan, Frame, str]:
    """Return the plan of two snapshots, how a problem is shown with its source, and a heading."""
    from sync.comparison import plan_between

    try:
        zone = ZoneInfo(given["zone"])
    except (KeyError, ValueError, OSError):
        raise InvalidError("zone.unknown", f"no time zone named {given['zone']!r}") from None
    with ExitStack() as stack:
        base = _snapshot(stack, path, given["base"] or "HEAD")
        head = _snapshot(stack, path, given["head"])
        settings = _settings()
        warnings = _policies(settings)
        now = datetime.now(UTC)
        found = plan_between(base, head, given["flows"], now=now, zone=zone, warnings=warnings, settings=settings)
        sources = {each.file: head.content(each.file) for each in found.problems if each.file}

    def frame(problem: Problem) -> list[str]:
        from runner.flows.diagnostics import block

        content = sources.get(problem.file or "")
        return block(problem, content.decode("utf-8", "replace") if content else None).splitlines()

    return found, frame, f"plan from {base.label} to {head.label} ({found.path or '.'}/)"


def _settings() -> Settings:
    """Return the settings of this folder; those that nobody set where they cannot be read."""
    from runner.settings import Settings

    try:
        return Settings.load()
    except InvalidError:  # the credentials that they name are on the server, not here
        return Settings()


def _policies(settings: Settings) -> Callable[[Sequence[tuple[str, FlowUse]]], Iterable[Problem]]:
    """Return what settings refuse of flows; nothing where they name no policy."""
    from runner.policies import policy_problems

    return partial(policy_problems, settings) if settings.runner_policies else lambda _located: ()


def _placed(problem: Problem) -> list[str]:
    place = ":".join(str(part) for part in (problem.file, problem.line, problem.column) if part)
    return [f"{place}  {problem.code}  {problem.message}"]


def _written(style: str, found: Plan, head: str, frame: Frame) -> str:
    """Return a plan in a style of `--format`."""
    from runner.flows import diagnostics
    from sync.plan_text import body_lines, problem_lines

    if style == "text":
        held = [f"held: {found.held}"] if found.held else []
        return "\n".join([head, *body_lines(found), *problem_lines(found.problems, frame), *held])
    if style == "json":
        return json.dumps(found.as_json())
    if style == "markdown":
        from sync.reviews.text import Reviewed, section

        return "\n".join(section(Reviewed(found.environment, found))).rstrip()
    if style == "sarif":
        from runner.flows.sarif import as_sarif

        return as_sarif(found.problems)
    if style == "gitlab":
        return diagnostics.gitlab(found.problems)
    return "\n".join(map(diagnostics.github, found.problems))


def _snapshot(stack: ExitStack, path: Path, name: str | None) -> Snapshot:
    """Return the files of a folder, or of a revision of the repository of `path`."""
    from sync.comparison import of_folder, of_revision

    if name is None:
        return of_folder(path)
    if Path(name).is_dir():
        return of_folder(Path(name))
    return stack.enter_context(of_revision(path, name))


def _plan_rows(found: Mapping[str, Any]) -> list[str]:
    from sync.dashboards import dashboard_change_of
    from sync.plan_text import dashboard_lines, seeding_lines
    from sync.seeds import seeding_of

    rows = []
    for change in found["changes"]:
        remark = "; ".join([*change["diff"], *([change["note"]] if change["note"] else [])])
        name = f"{change['namespace']}.{change['flowId']}"
        rows.append(f"  {_SIGNS[change['kind']]} {name}  {change['kind']}  {remark}".rstrip())
    rows.append(f"  = {found['unchanged']} unchanged")
    rows += seeding_lines([seeding_of(row) for row in found.get("keys", ())])
    rows += dashboard_lines([dashboard_change_of(row) for row in found.get("dashboards", ())])
    if found.get("filesChanged"):
        rows.append(f"  ~ {found['filesChanged']} namespace files changed")
    signature = CommitSignature.from_json(found.get("signature"))
    if signature is not None and signature.is_good:
        rows.append(f"  * {signature.line}")
    for problem in found["problems"]:
        place = ":".join(str(part) for part in (problem["file"], problem["line"], problem["column"]) if part)
        rows.append(f"{place}  {problem['code']}  {problem['message']}")
    return rows


@click.group("sync", cls=SuggestingGroup)
def command() -> None:
    """Look at repositories now; show where the environments stand and which webhooks came; go back, stay, resume."""


@command.command("run")
@click.argument("environment", required=False)
@click.option("--allow-deletes", metavar="SHA", help="Activate this held commit, deletions and all.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON list.")
@options
def run(client: Client, environment: str | None, allow_deletes: str | None, *, as_json: bool) -> int:
    """Bring ENVIRONMENT, or all, to the commit that its ref names.

    Exit code 1 when a revision is invalid, held, or its repository cannot be read.
    """
    results = []
    for name in _wanted(client, environment, allow_deletes):
        body = {"allowDeletes": allow_deletes} if allow_deletes else {}
        results += client.post(f"/environments/{name}/sync", json=body)["results"]
    results = list({result["environment"]: result for result in results}.values())
    click.echo(json.dumps(results) if as_json else "\n".join(line for each in results for line in _result(each)))
    return _FINDING if any(result["result"] in _BAD for result in results) else 0


def _wanted(client: Client, environment: str | None, allow_deletes: str | None) -> list[str]:
    if environment is not None:
        return [environment]
    rows = client.get("/environments")["results"]
    if allow_deletes is None:
        # One environment per repository is enough: all environments of a repository are looked at together.
        return sorted({row["repository"]: row["name"] for row in rows}.values())
    held = [row["name"] for row in rows if (row["held"] or "").startswith(allow_deletes.lower())]
    if not held:
        raise NotFoundError(
            "environment.held.other", f"no environment holds commit {allow_deletes!r}", hint="mainstem sync status"
        )
    return held


def _result(result: Mapping[str, Any]) -> list[str]:
    commit, plan = (result["commit"] or "nothing")[:7], result["plan"]
    said = result["message"] or f"{result['result']} {commit}"
    return [f"{result['environment']}: {said}", *(_plan_rows(plan) if plan else [])]


@command.command("status")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON list.")
@options
def status(client: Client, *, as_json: bool) -> int:
    """Show every environment: its state, what is active, what is held."""
    rows = client.get("/environments")["results"]
    if as_json:
        click.echo(json.dumps(rows))
    else:
        heads = ("ENVIRONMENT", "STATE", "ACTIVE", "HELD", "REPOSITORY", "REF", "CHECKED", "SIGNED")
        cells = [
            (
                row["name"],
                row["state"],
                (row["active"] or "-")[:7],
                (row["held"] or "-")[:7],
                row["repository"],
                _followed(row),
                moment(row["checkedAt"]),
                described(row.get("signature")) or "-",
            )
            for row in rows
        ]
        _table([heads, *cells])
        for line in remarks(rows):
            click.echo(line, err=True)
    return _FINDING if any(row["state"] != "OK" for row in rows) else 0


def _followed(row: Mapping[str, Any]) -> str:
    """Return the ref of an environment and, where that is a pattern, which of those that fit it is followed now."""
    from sync.plan_text import branch

    ref, now = branch(row["ref"]), branch(row.get("following", row["ref"]))
    return ref if ref == now else f"{now} ({ref})"


@command.command("history")
@click.argument("environment", default="default")
@click.option("-n", "count", default=20, show_default=True, type=click.IntRange(1, 500), help="How many revisions.")
@click.option(
    "--from-notes",
    "clone",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="Read the git notes of a clone instead, without a server, and check their chain.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON list.")
@_asks
def history(environment: str, count: int, *, clone: Path | None, as_json: bool, **given: Any) -> int:
    """Show the latest revisions of ENVIRONMENT, the newest first.

    With --from-notes exit code 1 when a row was changed or taken out.
    """
    if clone is None:
        with _client(given) as client:
            rows = client.get(f"/environments/{environment}/revisions", params={"size": count})["results"]
        wrong: list[str] = []
    else:
        rows, wrong = noted(clone, environment, count)
    if as_json:
        click.echo(json.dumps(rows))
    else:
        _table([HEADS, *map(cells, rows)])
    for complaint in wrong:
        click.echo(complaint, err=True)
    return _FINDING if wrong else 0


_environment = click.option("--environment", "-e", default="default", show_default=True, help="Of which environment.")
_reason = click.option("--reason", required=True, help="Why; the ledger and the status show it.")
_length = click.option("--for", "length", metavar="TIME", help="End it by itself after this time: 30m, 2h, P1D.")
_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


@command.command("rollback")
@click.argument("commit", metavar="SHA", required=False)
@_environment
@_reason
@_length
@click.option("--propose", is_flag=True, help="Open a change request too that goes back in git.")
@_json
@options
def rollback(client: Client, commit: str | None, **given: Any) -> int:
    """Go back to what was active before, or to SHA, and stay there.

    Works with the repository's server down, for every commit that was active once. The environment is pinned: what is
    pushed waits until `mainstem sync resume`.
    """
    return _ordered(client, "rollback", commit, **given)


@command.command("revert")
@click.argument("commit", metavar="SHA", required=False)
@_environment
@click.option("--reason", required=True, help="Why; the change request shows it.")
@_json
@options
def revert(client: Client, commit: str | None, *, environment: str, reason: str, as_json: bool) -> None:
    """Open a change request that goes back in git to what is pinned, to what was active before, or to SHA.

    What is active stays so: `mainstem sync rollback` goes back at once.
    """
    body = {"reason": reason} | ({"commit": commit} if commit else {})
    found = client.post(f"/environments/{environment}/revert", json=body)
    click.echo(json.dumps(found) if as_json else f"{environment}: proposed, {_place(found['pullRequest'])}")


def _place(request: Mapping[str, Any]) -> str:
    return request["url"] or f"branch {request['branch']}"


@command.command("pin")
@click.argument("commit", metavar="SHA")
@_environment
@_reason
@_length
@_json
@options
def pin(client: Client, commit: str, **given: Any) -> int:
    """Go to SHA and stay there, whatever is pushed, until `mainstem sync resume`."""
    return _ordered(client, "pin", commit, **given)


@command.command("suspend")
@_environment
@_reason
@_length
@_json
@options
def suspend(client: Client, **given: Any) -> int:
    """Stay at what is active now, whatever is pushed, until `mainstem sync resume`."""
    return _ordered(client, "suspend", None, **given)


def _ordered(
    client: Client,
    action: str,
    commit: str | None,
    *,
    environment: str,
    reason: str,
    length: str | None,
    as_json: bool,
    propose: bool | None = None,
) -> int:
    body = {"reason": reason, "commit": commit, "for": _iso(length) if length else None, "propose": propose or None}
    given = {key: value for key, value in body.items() if value is not None}
    found = client.post(f"/environments/{environment}/{action}", json=given)
    if as_json:
        click.echo(json.dumps(found))
        return 0
    for result in found["results"]:
        click.echo("\n".join(_result(result)))
    click.echo(f"{environment}: {found['environment']['message']}")
    if propose:
        made = found.get("pullRequest")
        said = f"proposed, {_place(made)}" if made else f"not proposed: {found['unproposed']}"
        click.echo(f"{environment}: {said}")
        return 0 if made else _FINDING
    return 0


def _iso(length: str) -> str:
    """Return an ISO-8601 duration; `2h` is short for PT2H."""
    short = re.fullmatch(r"(\d+)([smhd])", length.strip())
    if short is None:
        return length
    number, unit = short.groups()
    return f"P{number}D" if unit == "d" else f"PT{number}{unit.upper()}"


@command.command("drift")
@click.argument("environment", default="default")
@click.option("--heal", is_flag=True, help="Bring the flows back to the active commit.")
@click.option("--reason", help="Why they are brought back; the ledger shows it.")
@_json
@options
def drift(client: Client, environment: str, reason: str | None, *, heal: bool, as_json: bool) -> int:
    """Show which active flows of ENVIRONMENT are not what git says at the active commit.

    Exit code 5 when some are not.
    """
    if heal:
        if not reason:
            raise click.UsageError("--heal needs --reason TEXT: the ledger shows it")
        found = client.post(f"/environments/{environment}/heal", json={"reason": reason})
        click.echo(json.dumps(found) if as_json else "\n".join(_result(found["results"][0])))
        return 0
    found = client.get(f"/environments/{environment}/drift")
    if as_json:
        click.echo(json.dumps(found))
    elif found["changes"]:
        click.echo("\n".join([f"{environment}: what git would bring back", *_plan_rows(found)]))
    else:
        click.echo(f"{environment}: all flows are what {found['commit'][:7]} says")
    return _CHANGES if found["changes"] else 0


@command.command("resume")
@click.argument("environment", default="default")
@click.option("--reason", help="Why; the ledger shows it.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@options
def resume(client: Client, environment: str, reason: str | None, *, as_json: bool) -> int:
    """Let ENVIRONMENT follow its ref again, and bring it there now.

    Exit code 1 when a revision is invalid, held, or its repository cannot be read.
    """
    found = client.post(f"/environments/{environment}/resume", json={"reason": reason} if reason else {})
    results = found["results"]
    click.echo(json.dumps(found) if as_json else "\n".join(line for each in results for line in _result(each)))
    return _FINDING if any(result["result"] in _BAD for result in results) else 0


command.add_command(deliveries)
command.add_command(delivery)


@command.command("replay")
@click.argument("number", metavar="ID", type=click.IntRange(1))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@options
def replay(client: Client, number: int, *, as_json: bool) -> int:
    """Do again what the webhook delivery ID asked for: look at its repository now.

    Exit code 1 when a revision is invalid, held, or the repository cannot be read.
    """
    found = client.post(f"/deliveries/{number}/replay")
    results = found["results"]
    click.echo(json.dumps(found) if as_json else "\n".join(line for each in results for line in _result(each)))
    return _FINDING if any(result["result"] in _BAD for result in results) else 0


def _table(lines: Sequence[Sequence[str]]) -> None:
    """Print rows below their heads; in a pipe without heads and parted by tabs."""
    heads, *rows = lines
    show_rows((dict(zip(heads, row, strict=True)) for row in rows), heads)
