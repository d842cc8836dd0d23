"""Lists of keys of namespaces, which `kv list` and `secret list` print alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import click

from runner.cli.client import Client
from runner.cli.table import show_json, show_rows

_PAGE: Final = 1_000

Row = Mapping[str, Any]


def show_keys(
    client: Client,
    path: str,
    columns: Sequence[str],
    shown: Callable[[Row], Row],
    *,
    namespace: str | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Print the keys that a route lists, of a namespace and those below it or of all, as rows that `shown` makes."""
    parameters: dict[str, Any] = {"size": _PAGE, "sort": ["namespace:asc", "key:asc"]}
    if namespace is not None:
        parameters["filters[namespace][PREFIX]"] = namespace
    page = client.get(path, params=parameters)
    if as_json:
        show_json(page)
    elif quiet:
        for row in page["results"]:
            click.echo(row["key"])
    else:
        show_rows(map(shown, page["results"]), columns)
