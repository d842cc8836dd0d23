"""Carries out one job of a spool: `python -m mainstem_spool.body FOLDER`."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any


def main(folder: Path) -> None:
    """Run the command of the job, write its log, write how it ended; do nothing when another one does it."""
    try:
        (folder / "claimed").touch(exist_ok=False)
    except FileExistsError:
        return
    spec = json.loads((folder / "spec.json").read_text())
    started = time.monotonic()
    code, error = 127, ""
    try:
        body = subprocess.Popen(
            spec["command"],
            cwd=spec["cwd"],
            env=spec["env"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as problem:
        error = f"{spec['command'][0]}: {problem.strerror}"
    else:
        signal.signal(signal.SIGTERM, lambda *_: _end(body, folder))
        signal.signal(signal.SIGUSR1, lambda *_: _kill(body))
        (folder / "pid").write_text(str(os.getpid()))
        if (folder / "grace").exists():
            _end(body, folder)  # cancelled before there was anybody to tell
        code = _follow(body, folder)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    end = {"code": code, "error": error, "memory": used.ru_maxrss * 1024, "cpu": used.ru_utime + used.ru_stime}
    (folder / "end.part").write_text(json.dumps({**end, "wall": time.monotonic() - started}))
    (folder / "end.part").rename(folder / "end.json")


def _follow(body: subprocess.Popen[bytes], folder: Path) -> int:
    lock = threading.Lock()
    with (folder / "log").open("w", encoding="utf-8") as log:
        streams: list[tuple[str, Any]] = [("stdout", body.stdout), ("stderr", body.stderr)]
        readers = [threading.Thread(target=_copy, args=(name, pipe, log, lock)) for name, pipe in streams]
        for reader in readers:
            reader.start()
        code = body.wait()
        _kill(body)
        for reader in readers:
            reader.join()
    return code if code >= 0 else 128 - code


def _copy(name: str, pipe: IO[bytes], log: IO[str], lock: threading.Lock) -> None:
    for line in pipe:
        text = line.removesuffix(b"\n").decode("utf-8", "surrogateescape")
        entry = json.dumps({"at": datetime.now(UTC).isoformat(), "stream": name, "text": text})
        with lock:
            log.write(entry + "\n")
            log.flush()


def _end(body: subprocess.Popen[bytes], folder: Path) -> None:
    grace = float((folder / "grace").read_text())
    with contextlib.suppress(ProcessLookupError):
        os.killpg(body.pid, signal.SIGTERM if grace else signal.SIGKILL)
    timer = threading.Timer(grace, _kill, args=(body,))
    timer.daemon = True
    timer.start()


def _kill(body: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(body.pid, signal.SIGKILL)


if __name__ == "__main__" and os.fork() == 0:
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDWR)  # whoever waits for the output of our parent must not wait for us
    for descriptor in range(3):
        os.dup2(nothing, descriptor)
    main(Path(sys.argv[1]))
