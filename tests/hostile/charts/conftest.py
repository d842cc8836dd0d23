from __future__ import annotations

from tests.servers.application import api, make_services
