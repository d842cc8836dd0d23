from __future__ import annotations

from tests.servers.forge import forge
from tests.servers.review_world import world
from tests.servers.signers import ssh_signers
