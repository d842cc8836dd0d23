from __future__ import annotations

from tests.servers.forge import forge
from tests.servers.postgres import postgres_server, postgres_template, postgres_url
from tests.servers.review_world import world
from tests.servers.signers import ssh_signers
