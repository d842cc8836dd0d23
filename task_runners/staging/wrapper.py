"""The one container of a cloud job: a script that fetches, runs, hands in and reports, and what is given to it.

It needs `sh` and `tar` in the image, and one of curl, GNU wget and python3. The command, the environment and the
addresses to hand in to travel inside the archive, so nothing of them stands in the description of the job, which others
can read and whose size and characters the clouds restrict.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.resources
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from task_runners.files import FileLimits
from task_runners.spec import TaskSpec
from task_runners.staging.port import SignedUpload

__all__ = ["FAULT_CODE", "LEAST_ARCHIVE_BYTES", "REPORT", "Report", "Wrapped", "bare", "job_files", "staged", "tools"]

REPORT: Final = "report"
FAULT_CODE: Final = 125  # what the script ends with when the body could not begin
LEAST_ARCHIVE_BYTES: Final = 1024 * 1024
_BLOCK_BYTES: Final = 512  # of `find -size` and `ulimit -f`
_NAME_CHARS: Final = 200
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True)
class Wrapped:
    """What a container is to run, and its environment."""

    command: tuple[str, ...]
    env: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Report:
    """What the script said at its end; None and "" where it could not find out."""

    exit_code: int | None = None
    fault: str = ""
    """What kept the body from beginning: `directory`, `fetch`, `unpack`."""
    files: str = ""
    """Whether the files were handed in: `kept`, `lost`, `large` when they were too many bytes, `none` unasked."""
    oom_kills: int = 0
    peak_memory_bytes: int | None = None
    cpu_seconds: float | None = None
    largest: str = ""
    """One of the largest files where they were too many bytes, in the words of the job."""

    @classmethod
    def parse(cls, content: bytes) -> Report:
        """Return what the lines `name=value` say, as far as they say anything."""
        lines = content[:4096].decode("utf-8", "replace").splitlines()
        values = {name: value for name, _, value in (line.partition("=") for line in lines)}
        cpu = _number(values.get("cpu"))
        return cls(
            exit_code=_number(values.get("exit")),
            fault=values.get("fault", ""),
            files=values.get("files", ""),
            largest=values.get("largest", "")[:_NAME_CHARS],
            oom_kills=_number(values.get("oom")) or 0,
            peak_memory_bytes=_number(values.get("peak")),
            cpu_seconds=cpu / 1e6 if cpu is not None else None,
        )


def _number(text: str | None) -> int | None:
    with contextlib.suppress(ValueError):
        return int(text or "")
    return None


def staged(root: str, end: str, download: str) -> Wrapped:
    """Return the container of a job whose archive lies at `download`; `end` is the last line that it writes."""
    return _wrapped({"WORKING_DIR": root, "MAINSTEM_END": end, "MAINSTEM_FETCH": download})


def bare(spec: TaskSpec, root: str, end: str) -> Wrapped:
    """Return the container of a job that has no files."""
    return _wrapped({"WORKING_DIR": root, "MAINSTEM_END": end, "MAINSTEM_RUN": run_script(spec, root)})


def _wrapped(env: dict[str, str]) -> Wrapped:
    return Wrapped(("sh", "-c", script(), "mainstem"), env)


@functools.cache
def script() -> str:
    """Return the script without its comments."""
    return tools() + _text("wrapper.sh")


@functools.cache
def tools() -> str:
    """Return the functions of a shell that fetch a file (`get URL FILE`) and hand it in (`put FILE URL HEADERS`)."""
    return _text("tools.sh")


def _text(name: str) -> str:
    text = importlib.resources.files("task_runners.staging").joinpath(name).read_text(encoding="utf-8")
    return "".join(line for line in text.splitlines(keepends=True) if not line.startswith("#"))


def job_files(
    spec: TaskSpec,
    root: str,
    push: SignedUpload | None,
    report: SignedUpload | None,
    limits: FileLimits | None = None,
) -> dict[str, bytes]:
    """Return the files that go into the archive beside those of the task, by name.

    `limits` bound what the job packs: a file that is larger is left out and listed, the archive is no larger in all.
    """
    return {
        "./.mainstem/job": "".join(
            (*_addresses("push", push), *_addresses("report", report), *_bounds(limits or FileLimits()))
        ).encode(),
        "./.mainstem/run": run_script(spec, root).encode("utf-8", "surrogateescape"),
    }


def _bounds(limits: FileLimits) -> list[str]:
    archive = max(limits.total_bytes, LEAST_ARCHIVE_BYTES)
    return [f"file_blocks={limits.file_bytes // _BLOCK_BYTES}\n", f"archive_blocks={archive // _BLOCK_BYTES}\n"]


def _addresses(name: str, upload: SignedUpload | None) -> list[str]:
    if upload is None:
        return []
    headers = "\n".join(f"{key}: {value}" for key, value in upload.headers.items())
    return [f"{name}_url={shlex.quote(upload.url)}\n", f"{name}_headers={shlex.quote(headers)}\n"]


def run_script(spec: TaskSpec, root: str) -> str:
    """Return the script that becomes the body: its environment, and itself."""
    env = spec.environment(root)
    lines = [f"export {name}={shlex.quote(value)}\n" for name, value in env.items() if _NAME.fullmatch(name)]
    odd = [f"{name}={value}" for name, value in env.items() if not _NAME.fullmatch(name) and name]
    command = ["env", *odd, *spec.command] if odd else spec.command
    return "".join([*lines, f"exec {shlex.join(command)}\n"])
