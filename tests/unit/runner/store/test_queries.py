"""Pages: what cannot be sorted or paged is refused with its reason."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest
import sqlalchemy as sa

from runner.errors import InvalidError
from runner.store import schema
from runner.store.queries import ordering, paged, within
from runner.store.statements import compile_for

FLOWS = schema.flows.c


def test_the_default_ends_every_order() -> None:
    order = ordering(("id:DESC", "namespace"), {"id": FLOWS.flow_id, "namespace": FLOWS.namespace}, FLOWS.revision)

    assert [str(clause) for clause in order] == ["flows.flow_id DESC", "flows.namespace ASC", "flows.revision"]


@pytest.mark.parametrize("sort", ["secret", "id:sideways", "", "id;drop"])
def test_an_order_that_is_not_offered_is_refused(sort: str) -> None:
    with pytest.raises(InvalidError) as caught:
        ordering((sort,), {"id": FLOWS.flow_id}, FLOWS.revision)

    assert caught.value.code == "query.sort.invalid"


@pytest.mark.parametrize(("page", "size"), [(0, 10), (-1, 10), (1, -1), (1, 10_001)])
def test_a_page_that_cannot_be_is_refused(page: int, size: int) -> None:
    with pytest.raises(InvalidError) as caught:
        paged(sa.select(FLOWS.blob), page, size)

    assert caught.value.code == "query.page.invalid"


def test_a_namespace_is_matched_by_whole_segments() -> None:
    compiled = compile_for(sa.select(FLOWS.blob).where(within(FLOWS.namespace, "a_b")), "sqlite", complete=True)

    assert compiled.values({}) == ("a_b", "a_b.", "a_b/")


def test_namespaces_are_looked_up_in_an_index_and_not_row_by_row() -> None:
    compiled = compile_for(sa.select(FLOWS.blob).where(within(FLOWS.namespace, "team")), "sqlite", complete=True)
    with closing(sqlite3.connect(":memory:")) as db:
        db.execute("CREATE TABLE flows (blob, namespace TEXT)")
        db.execute("CREATE INDEX by_name ON flows (namespace)")

        steps = [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {compiled.sql}", compiled.values({}))]

    assert "SEARCH flows USING INDEX by_name (namespace>? AND namespace<?)" in steps
