from __future__ import annotations

from tests.servers.answering import answering
from tests.servers.application import api, git_api, make_services, proposing_api
