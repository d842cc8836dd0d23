"""Runs the `console` blocks of a page as a reader would type them, and compares what they show.

A page runs in a folder, a home and on a port of its own. Lines that begin with `$ ` are commands; what stands below
one, up to the next, is its output. `mainstem up` stays in the background until the page ends. A YAML block whose first
line is a comment with a path is written to that file.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from tests.documentation.pages import Page
from tests.servers.ports import free_port

PORT: Final = "8420"
_COMMAND_S: Final = 60.0
_START_S: Final = 30.0
_FILE: Final = re.compile(r"^# ([\w./-]+\.ya?ml)$")
_ANYTHING: Final = "…"
_ANN: Final = {"NAME": "Ann", "EMAIL": "ann@example.org"}

# What no two runs have in common, in the order in which it is replaced.
_VARYING: Final = (
    (re.compile(r"\b01[0-9a-hjkmnp-tv-z]{32}\b"), "<id>"),
    (re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?( ?(Z|UTC|[+-]\d\d(:?\d\d)?))?"), "<time>"),
    (re.compile(r"\b\d{4}-\d\d-\d\d\b"), "<date>"),
    (re.compile(r"\b\d{4}/\d\d/\d\d\b"), "<date>"),
    (re.compile(r"\b\d\d:\d\d:\d\d(\.\d+)?\b"), "<time>"),
    (re.compile(r"(< 1|\b(\d+ h )?(\d+ m )?\d+(\.\d+)?) m?s\b"), "<duration>"),
    (re.compile(r"\bPT[\d.HMS]+"), "<duration>"),
    # With or without a figure: each thousandth short name of a commit is of letters alone.
    (re.compile(r"\b[0-9a-f]{7,64}\b"), "<hash>"),
    (re.compile(r"[ \t]+"), " "),
)


@dataclass(frozen=True, slots=True)
class Step:
    """A command of a page and the output that the page shows; None when it shows none."""

    line: int
    command: str
    shown: str | None
    may_fail: bool = False


@dataclass(frozen=True, slots=True)
class File:
    """A file that the page asks its reader to write."""

    line: int
    path: str
    content: str


def steps(page: Page) -> list[Step | File]:
    """Return what a reader of the page does, in order."""
    found: list[Step | File] = []
    for block in page.blocks:
        if block.not_run:
            continue
        if block.language == "console":
            found += _commands(block.text.splitlines(), block.line + 1)
        elif block.language == "yaml" and (name := _FILE.match(block.text.splitlines()[0])):
            found.append(File(block.line, name[1], block.text))
    return found if any(isinstance(each, Step) for each in found) else []


def _commands(lines: Sequence[str], first: int) -> Iterator[Step]:
    parts: list[tuple[int, str, list[str]]] = []
    for number, line in enumerate(lines, first):
        if line.startswith("$ "):
            parts.append((number, line[2:], []))
        elif parts and parts[-1][1].endswith("\\") and not parts[-1][2]:
            parts[-1] = (parts[-1][0], parts[-1][1][:-1] + line.strip(), [])
        elif parts:
            parts[-1][2].append(line)
    for index, (number, command, shown) in enumerate(parts):
        asked = index + 1 < len(parts) and parts[index + 1][1] == "echo $?"
        yield Step(number, command, "\n".join(shown) if shown else None, may_fail=asked)


def normal(text: str) -> list[str]:
    """Return the lines of an output without what varies from run to run, and without blank lines around them."""
    for pattern, sign in _VARYING:
        text = pattern.sub(sign, text)
    return [line.rstrip() for line in text.strip("\n").splitlines()]


def matches(shown: Sequence[str], seen: Sequence[str]) -> bool:
    """Return whether output is what a page shows; a line `…` stands for any number of lines."""
    if not shown:
        return not seen
    if shown[0] == _ANYTHING:
        return any(matches(shown[1:], seen[skipped:]) for skipped in range(len(seen) + 1))
    return bool(seen) and shown[0] == seen[0] and matches(shown[1:], seen[1:])


@dataclass
class Session:
    """A reader at work in a folder. Enter it, `run` the steps, leave it to stop the server that was started."""

    room: Path
    findings: list[str] = field(default_factory=list)
    _server: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self._port = str(free_port())
        self._folder = self.room / "work"
        self._folder.mkdir(parents=True)
        self._code = 0
        kept = {key: text for key, text in os.environ.items() if not key.startswith(("MAINSTEM_", "GIT_"))}
        self._environ = kept | {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(self.room),
            "XDG_CONFIG_HOME": str(self.room / "config"),
            "MAINSTEM_PORT": self._port,
            # Readers wait ten seconds for the next report; the tests need not.
            "MAINSTEM_REPORTS": "{intervalS: 1}",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_CONFIG_NOSYSTEM": "1",
            # A reader has told git who they are.
            **{f"GIT_{who}_{what}": text for who in ("AUTHOR", "COMMITTER") for what, text in _ANN.items()},
            "LC_ALL": "C.UTF-8",
            "TZ": "UTC",
        }
        return self

    def __exit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.send_signal(signal.SIGTERM)
            if self._server.wait(_START_S) != 0:
                self.findings.append(f"the server ended with {self._server.returncode}")

    def run(self, todo: Sequence[Step | File]) -> list[str]:
        """Do what a page says and return what differs from what it shows; the first difference ends it."""
        for step in todo:
            if isinstance(step, File):
                path = self._folder / step.path
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(step.content.replace(PORT, self._port), encoding="utf-8")
            elif (fault := self._fault(step)) is not None:
                self.findings.append(f"line {step.line}: $ {step.command}\n{fault}")
                break
        return self.findings

    def _fault(self, step: Step) -> str | None:
        is_server = shlex.split(step.command)[:2] == ["mainstem", "up"]
        seen = self._start(step.command) if is_server else self._output(step.command)
        seen = seen.replace(self._port, PORT)
        if self._code and not step.may_fail and step.command != "echo $?":
            return f"ended with {self._code}:\n{seen}"
        if step.shown is None or matches(normal(step.shown), normal(seen)):
            return None
        return f"the page shows:\n{step.shown}\nit printed:\n{seen}"

    def _output(self, command: str) -> str:
        """Run a command where the one before left off and return all it prints."""
        place = self.room / "place"
        script = f"(exit {self._code})\n{command}\ncode=$?\npwd > {shlex.quote(str(place))}\nexit $code"
        done = subprocess.run(
            ["bash", "-c", script.replace(PORT, self._port)],
            cwd=self._folder,
            env=self._environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_COMMAND_S,
            check=False,
        )
        self._folder = Path(place.read_text(encoding="utf-8").strip())
        self._code = done.returncode
        return done.stdout.decode("utf-8", "replace")

    def _start(self, command: str) -> str:
        log = self.room / "server.log"
        with log.open("wb") as output:
            self._server = subprocess.Popen(
                shlex.split(command), cwd=self._folder, env=self._environ, stdout=output, stderr=subprocess.STDOUT
            )
        deadline = time.monotonic() + _START_S
        while "Ctrl-C" not in log.read_text(encoding="utf-8"):
            if self._server.poll() is not None or time.monotonic() > deadline:
                self._code = 1
                break
            time.sleep(0.05)
        return log.read_text(encoding="utf-8")
