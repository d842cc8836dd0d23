"""A run of a server, repeated from its report alone: the flows and namespace files are those of its commit."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

FAILS = """\
id: fails
namespace: company.team
tasks:
  - {id: file, type: core.log.Log, message: "{{ read('note.txt') }}"}
  - {id: call, type: core.flow.Subflow, namespace: company.team, flowId: child}
  - {id: no, type: core.execution.Fail, errorMessage: as intended}
"""
CHILD = """\
id: child
namespace: company.team
tasks:
  - {id: hi, type: core.log.Log, message: from the child}
"""


def git(folder: Path, *arguments: str) -> str:
    settings = ["-c", "user.name=Ann", "-c", "user.email=ann@example.org", "-c", "credential.helper="]
    environ = {"PATH": "/usr/bin:/bin", "HOME": str(folder), "GIT_TERMINAL_PROMPT": "0"}
    command = ["git", *settings, *arguments]
    done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def pushed(shell: Any, remote: str, files: dict[str, str]) -> None:
    for name, content in files.items():
        shell.write(f"work/{name}", content)
    git(shell.folder / "work", "add", "-A")
    git(shell.folder / "work", "commit", "-q", "-m", "change")
    git(shell.folder / "work", "push", "-q", remote, "HEAD:refs/heads/main")


def cloned_report(shell: Any, remote: str, execution_id: str) -> Path:
    """Return the report's JSON in a clone of the reports branch, as soon as it is there."""
    deadline = time.monotonic() + 60
    for number in range(1_000):
        assert time.monotonic() < deadline
        if git(shell.folder, "ls-remote", remote, "mainstem-reports"):
            clone: Path = shell.folder / f"reports{number}"
            git(shell.folder, "clone", "-q", "-b", "mainstem-reports", remote, str(clone))
            found = list(clone.rglob(f"{execution_id}.json"))
            if found:
                return found[0]
    raise AssertionError


@pytest.mark.timeout(200)
def test_a_report_in_a_clone_is_repeated_with_the_files_of_its_commit(shell: Any, start_up: Callable[..., Any]) -> None:
    shell.write("mainstem.yaml", "reports: {intervalS: 1}\n")
    server = start_up(shell)
    token = (shell.folder / ".mainstem/token").read_text().strip()
    remote = f"{server.url.replace('//', f'//git:{token}@')}/git/flows.git"
    (shell.folder / "work").mkdir()
    git(shell.folder / "work", "init", "-q", "-b", "main")
    flows = {"fails.yaml": FAILS, "child.yaml": CHILD, "note.txt": "words of then"}
    pushed(shell, remote, {f"flows/company.team/{name}": content for name, content in flows.items()})
    run = shell.mainstem("exec", "run", "company.team.fails", "--wait", "--json")
    pushed(
        shell,
        remote,
        {
            "flows/company.team/note.txt": "words of now",
            "flows/company.team/fails.yaml": CHILD.replace("child", "fails"),
        },
    )
    report = cloned_report(shell, remote, json.loads(run.stdout)["id"])
    server.stop()

    inside = type(shell)(report.parents[0], shell.variables).mainstem("run", "--from-execution", report.name)
    outside = shell.mainstem("run", "--from-execution", str(report), "--until", "file")
    alone = shell.write("elsewhere/report.json", report.read_text())
    lost = shell.mainstem("run", "--from-execution", str(alone), "--until", "file")

    assert inside.returncode == 1
    assert "file: words of then" in inside.stdout, inside.stdout + inside.stderr
    assert "no failed: as intended" in inside.stdout
    assert outside.returncode == 0, outside.stdout + outside.stderr
    assert "file: words of then" in outside.stdout
    assert "is in no repository here" in lost.stderr
    assert "git clone http://127.0.0.1" in lost.stderr
