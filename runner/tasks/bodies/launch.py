"""Starts a body with the Python packages it needs: `python3 -I launch.py PLAN REPORT COMMAND ARGUMENT ...`.

It runs where the body runs and as the body's user, since installing a package may run code of that package. `PLAN` is
a JSON file: `requirements` (lines), `file` (their file), `cache` (a folder, or null), `manager` (`UV` or `PIP`),
`python` (the program of the wanted version, or null). With a cache, each set of requirements and interpreter has one
folder there, which is complete or not there at all, is locked while a body uses it, and leaves when many others were
used since. What was done, or the last lines of an installer that failed, is written to the JSON file `REPORT`; then the
command takes the place of this program. Python is isolated here (`-I`), so that a file of the flow which is called
like a module of Python's own does not stand in for it. It must run on Python 3.8.
"""

from __future__ import annotations

import collections
import contextlib
import fcntl
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NoReturn

MOST_ENVIRONMENTS = 20
OLDEST_S = 30 * 24 * 3600.0  # then requirements without a version are looked up anew
_LAST_LINES = 20
_STAMP = ".mainstem-environment"  # its content is when the packages were installed, its time when they were last used
_BUILDING = ".building"
# A line that a registry answers, in contrast to a file or an option that means something else in another directory.
_REGISTRY_LINE = re.compile(
    r"[A-Za-z0-9][A-Za-z0-9._-]*\s*(\[[^\]/]*\]\s*)?([<>=!~;,(][^/]*)?(@\s*(https?|git\+\w+)://.*)?"
)
# What flows and images set for pip counts for uv too, and the certificates of the machine as they do for pip.
_UV_NAMES = {
    "PIP_INDEX_URL": "UV_INDEX_URL",
    "PIP_EXTRA_INDEX_URL": "UV_EXTRA_INDEX_URL",
    "PIP_FIND_LINKS": "UV_FIND_LINKS",
}
_UV_SETTINGS = {"UV_SYSTEM_CERTS": "true", "UV_NATIVE_TLS": "true"}


class InstallError(Exception):
    """The installer failed; `lines` are its last ones."""

    def __init__(self, installer: str, lines: list[str]) -> None:
        super().__init__(installer)
        self.installer = installer
        self.lines = lines


def main(arguments: list[str]) -> NoReturn:
    """Install what the plan names, then become the command."""
    plan_file, report_file, *command = arguments
    plan = json.loads(Path(plan_file).read_text(encoding="utf-8"))
    _become_wanted(plan.get("python"))
    started = time.monotonic()
    try:
        packages, installer = prepare(plan, dict(os.environ))
    except InstallError as error:
        _write(report_file, {"installer": error.installer, "error": error.lines})
        sys.exit(1)
    _write(report_file, {"installer": installer, "seconds": round(time.monotonic() - started, 3)})
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(packages), os.environ.get("PYTHONPATH"))))
    os.environ["PATH"] = os.pathsep.join(filter(None, (str(packages / "bin"), os.environ.get("PATH"))))
    try:
        os.execvp(command[0], command)  # noqa: S606 - the command of the task
    except OSError as error:
        sys.stderr.write(f"{command[0]}: {error.strerror}\n")
        sys.exit(127)


def prepare(plan: dict[str, Any], environ: dict[str, str]) -> tuple[Path, str | None]:
    """Return the folder with the packages, and the installer that was used; None when they were there already.

    Raises:
        InstallError: they cannot be installed.
    """
    requirements, cache = plan["requirements"], plan.get("cache")
    uv = shutil.which("uv") if plan["manager"] == "UV" else None
    if cache is None or not all(_REGISTRY_LINE.fullmatch(line.strip()) for line in requirements):
        target = Path(tempfile.mkdtemp(prefix="packages-"))
        return target, install(target, plan["file"], uv, environ)
    folder, installer = Path(cache), None
    name = key(requirements, "uv" if uv else "pip", environ)
    while True:
        lock = _lock(folder / f"{name}.lock", fcntl.LOCK_SH)
        if _is_fresh(folder / name):
            os.utime(folder / name / _STAMP)
            os.set_inheritable(lock, True)  # held until the body and all that it started have ended
            return folder / name, installer
        os.close(lock)
        installer = _build(folder, name, plan["file"], uv, environ) or installer


def key(requirements: list[str], installer: str, environ: dict[str, str]) -> str:
    """Return what stands for an environment: requirements, interpreter, installer and its settings."""
    interpreter = (sys.version, platform.machine(), platform.libc_ver(), os.path.realpath(sys.executable))
    settings = sorted((name, text) for name, text in environ.items() if name.startswith(("PIP_", "UV_")))
    text = json.dumps([sorted(line.strip() for line in requirements), interpreter, installer, settings])
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _build(folder: Path, name: str, file: str, uv: str | None, environ: dict[str, str]) -> str | None:
    lock = _lock(folder / f"{name}.lock", fcntl.LOCK_EX)
    try:
        if _is_fresh(folder / name):
            return None  # another task was faster
        building = folder / f"{name}{_BUILDING}"
        for left in (folder / name, building):
            shutil.rmtree(left, ignore_errors=True)
        building.mkdir()
        installer = install(building, file, uv, environ)
        (building / _STAMP).write_text(str(time.time()))
        building.rename(folder / name)
    finally:
        os.close(lock)
    prune(folder, keep=name)
    return installer


def install(target: Path, file: str, uv: str | None, environ: dict[str, str]) -> str:
    """Put the packages of a requirements file into `target`; return what installed them.

    Raises:
        InstallError: it failed, or there is nothing that installs.
    """
    if uv is not None:
        command = [uv, "pip", "install", "--quiet", "--compile-bytecode", "--python", sys.executable]
        _call("uv", [*command, "--target", str(target), "-r", file, *_uv_options(environ)], _uv_environment(environ))
        return "uv"
    options = ["install", "--quiet", "--no-input", "--target", str(target), "-r", file]
    if _has("pip"):
        _call("pip", [sys.executable, "-I", "-m", "pip", *options], environ)
        return "pip"
    with tempfile.TemporaryDirectory() as room:
        # No pip beside this interpreter: one in an environment of its own installs for it.
        _call("venv", [sys.executable, "-I", "-m", "venv", room], environ)
        _call("pip", [f"{room}/bin/python", "-I", "-m", "pip", "--python", sys.executable, *options], environ)
    return "venv and pip"


def _uv_environment(environ: dict[str, str]) -> dict[str, str]:
    given = {new: environ[old] for old, new in _UV_NAMES.items() if old in environ}
    if "UV_FIND_LINKS" in given:
        given["UV_FIND_LINKS"] = ",".join(given["UV_FIND_LINKS"].split())
    return {**_UV_SETTINGS, **given, **environ}


def _uv_options(environ: dict[str, str]) -> list[str]:
    return ["--no-index"] if environ.get("PIP_NO_INDEX", "0").lower() not in {"", "0", "false", "no", "off"} else []


def _has(module: str) -> bool:
    import importlib.util

    return importlib.util.find_spec(module) is not None


def _call(installer: str, command: list[str], environ: dict[str, str]) -> None:
    process = subprocess.Popen(
        command,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    )
    assert process.stdout is not None
    lines = collections.deque((line.rstrip() for line in process.stdout), maxlen=_LAST_LINES)
    if process.wait() != 0:
        raise InstallError(installer, [line for line in lines if line])


def prune(folder: Path, keep: str) -> None:
    """Remove the environments that were used longest ago, beyond the most that may stay, and unfinished ones."""
    found = sorted((path for path in folder.iterdir() if path.is_dir()), key=_used, reverse=True)
    unfinished = [path for path in found if path.suffix == _BUILDING]
    whole = [path for path in found if path.suffix != _BUILDING]
    for path in (*whole[MOST_ENVIRONMENTS:], *unfinished):
        if path.stem != keep:
            _remove(folder, path)


def _remove(folder: Path, path: Path) -> None:
    lock_file = folder / f"{path.stem}.lock"
    used = _used(path)
    with contextlib.suppress(BlockingIOError):
        lock = _lock(lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            if _used(path) == used:
                shutil.rmtree(path, ignore_errors=True)
                lock_file.unlink()
        finally:
            os.close(lock)


def _lock(path: Path, how: int) -> int:
    """Return the descriptor of the locked file `path`, which nobody has removed meanwhile."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, how)
            if os.fstat(descriptor).st_ino == path.stat().st_ino:
                return descriptor
        except FileNotFoundError:
            pass
        except BaseException:  # the descriptor is closed whatever happens
            os.close(descriptor)
            raise
        os.close(descriptor)


def _is_fresh(path: Path) -> bool:
    with contextlib.suppress(FileNotFoundError, ValueError):
        return time.time() - float((path / _STAMP).read_text()) < OLDEST_S
    return False


def _used(path: Path) -> float:
    for place in (path / _STAMP, path):
        with contextlib.suppress(FileNotFoundError):
            return place.stat().st_mtime
    return 0.0


def _become_wanted(python: str | None) -> None:
    """Go on under the interpreter `python` if it is there and another one."""
    found = shutil.which(python) if python else None
    if found and os.path.realpath(found) != os.path.realpath(sys.executable):
        os.execv(found, [found, "-I", *sys.argv])  # noqa: S606 - an interpreter of the machine


def _write(path: str, report: dict[str, Any]) -> None:
    Path(path).write_text(json.dumps(report), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
