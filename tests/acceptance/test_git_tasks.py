"""Git tasks on a running server: a script reads what was cloned, and what is brought from elsewhere is active."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.servers.embedded import Server
from tests.servers.git import GitServer, git
from tests.servers.program import wait_until

CLONING = """\
id: cloning
namespace: team
tasks:
  - id: work
    type: core.flow.WorkingDirectory
    tasks:
      - {id: clone, type: git.Clone, url: "%s/tools.git", directory: tools}
      - id: read
        type: scripts.shell.Script
        script: |
          cd tools && sh hello.sh > ../said.txt && git status --porcelain >> ../said.txt && echo new > new.txt
          echo "::{\\"outputs\\": {\\"said\\": \\"$(cat ../said.txt)\\"}}::"
      - id: push
        type: git.Push
        directory: tools
        branch: results
        commitMessage: by {{ flow.id }}
        flows: {enabled: false}
"""
BRINGING = """\
id: bringing
namespace: team
tasks:
  - {id: bring, type: git.SyncFlows, url: "%s/tools.git", gitDirectory: shared, targetNamespace: team}
  - {id: back, type: git.PushFlows, url: "%s/tools.git", branch: backup}
"""
SHARED = "id: shared\nnamespace: elsewhere\ntasks: [{id: say, type: core.log.Log, message: hello}]\n"


@pytest.fixture
def tools(tmp_path: Path, git_server: GitServer) -> Path:
    """Give the repository of somebody else, with a script and a flow."""
    repository = git_server.repository("tools.git")
    tree = tmp_path / "tree"
    (tree / "shared").mkdir(parents=True)
    (tree / "hello.sh").write_text("echo hello from the clone\n")
    (tree / "shared" / "shared.yml").write_text(SHARED)
    git(tree, "init", "-q", "-b", "main")
    git(tree, "add", "-A")
    git(tree, "commit", "-q", "-m", "tools")
    git(tree, "push", "-q", str(repository), "main")
    return repository


def run(server: Server, flow: str) -> Any:
    """Run a flow and return its execution when it has ended."""
    (execution_id,) = server.api.execute([flow], namespace="team")

    def ended() -> Any:
        found = server.api.get(f"/executions/{execution_id}")
        return found if found["state"]["current"] in {"SUCCESS", "WARNING", "FAILED"} else None

    return wait_until(ended, f"the end of {flow}")


def messages(server: Server) -> str:
    """Return what the tasks logged, for a test that fails."""
    return "\n".join(entry["message"] for entry in server.api.get("/logs/search", size="100")["results"])


@pytest.fixture
def server() -> Iterator[Server]:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)  # bodies of a server that is root run as other users, who pass through it
        found = Server(Path(folder)).start()
        yield found
        found.end()


def test_a_flow_clones_reads_pushes_and_brings_flows(server: Server, tools: Path, git_server: GitServer) -> None:
    server.api.deploy(CLONING % git_server.url, BRINGING % (git_server.url, git_server.url))

    cloned, brought = run(server, "cloning"), run(server, "bringing")

    assert cloned["state"]["current"] == "SUCCESS", messages(server)
    read = next(run for run in cloned["taskRunList"] if run["taskId"] == "read")
    assert read["outputs"]["vars"] == {"said": "hello from the clone"}
    assert git(tools, "show", "results:new.txt") == "new"
    assert brought["state"]["current"] == "SUCCESS", messages(server)
    assert git(tools, "ls-tree", "--name-only", "backup:_flows").split() == [
        "bringing.yml",
        "cloning.yml",
        "shared.yml",
    ]
