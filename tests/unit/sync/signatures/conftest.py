from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from sync.repository import GitRepository
from tests.servers.git import git_server
from tests.servers.signers import signers, ssh_signers
from tests.servers.work_tree import work_tree


@pytest.fixture
def repository(work_tree: Any) -> Iterator[GitRepository]:
    found = GitRepository.open(work_tree.path)
    yield found
    found.close()
