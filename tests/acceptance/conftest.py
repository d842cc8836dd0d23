from __future__ import annotations

from tests.servers.git import git_server
