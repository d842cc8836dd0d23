"""The ledger of an environment on the commits of its repository."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from runner.settings import EnvironmentSettings, RepositorySettings
from sync.commit_record import Author
from sync.reports.ledger_gaps import MOST_BYTES
from sync.reports.ledger_notes import LedgerLine
from sync.reports.noted import contradictions
from sync.reports.notes import NoteBook

REF = "refs/notes/mainstem"
FLOW = "id: report\nnamespace: weather\ntasks: [{id: say, type: core.log.Log, message: hello}]\n"
BROKEN = "id: report\nnamespace: weather\ntasks: nothing\n"


def bare_of(server: Any) -> Path:
    path: Path = server.branch.path
    return path


def lines(run_git: Any, bare: Path) -> list[LedgerLine]:
    """All lines of all notes, by row."""
    found = [
        line
        for each in run_git(bare, "notes", "--ref", REF, "list").splitlines()
        for text in run_git(bare, "cat-file", "blob", each.split()[0]).splitlines()
        if (line := LedgerLine.parsed(text))
    ]
    return sorted(found, key=lambda line: (line.server, line.row))


def test_each_row_of_the_ledger_is_on_its_commit(server: Any, run_git: Any) -> None:
    first = server.service.environment("default").active
    server.deploy("weather.report", message="bye")
    server.service.stay("default", first, action="rollback", actor="bob", reason="too slow")

    server.write()

    stored = list(reversed(server.service.history("default")))
    found = lines(run_git, bare_of(server))
    assert [(each.row, each.chain, each.prior) for each in found] == [
        (each.id, each.digest, each.prior) for each in stored
    ]
    assert [each.action for each in found] == ["sync", "sync", "rollback"]
    assert 'rollback by="bob"' in run_git(bare_of(server), "log", "--notes=mainstem", "--all")


def test_what_was_told_makes_no_commit_also_after_a_restart(server: Any, run_git: Any) -> None:
    server.write()
    before = run_git(bare_of(server), "rev-parse", REF)

    server.write()
    server.restarted()
    server.write()

    assert run_git(bare_of(server), "rev-parse", REF) == before


def test_the_thread_sees_a_deployment_without_a_run(start: Any, run_git: Any) -> None:
    server = start(interval_s=0.05)
    server.writer.start()
    server.deploy("weather.report")
    server.writer.stop()

    assert len(lines(run_git, bare_of(server))) == 1


def test_a_secret_in_a_reason_is_hidden(server: Any, run_git: Any) -> None:
    server.host.masker.add("s3cret-value")
    active = server.service.environment("default").active

    server.service.stay("default", active, action="suspend", actor="bob", reason="token s3cret-value leaked")
    server.write()

    assert lines(run_git, bare_of(server))[-1].reason == "token ****** leaked"


@pytest.mark.parametrize("mode", ["none", "hosted"])
def test_a_repository_elsewhere_has_none_unless_that_was_asked_for(
    start: Any, git_server: Any, run_git: Any, mode: str
) -> None:
    server, bare = followed(start, git_server, ledger_notes=mode)

    server.write()

    assert run_git(bare, "for-each-ref", "refs/notes") == ""


def followed(start: Any, git_server: Any, **reports: Any) -> tuple[Any, Path]:
    """A server whose environment follows a repository of a forge, and that has looked at its first commit."""
    bare = git_server.root / "flows.git"
    if not bare.exists():
        git_server.repository("flows.git")
    declared = RepositorySettings(name="forge", url=f"{git_server.url}/flows.git")
    server = start(EnvironmentSettings(name="prod", repository="forge"), repositories=(declared,), **reports)
    push(server, FLOW)
    return server, bare


def push(server: Any, content: str) -> None:
    source = server.service.repository("forge")
    head = source.heads(["refs/heads/main"]).get("refs/heads/main")
    if head is not None:
        source.fetch("refs/heads/main", head)
    commit = source.repository.commit_changes(
        head,
        {"flows/report.yaml": content.encode()},
        author=Author("Ann", "a@example.org"),
        message="x",
        at=server.now,
    )
    if commit != head:
        assert source.push("refs/heads/main", head, commit)
    server.service.reconcile_repository("forge", actor="ann")


def test_a_forge_that_is_down_gets_the_lines_when_it_is_there_again(start: Any, git_server: Any, run_git: Any) -> None:
    server, bare = followed(start, git_server, ledger_notes="all")
    away = bare.with_name("away.git")
    bare.rename(away)
    server.write()
    server.write(seconds=1)
    away.rename(bare)

    server.write(seconds=5)
    too_early = run_git(bare, "for-each-ref", "refs/notes")
    server.write(seconds=60)

    assert too_early == ""
    assert [each.result for each in lines(run_git, bare)] == ["ACTIVE"]


def test_two_servers_append_to_the_same_commit(start: Any, git_server: Any, run_git: Any) -> None:
    first, bare = followed(start, git_server, ledger_notes="all")
    second, _ = followed(start, git_server, ledger_notes="all")
    push(first, BROKEN)
    second.service.reconcile_repository("forge", actor="bob")

    for server in (first, second, first):
        server.write()

    found = lines(run_git, bare)
    assert len({each.server for each in found}) == 2
    assert {each.result for each in found} == {"ACTIVE", "INVALID"}
    assert len([each for each in found if each.result == "INVALID"]) == 2
    assert len(found) == sum(len(server.service.history("prod")) for server in (first, second))


def test_a_long_ledger_is_told_in_pieces(server: Any, run_git: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sync.reports.ledger_notes._MOST_ROWS", 2)
    for number in range(4):
        server.deploy("weather.report", message=f"number {number}")

    for _ in range(3):
        server.write()

    assert [each.row for each in lines(run_git, bare_of(server))] == [1, 2, 3, 4, 5]


def test_the_wait_after_a_failure_grows_up_to_five_minutes(start: Any, git_server: Any) -> None:
    server, bare = followed(start, git_server, ledger_notes="all")
    bare.rename(bare.with_name("away.git"))
    mirror = server.writer._notes
    waits = []

    for _ in range(8):
        mirror.write(server.now)
        after = next(each for each in range(1, 400) if mirror.due(server.now + timedelta(seconds=each)))
        waits.append(after)
        server.now += timedelta(seconds=after)

    assert waits == [10, 20, 40, 80, 160, 300, 300, 300]


def test_rows_that_found_a_note_full_are_counted_there_and_contradict_nothing(server: Any, run_git: Any) -> None:
    first = server.service.environment("default").active
    server.write()
    source = server.service.repository("hosted")
    NoteBook(source, REF).append({first: ["x" * MOST_BYTES]}, message="x", at=server.now)

    server.deploy("weather.report", message="bye")
    server.service.stay("default", first, action="rollback", actor="bob", reason="too slow")
    server.service.resume("default", actor="bob")
    server.write()

    note = run_git(bare_of(server), "notes", "--ref", REF, "show", first).splitlines()
    assert note[-1].startswith("2 more of default stand in the ledger alone: server=")
    assert list(contradictions(server.store, source, "default")) == []
