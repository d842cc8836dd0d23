"""Flows whose bodies keep a ledger."""

from __future__ import annotations

from tests.crash.ledger import Ledger

BODIES_EACH = 3
"""Bodies of one execution of either flow."""


def _task(task_id: str, ledger: Ledger, seconds: float, indent: int) -> str:
    lines = [
        f"- id: {task_id}",
        "  type: scripts.shell.Commands",
        "  commands:",
        f"    - '{ledger.command('begin')}'",
        f"    - sleep {seconds:g}",
        f"    - '{ledger.command('end')}'",
    ]
    return "".join(" " * indent + line + "\n" for line in lines)


def loop_flow(ledger: Ledger, seconds: float) -> str:
    """Return the flow `loop`: one body for each of three values, two at a time."""
    return (
        "id: loop\nnamespace: crash\ntasks:\n  - id: each\n    type: core.flow.ForEach\n"
        "    values: [a, b, c]\n    concurrencyLimit: 2\n    tasks:\n" + _task("body", ledger, seconds, 6)
    )


def parallel_flow(ledger: Ledger, seconds: float) -> str:
    """Return the flow `sides`: two bodies side by side, then one."""
    return (
        "id: sides\nnamespace: crash\ntasks:\n  - id: both\n    type: core.flow.Parallel\n    tasks:\n"
        + _task("left", ledger, seconds, 6)
        + _task("right", ledger, seconds, 6)
        + _task("last", ledger, seconds, 2)
    )


def body_flow(ledger: Ledger, command: str) -> str:
    """Return the flow `body`: one body that says `begin` and then does something."""
    return (
        "id: body\nnamespace: crash\ntasks:\n  - id: body\n    type: scripts.shell.Commands\n    commands:\n"
        f"      - '{ledger.command('begin')}'\n      - \"{command}\"\n"
    )
