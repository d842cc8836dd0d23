"""`mainstem kv`: the key-value store of namespaces."""

from __future__ import annotations

import json
from typing import Final

import click

from runner.cli.client import Client, options
from runner.cli.groups import SuggestingGroup
from runner.cli.keys import Row, show_keys
from runner.cli.table import moment, safe, show_json
from runner.errors import NotFoundError

_COLUMNS: Final = ("namespace", "key", "revision", "updated", "expires", "description")


@click.group("kv", cls=SuggestingGroup)
def command() -> None:
    """Read and write the key-value store."""


@command.command("list")
@click.option("-n", "--namespace", help="This namespace and those below it.")
@click.option("-q", "--quiet", is_flag=True, help="Print keys only.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@options
def list_(client: Client, *, namespace: str | None, quiet: bool, as_json: bool) -> None:
    """List keys, never values."""
    show_keys(client, "/kv", _COLUMNS, _row, namespace=namespace, quiet=quiet, as_json=as_json)


def _row(row: Row) -> Row:
    return {**row, "updated": moment(row["updateDate"]), "expires": moment(row["expirationDate"])}


@command.command("get")
@click.argument("namespace")
@click.argument("key")
@click.option("--json", "as_json", is_flag=True, help="Print value, type and revision as JSON.")
@options
def get(client: Client, namespace: str, key: str, *, as_json: bool) -> None:
    """Print a value: text as it is, everything else as JSON."""
    body = client.get(_path(namespace, key))
    if as_json:
        show_json(body)
        return
    value = body["value"]
    click.echo(safe(value) if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


@command.command("set")
@click.argument("namespace")
@click.argument("key")
@click.argument("value")
@click.option("--ttl", metavar="DURATION", help="Forget the value after this time, such as PT1H.")
@click.option("--text", is_flag=True, help="Take VALUE as text, even when it looks like JSON or a date.")
@options
def set_(client: Client, namespace: str, key: str, value: str, *, ttl: str | None, text: bool) -> None:
    """Store a value: JSON, a time or a duration when it reads as one, else text."""
    headers = {"content-type": "text/plain", **({"ttl": ttl} if ttl else {})}
    client.put(_path(namespace, key), content=(json.dumps(value) if text else _typed(value)).encode(), headers=headers)


@command.command("delete")
@click.argument("namespace")
@click.argument("key")
@options
def delete(client: Client, namespace: str, key: str) -> None:
    """Remove a key; exit 3 when there is none."""
    if client.delete(_path(namespace, key)) is False:
        raise NotFoundError("kv.key.missing", f"no key {key!r} in {namespace}")


def _path(namespace: str, key: str) -> str:
    from urllib.parse import quote

    from runner.key_values import checked_key

    checked_key(key)
    return f"/namespaces/{quote(namespace, safe='')}/kv/{quote(key, safe='')}"


def _typed(value: str) -> str:
    """Return what to send: text in quotes unless the server would read it as something else."""
    from runner.errors import InvalidError
    from runner.key_values import typed_value

    try:
        json.loads(value)
        return value
    except ValueError:
        pass
    for kind in ("DATETIME", "DATE", "DURATION"):
        try:
            typed_value(value, kind)
            return value
        except InvalidError:
            continue
    return json.dumps(value)
