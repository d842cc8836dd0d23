from __future__ import annotations

from tests.servers.signers import signers, ssh_signers
