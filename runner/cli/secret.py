"""`mainstem secret`: the secrets of namespaces that a server keeps. Their values go in and never come out."""

from __future__ import annotations

import sys
from typing import Final
from urllib.parse import quote

import click

from runner.cli.client import Client, options
from runner.cli.groups import SuggestingGroup
from runner.cli.keys import Row, show_keys

_MOST_CHARS: Final = 1 << 20
_COLUMNS: Final = ("namespace", "key", "set", "description")


@click.group("secret", cls=SuggestingGroup)
def command() -> None:
    """Set and remove secrets of namespaces; list their keys."""


@command.command("list")
@click.option("-n", "--namespace", help="This namespace and those below it.")
@click.option("-q", "--quiet", is_flag=True, help="Print keys only.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@options
def list_(client: Client, *, namespace: str | None, quiet: bool, as_json: bool) -> None:
    """List keys, never values: `here` are those set on the server, `outside` those of its files and environment."""
    show_keys(client, "/secrets", _COLUMNS, _row, namespace=namespace, quiet=quiet, as_json=as_json)


def _row(row: Row) -> Row:
    return {**row, "set": "outside" if row["readOnly"] else "here"}


@command.command("set")
@click.argument("namespace")
@click.argument("key")
@click.option("--description", help="What it is for; everybody may read it. Without it what was said before stays.")
@options
def set_(client: Client, namespace: str, key: str, *, description: str | None) -> None:
    """Keep a secret for a namespace and those below it: the value is asked for, or read from the standard input.

    One line break at the end of the input is left out. A value is never an argument: the list of processes and the
    history of the shell would show it.
    """
    said = {} if description is None else {"description": description}
    body = {"key": key, "value": _value(key), **said}
    client.put(f"/namespaces/{quote(namespace, safe='')}/secrets", json=body)


@command.command("delete")
@click.argument("namespace")
@click.argument("key")
@options
def remove(client: Client, namespace: str, key: str) -> None:
    """Remove a secret that was set; exit 3 when there is none."""
    client.delete(f"/namespaces/{quote(namespace, safe='')}/secrets/{quote(key, safe='')}")


def _value(key: str) -> str:
    if sys.stdin.isatty():
        asked: str = click.prompt(f"Value of {key}", hide_input=True, confirmation_prompt=True, err=True)
        return asked
    text = sys.stdin.read(_MOST_CHARS)
    return text.removesuffix("\n").removesuffix("\r")
