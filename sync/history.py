"""The ledger as a table: rows of the API, or of notes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from runner.cli.table import moment
from sync.signatures.verdict import described

HEADS: Final = ("AT", "COMMIT", "ACTION", "RESULT", "CHANGES", "ACTOR", "REASON", "DELIVERY", "SIGNED")


def cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the cells of a row below `HEADS`; its `changes` are the changes, or how many flows they are about."""
    changes = row["changes"]
    flows = changes if isinstance(changes, int) else sum(not each.get("renamedTo") for each in changes)
    return (
        moment(row["at"]),
        row["commit"][:7],
        row["action"],
        row["result"],
        str(flows),
        row["actor"] or "-",
        row["reason"] or row.get("message") or "",
        _delivery(row),
        row.get("signed") or described(row.get("signature")) or "-",
    )


def _delivery(row: Mapping[str, Any]) -> str:
    """Return the forge's id of the delivery that told of a commit, and who caused it."""
    sender = f" of {row['sender']}" if row.get("sender") else ""
    return f"{row['delivery']}{sender}" if row.get("delivery") else "-"


def noted(clone: Path, environment: str, count: int) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the newest rows that the notes of a clone hold, and what breaks their chain, in sentences.

    Raises:
        NotFoundError: as `sync.reports.noted.of_clone`.
    """
    from sync.reports.ledger_notes import breaks
    from sync.reports.noted import of_clone

    lines, gaps = of_clone(clone, environment)
    newest = sorted(lines, key=lambda line: (line.at, line.row), reverse=True)[:count]
    wrong = [f"row {line.row} of server {line.server} {why}" for line, why in breaks(lines, gaps)]
    return [line.as_json() for line in newest], wrong
