"""`mainstem sync deliveries` and `mainstem sync delivery`: which webhooks came, and one of them whole."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import click

from runner.cli.client import Client, options
from runner.cli.table import moment, show_rows

_RESULTS: Final = ("ACCEPTED", "IGNORED", "DUPLICATE", "REFUSED")


@click.command("deliveries")
@click.argument("repository", required=False)
@click.option("--result", type=click.Choice(_RESULTS, case_sensitive=False), help="Only those that came to this.")
@click.option("-n", "count", default=20, show_default=True, type=click.IntRange(1, 1000), help="How many deliveries.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON list.")
@options
def deliveries(client: Client, repository: str | None, result: str | None, count: int, *, as_json: bool) -> None:
    """Show the latest webhook deliveries of REPOSITORY, or of all, the newest first."""
    params = {"repository": repository, "result": result, "limit": count}
    given = {key: value for key, value in params.items() if value is not None}
    rows = client.get("/deliveries", params=given)["results"]
    if as_json:
        click.echo(json.dumps(rows))
        return
    heads = ("ID", "RECEIVED", "RESULT", "REPOSITORY", "EVENT", "REF", "COMMIT", "ACTOR", "REASON")
    show_rows((dict(zip(heads, _delivery_cells(row), strict=True)) for row in rows), heads)


def _delivery_cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        str(row["id"]),
        moment(row["receivedAt"]),
        row["result"],
        row["repository"],
        row["event"] or "-",
        (row["ref"] or "-").removeprefix("refs/heads/"),
        (row["after"] or "-")[:7],
        row["actor"] or "-",
        row["reason"] or "",
    )


@click.command("delivery")
@click.argument("number", metavar="ID", type=click.IntRange(1))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@options
def delivery(client: Client, number: int, *, as_json: bool) -> None:
    """Show one webhook delivery as it came: its headers, and the first 64 KiB of its body."""
    found = client.get(f"/deliveries/{number}")
    if as_json:
        click.echo(json.dumps(found))
        return
    for name in ("repository", "receivedAt", "deliveryId", "event", "result", "reason", "ref", "before", "after"):
        click.echo(f"{name + ':':<13}{found[name] or '-'}")
    click.echo("\n".join(f"{name}: {text}" for name, text in found["headers"].items()))
    click.echo(f"\n{_printable(found['body'])}")


def _printable(text: str) -> str:
    # The body is somebody else's: it must not drive the terminal.
    return "".join(letter if letter.isprintable() or letter in "\n\t" else "\ufffd" for letter in text)
