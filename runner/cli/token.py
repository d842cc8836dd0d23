"""`mainstem token`: API tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

import click

from runner.cli.client import Client, options
from runner.cli.groups import SuggestingGroup
from runner.cli.table import moment, show_json, show_rows

_COLUMNS: Final = ("name", "role", "scope", "prefix", "expiresAt", "lastUsedAt")


@click.group("token", cls=SuggestingGroup)
def command() -> None:
    """Create, list and revoke API tokens (role admin)."""


@command.command("create")
@click.argument("name")
@click.option("--role", type=click.Choice(["viewer", "operator", "developer", "admin"]), default="viewer")
@click.option("-n", "--namespace", "namespaces", multiple=True, help="Counts for this namespace and those below it.")
@click.option("--max-age", metavar="DURATION", help="Valid this long, such as P90D; for ever without it.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@options
def create(
    client: Client, name: str, *, role: str, namespaces: tuple[str, ...], max_age: str | None, as_json: bool
) -> None:
    """Create a token and print its secret, which is never shown again."""
    body: dict[str, Any] = {"name": name, "role": role, "namespaces": list(namespaces) or ["*"]}
    if max_age is not None:
        body["maxAge"] = max_age
    made = client.post("/tokens", json=body)
    if as_json:
        show_json(made)
    else:
        click.echo(made["fullToken"])


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@options
def list_(client: Client, *, as_json: bool) -> None:
    """List tokens, without their secrets."""
    page = client.get("/tokens")
    if as_json:
        show_json(page)
    else:
        show_rows(map(_row, page["results"]), _COLUMNS)


def _row(token: Mapping[str, Any]) -> dict[str, Any]:
    times = {name: moment(token[name]) for name in ("expiresAt", "lastUsedAt")}
    return {**token, **times, "scope": ",".join(token["namespaces"])}


@command.command("revoke")
@click.argument("name")
@options
def revoke(client: Client, name: str) -> None:
    """Revoke a token; it is refused from now on."""
    client.delete(f"/tokens/{quote(name, safe='')}")
