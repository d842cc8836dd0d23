"""Carries out one job of a spool: `python -m mainstem_spool.body FOLDER`."""

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path


def main(folder: Path) -> None:
    """Run the command of the job and write how it ended; do nothing when another one does it."""
    try:
        (folder / "claimed").touch(exist_ok=False)
    except FileExistsError:
        return
    code, error = _run(folder)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    usage = [used.ru_maxrss * 1024, used.ru_utime + used.ru_stime]
    (folder / "end.part").write_text(json.dumps({"code": code, "error": error, "usage": usage}))
    (folder / "end.part").rename(folder / "end.json")


def _run(folder: Path) -> tuple[int, str]:
    job = json.loads((folder / "job.json").read_text())
    options = {"cwd": job["cwd"], "env": job["env"], "stderr": subprocess.STDOUT, "start_new_session": True}
    try:
        with (folder / "log").open("wb") as log:
            body = subprocess.Popen(job["command"], stdout=log, **options)
    except OSError as problem:
        return 127, f"{job['command'][0]}: {problem.strerror}"
    signal.signal(signal.SIGTERM, lambda *_: _end(body.pid, folder))
    for number in (signal.SIGUSR1, signal.SIGALRM):
        signal.signal(number, lambda *_: _kill(body.pid))
    (folder / "pid").write_text(str(os.getpid()))
    if (folder / "grace").exists():
        _end(body.pid, folder)  # cancelled before there was anybody to tell
    code = body.wait()
    _kill(body.pid)
    return (code if code >= 0 else 128 - code), ""


def _end(group: int, folder: Path) -> None:
    grace = float((folder / "grace").read_text())
    _kill(group, signal.SIGTERM if grace else signal.SIGKILL)
    signal.setitimer(signal.ITIMER_REAL, grace)


def _kill(group: int, number: int = signal.SIGKILL) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, number)


if __name__ == "__main__" and os.fork() == 0:
    os.setsid()  # the parent ends here, and with it what waits for the start
    main(Path(sys.argv[1]))
