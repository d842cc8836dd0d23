"""`mainstem flows`: the flows that are active on a server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import click

from runner.cli.client import Client, options
from runner.cli.groups import SuggestingGroup
from runner.cli.names import flow_name
from runner.cli.table import safe, show_json, show_rows

_PAGE: Final = 1_000
_REVISIONS: Final = 2  # that can be compared
_DIFFERS: Final = 5  # exit code: changes
_COLUMNS: Final = ("namespace", "id", "revision", "environment", "commit", "disabled", "description")


@click.group("flows", cls=SuggestingGroup)
def command() -> None:
    """List, show and compare flows."""


@command.command("list")
@click.option("-n", "--namespace", help="This namespace and those below it.")
@click.option("-q", "--quiet", is_flag=True, help="Print NAMESPACE.ID only.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@options
def list_(client: Client, *, namespace: str | None, quiet: bool, as_json: bool) -> None:
    """List active flows."""
    rows = list(_all(client, namespace))
    if as_json:
        show_json({"results": rows, "total": len(rows)})
    elif quiet:
        for row in rows:
            click.echo(f"{row['namespace']}.{row['id']}")
    else:
        show_rows(({**row, "commit": (row.get("commit") or "")[:7] or None} for row in rows), _COLUMNS)


@command.command("get")
@click.argument("flow", metavar="NAMESPACE.FLOW")
@click.option("--revision", type=int, help="This revision; the active one without it.")
@click.option("--json", "as_json", is_flag=True, help="Print the flow as JSON.")
@options
def get(client: Client, flow: str, *, revision: int | None, as_json: bool) -> None:
    """Print the source of a flow; NAMESPACE/FLOW works too, for ids with dots."""
    namespace, flow_id = flow_name(flow)
    parameters: dict[str, Any] = {"source": "true"}
    if revision is not None:
        parameters["revision"] = revision
    body = client.get(f"/flows/{namespace}/{flow_id}", params=parameters)
    if as_json:
        show_json(body)
    else:
        click.echo(body["source"], nl=not body["source"].endswith("\n"))


@command.command("diff")
@click.argument("flow", metavar="NAMESPACE.FLOW")
@click.argument("revisions", metavar="[A] [B]", nargs=-1, type=click.IntRange(min=1))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@options
def diff(client: Client, flow: str, *, revisions: tuple[int, ...], as_json: bool) -> int:
    """Print what revision B of a flow changed since A, by meaning; the active one since the one before without them.

    Ends with 5 when anything differs. Spelling, comments and order of properties do not count.
    """
    if len(revisions) > _REVISIONS:
        raise click.BadParameter("at most two revisions", param_hint="[A] [B]")
    namespace, flow_id = flow_name(flow)
    names = ("from", "to")
    body = client.get(f"/flows/{namespace}/{flow_id}/revisions/diff", params=dict(zip(names, revisions, strict=False)))
    if as_json:
        show_json(body)
    else:
        for change in body["changes"]:
            click.echo(safe(change["text"]))
        old, new = body["from"]["revision"], body["to"]["revision"]
        if not body["changes"]:
            click.echo(f"revisions {old} and {new} mean the same")
    return _DIFFERS if body["changes"] else 0


def _all(client: Client, namespace: str | None) -> Iterator[dict[str, Any]]:
    parameters: dict[str, Any] = {"size": _PAGE, "sort": ["namespace:asc", "id:asc"]}
    if namespace is not None:
        parameters["filters[namespace][PREFIX]"] = namespace
    page = 1
    while True:
        rows = client.get("/flows/search", params={**parameters, "page": page})["results"]
        yield from rows
        if len(rows) < _PAGE:
            return
        page += 1
