"""`mainstem demo`: the whole way on real parts. A server, a push with git, runs, a report on its branch."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, Self, TypeVar

import click
import httpx

from runner.errors import InvalidError, MainstemError, NotFoundError
from runner.states import TERMINAL, State

T = TypeVar("T")

_START_S = 30.0
_RUN_S = 90.0
_REPORT_S = 60.0
_STOP_S = 40.0
_REPORTS = "mainstem-reports"
_INTENDED_FAILURES = 1
_HOOK_KEY = "field-app-demo-key"

# What the demo starts, beside what starts by webhook: every flow of the examples that needs no other start.
_BY_API: tuple[tuple[str, str, Mapping[str, str]], ...] = (
    ("penguins", "survey", {}),
    ("penguins", "by_island", {}),
    ("penguins", "classify", {"masses": "[3300, 4200, 5400]"}),
    ("penguins", "nightly", {}),
    ("penguins", "flaky_station", {}),
    ("penguins", "ring_audit", {}),
    ("ops", "disk_watch", {}),
    ("system", "retention", {}),
)
_OBSERVATIONS = ({"species": "Gentoo", "mass_g": 5400}, {"species": "Adelie", "mass_g": 3700})


@click.command("demo")
@click.option(
    "--flows",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("examples/flows"),
    help="Folder of flows to push (examples/flows).",
)
@click.option("--keep", is_flag=True, help="Keep the server's home and the clones, and say where they are.")
def command(flows: Path, *, keep: bool) -> int:
    """Start a server, push the example flows, run them, show the report; stops by itself.

    Exit code 0 when every run ended as it should.
    """
    if shutil.which("git") is None:
        raise NotFoundError("git.missing", "the demo pushes with git, which is not on the PATH", hint="install git")
    if not flows.is_dir():
        raise NotFoundError(
            "demo.flows.missing",
            f"there is no folder {flows} here",
            hint="run the demo in a checkout of Mainstem, or name its examples with --flows",
        )
    room = Path(tempfile.mkdtemp(prefix="mainstem-demo-"))
    try:
        with _Server(room / "home") as server:
            return _Demo(server, flows, room).run()
    finally:
        if keep:
            click.echo(f"kept: {room}")
        else:
            shutil.rmtree(room, ignore_errors=True)


class _Server:
    """`mainstem up` as a process of its own, as a user would start it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.log = home.parent / "server.log"
        self.url = ""
        self.token = ""
        self._process: subprocess.Popen[bytes]

    def __enter__(self) -> Self:
        self.home.mkdir(mode=0o700)
        program = [sys.executable, "-P", "-c", "from runner.cli import main; main()"]
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [*program, "up", "--home", str(self.home), "--port", "0"],
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                # The context `local` of the user belongs to a server of their own, not to this one.
                env={**os.environ, "XDG_CONFIG_HOME": str(self.home.parent / "config")},
            )
        try:
            wait_for(self._is_ready, _START_S, "the server is not ready")
        except MainstemError:
            self.__exit__()
            raise InvalidError("demo.server", f"the server did not start:\n{self._output()}") from None
        self.token = (self.home / "token").read_text(encoding="utf-8").strip()
        click.echo(self._output().rstrip())
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def _output(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def _is_ready(self) -> bool:
        if self._process.poll() is not None:
            raise InvalidError("demo.server", "the server ended")
        output = self._output()
        if "Ctrl-C" not in output:
            return False
        self.url = next(line.split()[1] for line in output.splitlines() if line.strip().startswith("web "))
        return True


class _Demo:
    def __init__(self, server: _Server, flows: Path, room: Path) -> None:
        self._server = server
        self._flows = flows
        self._room = room
        self._client = httpx.Client(
            base_url=f"{server.url}/api/v1/main",
            headers={"Authorization": f"Bearer {server.token}"},
            timeout=30,
        )

    def run(self) -> int:
        started = time.monotonic()
        commit = self._push()
        ids = self._start_all()
        states = {execution_id: self._ended(execution_id) for execution_id in ids}
        self._print(states)
        report = self._report(states)
        good = sum(state is State.SUCCESS for _, state in states.values())
        failed = sorted(name for name, state in states.values() if state is State.FAILED)
        click.echo(f"\n{time.monotonic() - started:.1f} s from push to report")
        is_right = good + len(failed) == len(states) and len(failed) == _INTENDED_FAILURES
        ending = f"{good} SUCCESS, {len(failed)} FAILED" + (" as intended" if is_right else ": " + ", ".join(failed))
        click.echo(
            f"demo: push {commit[:7]} -> {len(states)} executions ({ending}) -> report {report[:7]} on {_REPORTS}"
        )
        return 0 if is_right else 1

    # ---------------------------------------------------------------- git

    def _git(self, *arguments: str, cwd: Path) -> str:
        """Run git as a person without a configuration; return what it prints."""
        environment = {
            **{key: text for key, text in os.environ.items() if not key.startswith("GIT_")},
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_AUTHOR_NAME": "Demo",
            "GIT_AUTHOR_EMAIL": "demo@example.com",
            "GIT_COMMITTER_NAME": "Demo",
            "GIT_COMMITTER_EMAIL": "demo@example.com",
            # The token travels in a header of this one command, never in a URL or a file.
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": f"http.{self._server.url}/.extraHeader",
            "GIT_CONFIG_VALUE_0": f"Authorization: Bearer {self._server.token}",
        }
        program = [shutil.which("git") or "git", *arguments]
        done = subprocess.run(program, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise InvalidError("demo.git", f"git {arguments[0]} failed:\n{done.stderr}")
        return done.stdout + done.stderr

    def _push(self) -> str:
        work = self._room / "work"
        shutil.copytree(self._flows, work / "flows")
        self._git("init", "--quiet", "--initial-branch=main", cwd=work)
        self._git("add", ".", cwd=work)
        self._git("commit", "--quiet", "--message=the example flows", cwd=work)
        click.echo("\n$ git push mainstem main")
        click.echo(self._git("push", f"{self._server.url}/git/flows.git", "main", cwd=work).rstrip())
        return self._git("rev-parse", "HEAD", cwd=work).strip()

    def _report(self, ids: Collection[str]) -> str:
        """Wait until the branch tells of every run, show the board; return the branch's commit."""
        url, clone = f"{self._server.url}/git/flows.git", self._room / "reports"

        def written() -> str | None:
            if not self._git("ls-remote", url, f"refs/heads/{_REPORTS}", cwd=self._room):
                return None
            shutil.rmtree(clone, ignore_errors=True)
            self._git("clone", "--quiet", "--branch", _REPORTS, url, str(clone), cwd=self._room)
            rows = "".join(path.read_text(encoding="utf-8") for path in clone.rglob("*.jsonl"))
            return self._git("rev-parse", "HEAD", cwd=clone).strip() if all(each in rows for each in ids) else None

        commit = wait_for(written, _REPORT_S, f"the runs are not on {_REPORTS}", every_s=1.0)
        click.echo(f"\n$ git clone -b {_REPORTS} {url}")
        board = (clone / "default" / "README.md").read_text(encoding="utf-8").rstrip()
        # A forge shows links by their texts; a terminal would show long addresses.
        click.echo(re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", board))
        return commit

    # ---------------------------------------------------------------- runs

    def _start_all(self) -> list[str]:
        click.echo("\nstarting the flows: by the API, by a webhook, by other flows")
        ids = [self._start(namespace, flow, inputs) for namespace, flow, inputs in _BY_API]
        for body in _OBSERVATIONS:
            answer = self._client.post(f"/executions/webhook/penguins/observation/{_HOOK_KEY}", json=body)
            ids.append(_answered(answer)["id"])
        return ids

    def _start(self, namespace: str, flow: str, inputs: Mapping[str, str]) -> str:
        parts = {name: (None, text) for name, text in inputs.items()}
        answer = self._client.post(f"/executions/{namespace}/{flow}", files=parts or None)
        return str(_answered(answer)["id"])

    def _ended(self, execution_id: str) -> tuple[str, State]:
        def ended() -> tuple[str, State] | None:
            execution = _answered(self._client.get(f"/executions/{execution_id}"))
            state = State(execution["state"]["current"])
            return (f"{execution['namespace']}.{execution['flowId']}", state) if state in TERMINAL else None

        return wait_for(ended, _RUN_S, f"the execution {execution_id} has not ended")

    @staticmethod
    def _print(states: Mapping[str, tuple[str, State]]) -> None:
        for execution_id, (name, state) in states.items():
            mark = "✓" if state is State.SUCCESS else "✗"
            click.echo(f"  {mark} {name:<28} {state.value:<8} {execution_id}")


def _answered(answer: httpx.Response) -> dict[str, Any]:
    if answer.is_error:
        raise InvalidError("demo.api", f"{answer.request.method} {answer.request.url} answers {answer.text}")
    found: dict[str, Any] = answer.json()
    return found


def wait_for(look: Callable[[], T | None], seconds: float, what: str, *, every_s: float = 0.1) -> T:
    """Return the first thing that `look` finds, asking every so many seconds.

    Raises:
        MainstemError: `demo.timeout` with `what` when nothing was found in time.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = look()
        if found:
            return found
        time.sleep(every_s)
    raise MainstemError("demo.timeout", f"{what} after {seconds:g} s")
