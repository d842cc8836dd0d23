"""The rows of executions that have ended, as reports tell them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from runner.reports.rows import RunRow, row_of
from runner.reports.values import Mask
from runner.states import State
from runner.store.session import Session

_IDS_A_READ: Final = 500
_BAD: Final = frozenset({State.FAILED, State.KILLED})


def ended_rows(db: Session, ids: Sequence[str], mask: Mask) -> list[RunRow]:
    """Return the rows of those executions that have ended; one that was restarted meanwhile will end again."""
    return [row for at in range(0, len(ids), _IDS_A_READ) for row in _rows(db, ids[at : at + _IDS_A_READ], mask)]


def _rows(db: Session, ids: Sequence[str], mask: Mask) -> list[RunRow]:
    ended = db.executions.endings(ids)
    bad = [each.id for each in ended if each.state in _BAD]
    failed = db.executions.failed_runs(bad) if bad else {}
    return [row_of(each, mask, failed.get(each.id, ())) for each in ended]
