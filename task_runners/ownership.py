"""Whose a job at an engine is that several installations may share, as its labels say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from task_runners.spec import RunnerContext

__all__ = ["INSTALLATION", "is_ours"]

INSTALLATION = "installation"
"""The label with the name of the installation that started a job; one without a name puts none on its jobs."""


def is_ours(labels: Mapping[str, str], ctx: RunnerContext, prefix: str = "") -> bool:
    """Return whether the labels of a job of this product name the installation of `ctx`.

    The id of a task run does not tell: a copy of a database has the same ones. `prefix` is what the engine's names of
    labels begin with.
    """
    return labels.get(f"{prefix}{INSTALLATION}") == ctx.installation
