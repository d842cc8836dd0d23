"""`mainstem up` with control groups: killed together with all that watches its bodies, and started again."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.servers.embedded import Server
from tests.servers.program import descendants, is_running, wait_until


@pytest.fixture
def place(control_group: Path) -> Path:
    return control_group


def _flow(folder: Path) -> str:
    """Return a flow whose body leaves a process behind that nobody is a parent of, the first time."""
    return f"""\
id: escape
namespace: crash
tasks:
  - id: body
    type: scripts.shell.Commands
    commands:
      - if [ -e {folder}/escaped ]; then exit 0; fi
      - (setsid sh -c 'trap "" TERM HUP; echo $$ > {folder}/new; mv {folder}/new {folder}/escaped; exec sleep 300' &)
      - sleep 300
"""


@pytest.mark.timeout(300)
def test_what_a_body_left_is_ended_by_the_next_server_when_all_that_watched_it_was_killed(
    make_server: Callable[..., Server], folder: Path, place: Path
) -> None:
    server = make_server(MAINSTEM_PROCESS_RUNNER=f"{{cgroup: {place}}}").start()
    server.api.deploy(_flow(folder))
    server.api.execute(["escape"])
    escaped = int(wait_until(lambda: (folder / "escaped").exists() and (folder / "escaped").read_text(), "an escape"))
    groups = list(place.glob("mainstem-task-*"))

    watchers = [pid for pid in descendants(server.pid) if b"keeper.py" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    for pid in watchers:
        os.kill(pid, signal.SIGSTOP)  # so that none of them sees the end of another
    server.kill()
    for pid in watchers:
        os.kill(pid, signal.SIGKILL)
    was_running = is_running(escaped)
    server.start()
    server.wait_for_end(1, 120)

    assert (len(groups), was_running, is_running(escaped)) == (1, True, False)
    assert server.stop() == 0
    assert [entry for entry in place.iterdir() if entry.is_dir()] == []
    assert "control groups without a keeper were removed" in server.log
