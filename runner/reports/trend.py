"""How the last runs of a flow ended and how long they took, as one line of signs. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from runner.reports.rows import RunRow
from runner.reports.text import MARKS, joined, seconds

_BARS: Final = "▁▂▃▄▅▆▇█"
_FEWEST: Final = 2
_ALIKE: Final = 1.1


def trend(rows: Sequence[RunRow]) -> str:
    """Return a mark and a bar for each run, the newest last; empty for fewer than two. `rows` begin with the newest.

    The longest run has the highest bar and the shortest the lowest, unless all took about as long: then all are low.
    Runs that never started have none.
    """
    if len(rows) < _FEWEST:
        return ""
    ordered = list(reversed(rows))
    text = joined(MARKS.get(row.state, "·") for row in ordered)
    took = [row.seconds for row in ordered if row.seconds is not None]
    if len(took) < _FEWEST:
        return text
    least, most = min(took), max(took)
    bars = joined(_bar(each, least, most) for each in took)
    return f"{text} · {bars} ({seconds(least)} to {seconds(most)})"


def _bar(value: float, least: float, most: float) -> str:
    share = (value - least) / (most - least) if most > _ALIKE * least else 0.0
    return _BARS[min(int(share * len(_BARS)), len(_BARS) - 1)]
