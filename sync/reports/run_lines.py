"""The lines of a note about runs: the newest stay, a last line counts the others, and what is old leaves. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import orjson

MOST_RUNS: Final = 200
"""How many runs a note tells of. It is written anew for each, so that its length is what a run costs."""
_MORE: Final = "more"
_WHERE: Final = (
    "this month's earlier versions of this note (git log -p refs/notes/mainstem-runs), and the server's executions"
)


def noted(known: Sequence[str], added: Sequence[str], first: datetime) -> list[str]:
    """Return the lines of a note that were `known`, with those that are added, without runs that ended before `first`.

    Once there are too many, the last line says how many more there were. Lines of people stay.
    """
    more = sum(map(_more, known))
    texts = [text for text in (*known, *_new(known, added, more)) if not _more(text)]
    ends = {text: end for text in texts if (end := _end(text)) is not None}
    runs = [text for text in texts if text in ends and ends[text] >= first]
    kept = set(runs[-MOST_RUNS:])
    more += len(runs) - len(kept)
    lines = [text for text in texts if text in kept or text not in ends]
    return [*lines, _tally(more)] if more and kept else lines


def _new(known: Sequence[str], added: Sequence[str], more: int) -> list[str]:
    """Return the added lines that were not told yet; of a full note those after the last that is known.

    All lines of a commit are told together, so whoever has told the last one has counted those before it.
    """
    told = set(known)
    if not more:
        return [text for text in dict.fromkeys(added) if text not in told]
    last = max((at for at, text in enumerate(added) if text in told), default=-1)
    return list(dict.fromkeys(added[last + 1 :]))


def _tally(more: int) -> str:
    return orjson.dumps({_MORE: more, "where": _WHERE}).decode()


def _more(text: str) -> int:
    found = _object(text)
    count = found.get(_MORE)
    return count if found.keys() == {_MORE, "where"} and type(count) is int and count > 0 else 0


def _end(text: str) -> datetime | None:
    """Return when a run ended that a line tells of, None for any other line."""
    found = _object(text)
    if "id" not in found or "flow" not in found:
        return None
    try:
        end = datetime.fromisoformat(found["end"])
    except (KeyError, TypeError, ValueError):
        return None
    return end if end.tzinfo is not None else None


def _object(text: str) -> dict[str, Any]:
    if not text.startswith("{"):
        return {}
    try:
        found = orjson.loads(text.encode("utf-8", "surrogateescape"))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
