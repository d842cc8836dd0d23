"""`mainstem webhook`: whether the webhooks of a forge would arrive."""

from __future__ import annotations

import click

from runner.cli.client import Client, options
from runner.cli.groups import SuggestingGroup
from runner.cli.table import show_json


@click.group("webhook", cls=SuggestingGroup)
def command() -> None:
    """Try the address to which forges send their webhooks."""


@command.command("test")
@click.argument("name", metavar="ENVIRONMENT|REPOSITORY")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@options
def test(client: Client, name: str, *, as_json: bool) -> int:
    """Let the server send itself a signed sample through its public address, and say what is wrong.

    Exit code 1 when it did not arrive.
    """
    found = client.post(f"/hooks/{name}/test")
    if as_json:
        show_json(found)
    elif found["problem"]:
        click.echo(f"{found['url']}: {found['problem']}\nhint: {found['advice']}")
    else:
        click.echo(f"{found['url']}: {found['status']}, the sample arrived and was believed")
    return 1 if found["problem"] else 0
