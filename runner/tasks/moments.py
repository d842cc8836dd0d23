"""Dates as tasks take them."""

from __future__ import annotations

from datetime import UTC, datetime

from runner.errors import TaskError


def moment(text: str) -> datetime:
    """Return the instant that an ISO-8601 text names; without an offset it is UTC.

    Raises:
        TaskError: `date.invalid`.
    """
    try:
        found = datetime.fromisoformat(text.strip())
    except ValueError:
        hint = "write it like 2026-01-31T08:00:00Z, or {{ now() | dateAdd(-1, 'MONTHS') }}"
        raise TaskError("date.invalid", f"{text!r} is no date", hint=hint) from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
