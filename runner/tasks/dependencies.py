"""The packages of Python tasks: what starts a body with them, and what became of it."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from importlib import resources
from typing import Any, Final

from runner.context import host_of, make_work_root
from runner.errors import TaskError
from runner.plugin import Context
from runner.tasks.script_files import write
from task_runners.errors import TaskRunnerError
from task_runners.files import open_beneath

__all__ = ["REPORT", "check", "launched"]

REPORT: Final = ".mainstem-packages.json"
"""What the launcher wrote, in the working directory."""
_LAUNCHER: Final = ".mainstem-launch.py"
_PLAN: Final = ".mainstem-plan.json"
_REQUIREMENTS: Final = ".mainstem-requirements.txt"
_CACHE: Final = ".packages"
_MOST_REPORT_BYTES: Final = 64 * 1024


def launched(
    ctx: Context,
    requirements: Sequence[str],
    command: Sequence[str],
    *,
    manager: str,
    python: str | None,
    is_cached: bool,
) -> tuple[str, ...]:
    """Return the command that installs `requirements`, if they are not there, and then becomes `command`.

    `manager` is `UV`, which counts where it is there, or `PIP`; `python` the program of the wanted version, if any.
    """
    plan = {
        "requirements": list(requirements),
        "file": _REQUIREMENTS,
        "manager": manager,
        "python": python,
        "cache": _cache(ctx) if is_cached else None,
    }
    source = resources.files("runner.tasks.bodies").joinpath("launch.py")
    write(ctx, _LAUNCHER, source.read_bytes())
    write(ctx, _REQUIREMENTS, "".join(f"{line}\n" for line in requirements).encode())
    write(ctx, _PLAN, json.dumps(plan).encode())
    write(ctx, REPORT, b"{}")
    return ("python3", "-I", f"./{_LAUNCHER}", _PLAN, REPORT, *command)


def _cache(ctx: Context) -> str:
    """Return the folder of environments that bodies of this flow's user share; nobody else may look into it."""
    host = host_of(ctx)
    uid = host.uid_of(ctx.flow.namespace)
    make_work_root(host.settings.work_root)
    folder = host.settings.work_root / _CACHE / ("own" if uid is None else str(uid))
    folder.parent.mkdir(exist_ok=True)
    folder.parent.chmod(0o711)  # whatever the umask is: each user passes through to its own
    folder.mkdir(mode=0o700, exist_ok=True)
    if uid is not None:
        os.chown(folder, uid, uid)
    return str(folder.absolute())


def check(ctx: Context) -> None:
    """Log where the packages came from.

    Raises:
        TaskError: `task.dependencies.failed`, with the last lines of what should have installed them.
    """
    report = _report(ctx)
    if "error" in report:
        lines = "\n".join(map(str, report["error"]))
        message = f"the dependencies cannot be installed; {report.get('installer')} says:\n{lines}"
        # No outputs: the body never began, and nobody may take the installer's exit code for its own.
        raise TaskError("task.dependencies.failed", host_of(ctx).masker.mask(message))
    if "seconds" in report:
        how = f"were installed by {report['installer']}" if report.get("installer") else "were there already"
        ctx.log("DEBUG", f"the dependencies {how} ({report['seconds']} s)")


def _report(ctx: Context) -> dict[str, Any]:
    try:
        with open(open_beneath(ctx.work_dir(), REPORT), "rb") as file:  # noqa: PTH123 - a descriptor
            report = json.loads(file.read(_MOST_REPORT_BYTES))
    except (TaskRunnerError, OSError, ValueError):
        return {}  # the body may have done anything to it
    return report if isinstance(report, dict) else {}
