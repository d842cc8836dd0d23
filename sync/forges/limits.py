"""How many requests a forge still takes, and how long it asks to wait: what the headers of its answers say.

GitHub and Gitea write `X-RateLimit-*`, GitLab `RateLimit-*`; the moment of reset is seconds since 1970 there, and
seconds from now in the drafts of the standard. GitHub's second limit, on how fast one asks, may come as 403 with
nothing but a sentence; its documentation says to wait a minute then.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import httpx

_SOONEST_EPOCH: Final = 1_000_000_000  # what is smaller is a number of seconds from now
_LATEST_EPOCH: Final = 100_000_000_000
_SECONDARY_S: Final = 60.0
_MOST_READ: Final = 2_000
_WORDS: Final = ("rate limit", "abuse detection")


@dataclass(frozen=True, slots=True)
class Limit:
    """How many requests are left with one token, when that number begins anew, and of how many it is.

    None is what the forge does not say.
    """

    remaining: int
    resets_at: datetime | None = None
    allowed: int | None = None

    @property
    def reset_s(self) -> float | None:
        """Return when the number begins anew, in seconds since 1970."""
        return self.resets_at.timestamp() if self.resets_at is not None else None


class Limits:
    """The newest limit of each repository that this process has asked for at its forge. Safe for any thread."""

    def __init__(self) -> None:
        self._known: dict[str, Limit] = {}

    def note(self, repository: str, headers: Mapping[str, str]) -> Limit | None:
        """Remember what the headers of an answer say, and return it; None where they do not."""
        found = limit_of(headers)
        if found is not None:
            self._known[repository] = found
        return found

    def all(self) -> dict[str, Limit]:
        """Return the limits by repository."""
        return dict(self._known)


LIMITS: Final = Limits()
"""Those of this process: the same token may be used by several parts of it."""


def limit_of(headers: Mapping[str, str]) -> Limit | None:
    """Return what the headers of an answer say about a limit; None when they say nothing."""
    remaining = _number(headers, "x-ratelimit-remaining", "ratelimit-remaining")
    if remaining is None:
        return None
    resets = _reset_at(headers)
    resets_at = datetime.fromtimestamp(resets, UTC) if resets is not None else None
    return Limit(remaining, resets_at, _number(headers, "x-ratelimit-limit", "ratelimit-limit"))


def is_limited(answer: httpx.Response) -> bool:
    """Return whether an answer refuses because too much was asked, and not because it may not be asked."""
    if answer.status_code == HTTPStatus.TOO_MANY_REQUESTS:
        return True
    if answer.status_code != HTTPStatus.FORBIDDEN:
        return False
    is_spent = _number(answer.headers, "x-ratelimit-remaining", "ratelimit-remaining") == 0
    text = answer.text[:_MOST_READ].lower()
    return "retry-after" in answer.headers or is_spent or any(word in text for word in _WORDS)


def wait_s(answer: httpx.Response, otherwise: float) -> float:
    """Return how many seconds a forge asks to wait: `Retry-After` as a number or a date, else until its limit resets.

    `otherwise` is for a forge that is busy and does not say.
    """
    given = _retry_after(answer.headers)
    if given is not None:
        return given
    if not is_limited(answer):
        return otherwise
    resets = _reset_at(answer.headers)
    limit = limit_of(answer.headers)
    if limit is not None and limit.remaining == 0 and resets is not None:
        return max(0.0, resets - time.time())
    return _SECONDARY_S if answer.status_code == HTTPStatus.FORBIDDEN else otherwise


def _retry_after(headers: Mapping[str, str]) -> float | None:
    given = headers.get("retry-after", "").strip()
    if given.isascii() and given.isdigit():
        return float(given[:9])
    try:
        return max(0.0, parsedate_to_datetime(given).timestamp() - time.time())
    except (TypeError, ValueError):
        return None


def _reset_at(headers: Mapping[str, str]) -> float | None:
    """Return when a limit begins anew, in seconds since 1970."""
    found = _number(headers, "x-ratelimit-reset", "ratelimit-reset")
    if found is None or found > _LATEST_EPOCH:
        return None
    return float(found) if found >= _SOONEST_EPOCH else time.time() + found


def _number(headers: Mapping[str, str], *names: str) -> int | None:
    given = next((headers[name].strip() for name in names if name in headers), "")
    return int(given) if given.isascii() and given.isdigit() and len(given) < len(str(_LATEST_EPOCH)) + 1 else None
