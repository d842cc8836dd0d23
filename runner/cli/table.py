"""Rows for people and for programs: aligned on a terminal, parted by tabs in a pipe, JSON when asked for."""

from __future__ import annotations

import json
import sys
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click


def show_json(content: Any) -> None:
    """Print JSON: indented on a terminal, on one line otherwise."""
    click.echo(json.dumps(content, indent=2 if sys.stdout.isatty() else None, ensure_ascii=False))


def show_rows(rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Print one line per row with the given columns, with a head and aligned only on a terminal."""
    lines = [[_cell(row.get(column)) for column in columns] for row in rows]
    if not sys.stdout.isatty():
        for line in lines:
            click.echo("\t".join(line))
        return
    head = [column.upper() for column in columns]
    widths = [max(_width(line[index]) for line in [head, *lines]) for index in range(len(columns))]
    for line in [head, *lines]:
        cells = [cell + " " * (width - _width(cell)) for cell, width in zip(line, widths, strict=True)]
        click.echo("  ".join(cells).rstrip())


def moment(text: str | None) -> str:
    """Return a time of the API (UTC, ISO 8601) to the second, as people read it; `-` for none."""
    return f"{text[:10]} {text[11:19]}Z" if text else "-"


def safe(text: str) -> str:
    """Return text of others without control characters, which could write anywhere on a terminal."""
    return "".join(char if char in "\t\n" or unicodedata.category(char)[0] != "C" else "\ufffd" for char in text)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return safe(str(value)).replace("\t", " ").replace("\n", " ")


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)
