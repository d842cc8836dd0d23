"""`mainstem trigger`: list triggers, show when schedules fire next, switch, unlock and restart them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from runner.cli.client import Client, options, resolve
from runner.cli.groups import SuggestingGroup
from runner.cli.names import flow_name
from runner.cli.table import moment, show_rows
from runner.cli.trigger_backfill import command as backfill
from runner.cli.trigger_backfill import named
from runner.errors import FlowError, NotFoundError

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from runner.flows.models import Flow

_MOST_ROWS = 100  # a page of the list of triggers


@click.group("trigger", cls=SuggestingGroup)
def command() -> None:
    """List triggers, show when schedules fire next, switch, unlock and restart them, run the past again."""


command.add_command(backfill)


@command.command("list")
@options
@click.option("--namespace", "-n", help="Only triggers of this namespace and those below it.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON list.")
def list_triggers(client: Client, namespace: str | None, *, as_json: bool) -> None:
    """List the triggers of the server with their next and last dates."""
    rows = [row["state"] for row in _search(client)]
    if namespace:
        rows = [row for row in rows if row["namespace"] == namespace or row["namespace"].startswith(f"{namespace}.")]
    if as_json:
        click.echo(json.dumps(rows))
        return
    shown = [
        {
            "trigger": f"{row['namespace']}.{row['flowId']}/{row['triggerId']}",
            "kind": row.get("kind"),
            "next": moment(row.get("nextEvaluationDate")),
            "last": moment(row.get("lastTriggeredDate")),
            "state": _state(row),
        }
        for row in rows
    ]
    show_rows(shown, ("trigger", "kind", "next", "last", "state"))


def _state(row: dict[str, Any]) -> str:
    """Return `off`, `backfill` while the past is run again, `locked` while the last execution goes on, else `on`."""
    if row.get("disabled"):
        return "off"
    backfill = row.get("backfill")
    if backfill:
        return "backfill (paused)" if backfill["paused"] else "backfill"
    return "locked" if row.get("locked") else "on"


@command.command("next")
@click.argument("what")
@click.option("-n", "count", default=5, show_default=True, type=click.IntRange(1, 100), help="How many dates.")
@click.option("--zone", default="UTC", show_default=True, help="The time zone of schedules that name none.")
@click.option("--url", help="Address of the server (MAINSTEM_URL).")
@click.option("--token", help="Token of the server (MAINSTEM_TOKEN).")
@click.option("--context", help="Name of a server in the context file.")
@click.option("--from", "after", help="Begin after this time (ISO-8601) instead of now.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON list.")
def next_dates(what: str, count: int, zone: str, after: str | None, *, as_json: bool, **server: str | None) -> None:
    """Show when the schedules of WHAT fire next: a flow file, which needs no server, or NAMESPACE.FLOW of the server.

    Conditions that depend on more than the date are not asked.
    """
    from runner.triggers.dates import iso, parse_date, parse_zone

    found = [
        {
            "namespace": flow.namespace,
            "flowId": flow.id,
            "triggerId": trigger_id,
            "dates": [iso(date) for date in dates],
        }
        for flow in [_flow(what, **server)]
        for trigger_id, dates in _dates(flow, count, parse_date(after) if after else _now(), parse_zone(zone))
    ]
    if as_json:
        click.echo(json.dumps(found))
        return
    if not found:
        click.echo(f"{what} has no schedule")
    for entry in found:
        click.echo(f"{entry['namespace']}.{entry['flowId']}/{entry['triggerId']}")
        for date in entry["dates"]:
            click.echo(f"  {date}")
        if not entry["dates"]:
            click.echo("  never again")


@command.command("disable")
@options
@click.argument("trigger")
def disable(client: Client, trigger: str) -> None:
    """Switch TRIGGER (NAMESPACE.FLOW/ID) off until it is enabled again; this is no commit."""
    _switch(client, trigger, disabled=True)


@command.command("enable")
@options
@click.argument("trigger")
def enable(client: Client, trigger: str) -> None:
    """Switch TRIGGER (NAMESPACE.FLOW/ID) on; dates that passed while it was off are not made up."""
    _switch(client, trigger, disabled=False)


@command.command("unlock")
@options
@click.argument("trigger")
def unlock(client: Client, trigger: str) -> None:
    """Let TRIGGER (NAMESPACE.FLOW/ID) go on although the execution it started last has not ended."""
    client.post(f"/triggers/{'/'.join(named(trigger).values())}/unlock")
    click.echo(f"{trigger} is unlocked")


@command.command("restart")
@options
@click.argument("trigger")
def restart(client: Client, trigger: str) -> None:
    """Have TRIGGER (NAMESPACE.FLOW/ID) begin as if it were new: what it remembers is forgotten."""
    client.post(f"/triggers/{'/'.join(named(trigger).values())}/restart")
    click.echo(f"{trigger} begins anew")


def _switch(client: Client, name: str, *, disabled: bool) -> None:
    state = client.put("/triggers/set-disabled", json={**named(name), "disabled": disabled})
    click.echo(f"{name} is {'off' if state['disabled'] else 'on'}")


def _search(client: Client) -> Iterator[dict[str, Any]]:
    page = 1
    while True:
        answer = client.get("/triggers/search", params={"page": page, "size": _MOST_ROWS})
        yield from answer["results"]
        if page * _MOST_ROWS >= answer["total"]:
            return
        page += 1


def _flow(what: str, **server: str | None) -> Flow:
    from runner.flows.inherited import from_text
    from runner.flows.namespace_defaults import stated_namespace
    from runner.flows.parse import parse_flow
    from runner.working_copy import defaults_around

    path = Path(what)
    if path.is_file():
        source = path.read_text(encoding="utf-8")
        space = stated_namespace(source.encode()) or ""
        inherited = defaults_around(path, space, source.encode())[0].around(space, source)
    elif path.suffix in {".yaml", ".yml"} or "/" in what:
        raise NotFoundError("file.missing", f"there is no file {what}")
    else:
        namespace, flow_id = flow_name(what)
        with Client(resolve(os.environ, **server)) as client:
            answer = client.get(f"/flows/{namespace}/{flow_id}", params={"source": "true"})
        source, inherited = answer["source"], from_text(answer.get("defaults"))
    parsed = parse_flow(source, file=what, inherited=inherited)
    if parsed.flow is None:
        first = parsed.problems[0]
        raise FlowError(first.code, f"{what}:{first.line or 1}: {first.message}", hint=first.hint)
    return parsed.flow


def _dates(flow: Flow, count: int, after: datetime, zone: ZoneInfo) -> Iterator[tuple[str, list[datetime]]]:
    """Yield each schedule of the flow with its next dates, in its own zone."""
    from runner.triggers.activation import next_look
    from runner.triggers.models import Schedule, ScheduleOnDates
    from runner.triggers.schedule import zone_of

    for trigger in flow.triggers:
        if not isinstance(trigger, Schedule | ScheduleOnDates) or trigger.disabled:
            continue
        dates: list[datetime] = []
        at: datetime | None = after
        while at is not None and len(dates) < count:
            at = next_look(trigger, at, zone)
            if at is not None:
                dates.append(at.astimezone(zone_of(trigger, zone)))
        yield trigger.id, dates


def _now() -> datetime:
    from datetime import UTC

    return datetime.now(UTC)
