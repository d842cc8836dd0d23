"""Identifiers: sortable by time, safe in paths, URLs and branch names, and too random to guess."""

from __future__ import annotations

import secrets
import time
from typing import NewType

ExecutionId = NewType("ExecutionId", str)
TaskRunId = NewType("TaskRunId", str)

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32, lower case
_TIME_CHARS = 10  # 50 bits of milliseconds: enough until the year 37,000
_RANDOM_BITS = 120
_RANDOM_CHARS = 24


def _encode(number: int, width: int) -> str:
    chars = []
    for _ in range(width):
        number, digit = divmod(number, 32)
        chars.append(_ALPHABET[digit])
    return "".join(reversed(chars))


def new_id() -> str:
    """Return 34 characters of `[0-9a-z]`: the time in milliseconds, then 120 random bits.

    Ids of later milliseconds sort after earlier ones; within one millisecond the order is random.
    """
    return _encode(time.time_ns() // 1_000_000, _TIME_CHARS) + _encode(secrets.randbits(_RANDOM_BITS), _RANDOM_CHARS)
