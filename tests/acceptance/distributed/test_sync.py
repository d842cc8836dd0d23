"""Repositories of a server of several processes: deliveries, and reports by more than one agent."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.servers.deployment import Deployment
from tests.servers.git import GitServer, git
from tests.servers.program import wait_until

FLOW = """\
id: {id}
namespace: team
tasks:
  - id: say
    type: core.log.Log
    message: hello
"""
SECRET = "a secret of the deliveries"
FAR = 3_600


def push(clone: Path, flow_id: str) -> str:
    path = clone / "flows" / "team" / f"{flow_id}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(FLOW.format(id=flow_id))
    git(clone, "add", "-A")
    git(clone, "commit", "-q", "-m", f"add {flow_id}")
    git(clone, "push", "-q", "origin", "HEAD:refs/heads/main")
    return git(clone, "rev-parse", "HEAD")


def has_flow(deployment: Deployment, flow_id: str) -> bool:
    with deployment.api.client() as client:
        return client.get(f"/flows/team/{flow_id}").status_code == 200


@pytest.mark.timeout(180)
@pytest.mark.parametrize("interval", [FAR])
def test_a_delivery_that_serve_accepts_has_an_agent_look_at_once(
    deployment: Deployment, clone: Path, forges: Any, interval: int
) -> None:
    push(clone, "first")
    deployment.start("serve", "sync-agent")
    wait_until(lambda: has_flow(deployment, "first"), "the first look")

    commit = push(clone, "second")
    sent = forges.SENDERS["generic"].send(
        body=json.dumps({"type": "push", "ref": "refs/heads/main", "after": commit}).encode(), secret=SECRET
    )
    answer = httpx.post(
        f"{deployment['serve'].address('web')}/hooks/team", headers=sent.headers, content=sent.body, timeout=60
    )

    assert answer.status_code == 202, answer.text
    wait_until(lambda: has_flow(deployment, "second"), "the second look", 30)


def reported(bare: Path) -> list[str]:
    """Return the ids of the executions that the branch of reports tells of, in the order of its files."""
    branch = "mainstem-reports"
    if branch not in git(bare, "branch", "--list"):
        return []
    files = git(bare, "ls-tree", "-r", "--name-only", branch).splitlines()
    rows = [git(bare, "show", f"{branch}:{name}").splitlines() for name in files if name.endswith(".jsonl")]
    return [json.loads(line)["id"] for lines in rows for line in lines]


@pytest.mark.timeout(180)
def test_two_agents_report_each_execution_once(deployment: Deployment, clone: Path, remote: GitServer) -> None:
    push(clone, "first")
    deployment.start("serve", "worker", "sync-agent-1", "sync-agent-2")
    wait_until(lambda: has_flow(deployment, "first"), "the flow")
    bare = remote.root / "flows.git"

    started = deployment.api.execute(["first"] * 20, namespace="team")
    wait_until(lambda: reported(bare), "the first reports")
    started += deployment.api.execute(["first"] * 20, namespace="team")
    wait_until(lambda: len(reported(bare)) >= 40, "all reports")

    assert set(deployment.stop().values()) == {0}, deployment.log
    assert sorted(reported(bare)) == sorted(started)


@pytest.mark.timeout(180)
def test_a_flow_written_through_serve_is_a_commit_in_the_repository(
    deployment: Deployment, clone: Path, remote: GitServer
) -> None:
    push(clone, "first")
    deployment.start("serve", "sync-agent")
    wait_until(lambda: has_flow(deployment, "first"), "the flow of the repository")

    deployment.api.deploy(FLOW.format(id="written"))

    bare = remote.root / "flows.git"
    (path,) = [name for name in git(bare, "ls-tree", "-r", "--name-only", "main").splitlines() if "written" in name]
    head = git(bare, "rev-parse", "main")
    with closing(deployment.open_store()) as store:
        environment = store.read(lambda db: db.environments.get("production"))
    assert git(bare, "show", f"main:{path}") == FLOW.format(id="written").strip()
    assert has_flow(deployment, "written")
    assert environment is not None
    assert environment.active == head
