"""When a failed task run is tried again: pure, from the retry's properties and what has been tried."""

from __future__ import annotations

from datetime import datetime, timedelta

from runner.flows.models import Retry


def wait_before(retry: Retry, attempts: int, fraction: float) -> timedelta:
    """Return how long to wait after the `attempts`-th failed attempt (counted from 1).

    Exponential waits are `interval`, then `delayFactor` times as long each time, up to `maxInterval` (Kestra's
    documentation; its 2024 code waits zero the first time). `fraction`, in [0, 1), places a random wait between
    `minInterval` and `maxInterval`.
    """
    interval = retry.interval or timedelta(0)
    if retry.type == "constant":
        return interval
    if retry.type == "random":
        low, high = retry.min_interval or timedelta(0), retry.max_interval or timedelta(0)
        return low + (high - low) * fraction
    ceiling = retry.max_interval or timedelta.max
    try:
        return min(ceiling, interval * (retry.delay_factor ** (attempts - 1)))
    except OverflowError:
        return ceiling


def next_try(
    retry: Retry, attempts: int, *, first_started: datetime, ended: datetime, fraction: float
) -> datetime | None:
    """Return when the next attempt starts, or None when the retry is exhausted.

    `maxAttempts` counts all attempts including the first; `maxDuration` counts from the first attempt's start, and no
    attempt is planned beyond it.
    """
    if retry.max_attempts is not None and attempts >= retry.max_attempts:
        return None
    at = ended + wait_before(retry, attempts, fraction)
    if retry.max_duration is not None and at > first_started + retry.max_duration:
        return None
    return at
