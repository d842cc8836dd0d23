"""`python -m tests.conformance.floor REPORT FLOOR`: the cases that pass in each area may only become more.

FLOOR is a JSON file of counts by area, without any name of a case. A case that was run where the floor was written and
is skipped here, because this machine lacks something, is not held against it. `--write` raises the floor to what the
report reached; it never lowers a count.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Count:
    """How many cases of an area pass, and how many are skipped."""

    passed: int = 0
    skipped: int = 0

    def is_below(self, floor: Count) -> bool:
        """Return whether fewer cases pass than the floor asks for, those aside that could not run here."""
        return self.passed + max(self.skipped - floor.skipped, 0) < floor.passed


Counts = Mapping[str, Count]


def below(found: Counts, floor: Counts) -> list[str]:
    """Return a sentence for each area in which fewer cases pass than the floor asks for."""
    return [
        f"{area}: {found.get(area, Count()).passed} cases pass, the floor is {least.passed}"
        for area, least in floor.items()
        if found.get(area, Count()).is_below(least)
    ]


def raised(found: Counts, floor: Counts) -> dict[str, Count]:
    """Return the floor with every count at least at what passed."""
    return {
        area: max(found.get(area, Count()), floor.get(area, Count()), key=lambda count: count.passed)
        for area in sorted({*found, *floor})
    }


def read(areas: Mapping[str, Mapping[str, Any]]) -> dict[str, Count]:
    """Return the counts of a report or a floor; areas in which nothing passes count for nothing."""
    counts = {area: Count(row["passed"], row.get("skipped", 0)) for area, row in areas.items()}
    return {area: count for area, count in counts.items() if count.passed}


def main(arguments: list[str] | None = None) -> int:
    """Judge a report; return 1 when it lies below the floor."""
    parser = argparse.ArgumentParser(prog="python -m tests.conformance.floor", description=__doc__)
    parser.add_argument("report", type=Path, help="what `python -m tests.conformance --report` wrote")
    parser.add_argument("floor", type=Path, help="the counts that must be reached")
    parser.add_argument("--write", action="store_true", help="raise the floor to what the report reached")
    options = parser.parse_args(arguments)
    found = read(json.loads(options.report.read_text(encoding="utf-8"))["areas"])
    floor = read(json.loads(options.floor.read_text(encoding="utf-8"))) if options.floor.exists() else {}
    problems, higher = below(found, floor), raised(found, floor)
    for problem in problems:
        print(problem)
    if options.write:
        content = {area: asdict(count) for area, count in higher.items()}
        options.floor.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    elif higher != floor:
        gained = [area for area, count in higher.items() if count != floor.get(area)]
        print(f"the floor can be raised with --write: {', '.join(gained)}")
    if not problems:
        print(f"the floor holds: {_sum(found)} cases pass, {_sum(floor)} are asked for")
    return 1 if problems else 0


def _sum(counts: Counts) -> int:
    return sum(count.passed for count in counts.values())


if __name__ == "__main__":
    sys.exit(main())
