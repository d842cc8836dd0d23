"""Statements: one spelling, compiled for both drivers, values only ever as parameters."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from runner.store import schema
from runner.store.statements import POSTGRESQL, SQLITE, Statement, compile_for, has_label, listed, one_of

HOSTILE = "'; DROP TABLE executions; -- %s ? :x"


@pytest.mark.parametrize(("dialect", "mark"), [(SQLITE, "?"), (POSTGRESQL, "%s")])
def test_a_statement_has_its_drivers_placeholders(dialect: str, mark: str) -> None:
    statement = Statement(sa.select(schema.flows.c.blob).where(schema.flows.c.path == sa.bindparam("where_it_is")))

    compiled = statement.compiled(dialect)

    assert compiled.names == ("where_it_is",)
    assert compiled.sql.count(mark) == 1
    assert compiled.values({"where_it_is": "x"}) == ("x",)
    assert statement.compiled(dialect) is compiled


@pytest.mark.parametrize("dialect", [SQLITE, POSTGRESQL])
def test_no_value_stands_in_the_text(dialect: str) -> None:
    columns = schema.executions.c
    select = sa.select(columns.id).where(
        has_label(columns.labels, HOSTILE, HOSTILE),
        columns.id.icontains(HOSTILE, autoescape=True),
        columns.state.in_([HOSTILE, "b"]),
    )

    compiled = compile_for(select, dialect, complete=True)

    assert "DROP" not in compiled.sql
    assert sum("DROP" in str(value) for value in compiled.values({})) == 4


@pytest.mark.parametrize("dialect", [SQLITE, POSTGRESQL])
def test_a_list_is_one_parameter_of_any_length(dialect: str) -> None:
    statement = Statement(sa.select(schema.outbox.c.id).where(one_of(schema.outbox.c.id, "ids")))

    compiled = statement.compiled(dialect)

    assert compiled.names == ("ids",)
    assert compiled.values({"ids": listed(range(3))}) == ("[0,1,2]",)


def test_a_missing_value_is_a_mistake() -> None:
    statement = Statement(sa.select(schema.outbox.c.id).where(schema.outbox.c.key == sa.bindparam("wanted")))

    with pytest.raises(KeyError):
        statement.compiled(SQLITE).values({})
