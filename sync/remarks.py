"""What `mainstem sync status` says below its table, of rows of the API."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from runner.cli.table import moment


def remarks(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the lines about environments, each once: what keeps them, and forges that take little more."""
    return list(dict.fromkeys(line for row in rows for line in _of(row)))


def _of(row: Mapping[str, Any]) -> Iterator[str]:
    if row["message"]:
        yield f"{row['name']}: {row['message']}"
    if (why := (row.get("pin") or {}).get("unproposed")) is not None:
        yield f"{row['name']}: {why}"
    limit = row.get("forgeLimit")
    if limit is not None and limit["isLow"]:
        of = f" of {limit['of']}" if limit["of"] is not None else ""
        more = f", more at {moment(limit['resetsAt'])}" if limit["resetsAt"] else ""
        yield f"{row['repository']}: its forge takes {limit['remaining']}{of} more requests with this token{more}"
