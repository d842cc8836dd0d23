from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers.deployment import Broker, Deployment
from tests.servers.git import GitServer, git, git_server
from tests.servers.postgres import postgres_empty_url, postgres_server, postgres_template, postgres_url

SETTINGS = """\
repositories:
  - name: team
    url: {url}/flows.git
    intervalS: {interval}
    webhookSecret: {secret}
environments:
  - name: production
    repository: team
reports: {{intervalS: 1}}
"""


SECRET = "a secret of the deliveries"


@pytest.fixture
def interval() -> int:
    """Seconds between two looks at the repository."""
    return 1


@pytest.fixture
def remote(git_server: GitServer) -> GitServer:
    """A git server with the bare repository `flows.git`."""
    git_server.repository("flows.git")
    return git_server


@pytest.fixture
def clone(remote: GitServer, tmp_path: Path) -> Path:
    """A work tree of that repository."""
    path = tmp_path / "clone"
    git(tmp_path, "init", "-q", "-b", "main", str(path))
    git(path, "remote", "add", "origin", f"{remote.url}/flows.git")
    return path


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that bodies of another user may enter; pytest's own are closed to them."""
    path = Path(tempfile.mkdtemp(prefix="mainstem-roles-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def deployment(remote: GitServer, postgres_url: str, folder: Path, interval: int) -> Iterator[Deployment]:
    made = Deployment(
        folder, postgres_url, Broker(folder).start(), SETTINGS.format(url=remote.url, interval=interval, secret=SECRET)
    )
    yield made
    made.end()
