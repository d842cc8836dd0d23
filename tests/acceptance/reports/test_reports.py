"""The whole way: a push, runs, and their reports in a clone of the same repository."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

MAINSTEM = Path(sys.executable).with_name("mainstem")
START_S, RUN_S, WRITTEN_S = 60, 60, 15
NIGHT = (datetime.now(UTC).hour + 12) % 24
"""The hour of a schedule that does not fire while these tests run."""
FLOWS = {
    "good.yaml": """\
id: good
namespace: weather
tasks:
  - {id: say, type: core.log.Log, message: "hello"}
triggers:
  - {id: nightly, type: core.trigger.Schedule, cron: "0 NIGHT * * *"}
""".replace("NIGHT", str(NIGHT)),
    "broken.yaml": """\
id: broken
namespace: weather
inputs:
  - {id: station, type: STRING}
  - {id: token, type: SECRET, required: false}
tasks:
  - {id: fetch, type: core.debug.Return, format: "rows of {{ inputs.station }}"}
  - id: chart
    type: scripts.python.Script
    namespaceFiles: {enabled: true, include: [stations.txt]}
    script: |
      import os, sys
      known = open("stations.txt").read().split()
      print("secret", os.environ["KEY"], "known", known)
      sys.exit("no rows for station {{ inputs.station }}")
    env: {KEY: "{{ secret('CHART_KEY') }}"}
""",
}


@dataclass
class Running:
    url: str
    token: str
    folder: Path
    environ: dict[str, str]
    execution: dict[str, Any]
    written_s: float

    def git(self, *arguments: str, cwd: Path | None = None) -> str:
        return _run(
            ["git", "-c", "user.name=Ann", "-c", "user.email=ann@example.org", *arguments],
            cwd or self.folder,
            self.environ,
        )

    @property
    def remote(self) -> str:
        return self.url.replace("://", f"://git:{self.token}@") + "/git/flows.git"

    def get(self, path: str) -> httpx.Response:
        return httpx.get(f"{self.url}{path}", headers={"Authorization": f"Bearer {self.token}"}, timeout=20)


def _run(command: list[str], cwd: Path, environ: dict[str, str], code: int | None = 0) -> str:
    done = subprocess.run(
        command,
        cwd=cwd,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=90,
        check=False,
    )
    assert code is None or done.returncode == code, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server that got a push, ran two flows, and wrote its reports."""
    folder = tmp_path_factory.mktemp("reports")
    environ = {key: text for key, text in os.environ.items() if not key.startswith(("MAINSTEM_", "GIT_"))}
    environ |= {"HOME": str(folder), "XDG_CONFIG_HOME": str(folder / "config"), "GIT_TERMINAL_PROMPT": "0"}
    log = (folder / "log").open("w+")
    process = subprocess.Popen(
        [MAINSTEM, "up", "--port", "0"],
        cwd=folder,
        env=environ | {"SECRET_CHART_KEY": "dG9wLXNlY3JldC1jaGFydC1rZXk="},
        stdout=log,
        stderr=subprocess.STDOUT,
    )
    try:
        deadline = time.monotonic() + START_S
        while "ready in" not in (text := (folder / "log").read_text()):
            assert process.poll() is None, text
            assert time.monotonic() < deadline, text
            time.sleep(0.05)
        url = next(line.split()[1] for line in text.splitlines() if line.split()[:1] == ["web"])
        token = (folder / ".mainstem" / "token").read_text().strip()
        running = Running(url, token, folder, environ, {}, 0)
        _push(running)
        _start(running, "good", {})
        running.execution = _start(running, "broken", {"station": "LGA", "token": "typed-by-hand"})
        running.written_s = _seconds_until_written(running)
        yield running
    finally:
        process.send_signal(signal.SIGTERM)
        code = process.wait(30)
        log.close()
    assert code == 0, (folder / "log").read_text()


def _push(running: Running) -> None:
    work = running.folder / "work"
    (work / "flows" / "weather").mkdir(parents=True)
    for name, text in FLOWS.items():
        (work / "flows" / "weather" / name).write_text(text)
    (work / "flows" / "weather" / "stations.txt").write_text("JFK EWR")
    running.git("init", "-q", "-b", "main", cwd=work)
    running.git("add", ".", cwd=work)
    running.git("commit", "-q", "-m", "shorter timeout, closes #1", cwd=work)
    running.git("push", "-q", running.remote, "main", cwd=work)


def _start(running: Running, flow: str, inputs: dict[str, str]) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {running.token}"}
    answer = httpx.post(
        f"{running.url}/api/v1/main/executions/weather/{flow}",
        params={"wait": "true"},
        files={name: (None, text) for name, text in inputs.items()} or None,
        headers=headers,
        timeout=RUN_S,
    )
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def _seconds_until_written(running: Running) -> float:
    """Return how long after its end the commit with the failed run was made; a clone with it stays in `reports`."""
    end = datetime.fromisoformat(running.execution["state"]["histories"][-1]["date"]).timestamp()
    clone = running.folder / "reports"
    while time.time() < end + RUN_S:
        if "mainstem-reports" in running.git("ls-remote", running.remote):
            if not clone.exists():
                running.git("clone", "-q", "-b", "mainstem-reports", running.remote, str(clone))
            running.git("pull", "-q", "--ff-only", cwd=clone)
            for found in clone.rglob(f"{running.execution['id']}.json"):
                return int(running.git("log", "-1", "--format=%ct", "--", str(found), cwd=clone)) - end
        time.sleep(0.25)
    pytest.fail("the run is not on the branch")


def test_a_run_is_on_the_branch_within_fifteen_seconds(server: Running) -> None:
    assert server.written_s <= WRITTEN_S


def test_a_clone_of_the_branch_shows_board_flows_runs_and_rows(server: Running) -> None:
    clone, run = server.folder / "reports", server.execution["id"]

    files = {str(path.relative_to(clone)) for path in clone.rglob("*") if path.is_file() and ".git/" not in str(path)}

    page = next(name for name in files if name.endswith(f"/weather/broken/{run}.md"))
    day = page.removeprefix("runs/")[:10]
    assert {
        "README.md",
        "default/README.md",
        "flows/weather/broken/README.md",
        "flows/weather/broken/badge.svg",
        "flows/weather/broken/badge.json",
        "flows/weather/good/README.md",
        f"runs/{day}/README.md",
        page,
        f"runs/{day}/weather/broken/{run}.json",
    } <= files
    lines = [
        json.loads(line)
        for name in files
        if name.endswith(".jsonl")
        for line in (clone / name).read_text().splitlines()
    ]
    assert sorted(line["flow"] for line in lines) == ["broken", "good"]
    board = (clone / "default" / "README.md").read_text()
    assert board.index("weather.broken") < board.index("weather.good")
    assert re.search(rf"weather\.good.* {NIGHT:02}:00 \|", board)


def test_the_page_of_the_failed_run_tells_what_an_engineer_on_call_asks(server: Running) -> None:
    page = next((server.folder / "reports").rglob(f"{server.execution['id']}.md")).read_text()

    headline = next(line for line in page.splitlines() if line.startswith("> "))
    assert "✗ weather.broken failed" in headline
    assert "started by admin" in headline
    assert "“shorter timeout, closes #\u200b1” by Ann" in headline
    assert "**chart** failed after 1 attempt: exit code 1" in page
    assert "no rows for station LGA" in page
    assert "--until chart`" in page
    assert "`station`: `LGA`" in page
    assert "```mermaid\ngantt\n" in page


def test_no_secret_is_on_the_branch(server: Running) -> None:
    clone = server.folder / "reports"

    text = "".join(path.read_text() for path in clone.rglob("*") if path.is_file() and ".git/" not in str(path))

    assert "secret ****** known" in text
    assert not [each for each in ("top-secret-chart-key", "dG9wLXNl", "typed-by-hand", server.token) if each in text]


def test_the_report_holds_everything_that_repeating_the_run_needs(server: Running) -> None:
    document = json.loads(next((server.folder / "reports").rglob(f"{server.execution['id']}.json")).read_text())

    assert document["flow"]["source"] == FLOWS["broken.yaml"]
    assert document["flow"]["secrets"] == ["CHART_KEY"]
    repository = document["flow"]["repository"]
    assert (
        repository["commit"]
        == document["commit"]
        == server.git("rev-parse", "HEAD", cwd=server.folder / "work").strip()
    )
    assert (repository["ref"], repository["path"]) == ("refs/heads/main", "flows")
    assert repository["url"] == f"{server.url}/git/flows.git"
    assert document["inputs"] == {"station": "LGA", "token": "******"}
    assert document["hiddenInputs"] == ["token"]
    assert document["taskRunList"][0]["outputs"] == {"value": "rows of LGA"}


def test_the_report_alone_repeats_the_run(server: Running) -> None:
    report = next((server.folder / "reports").rglob(f"{server.execution['id']}.json"))
    environ = server.environ | {"SECRET_CHART_KEY": "YW5vdGhlci1jaGFydC1rZXk="}
    command = [str(MAINSTEM), "run", "--from-execution", str(report), "-i", "token=again", "--json"]

    output = _run(command, server.folder / "reports", environ, code=1)

    execution, _ = json.JSONDecoder().raw_decode(output)  # in front of the words how to repeat it
    assert execution["state"]["current"] == "FAILED"
    assert [run["taskId"] for run in execution["taskRunList"]] == ["fetch", "chart"]
    assert execution["taskRunList"][0]["outputs"] == {"value": "rows of LGA"}


def test_a_plain_clone_shows_the_flows_and_nothing_else(server: Running) -> None:
    server.git("clone", "-q", server.remote, "plain")

    names = {path.name for path in (server.folder / "plain").rglob("*") if path.is_file() and ".git/" not in str(path)}

    assert names == {"good.yaml", "broken.yaml", "stations.txt"}


def test_reports_move_no_environment_and_are_counted(server: Running) -> None:
    history = server.get("/api/v1/main/environments/default/revisions")
    metrics = server.get("/metrics").text

    assert len(history.json()["results"]) == 1, history.text
    assert re.search(r"^mainstem_process_report_commits [1-9]", metrics, re.MULTILINE)
    assert re.search(r"^mainstem_process_report_commits_failed 0$", metrics, re.MULTILINE)


def test_the_deployment_has_its_page_on_the_branch_and_its_note_on_the_commit(server: Running) -> None:
    work = server.folder / "work"
    commit = server.git("rev-parse", "HEAD", cwd=work).strip()
    server.git("fetch", "-q", server.remote, "refs/notes/mainstem:refs/notes/mainstem", cwd=work)

    log = server.git("log", "-1", "--notes=mainstem", cwd=work)
    history = _run([str(MAINSTEM), "sync", "history", "--from-notes", "."], work, server.environ)

    page = next((server.folder / "reports" / "default" / "deployments").glob(f"*-{commit[:7]}.md")).read_text()
    assert f"✓ {commit[:7]} is active" in page
    assert "closes #1" not in page
    assert "Notes (mainstem):" in log
    assert f"to={commit}" in log
    assert history.split("\t")[1:4] == [commit[:7], "sync", "ACTIVE"]
    assert (next((server.folder / "reports").rglob(f"{server.execution['id']}.junit.xml"))).read_text().count(
        "<failure"
    ) == 1
