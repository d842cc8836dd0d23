from __future__ import annotations

from tests.servers.git import git_server
from tests.servers.signers import signers, ssh_signers
