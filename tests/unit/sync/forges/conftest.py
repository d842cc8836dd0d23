from __future__ import annotations

from tests.servers.forge import forge
