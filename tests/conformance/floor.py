"""`python -m tests.conformance.floor REPORT FLOOR`: the cases that pass in each area may only become more.

FLOOR is a JSON file of counts by area, without any name of a case. `--write` raises it to what the report reached;
it never lowers a count.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path


def below(passed: Mapping[str, int], floor: Mapping[str, int]) -> list[str]:
    """Return a sentence for each area in which fewer cases pass than the floor asks for."""
    return [
        f"{area}: {passed.get(area, 0)} cases pass, the floor is {least}"
        for area, least in floor.items()
        if passed.get(area, 0) < least
    ]


def raised(passed: Mapping[str, int], floor: Mapping[str, int]) -> dict[str, int]:
    """Return the floor with every count at least at what passed."""
    areas = sorted({*passed, *floor})
    return {area: max(passed.get(area, 0), floor.get(area, 0)) for area in areas}


def main(arguments: list[str] | None = None) -> int:
    """Judge a report; return 1 when it lies below the floor."""
    parser = argparse.ArgumentParser(prog="python -m tests.conformance.floor", description=__doc__)
    parser.add_argument("report", type=Path, help="what `python -m tests.conformance --report` wrote")
    parser.add_argument("floor", type=Path, help="the counts that must be reached")
    parser.add_argument("--write", action="store_true", help="raise the floor to what the report reached")
    options = parser.parse_args(arguments)
    areas = json.loads(options.report.read_text(encoding="utf-8"))["areas"]
    passed = {area: row["passed"] for area, row in areas.items()}
    floor = json.loads(options.floor.read_text(encoding="utf-8")) if options.floor.exists() else {}
    problems = below(passed, floor)
    for problem in problems:
        print(problem)
    higher = raised(passed, floor)
    if options.write:
        options.floor.write_text(json.dumps(higher, indent=2) + "\n", encoding="utf-8")
    elif higher != floor:
        gained = ", ".join(
            f"{area} {floor.get(area, 0)} -> {count}" for area, count in higher.items() if count > floor.get(area, 0)
        )
        print(f"the floor can be raised with --write: {gained}")
    if not problems:
        print(f"the floor holds: {sum(passed.values())} cases pass, {sum(floor.values())} are asked for")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
