"""`mainstem audit`: who did what, and what was refused."""

from __future__ import annotations

import json
from typing import Any, Final

import click

from runner.cli.client import Client, options
from runner.cli.table import moment, safe, show_json, show_rows

_PAGE: Final = 1_000
_COLUMNS: Final = ("at", "actor", "action", "target", "result", "detail")


@click.command("audit")
@click.option("--actor", help="Only what this token did.")
@click.option("--action", help="Only this action: `token.create`, or `token` for all that begin with it.")
@click.option("--target", help="Only what was done to this.")
@click.option("--result", type=click.Choice(["OK", "REFUSED"]), help="Only what was done, or what was refused.")
@click.option("--since", metavar="TIME", help="Only what was done at this time or later, such as 2026-03-01.")
@click.option("-n", "--limit", type=click.IntRange(min=1), default=100, show_default=True, help="At most so many.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@options
def command(client: Client, *, limit: int, as_json: bool, **wanted: str | None) -> None:
    """List the audit log, the newest first (role admin)."""
    rows = _read(client, limit, {name: value for name, value in wanted.items() if value is not None})
    if as_json:
        show_json({"results": rows})
    else:
        show_rows(({**row, "at": moment(row["at"]), "detail": _shown(row["detail"])} for row in rows), _COLUMNS)


def _read(client: Client, limit: int, wanted: dict[str, str]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    while len(rows) < limit:
        before = {"before": rows[-1]["id"]} if rows else {}
        size = min(limit - len(rows), _PAGE)
        found = client.get("/audit", params={**wanted, **before, "limit": size})["results"]
        rows += found
        if len(found) < size:
            break
    return rows


def _shown(detail: dict[str, Any]) -> str:
    """Return the details on one line; fingerprints are for programs."""
    parts = {name: value for name, value in detail.items() if name != "fingerprints"}
    return safe(" ".join(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in parts.items()))
