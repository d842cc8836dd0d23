"""A server of several processes: what one of them accepts the others do, and everyone sees it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner

from runner.cli import group
from runner.errors import InvalidError
from runner.settings import Settings
from runner.store import ExecutionQuery
from tests.servers.deployment import Deployment
from tests.servers.git import GitServer, git
from tests.servers.program import wait_until
from webhooks.distributed import check_settings

HELLO = """\
id: hello
namespace: team
inputs:
  - id: secret
    type: SECRET
    required: false
triggers:
  - id: hook
    type: core.trigger.Webhook
    key: a-long-enough-key
tasks:
  - id: say
    type: core.log.Log
    message: hello from {{ taskrun.id }}
  - id: body
    type: scripts.shell.Commands
    namespaceFiles:
      enabled: true
    commands:
      - cat greeting.txt
"""
SLEEPER = """\
id: sleeper
namespace: team
tasks:
  - id: body
    type: scripts.shell.Commands
    commands:
      - echo begun
      - sleep 300
"""
EVERY_SECOND = """\
id: tick
namespace: team
triggers:
  - id: clock
    type: core.trigger.Schedule
    cron: "* * * * * *"
    withSeconds: true
    allowConcurrent: true
tasks:
  - id: say
    type: core.log.Log
    message: tick
"""
SEALED = """\
id: sealed
namespace: team
inputs:
  - id: password
    type: SECRET
  - id: document
    type: FILE
tasks:
  - id: body
    type: scripts.shell.Commands
    inputFiles:
      document.txt: "{{ inputs.document }}"
    commands:
      - test "{{ inputs.password }}" = opensesame
      - echo "the token is {{ secret('FORGE_TOKEN') }} in {{ namespace.region }}"
      - echo "::{\\"outputs\\":{\\"text\\":\\"$(cat document.txt)\\"}}::"
"""
FILES = {"flows/team/hello.yaml": HELLO, "flows/team/_files/greeting.txt": "from the repository\n"}


def push(clone: Path, files: dict[str, str]) -> str:
    for name, text in files.items():
        (clone / name).parent.mkdir(parents=True, exist_ok=True)
        (clone / name).write_text(text)
    git(clone, "add", "-A")
    git(clone, "commit", "-q", "-m", "change")
    git(clone, "push", "-q", "origin", "HEAD:refs/heads/main")
    return git(clone, "rev-parse", "HEAD")


def state_of(deployment: Deployment, execution_id: str) -> str:
    return str(deployment.api.get(f"/executions/{execution_id}")["state"]["current"])


def has_flow(deployment: Deployment, flow_id: str) -> bool:
    with deployment.api.client() as client:
        return client.get(f"/flows/team/{flow_id}").status_code == 200


@contextmanager
def events(deployment: Deployment, path: str) -> Iterator[Iterator[tuple[str, Any]]]:
    """Give the events of a stream, as they come, to its end."""

    def read(lines: Iterator[str]) -> Iterator[tuple[str, Any]]:
        kind = ""
        for line in lines:
            if line.startswith("event:"):
                kind = line.split(":", 1)[1].strip()
            elif line.startswith("data:"):
                yield kind, json.loads(line.split(":", 1)[1])
                if kind == "end":
                    return

    with deployment.api.client() as client, client.stream("GET", path, timeout=60) as answer:
        yield read(answer.iter_lines())


@pytest.mark.timeout(180)
def test_a_webhook_that_serve_accepts_is_run_by_a_worker_and_visible_in_serve(
    deployment: Deployment, clone: Path, remote: GitServer
) -> None:
    commit = push(clone, FILES)
    deployment.start("serve", "worker", "scheduler", "sync-agent")
    wait_until(lambda: has_flow(deployment, "hello"), "the flow of the repository in serve")

    started = deployment.api.post("/executions/webhook/team/hello/a-long-enough-key", json={"a": 1})
    with events(deployment, f"/executions/{started['id']}/follow") as frames:
        states = [body["state"]["current"] for _, body in frames]
    with events(deployment, f"/logs/{started['id']}/follow") as frames:
        lines = [body["message"] for kind, body in frames if kind != "end"]

    execution = deployment.api.get(f"/executions/{started['id']}")
    assert states[-1] == "SUCCESS", deployment.log
    assert execution["state"]["current"] == "SUCCESS"
    assert any("hello from" in line for line in lines)
    assert "from the repository" in lines
    assert deployment.api.get("/flows/team/hello")["revision"] == 1
    environments = deployment.open_store()
    assert environments.read(lambda db: db.environments.get("production")).active == commit  # type: ignore[union-attr]
    environments.close()
    wait_until(
        lambda: "mainstem-reports" in git(remote.root / "flows.git", "branch", "--list"),
        "the reports in the repository",
    )
    assert set(deployment.stop().values()) == {0}, deployment.log
    assert "Traceback" not in deployment.log


@pytest.mark.timeout(180)
def test_the_log_of_a_run_is_followed_in_serve_and_a_kill_reaches_its_worker(
    deployment: Deployment, clone: Path
) -> None:
    push(clone, {"flows/team/sleeper.yaml": SLEEPER})
    deployment.start("serve", "worker-1", "worker-2", "sync-agent")
    wait_until(lambda: has_flow(deployment, "sleeper"), "the flow")
    execution_id = deployment.api.post("/executions/team/sleeper")["id"]

    with events(deployment, f"/logs/{execution_id}/follow") as frames:
        seen = next(body["message"] for _, body in frames if body.get("message") == "begun")
        kill(deployment, execution_id)
        rest = [kind for kind, _ in frames]

    assert seen == "begun"
    assert rest[-1] == "end"
    assert state_of(deployment, execution_id) == "KILLED"


def kill(deployment: Deployment, execution_id: str) -> None:
    with deployment.api.client() as client:
        assert client.delete(f"/executions/{execution_id}/kill").is_success


@pytest.mark.timeout(180)
def test_what_serve_encrypts_and_stores_a_worker_reads(deployment: Deployment, clone: Path) -> None:
    push(clone, {"flows/team/sealed.yaml": SEALED, "flows/team/_defaults.yaml": "variables: {region: eu}\n"})
    deployment.start("serve", "worker", "sync-agent")
    wait_until(lambda: has_flow(deployment, "sealed"), "the flow")
    with deployment.api.client() as client:
        body = {"key": "FORGE_TOKEN", "value": "set-while-the-worker-runs"}
        assert client.put("/namespaces/team/secrets", json=body).is_success

    form: dict[str, Any] = {"password": (None, "opensesame"), "document": ("d.txt", b"of the caller")}
    started = deployment.api.post("/executions/team/sealed", files=form)
    wait_until(lambda: state_of(deployment, started["id"]) in {"SUCCESS", "FAILED"}, "the end")

    execution = deployment.api.get(f"/executions/{started['id']}")
    assert execution["state"]["current"] == "SUCCESS", deployment.api.get(f"/logs/{started['id']}")
    assert "opensesame" not in json.dumps(execution)
    lines = [line["message"] for line in deployment.api.get(f"/logs/{started['id']}")]
    assert "the token is ****** in eu" in lines
    assert deployment.api.get("/namespaces/team")["variables"] == {"region": "eu"}
    assert execution["taskRunList"][0]["outputs"]["vars"] == {"text": "of the caller"}


@pytest.mark.timeout(180)
def test_two_schedulers_fire_each_date_once(deployment: Deployment, clone: Path) -> None:
    push(clone, {"flows/team/tick.yaml": EVERY_SECOND})
    deployment.start("scheduler-1", "scheduler-2", "sync-agent")
    store = deployment.open_store()

    def dates() -> list[datetime]:
        found = store.read(lambda db: db.executions.search(ExecutionQuery(size=1_000))).items
        told = [str(each.trigger.variables["date"]) for each in found if each.trigger is not None]
        return sorted(datetime.fromisoformat(text) for text in told)

    wait_until(lambda: len(dates()) >= 5, "five dates")
    deployment.stop()

    fired = dates()
    store.close()
    assert [later - earlier for earlier, later in pairwise(fired)] == [timedelta(seconds=1)] * (len(fired) - 1)


@pytest.mark.timeout(180)
def test_a_push_is_active_within_seconds_and_an_invalid_one_changes_nothing(
    deployment: Deployment, clone: Path
) -> None:
    first = push(clone, FILES)
    deployment.start("serve", "sync-agent-1", "sync-agent-2")
    wait_until(lambda: has_flow(deployment, "hello"), "the first flow")

    second = push(clone, {"flows/team/sleeper.yaml": SLEEPER})
    wait_until(lambda: has_flow(deployment, "sleeper"), "the second flow", 20)
    push(clone, {"flows/team/bad.yaml": "id: bad\nnamespace: team\ntasks: 1\n"})
    store = deployment.open_store()
    wait_until(lambda: store.read(lambda db: db.environments.get("production")).state == "DEGRADED", "the refusal")  # type: ignore[union-attr]

    environment = store.read(lambda db: db.environments.get("production"))
    activated = [row.commit for row in store.read(lambda db: db.revisions.list("production")) if row.result == "ACTIVE"]
    store.close()
    assert environment is not None
    assert environment.active == second
    assert sorted(activated) == sorted([first, second])
    assert set(deployment.stop().values()) == {0}, deployment.log


@pytest.mark.timeout(120)
def test_processes_say_whether_they_are_well(deployment: Deployment) -> None:
    deployment.start("serve", "worker", "scheduler", "sync-agent")
    addresses = [deployment["serve"].address("web") + "/health/ready"]
    addresses += [deployment[name].address("health") for name in ("worker", "scheduler", "sync-agent")]

    well = [httpx.get(address, timeout=60).status_code for address in addresses]
    deployment.broker.kill()
    unwell = [httpx.get(address, timeout=30) for address in addresses]

    assert well == [200, 200, 200, 200]
    assert [answer.status_code for answer in unwell] == [200, 503, 200, 200]  # serve still accepts
    assert "broker" in unwell[1].json()["missing"][0]


@pytest.mark.timeout(120)
def test_serve_sheds_load_that_no_worker_takes(deployment: Deployment, clone: Path) -> None:
    push(clone, FILES)
    deployment.start("serve", "sync-agent", MAINSTEM_MAX_BACKLOG="5")
    wait_until(lambda: has_flow(deployment, "hello"), "the flow")

    def is_shed() -> bool:
        with deployment.api.client() as client:
            answer = client.post("/executions/team/hello")
        return answer.status_code == 503 and "retry-after" in answer.headers

    wait_until(is_shed, "an answer that says to come back")


def mainstem(deployment: Deployment, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    program = "import sys\nfrom runner.cli import main\nsys.exit(main())"
    return subprocess.run(
        [sys.executable, "-P", "-c", program, *arguments],
        cwd=deployment.folder,
        env=deployment.environment("refused") | environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("missing", "code"),
    [
        ("database", "server.database.missing"),
        ("broker", "server.broker.missing"),
        ("storage", "server.storage.missing"),
        ("encryption_key", "server.encryption.missing"),
    ],
)
def test_a_role_refuses_settings_with_which_it_would_not_be_one_server(tmp_path: Path, missing: str, code: str) -> None:
    values = {"database": "postgresql://x@y/z", "broker": "redis://y", "storage": "/files", "encryption_key": "a2V5"}

    with pytest.raises(InvalidError) as raised:
        check_settings(Settings.model_validate({"home": tmp_path, **values, missing: None}))

    assert raised.value.code == code


@pytest.mark.parametrize("role", ["serve", "worker", "scheduler", "sync-agent"])
def test_each_role_says_what_it_misses(tmp_path: Path, role: str) -> None:
    said = CliRunner().invoke(group, [role, "--home", str(tmp_path)], env={"MAINSTEM_DATABASE": ""})

    assert isinstance(said.exception, InvalidError)
    assert said.exception.code == "server.database.missing"


@pytest.mark.timeout(120)
def test_a_role_refuses_a_database_without_our_tables_until_it_was_migrated(
    deployment: Deployment, postgres_empty_url: str
) -> None:
    refused = mainstem(deployment, "worker", MAINSTEM_DATABASE=postgres_empty_url)
    migrated = mainstem(deployment, "db", "migrate", MAINSTEM_DATABASE=postgres_empty_url)
    deployment.start("worker", MAINSTEM_DATABASE=postgres_empty_url)

    assert refused.returncode == 1
    assert "store.schema.missing" in refused.stderr
    assert "mainstem db migrate" in refused.stderr
    assert migrated.returncode == 0, migrated.stderr
    assert deployment.stop() == {"worker": 0}


def test_serve_refuses_the_hosted_repository(deployment: Deployment) -> None:
    settings = "repositories: [{name: mine, url: 'http://127.0.0.1:1/x.git', kind: hosted}]\n"
    (deployment.folder / "mainstem.yaml").write_text(settings)

    said = mainstem(deployment, "serve", "--port", "0")

    assert said.returncode == 1
    assert "server.repository.hosted" in said.stderr


def test_two_processes_do_not_share_a_home(deployment: Deployment) -> None:
    deployment.start("scheduler")
    home = deployment.environment("scheduler")["MAINSTEM_HOME"]

    said = mainstem(deployment, "worker", "--home", home)

    assert said.returncode == 1
    assert "home.locked" in said.stderr
