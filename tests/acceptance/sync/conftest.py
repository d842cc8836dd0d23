from __future__ import annotations

from tests.servers.hosted_git import flow_text, hosted, start_hosted, work_tree
from tests.servers.signers import signers, ssh_signers
