"""What has to happen after the commit of an execution, told from its row before and after. Pure."""

from __future__ import annotations

from runner.executions.models import (
    OUTBOX_CHILD_ENDED,
    OUTBOX_FLOW_EVENT,
    OUTBOX_REPORT,
    Execution,
    HistoryRow,
    OutboxRow,
    entered_since,
)
from runner.states import State


def rows_after(before: Execution | None, after: Execution, *, reports: bool, listened: bool) -> list[OutboxRow]:
    """Return the outbox rows that a commit must hold beside the execution's new row.

    `before` is None for a new execution, which may have ended before it began. `reports` says whether runs are
    reported at all, `listened` whether any flow has a trigger on the states of others.
    """
    rows: list[OutboxRow] = []
    if after.state.is_terminal and (before is None or not before.state.is_terminal):
        rows += _rows_at_end(after, reports=reports)
    if listened:
        known = before.histories if before is not None else after.histories[:1]
        entered = entered_since(known, after.histories)
        rows += [OutboxRow(OUTBOX_FLOW_EVENT, after.id, {"state": state.value}) for state, _ in entered]
    return rows


def history_between(before: Execution, after: Execution) -> tuple[HistoryRow, ...]:
    """Return the lines of the history for the states that an execution entered with a commit."""
    entered = entered_since(before.histories, after.histories)
    return tuple(HistoryRow(after.id, before.version, state.value, at) for state, at in entered)


def _rows_at_end(execution: Execution, *, reports: bool) -> list[OutboxRow]:
    """Return the report, and the result for a parent that waits; one that begins anew has nothing to tell it yet."""
    rows = []
    if execution.environment is not None and reports:
        rows.append(OutboxRow(OUTBOX_REPORT, execution.id, {"environment": execution.environment}))
    if execution.parent_task_run_id is not None and execution.state is not State.RETRIED:
        rows.append(OutboxRow(OUTBOX_CHILD_ENDED, execution.id))
    return rows
