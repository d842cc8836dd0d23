"""The process in which the tests of a change request run: `mainstem test`, confined as the server says.

It is called with the folder of the flows, the seconds that a case may take, how many repositories have flows on the
server, the user id of bodies, or -1 for its own, and what the repository forbids itself, as JSON. It prints the session
as JSON.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from runner.cli.local_host import open_host
from runner.flowtests.reports import as_json
from runner.flowtests.session import Options, run_session
from runner.rules import RepositoryRules

if TYPE_CHECKING:
    from runner.services import Host
    from runner.store import Store


def main() -> int:
    """Run the tests; return 0 when all pass."""
    flows, timeout, repositories, uid, said = sys.argv[1:]
    rules = RepositoryRules.of_json(json.loads(said))
    logging.basicConfig(level="ERROR")

    def opened(room: Path, root: Path, store: Store) -> Host:
        host = open_host(room, os.environ, files=root, store=store)
        host = replace(host, repositories=lambda: int(repositories), rules_of=lambda _environment: rules)
        if int(uid) < 0:
            return host
        room.chmod(0o711)  # bodies of another user pass through it to their working directories
        return replace(host, uid_of=lambda _namespace: int(uid))

    session = run_session((Path(flows),), opened, Options(workers=os.cpu_count() or 1, timeout_s=float(timeout)))
    click.echo(as_json(session))
    return 0 if session.is_good else 1
