"""Plans: what is asked of tables that grow for ever is found by an index, in its order, and not by reading them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import pytest
import sqlalchemy as sa

from runner.states import State
from runner.store import ExecutionQuery, Store, access, claims, deliveries, expiry, ledger
from runner.store.execution_search import page_of
from runner.store.statements import SQLITE, Statement, compile_for
from tests.servers.store import fresh_store

LOOKS: Final[dict[str, Statement]] = {
    "ended executions": expiry._ENDED,
    "old metrics": expiry._DROP_METRICS,
    "late handles": claims._RECENT,
    "old answers": deliveries._PRUNE_ANSWERS,
    "the end of the ledger": ledger._LAST,
    "the last row of the ledger": ledger._LAST_ID,
    "a page of the ledger": ledger._LIST,
    "what came later in the ledger": ledger._AFTER,
    "the chain of the ledger": ledger._CHAIN,
}
QUERIES: Final = (
    ExecutionQuery(namespace="company"),
    ExecutionQuery(namespace="company.team", exact=True, flow_id="load"),
    ExecutionQuery(states=(State.SUCCESS, State.FAILED)),
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    made = fresh_store(f"sqlite:///{tmp_path_factory.mktemp('plans')}/state.db", durability="off")
    yield made
    made.close()


@pytest.mark.parametrize("name", LOOKS)
def test_a_look_at_a_table_that_grows_reads_no_more_than_it_needs(store: Store, name: str) -> None:
    sql = LOOKS[name].compiled(SQLITE).sql

    steps = plan(store, sql, [None] * sql.count("?"))

    assert reading_all(steps) == []


@pytest.mark.parametrize("query", QUERIES)
def test_a_page_of_many_executions_is_read_from_the_newest_on(store: Store, query: ExecutionQuery) -> None:
    compiled = compile_for(page_of(query, 100_000, SQLITE), SQLITE, complete=True)

    steps = plan(store, compiled.sql, compiled.values({}))

    assert steps[0] == "SCAN executions USING INDEX executions_created"
    assert "USE TEMP B-TREE FOR ORDER BY" not in steps


def test_few_executions_of_a_flow_are_found_by_its_index(store: Store) -> None:
    query = ExecutionQuery(namespace="company.team", exact=True, flow_id="load")
    compiled = compile_for(page_of(query, 10, SQLITE), SQLITE, complete=True)

    steps = plan(store, compiled.sql, compiled.values({}))

    assert steps[0].startswith("SEARCH executions USING INDEX executions_flow (namespace=? AND flow_id=?)")


@pytest.mark.parametrize("column", ["at", "target"])
def test_the_audit_log_is_asked_by_time_and_by_target(store: Store, column: str) -> None:
    select = sa.select(access._a.id).where(access._a[column] == sa.bindparam("wanted")).order_by(access._a.id)

    steps = plan(store, compile_for(select, SQLITE).sql, [0])

    assert reading_all(steps[:1]) == []


def plan(store: Store, sql: str, values: Any) -> list[str]:
    """The steps by which SQLite would carry out a statement."""
    return store.read(
        lambda db: [row[3] for row in db.connection.driver.execute(f"EXPLAIN QUERY PLAN {sql}", tuple(values))]
    )


def reading_all(steps: list[str]) -> list[str]:
    """The steps that read a whole table, or sort what is read."""
    wide = [each for each in steps if each.startswith("SCAN") and " USING INDEX " not in each]
    return [each for each in (*wide, *(each for each in steps if "TEMP B-TREE" in each)) if "json_each" not in each]
