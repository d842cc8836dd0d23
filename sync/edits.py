"""What is to change in a repository: files by path, decided on a commit."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from runner.errors import FlowError
from sync.plan import Plan
from sync.repository import blob_id
from sync.sources import Source

Edits = Mapping[str, bytes | None]
"""Whole paths and their new content; None removes a file."""

Edit = Callable[[Source, str | None], Edits]
"""What to change, decided on the head commit (None: there is none yet) under the lock of the repository."""


def differs(files: Mapping[str, str], edits: Edits) -> bool:
    """Return whether edits change anything about files, given as blob ids by path."""
    return any(files.get(path) != (None if content is None else blob_id(content)) for path, content in edits.items())


def check_faults(plan: Plan, edits: Edits) -> None:
    """Demand that a plan has no errors, nor any in the files of `edits` that a quarantine would leave out.

    Whoever writes a file is told of its errors; a quarantine is for what others pushed.

    Raises:
        FlowError: `flow.invalid` with the problems.
    """
    faults = plan.errors or tuple(each for each in plan.faults if each.file in edits)
    if faults:
        first = faults[0]
        where = f"{first.file}: " if first.file else ""
        raise FlowError("flow.invalid", f"{where}{first.message}", hint=first.hint, problems=plan.problems)
