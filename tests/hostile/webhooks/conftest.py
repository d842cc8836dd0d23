from __future__ import annotations

from tests.servers.receivers import hooks_for, serving
