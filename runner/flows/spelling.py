"""The known name that somebody probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(name: str, known: Iterable[str], *, likeness: float = 0.65) -> str | None:
    """Return the one of `known` that looks most like `name`, or None when none has `likeness` (of 1)."""
    by_text = {candidate.lower(): candidate for candidate in known}
    match = difflib.get_close_matches(name.lower(), by_text, n=1, cutoff=likeness)
    return by_text[match[0]] if match else None


def did_you_mean(name: str, known: Iterable[str], *, likeness: float = 0.65) -> str | None:
    """Return the question that names the nearest of `known`, for a hint."""
    found = nearest(name, known, likeness=likeness)
    return f"did you mean {found!r}?" if found else None
