"""A forge's webhook comes to one process, and another one looks at the repository."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.servers.deployment import Deployment
from tests.servers.git import GitServer, git
from tests.servers.program import wait_until

FLOW = """\
id: {name}
namespace: team
tasks:
  - id: say
    type: core.log.Log
    message: hello
"""
SETTINGS = """\
repositories:
  - name: team
    url: {url}/acme/flows.git
    kind: github
    webhookSecret: "{secret}"
    intervalS: 3600
environments:
  - name: production
    repository: team
reports: {{enabled: false}}
"""


def push(clone: Path, name: str) -> str:
    (clone / "flows").mkdir(exist_ok=True)
    (clone / "flows" / f"{name}.yaml").write_text(FLOW.format(name=name))
    git(clone, "add", "-A")
    git(clone, "commit", "-q", "-m", "change")
    git(clone, "push", "-q", "origin", "HEAD:refs/heads/main")
    return git(clone, "rev-parse", "HEAD")


@pytest.mark.timeout(180)
def test_a_delivery_that_serve_takes_is_looked_at_by_the_sync_agent(
    deployment: Deployment, clone: Path, remote: GitServer, forges: Any
) -> None:
    (remote.root / "acme").mkdir()
    remote.repository("acme/flows.git")
    git(clone, "remote", "set-url", "origin", f"{remote.url}/acme/flows.git")
    (deployment.folder / "mainstem.yaml").write_text(SETTINGS.format(url=remote.url, secret=forges.SECRET))
    first = push(clone, "first")
    deployment.start("serve-1", "serve-2", "sync-agent")
    store = deployment.open_store()

    def active() -> str | None:
        environment = store.read(lambda db: db.environments.get("production"))
        return environment.active if environment else None

    wait_until(lambda: active() == first, "the first look of the sync-agent")
    second = push(clone, "second")
    sent = forges.SENDERS["github"].send(after=second)

    answers = [
        httpx.post(f"{deployment[name].address('web')}/hooks/team", content=sent.body, headers=sent.headers, timeout=60)
        for name in ("serve-1", "serve-2")
    ]

    wait_until(lambda: active() == second, "the commit of the delivery")
    store.close()
    assert [(answer.status_code, answer.json()["result"]) for answer in answers] == [
        (202, "ACCEPTED"),
        (200, "DUPLICATE"),
    ]
    assert set(deployment.stop().values()) == {0}, deployment.log
