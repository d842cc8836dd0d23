"""`mainstem trigger backfill`: run a stretch of a schedule's past again, and look after that."""

from __future__ import annotations

import json
from typing import Any

import click

from runner.cli.client import Client, options
from runner.cli.groups import SuggestingGroup
from runner.cli.table import moment
from runner.errors import InvalidError


@click.group("backfill", cls=SuggestingGroup)
def command() -> None:
    """Run every date of a schedule's past again, one after the other."""


@command.command("create")
@options
@click.argument("trigger")
@click.option("--start", required=True, help="The first date that counts (ISO-8601).")
@click.option("--end", help="The last date that counts; now, unless given.")
@click.option("--input", "-i", "inputs", multiple=True, metavar="KEY=VALUE", help="An input; may be repeated.")
@click.option("--label", "-l", "labels", multiple=True, metavar="KEY=VALUE", help="A label; may be repeated.")
def create(
    client: Client, trigger: str, start: str, end: str | None, inputs: tuple[str, ...], labels: tuple[str, ...]
) -> None:
    """Run the dates of TRIGGER (NAMESPACE.FLOW/ID) from --start to --end again; the schedule goes on behind them."""
    backfill: dict[str, Any] = {"start": start, "inputs": dict(map(_pair, inputs))}
    backfill["labels"] = [{"key": key, "value": value} for key, value in map(_pair, labels)]
    if end:
        backfill["end"] = end
    state = client.put("/triggers/backfill/create", json={**named(trigger), "backfill": backfill})
    _tell(trigger, state)


@command.command("pause")
@options
@click.argument("trigger")
def pause(client: Client, trigger: str) -> None:
    """Let the backfill of TRIGGER rest; its own dates go on."""
    _tell(trigger, client.put("/triggers/backfill/pause", json=named(trigger)))


@command.command("resume")
@options
@click.argument("trigger")
def resume(client: Client, trigger: str) -> None:
    """Go on with the backfill of TRIGGER where it was paused."""
    _tell(trigger, client.put("/triggers/backfill/unpause", json=named(trigger)))


@command.command("delete")
@options
@click.argument("trigger")
def delete(client: Client, trigger: str) -> None:
    """End the backfill of TRIGGER; executions that it started go on."""
    _tell(trigger, client.post("/triggers/backfill/delete", json=named(trigger)))


@command.command("show")
@options
@click.argument("trigger")
@click.option("--json", "as_json", is_flag=True, help="Print the backfill as JSON; null when there is none.")
def show(client: Client, trigger: str, *, as_json: bool) -> None:
    """Show how far the backfill of TRIGGER is."""
    name = named(trigger)
    page = client.get(f"/triggers/{name['namespace']}/{name['flowId']}", params={"q": name["triggerId"], "size": 100})
    state: dict[str, Any] = next((row for row in page["results"] if row["triggerId"] == name["triggerId"]), {})
    if as_json:
        click.echo(json.dumps(state.get("backfill")))
        return
    _tell(trigger, state)


def named(name: str) -> dict[str, str]:
    """Return the identity of a trigger written NAMESPACE.FLOW/ID. Raises `InvalidError` `trigger.name.invalid`."""
    flow, _, trigger_id = name.partition("/")
    namespace, _, flow_id = flow.rpartition(".")
    if not (namespace and flow_id and trigger_id):
        raise InvalidError("trigger.name.invalid", f"{name!r} names no trigger", hint="write it NAMESPACE.FLOW/ID")
    return {"namespace": namespace, "flowId": flow_id, "triggerId": trigger_id}


def _pair(text: str) -> tuple[str, str]:
    key, sign, value = text.partition("=")
    if not (key and sign):
        raise InvalidError("request.parameter.invalid", f"{text!r} is not KEY=VALUE")
    return key, value


def _tell(name: str, state: dict[str, Any]) -> None:
    backfill = state.get("backfill")
    if not backfill:
        click.echo(f"{name} has no backfill")
        return
    word = "paused at" if backfill["paused"] else "at"
    start, end, current = (moment(backfill[each]) for each in ("start", "end", "currentDate"))
    click.echo(f"{name}: backfill from {start} to {end}, {word} {current}")
