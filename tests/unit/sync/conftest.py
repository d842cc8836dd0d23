from __future__ import annotations

from tests.servers.answering import answering
from tests.servers.forge import forge
from tests.servers.git import git_server
from tests.servers.sync_service import start
from tests.servers.work_tree import basic_header, work_tree
