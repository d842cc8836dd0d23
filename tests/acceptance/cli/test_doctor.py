"""`mainstem doctor`, with and without a running server."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

SHELL = """\
id: {id}
namespace: company.team
tasks:
  - id: say
    type: scripts.shell.Commands
    commands: ["true"]
    {more}
"""


def push(server: Any, shell: Any, *sources: str) -> None:
    token = (shell.folder / ".mainstem/token").read_text().strip()
    headers = {"authorization": f"Bearer {token}", "content-type": "application/x-yaml"}
    for source in sources:
        answer = httpx.post(f"{server.url}/api/v1/main/flows", content=source, headers=headers, timeout=20)
        assert answer.status_code == 200, answer.text


def lines(output: str, subject: str) -> list[str]:
    return [line for line in output.splitlines() if line[2:].startswith(subject)]


@pytest.fixture
def home(shell: Any) -> Path:
    """A home as a server leaves it, without a server."""
    assert shell.mainstem("db", "migrate").returncode == 0
    return Path(shell.folder / ".mainstem")


def test_a_folder_without_a_home_is_no_error(shell: Any) -> None:
    done = shell.mainstem("doctor")

    assert done.returncode == 0, done.stdout
    assert lines(done.stdout, "store")[0].startswith("! store       there is no database")
    assert "✓ broker      embedded Valkey, not started" in done.stdout
    assert not (shell.folder / ".mainstem").exists()


def test_a_running_server_is_asked(shell: Any, start_up: Callable[..., Any]) -> None:
    server = start_up(shell)
    push(server, shell, SHELL.format(id="plain", more=""))
    shell.write("mainstem.yaml", "repositories: [{name: far, url: 'file:///far.git', password: '${FAR_TOKEN}'}]\n")

    done, as_json = shell.mainstem("doctor"), shell.mainstem("doctor", "--json")
    server.stop()

    assert done.returncode == 0, done.stdout
    assert "integrity ok, 0 broken invariants" in lines(done.stdout, "store")[0]
    assert f"pid {server.process.pid} at {server.url}, ready, 1 active flow" in done.stdout
    assert lines(done.stdout, "broker")[0].startswith("✓ broker      Valkey ")
    assert lines(done.stdout, "repository")[0].endswith(", in sync")
    assert "! url         MAINSTEM_URL is not set" in done.stdout
    assert lines(done.stdout, "settings")[0].endswith("password names ${FAR_TOKEN}, which is not set here")
    assert done.stdout.splitlines()[-1].startswith("0 errors, ")
    body = json.loads(as_json.stdout)
    assert body["errors"] == 0
    assert {finding["subject"] for finding in body["findings"]} >= {"store", "server", "broker", "repository", "disk"}
    assert (shell.folder / ".mainstem/token").read_text().strip() not in done.stdout + as_json.stdout


def test_what_flows_need_and_what_is_ignored_is_named(shell: Any, start_up: Callable[..., Any]) -> None:
    server = start_up(shell)
    docker = "taskRunner: {type: scripts.runner.docker.Docker}\n    containerImage: company/image:1"
    push(
        server,
        shell,
        SHELL.format(id="ignoring", more="containerImage: python:3.13-slim"),
        SHELL.format(id="contained", more=docker),
        SHELL.format(id="exotic", more="interpreter: [no-such-shell, -c]"),
    )
    server.stop()

    done = shell.mainstem("doctor", DOCKER_HOST=f"unix://{shell.folder}/nothing.sock")

    assert done.returncode == 1
    assert "! runner      process: 1 flow names the image python:3.13-slim, which this runner ignores" in done.stdout
    assert "✗ runner      process: no-such-shell is not on PATH, and 1 flow needs it" in done.stdout
    assert "✗ runner      docker: the daemon does not answer, and flows need it" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("2 errors, ")


def test_a_damaged_store_is_an_error(shell: Any, home: Path) -> None:
    with sqlite3.connect(home / "state.db") as database:
        database.execute("PRAGMA foreign_keys=0")
        database.execute(
            "INSERT INTO attempts (task_run_id, execution_id, number, epoch, state, histories)"
            " VALUES ('r', 'e', 1, 1, 'RUNNING', '[]')"
        )
    database.close()

    done = shell.mainstem("doctor")

    assert done.returncode == 1
    assert "attempt 1 belongs to no task run r" in lines(done.stdout, "store")[0]


def test_a_newer_store_and_open_secrets_are_errors(shell: Any, home: Path) -> None:
    with sqlite3.connect(home / "state.db") as database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
    database.close()
    shell.write(".mainstem/secrets.yaml", "company: {KEY: value}").chmod(0o644)

    done = shell.mainstem("doctor")

    assert done.returncode == 1
    assert "this program knows only" in lines(done.stdout, "store")[0]
    assert "→ run the program that wrote it, or a newer one" in done.stdout
    assert "may be read by others (mode 644)" in lines(done.stdout, "secrets")[0]
    assert "→ chmod 600" in done.stdout


def test_a_broker_elsewhere_that_is_down_is_an_error_without_its_password(shell: Any) -> None:
    done = shell.mainstem("doctor", MAINSTEM_BROKER="redis://user:hidden@127.0.0.1:1/0")

    assert done.returncode == 1
    assert lines(done.stdout, "broker")[0].startswith("✗ broker      the broker at 127.0.0.1:1/0 does not answer")
    assert "hidden" not in done.stdout


def test_a_database_elsewhere_that_is_down_is_an_error_without_its_password(shell: Any) -> None:
    done = shell.mainstem("doctor", MAINSTEM_DATABASE="postgresql://user:hidden@127.0.0.1:1/x")

    assert done.returncode == 1
    assert lines(done.stdout, "store")[0].startswith("✗ store       cannot connect to")
    assert "hidden" not in done.stdout


def test_settings_that_cannot_be_read_are_said(shell: Any) -> None:
    shell.write("mainstem.yaml", "portt: 1\n")

    done = shell.mainstem("doctor")

    assert done.returncode == 1
    assert "[settings.invalid]" in done.stderr


def test_a_variable_that_is_not_set_is_one_finding_among_the_others(shell: Any, home: Path) -> None:
    far = "{name: far, url: 'http://127.0.0.1:1/flows.git', password: '${FAR_TOKEN}'}"
    shell.write("mainstem.yaml", f"repositories: [{far}]\n")

    done, quiet = shell.mainstem("doctor"), shell.mainstem("doctor", FAR_TOKEN="x")

    assert home.exists()
    assert done.returncode == 1
    assert lines(done.stdout, "settings") == [
        "✗ settings    mainstem.yaml: repositories[0].password names ${FAR_TOKEN}, which is not set"
    ]
    assert lines(done.stdout, "store")[0].startswith("✓ store")
    assert done.stdout.splitlines()[-1].startswith("1 error, ")
    assert lines(quiet.stdout, "settings") == []
