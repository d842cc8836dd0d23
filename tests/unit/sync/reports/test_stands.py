"""The boards say how an environment stands, also when no run ends after a push that is not active."""

from __future__ import annotations

import time
from typing import Any

from sync.commit_record import Author

FLOW = "id: report\nnamespace: weather\ntasks: [{id: say, type: core.log.Log, message: hello}]\n"
BROKEN = "id: report\nnamespace: weather\ntasks: nothing\n"
PLACE = "flows/weather/report.yaml"


def push(server: Any, files: dict[str, str | None]) -> None:
    """Commit files to `main` of the hosted repository and have it looked at."""
    repository = server.service.repository("hosted").repository
    head = repository.head("refs/heads/main")
    changes = {name: None if text is None else text.encode() for name, text in files.items()}
    author = Author("Ann", "ann@example.org")
    commit = repository.commit_changes(head, changes, author=author, message="x", at=server.now)
    assert repository.set_head("refs/heads/main", head, commit)
    server.service.reconcile_repository("hosted", actor="ann")


def reported(server: Any) -> Any:
    """Have the branch of reports begin with a run, and return the server."""
    server.ended()
    server.write()
    return server


def test_an_invalid_push_is_on_the_boards_and_gone_from_them_when_it_is_mended(server: Any) -> None:
    reported(server)

    push(server, {PLACE: BROKEN})
    server.write()
    broken = server.branch.files()
    push(server, {PLACE: FLOW})
    server.write()
    mended = server.branch.files()

    assert "DEGRADED" in broken["README.md"]
    assert "**State** DEGRADED: revision " in broken["default/README.md"]
    assert "DEGRADED" not in mended["README.md"] + mended["default/README.md"]
    assert server.branch.commits()[:2] == ["reports: default is OK [skip ci]", "reports: default is DEGRADED [skip ci]"]


def test_a_held_push_is_on_the_boards(server: Any) -> None:
    reported(server)

    push(server, {PLACE: None})
    server.write()

    assert "HELD" in server.branch.files()["README.md"]
    assert "**State** HELD: " in server.branch.files()["default/README.md"]


def test_what_did_not_change_makes_no_commit_also_after_a_restart(server: Any) -> None:
    reported(server)
    push(server, {PLACE: BROKEN})
    server.write()
    before = server.branch.commits()

    server.write()
    server.restarted()
    server.write()

    assert server.branch.commits() == before


def test_without_any_report_a_push_makes_no_branch(server: Any) -> None:
    push(server, {PLACE: BROKEN})

    server.write()
    exists = server.branch.exists()
    reported(server)

    assert not exists
    assert "**State** DEGRADED" in server.branch.files()["default/README.md"]
    assert len(server.branch.commits()) == 1


def test_what_the_problem_says_is_masked(server: Any) -> None:
    reported(server)
    server.host.masker.add("s3cret-value")

    push(server, {"flows/weather/s3cret-value.yaml": BROKEN})
    server.write()

    assert "s3cret-value" not in "".join(server.branch.files().values())


def test_the_thread_sees_a_push_without_a_run(start: Any) -> None:
    server = start(interval_s=0.05)
    server.deploy("weather.report")
    reported(server)
    server.writer.start()
    try:
        push(server, {PLACE: BROKEN})
        deadline = time.monotonic() + 60
        while "DEGRADED" not in server.branch.files()["README.md"]:
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        server.writer.stop()
