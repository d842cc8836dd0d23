"""No lost job: workers and server are killed while jobs run elsewhere; others follow all of them further."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from runner.store import LogQuery
from tests.servers.deployment import Deployment
from tests.servers.program import wait_until
from tests.servers.spool import installed_spool

EXAMPLE = Path(__file__).resolve().parents[1] / "plugins" / "spool"
JOBS, LINES = 20, 40
FLOW = """\
id: far
namespace: crash
tasks:
  - id: body
    type: scripts.shell.Script
    workerGroup: {{key: far}}
    taskRunner: {{type: spool.Spool, root: {root}}}
    outputFiles: [out.txt]
    script: |
      echo begun >> {root}/../begun
      for i in $(seq {lines}); do echo "line $i"; sleep 0.2; done
      echo done > out.txt
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the example package of a third party and install it into a folder."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder), str(EXAMPLE)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.timeout(300)
def test_jobs_of_killed_workers_are_followed_further_with_every_line_once(
    deployment: Deployment, activate: Callable[..., None], installed: Path
) -> None:
    root = deployment.folder / "spool"
    root.mkdir()
    with installed_spool():  # it is read here as well
        activate(FLOW.format(root=root, lines=LINES))
    path = {"PYTHONPATH": str(installed)}
    far = path | {"MAINSTEM_WORKER_GROUPS": "[far]"}
    deployment.start("serve", "worker-1", **path)
    deployment.start("worker-2", **far)
    accepted = deployment.api.execute(["far"] * JOBS)
    begun = deployment.folder / "begun"
    wait_until(lambda: begun.exists() and len(begun.read_text().splitlines()) == JOBS, "all bodies", 60)
    rows = deployment.api.get("/workers")["results"]

    deployment["worker-2"].kill()
    deployment["serve"].kill()
    time.sleep(0.5)  # the jobs go on meanwhile, and nobody looks
    deployment.start("serve", **path)
    deployment.start("worker-3", **far)
    deployment.wait_for_end(JOBS, 120)

    with closing(deployment.open_store()) as store:
        store.logs.flush()
        for execution_id in accepted:
            query = LogQuery(execution_id=execution_id, min_level="INFO", size=1000, sort=("id:asc",))
            texts = [entry.message for entry in store.logs.search(query).items]
            assert texts == [f"line {number}" for number in range(1, LINES + 1)]
            (run,) = store.read(lambda db, found=execution_id: db.executions.runs(found))  # type: ignore[misc]  # bound now
            assert (run.state.value, run.attempts, run.losses) == ("SUCCESS", 1, 0)
        assert store.check() == []
    assert len(begun.read_text().splitlines()) == JOBS
    assert list(root.iterdir()) == []
    held = Counter({tuple(row["groups"]): row["taskRuns"] for row in rows})
    assert (held[("far",)], held[()]) == (JOBS, 0)
