"""Rows: a table begins with the fields of its dataclass, and rows survive the way there and back."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import sqlalchemy as sa

from runner.store import columns
from runner.store.rows import Rows


@dataclass(frozen=True)
class Thing:
    name: str
    tags: dict[str, int]
    note: str | None = None
    id: int = 0


def _table(*names: str) -> sa.Table:
    made = {
        "name": columns.text("name"),
        "tags": columns.structure("tags"),
        "note": columns.prose("note"),
        "id": columns.identity(),
        "extra": columns.number("extra"),
    }
    return sa.Table("things", sa.MetaData(), *(made[name] for name in names))


def test_a_row_is_encoded_in_the_order_of_the_insert_and_decoded_in_that_of_the_fields() -> None:
    rows = Rows(Thing, _table("name", "tags", "note", "id", "extra"), generated="id")

    encoded = rows.encode(Thing("a", {"x": 1}, "b\x00"), 7)

    assert encoded == ("a", '{"x":1}', "b\ufffd", 7)
    assert rows.insert.compiled("sqlite").names == ("name", "tags", "note", "extra")
    assert rows.decode(("a", '{"x":1}', None, 3, 7)) == Thing("a", {"x": 1}, None, 3)


def test_a_table_in_another_order_is_a_mistake() -> None:
    with pytest.raises(AssertionError, match="must start with"):
        Rows(Thing, _table("tags", "name", "note", "id"))
