"""The check: silent on a sound store, a sentence for each contradiction."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from runner.executions.models import Attempt, Commit
from runner.states import State
from runner.store import Store


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        ("UPDATE attempts SET ended_at = 1", "is RUNNING under a claim that has no open attempt"),
        ("UPDATE attempts SET epoch = 7", "has an attempt of a newer epoch"),
        ("UPDATE task_runs SET result = 'SUCCESS'", "has a result that no ended attempt"),
        ("UPDATE attempts SET number = 2", "are not numbered 1 to 1"),
        ("DELETE FROM executions", "belongs to no execution"),
        ("DELETE FROM task_runs", "belongs to no task run"),
    ],
)
def test_a_contradiction_is_found(store_url: str, rows: Any, damage: str, expected: str) -> None:
    store = Store.open(store_url, durability="normal")
    run = rows.submitted(store)
    store.write(lambda session: session.claims.claim(run.id, 0, "w", rows.now))
    assert store.check() == []
    store.write(lambda session: session.connection.driver.execute(damage))

    findings = store.check()

    store.close()
    assert any(expected in finding and run.id in finding for finding in findings)


def test_a_run_inside_anothers_claim_is_sound(store: Store, rows: Any) -> None:
    execution = rows.started(store)
    run = rows.run(execution, state=State.SUCCESS, attempts=1, ended_at=rows.now)
    attempt = Attempt(run.id, execution.id, 1, 1, State.SUCCESS, "w", rows.now, rows.now)

    rows.commit(store, Commit(execution, 1, new_runs=(run,), attempts=(attempt,)))

    assert store.check() == []


def test_a_damaged_page_is_found(sqlite_url: str, tmp_path: Any, at_once: Callable[..., Any]) -> None:
    store = Store.open(sqlite_url)
    store.write(lambda session: session.reports.put("e", "k", "x" * 20_000))
    store.close()
    file = tmp_path / "state.db"
    content = bytearray(file.read_bytes())
    place = content.index(b"x" * 3000)
    page = place - place % 4096
    content[page : page + 4] = b"\xff\xff\xff\xff"  # the page's link to the next one
    file.write_bytes(content)

    again = Store.open(sqlite_url)
    findings = again.check()
    again.close()

    assert findings
