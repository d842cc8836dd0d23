"""Questions to the store that come in pages, and the conditions that several of them share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, TypeVar

import sqlalchemy as sa

from runner.errors import InvalidError
from runner.states import State
from runner.store.statements import begins_with, has_label

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One page of a result, and how many rows the whole result has."""

    items: list[T]
    total: int


@dataclass(frozen=True, slots=True)
class ExecutionQuery:
    """Which executions to look for; what is left out does not restrict.

    `namespace` matches itself and everything below it unless `exact`. `q` is a fragment of the id, the namespace or
    the flow id. `since` and `until` bound `created_at`, `until` excluded. `page` counts from 1; `sort` is a list of
    `<column>:asc` or `<column>:desc`.
    """

    namespace: str | None = None
    exact: bool = False
    flow_id: str | None = None
    states: tuple[State, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    since: datetime | None = None
    until: datetime | None = None
    trigger_execution_id: str | None = None
    parent_id: str | None = None
    q: str | None = None
    kind: str | None = None
    page: int = 1
    size: int = 25
    sort: tuple[str, ...] = ()


def within(column: sa.Column[Any], namespace: str) -> Any:
    """Return the condition that `column` is `namespace` or below it, by whole segments and in its letters."""
    return sa.or_(column == namespace, begins_with(column, namespace + "."))


def labelled(column: sa.Column[Any], labels: Mapping[str, str]) -> list[Any]:
    """Return one condition for each label that must be there."""
    return [has_label(column, key, str(value)) for key, value in labels.items()]


def ordering(sort: tuple[str, ...], columns: Mapping[str, sa.Column[Any]], default: Any) -> list[Any]:
    """Return the ORDER BY of `sort`, ended by `default` so that pages never overlap.

    Raises:
        InvalidError: `query.sort.invalid`, when a name is not in `columns` or a direction is neither asc nor desc.
    """
    order: list[Any] = []
    for item in sort:
        name, _, direction = item.partition(":")
        if name not in columns or direction.lower() not in {"", "asc", "desc"}:
            raise InvalidError(
                "query.sort.invalid",
                f"cannot sort by {item!r}",
                hint=f"use one of {', '.join(sorted(columns))}, followed by :asc or :desc",
            )
        order.append(columns[name].desc() if direction.lower() == "desc" else columns[name].asc())
    return [*order, *(default if isinstance(default, (list, tuple)) else [default])]


def paged(select: sa.Select[Any], page: int, size: int) -> sa.Select[Any]:
    """Return `select` cut to a page; pages count from 1.

    Raises:
        InvalidError: `query.page.invalid`, when there can be no such page.
    """
    if page < 1 or not 0 <= size <= 10_000:
        raise InvalidError(
            "query.page.invalid", f"no page {page} of size {size}", hint="pages count from 1, a size is at most 10000"
        )
    return select.limit(size).offset((page - 1) * size)
