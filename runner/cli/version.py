"""`mainstem version`: what runs, and on what."""

from __future__ import annotations

import json
import platform
import sqlite3

import click

from runner import __version__


@click.command("version")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(*, as_json: bool) -> None:
    """Print the version and where it runs."""
    facts = {
        "version": __version__,
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "system": platform.platform(terse=True),
    }
    if as_json:
        click.echo(json.dumps(facts))
    else:
        click.echo(f"mainstem {__version__}")
        click.echo(f"python {facts['python']}, sqlite {facts['sqlite']}, {facts['system']}")
