"""The life of a change at each forge: proposed, refused, mended, merged, run, reported, taken back."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.servers.dialects import MEMBER, STRANGER, TOKEN
from tests.servers.git import git

_MAINSTEM = Path(sys.executable).with_name("mainstem")
_SETTINGS = """\
repositories:
  - name: team
    url: {git}/acme/flows.git
    kind: {kind}
    apiUrl: {api}
    apiToken: ${{TEAM_TOKEN}}
    webhookSecret: ${{TEAM_HOOK}}
    intervalS: 3600
environments:
  - name: production
    repository: team
    namespaces: [company]
    writes: propose
reports:
  intervalS: 1
"""
FLOW = """\
id: {name}
namespace: company.team
tasks:
  - id: say
    type: core.log.{task}
    message: {message}
"""
CANARY = "a-canary-that-nobody-may-see"
_SEALED_CANARY = base64.b64encode(CANARY.encode()).decode()
SENDERS = {"github": "github", "gitlab": "gitlab-token", "forgejo": "forgejo", "bitbucket": "bitbucket"}


SUITE = """\
id: greetings
namespace: company.team
flowId: {name}
testCases:
  - id: right
    type: io.kestra.core.tests.flow.UnitTest
    assertions:
      - value: "{{{{ execution.state ~ (envs.canary ?? '') }}}}"
        equalTo: SUCCESS
"""


def flow(name: str, message: str = "hello", task: str = "Log") -> str:
    return FLOW.format(name=name, message=message, task=task)


def until(condition: Callable[[], Any], what: Callable[[], object], seconds: float = 60.0) -> float:
    """Wait for a condition; return how many seconds it took."""
    begun = time.monotonic()
    while not condition():
        assert time.monotonic() - begun < seconds, what()
        time.sleep(0.02)
    return time.monotonic() - begun


@dataclass
class Team:
    """A server that follows a repository of a forge, a clone of it, and what the forge was told."""

    folder: Path
    url: str
    forge: Any
    clone: Path
    sender: Any

    def commit(self, branch: str, files: dict[str, str | None]) -> str:
        """Commit files to a branch and push it."""
        git(self.clone, "checkout", "-q", "-B", branch)
        for name, text in files.items():
            path = self.clone / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text) if text is not None else path.unlink()
        git(self.clone, "add", "-A")
        git(self.clone, "commit", "-q", "-m", "change")
        git(self.clone, "push", "-q", "-f", str(self.forge.bare), branch)
        return git(self.clone, "rev-parse", "HEAD")

    def hear(self, shape: str, commit: str) -> None:
        """Deliver a webhook of a shape about a commit."""
        sent = self.sender.send(shape, after=commit)
        answer = httpx.post(f"{self.url}/hooks/team", content=sent.body, headers=sent.headers, timeout=30)
        assert answer.status_code == 202, answer.text

    def comment(self, line: str, author: int = MEMBER) -> None:
        """Let somebody comment on change request 7, and the webhook tell of it."""
        number = self.forge.say(7, line, author)
        payload = json.dumps(self.sender.payload("comment")).replace('"id": 700', f'"id": {number}')
        sent = self.sender.send("comment", body=payload.replace("/mainstem test", line).encode())
        answer = httpx.post(f"{self.url}/hooks/team", content=sent.body, headers=sent.headers, timeout=30)
        assert answer.status_code == 202, answer.text

    def wait_for_answer(self, words: str) -> str:
        """Wait until our comment has a line with these words, and return it."""

        def found() -> list[str]:
            return [line for text in self.forge.ours(7) for line in text.splitlines() if words in line]

        until(lambda: bool(found()), lambda: (self.forge.ours(7), (self.folder / "log").read_text()))
        return found()[0]

    def get(self, path: str) -> Any:
        token = (self.folder / ".mainstem/token").read_text().strip()
        answer = httpx.get(f"{self.url}/api/v1/main/{path}", headers={"authorization": f"Bearer {token}"}, timeout=30)
        return answer.json()

    def put(self, path: str, source: str) -> Any:
        """Write a flow through the API."""
        token = (self.folder / ".mainstem/token").read_text().strip()
        headers = {"authorization": f"Bearer {token}", "content-type": "application/x-yaml"}
        answer = httpx.put(f"{self.url}/api/v1/main/{path}", content=source, headers=headers, timeout=30)
        assert answer.status_code == 202, answer.text
        return answer.json()

    def hear_of(self, number: int, commit: str) -> None:
        """Deliver a webhook that says that a change request of any number was opened."""
        text = json.dumps(self.sender.payload("change_opened"))
        sent = self.sender.send("change_opened", body=text.replace(": 7,", f": {number},").encode(), after=commit)
        answer = httpx.post(f"{self.url}/hooks/team", content=sent.body, headers=sent.headers, timeout=30)
        assert answer.status_code == 202, answer.text

    def wait_for_status(self, commit: str) -> Any:
        key = (commit, "mainstem/production")
        until(lambda: key in self.forge.statuses, lambda: (self.forge.calls, (self.folder / "log").read_text()))
        return self.forge.statuses[key]

    def wait_until_active(self, commit: str) -> float:
        return until(
            lambda: self.get("environments/production")["active"] == commit,
            lambda: self.get("environments/production"),
        )

    def mainstem(self, *arguments: str, code: int = 0) -> str:
        done = subprocess.run(
            [_MAINSTEM, *arguments],
            cwd=self.folder,
            env=_environ(self.folder),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == code, done
        return done.stdout


def _environ(folder: Path, **more: str) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("MAINSTEM_")}
    return kept | {"HOME": str(folder), "XDG_CONFIG_HOME": str(folder / "config"), **more}


@pytest.fixture
def team(tmp_path: Path, git_server: Any, forge: Any, forges: Any) -> Iterator[Team]:
    folder, clone = tmp_path / "server", tmp_path / "clone"
    folder.mkdir()
    clone.mkdir()
    git(clone, "init", "-q", "-b", "main")
    sender = forges.SENDERS[SENDERS[forge.kind]]
    settings = _SETTINGS.format(git=git_server.url, kind=forge.kind, api=forge.url)
    (folder / "mainstem.yaml").write_text(settings)
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [_MAINSTEM, "up", "--port", "0"],
            cwd=folder,
            env=_environ(
                folder, TEAM_HOOK=sender.secret, TEAM_TOKEN=TOKEN, ENV_CANARY=CANARY, SECRET_CANARY=_SEALED_CANARY
            ),
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        read = (folder / "log").read_text
        until(lambda: "Ctrl-C" in read() or process.poll() is not None, read, 60)
        url = next(line.split()[1] for line in read().splitlines() if line.split()[:1] == ["web"])
        yield Team(folder, url, forge, clone, sender)
    finally:
        process.send_signal(signal.SIGTERM)
        code = process.wait(30)
    assert code == 0, (folder / "log").read_text()


@pytest.mark.parametrize("forge", list(SENDERS), indirect=True)
def test_a_change_is_refused_mended_merged_run_reported_and_taken_back(team: Team) -> None:
    first = team.commit("main", {"flows/kept.yaml": flow("kept")})
    team.hear("push", first)
    team.wait_until_active(first)

    # proposed: one good flow, one with a mistake in line 5
    broken = team.commit("faster", {"flows/good.yaml": flow("good"), "flows/bad.yaml": flow("bad", task="Lgo")})
    team.forge.open(7, "faster")
    team.hear("change_opened", broken)
    refused = team.wait_for_status(broken)
    until(lambda: team.forge.ours(7), lambda: team.forge.calls)
    [said] = team.forge.ours(7)

    # mended
    mended = team.commit("faster", {"flows/bad.yaml": flow("bad")})
    team.forge.follow(7)
    team.hear("change_updated", mended)
    accepted = team.wait_for_status(mended)
    until(lambda: mended[:12] in team.forge.ours(7)[0], lambda: team.forge.comments)
    comments = team.forge.ours(7)

    # merged
    git(team.clone, "checkout", "-q", "main")
    git(team.clone, "merge", "-q", "--no-ff", "-m", "merge", "faster")
    git(team.clone, "push", "-q", str(team.forge.bare), "main")
    merged = git(team.clone, "rev-parse", "HEAD")
    team.forge.pulls[7].state = "merged"
    team.hear("change_closed", mended)
    team.hear("push", merged)
    seconds = [team.wait_until_active(merged)]

    # run, and reported to the branch
    team.mainstem("exec", "run", "company.team.good", "--wait")
    until(lambda: "/company.team/good/" in _reports(team), lambda: _reports(team))

    # taken back
    git(team.clone, "revert", "--no-edit", "-m", "1", merged)
    reverted = git(team.clone, "rev-parse", "HEAD")
    git(team.clone, "push", "-q", str(team.forge.bare), "main")
    team.hear("push", reverted)
    seconds.append(team.wait_until_active(reverted))

    assert not refused["is_good"]
    assert "1 problem: flows/bad.yaml:5:11" in refused["summary"]
    if team.forge.kind in {"github", "bitbucket"}:
        assert refused["annotations"] == [("flows/bad.yaml", 5)]
    assert "`flows/bad.yaml:5:11`" in said
    assert (accepted["is_good"], accepted["summary"]) == (True, "2 added")
    assert len(comments) == 1
    assert "✓ `production`: 2 added" in comments[0]
    assert min(seconds) < 1  # of both ways, since others may keep this machine busy for a moment
    assert [row["id"] for row in team.get("flows/search")["results"]] == ["kept"]


def _reports(team: Team) -> str:
    """Return the paths of the files on the reports branch."""
    branch = git(team.forge.bare, "for-each-ref", "--format=%(refname)", "refs/heads/mainstem-reports")
    return git(team.forge.bare, "ls-tree", "-r", "--name-only", branch) if branch else ""


@pytest.mark.parametrize("forge", ["github", "gitlab", "forgejo"], indirect=True)
def test_a_fork_gets_a_plan_and_nothing_of_ours(team: Team) -> None:
    first = team.commit("main", {"flows/kept.yaml": flow("kept")})
    team.hear("push", first)
    team.wait_until_active(first)
    curious = (
        flow("curious", message="\"{{ secret('CANARY') }} {{ envs.canary }} {{ kv('canary') }} @team #1\"")
        .replace("core.log.Log", "scripts.shell.Script")
        .replace("message:", "script:")
    )
    proposed = team.commit(
        "fork", {"flows/curious.yaml": curious, "flows/company.team/tests/t.yaml": SUITE.format(name="curious")}
    )
    team.forge.open(7, "fork", is_fork=True)

    team.hear("change_opened", proposed)
    until(lambda: team.forge.ours(7), lambda: team.forge.calls)
    team.comment("/mainstem preview", STRANGER)
    team.comment("/mainstem approve", STRANGER)
    team.comment("/mainstem test")
    team.comment("/mainstem preview")
    refused = [
        team.wait_for_answer("`/mainstem approve` by `mallory`: refused: only who may push"),
        team.wait_for_answer("`/mainstem test` by `ann`: refused: code of a fork is run for nobody before"),
        team.wait_for_answer("`/mainstem preview` by `ann`: refused: code of a fork is run for nobody before"),
    ]

    status = team.wait_for_status(proposed)
    until(lambda: team.forge.ours(7), lambda: team.forge.calls)
    assert (status["is_good"], status["summary"][:7]) == (True, "1 added")
    assert team.get("executions/search")["total"] == 0
    assert json.dumps(team.get("environments")).count(proposed) == 0
    assert all(refused)
    told = repr((team.forge.calls, team.forge.comments, team.forge.statuses))
    known = json.dumps([team.get(path) for path in ("deliveries", "environments", "logs/search")])
    said = (team.folder / "log").read_text()
    assert [text for text in (CANARY, _SEALED_CANARY) if text in told + known + said] == []
    assert [row["id"] for row in team.get("flows/search")["results"]] == ["kept"]


@pytest.mark.parametrize("forge", ["bitbucket"], indirect=True)
def test_a_fork_whose_commits_lie_in_another_repository_gets_nothing_at_all(team: Team) -> None:
    first = team.commit("main", {"flows/kept.yaml": flow("kept")})
    team.hear("push", first)
    team.wait_until_active(first)
    team.commit("fork", {"flows/curious.yaml": flow("curious")})
    team.forge.open(7, "fork", is_fork=True)

    team.hear("change_opened", team.forge.head(7))
    until(lambda: any(path.endswith("/pullrequests/7") for _, path in team.forge.calls), lambda: team.forge.calls)
    second = team.commit("main", {"flows/kept.yaml": flow("kept", "bye"), "flows/curious.yaml": None})
    team.hear("push", second)
    team.wait_until_active(second)
    team.wait_for_status(second)

    assert team.forge.ours(7) == []
    assert {commit for commit, _ in team.forge.statuses} == {first, second}
    assert team.get("executions/search")["total"] == 0
    assert [row["id"] for row in team.get("flows/search")["results"]] == ["kept"]


@pytest.mark.parametrize("forge", ["github", "gitlab"], indirect=True)
def test_a_change_is_tested_and_tried_in_a_preview_before_it_is_merged(team: Team) -> None:
    first = team.commit("main", {"flows/kept.yaml": flow("kept")})
    team.hear("push", first)
    team.wait_until_active(first)
    files: dict[str, str | None] = {
        "flows/good.yaml": flow("good"),
        "flows/curious.yaml": flow("curious", message="\"{{ secret('CANARY') }}\""),
        "flows/company.team/tests/t.yaml": SUITE.format(name="good"),
    }
    proposed = team.commit("faster", files)
    team.forge.open(7, "faster")
    team.hear("change_opened", proposed)
    tested = team.wait_for_answer("`/mainstem test`: 1 passed")

    team.comment("/mainstem preview")
    made = team.wait_for_answer("preview `production.pr-7`")
    run = team.mainstem("exec", "run", "preview.pr-7.company.team.good", "--wait")
    refused = team.mainstem("exec", "run", "preview.pr-7.company.team.curious", "--wait", "--json", code=1)
    status = team.mainstem("sync", "status")
    team.forge.pulls[7].state = "closed"
    team.hear("change_closed", proposed)
    until(lambda: len(team.get("environments")["results"]) == 1, lambda: team.get("environments"))

    assert tested
    assert f"of `{proposed[:12]}`: 3 flows, no triggers, until" in made
    assert "SUCCESS" in run
    assert CANARY not in refused
    assert "production.pr-7" in status
    assert [row["id"] for row in team.get("flows/search")["results"]] == ["kept"]


@pytest.mark.parametrize("forge", ["github", "gitlab"], indirect=True)
def test_a_write_is_proposed_reviewed_merged_and_active_and_taken_back_the_same_way(team: Team) -> None:
    first = team.commit("main", {"flows/company.team/kept.yaml": flow("kept")})
    team.hear("push", first)
    team.wait_until_active(first)
    forge = team.forge

    # proposed through the API, and reviewed like any other change request
    written = team.put("flows/company.team/kept", flow("kept", "louder"))
    number, branch = written["pullRequest"]["number"], written["pullRequest"]["branch"]
    team.hear_of(number, written["commit"])
    status = team.wait_for_status(written["commit"])

    # merged
    git(forge.bare, "update-ref", "refs/heads/main", written["commit"])
    forge.pulls[number].state = "merged"
    team.hear("push", written["commit"])
    team.wait_until_active(written["commit"])
    active = team.get("flows/company.team/kept")

    # taken back at once, and in git
    said = team.mainstem("sync", "rollback", first[:9], "-e", "production", "--reason", "too loud", "--propose")
    back = forge.pulls[number + 1]
    git(forge.bare, "update-ref", "refs/heads/main", forge.head(number + 1))
    back.state = "merged"
    team.mainstem("sync", "resume", "production")

    assert (written["draft"], written["revision"], active["revision"]) == (True, 2, 2)
    assert branch.startswith("mainstem/company.team.kept-")
    assert (status["is_good"], status["summary"]) == (True, "1 changed")
    assert f"production: proposed, {forge.url}/acme/flows/" in said
    assert back.title == f"Revert production to {first[:7]}"
    assert team.get("environments/production")["state"] == "OK"
    assert git(forge.bare, "diff", "--stat", first, "main") == ""
