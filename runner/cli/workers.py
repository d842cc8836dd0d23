"""`mainstem workers`: the processes that carry tasks out."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

import click

from runner.cli.client import Client, options
from runner.cli.groups import SuggestingGroup
from runner.cli.table import moment, show_json, show_rows

_COLUMNS: Final = ("id", "host", "pid", "groups", "taskRuns", "draining", "startedAt")


@click.group("workers", cls=SuggestingGroup)
def command() -> None:
    """List the workers of a server with their groups, and drain one."""


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@options
def list_(client: Client, *, as_json: bool) -> None:
    """List workers: where they run, which groups they serve (`*`: all), how many task runs they hold."""
    page = client.get("/workers")
    if as_json:
        show_json(page)
        return
    rows = page["results"]
    shown = [{**row, "groups": ",".join(row["groups"]) or "-", "startedAt": moment(row["startedAt"])} for row in rows]
    show_rows(shown, _COLUMNS)


@command.command("drain")
@click.argument("worker_id", metavar="ID")
@options
def drain(client: Client, worker_id: str) -> None:
    """Have a worker take no more task runs; what runs may finish, jobs elsewhere go to others at once."""
    client.post(f"/workers/{quote(worker_id, safe='')}/drain")
