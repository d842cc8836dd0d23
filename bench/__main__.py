"""`python -m bench NAME --json`: measure one thing, or `all`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from typing import Any

from bench import deliveries, kestra01, loops, rendering, runners, schedules, small, sync

BENCHES: dict[str, Callable[..., dict[str, Any]]] = {
    "kestra01": kestra01.run,
    "coldstart": small.coldstart,
    "memory": small.memory,
    "sync": sync.run,
    "runner": small.runner,
    "runners": runners.run,
    "deliveries": deliveries.run,
    "rendering": rendering.rendering,
    "schedules": schedules.run,
    "foreach": loops.run,
}


def main() -> None:
    """Run what the command line names."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("name", choices=[*BENCHES, "all"])
    parser.add_argument("--json", action="store_true", help="print only one JSON object a line")
    parser.add_argument("--quick", action="store_true", help="fewer steps")
    arguments = parser.parse_args()
    for name in BENCHES if arguments.name == "all" else [arguments.name]:
        figures = BENCHES[name](quick=arguments.quick)
        if not arguments.json:
            print(*(f"{key:<24} {value}" for key, value in figures.items()), sep="\n")
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
