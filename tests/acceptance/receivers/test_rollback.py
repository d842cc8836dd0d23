"""Going back while the repository's server is down: at once, and with who and why in a ledger that nobody can edit."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from typing import Any

import httpx


def activated(followed: Any, message: str) -> str:
    commit: str = followed.push("greet", message)
    done = followed.mainstem("sync", "run", "production")
    assert (done.returncode, followed.active) == (0, commit), done
    return commit


def post(followed: Any, path: str, body: dict[str, str] | None = None) -> Any:
    token = (followed.folder / ".mainstem/token").read_text().strip()
    headers = {"authorization": f"Bearer {token}"}
    answer = httpx.post(f"{followed.url}/api/v1/main/{path}", json=body, headers=headers, timeout=60)
    assert answer.is_success, answer.text
    return answer.json()


def greeting(followed: Any) -> str:
    """Run the flow; return what it says."""
    run = post(followed, "executions/company.team/greet?wait=true")
    [line] = [row["message"] for row in followed.get(f"/api/v1/main/logs/{run['id']}") if row["taskId"] == "say"]
    return str(line)


def seconds_until_it_says(followed: Any, commit: str, message: str) -> float:
    """Go to a commit; return after how many seconds a run of it had ended with the message."""
    begun = time.monotonic()
    post(followed, "environments/production/rollback", {"commit": commit, "reason": "to and fro"})
    said = greeting(followed)
    seconds = time.monotonic() - begun
    assert said == message
    return seconds


def test_a_rollback_while_the_remote_is_stopped_runs_the_old_revision_at_once(followed: Any) -> None:
    old, new = activated(followed, "as it was"), activated(followed, "as it is")
    before = greeting(followed)
    followed.git.stop()

    back = followed.mainstem("sync", "rollback", "-e", "production", "--reason", "it greets wrongly")
    after = greeting(followed)
    history = followed.mainstem_json("sync", "history", "production")
    shown = followed.mainstem("sync", "history", "production")
    ways = [(new, "as it is"), (old, "as it was")] * 2
    seconds = [seconds_until_it_says(followed, *way) for way in ways]

    assert (back.returncode, back.stdout.splitlines()[0]) == (0, f"production: ACTIVE {old[:7]}"), back
    assert (before, after) == ("as it is", "as it was")
    [row, replaced] = history[:2]
    assert (row["action"], row["commit"], row["result"]) == ("rollback", old, "ACTIVE")
    assert (row["actor"], row["reason"]) == ("admin", "it greets wrongly")
    assert replaced["commit"] == new
    assert "admin" in shown.stdout
    assert "it greets wrongly" in shown.stdout
    assert min(seconds) < 1  # of several, since others may keep this machine busy for a moment


def test_a_changed_row_of_the_ledger_is_found_by_doctor(followed: Any) -> None:
    activated(followed, "as it was")
    activated(followed, "as it is")
    assert followed.mainstem("sync", "rollback", "-e", "production", "--reason", "it greets wrongly").returncode == 0
    whole = followed.mainstem("doctor", TEAM_HOOK="x", OLD_HOOK="y")
    with closing(sqlite3.connect(followed.folder / ".mainstem/state.db")) as database, database:
        changed = database.execute("UPDATE revisions SET reason = 'all is well' WHERE action = 'rollback'").rowcount

    found = followed.mainstem("doctor", TEAM_HOOK="x", OLD_HOOK="y")

    assert changed == 1
    assert "0 errors" in whole.stdout
    assert found.returncode == 1
    assert "breaks the chain: it, or the row before, was changed or taken out" in found.stdout
