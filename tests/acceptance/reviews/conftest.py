from __future__ import annotations

from tests.servers.forge import forge
from tests.servers.git import git_server
