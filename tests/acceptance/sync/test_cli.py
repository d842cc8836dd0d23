"""`mainstem plan` and `mainstem sync` as a person calls them."""

from __future__ import annotations

import json
import os
import select
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from runner.store.records import Revision
from sync.reports.ledger_notes import NOTES, LedgerLine
from sync.reports.notes import NoteBook
from sync.repository import GitRepository
from sync.sources import LocalSource

AT = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)

_MAINSTEM = Path(sys.executable).with_name("mainstem")


@dataclass
class Done:
    code: int
    out: str
    err: str


@dataclass
class Machine:
    """A folder with a running server in it."""

    folder: Path
    url: str

    def call(self, *arguments: str) -> Done:
        return call(self.folder, *arguments, MAINSTEM_URL=self.url)

    @property
    def remote(self) -> str:
        token = (self.folder / ".mainstem/token").read_text().strip()
        return f"{self.url.replace('http://', f'http://git:{token}@')}/git/flows.git"


def call(folder: Path, *arguments: str, **environ: str) -> Done:
    clean = {"PATH": os.environ["PATH"], "HOME": str(folder), **environ}
    done = subprocess.run(
        [_MAINSTEM, *arguments], cwd=folder, env=clean, capture_output=True, text=True, check=False, timeout=60
    )
    return Done(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    folder = tmp_path / "machine"
    folder.mkdir()
    environ = {"PATH": os.environ["PATH"], "HOME": str(folder), "PYTHONUNBUFFERED": "1"}
    server = subprocess.Popen(
        [_MAINSTEM, "up", "--port", "0"], cwd=folder, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    try:
        yield Machine(folder, _address(server))
    finally:
        server.send_signal(signal.SIGTERM)
        server.communicate(timeout=40)


def _address(server: subprocess.Popen[bytes]) -> str:
    assert server.stdout is not None
    deadline, seen = time.monotonic() + 60, b""
    while b"Ctrl-C" not in seen:
        assert select.select([server.stdout], [], [], max(0.0, deadline - time.monotonic()))[0], seen
        piece = os.read(server.stdout.fileno(), 4096)
        assert piece, seen
        seen += piece
    lines = [line.split() for line in seen.decode().splitlines()]
    return next(words[1] for words in lines if words[:1] == ["web"])


def test_a_held_deletion_is_seen_and_allowed_from_the_command_line(
    machine: Machine, work_tree: Any, flow_text: Any
) -> None:
    first = work_tree.write({"flows/a.yaml": flow_text("w.a")}, "one flow")
    assert work_tree.push(machine.remote).code == 0
    empty = work_tree.write({"flows/a.yaml": None}, "none")
    assert work_tree.push(machine.remote).code == 0

    status = machine.call("sync", "status")
    again = machine.call("sync", "run")
    plan = machine.call("plan", "--environment", "default")
    wrong = machine.call("sync", "run", "--allow-deletes", "0123456789ab")
    allowed = machine.call("sync", "run", "--allow-deletes", empty[:12], "--json")
    history = machine.call("sync", "history", "--json")
    after = machine.call("sync", "status", "--json")

    assert (status.code, again.code, plan.code, wrong.code, allowed.code) == (1, 1, 5, 3, 0), again
    assert f"HELD\t{first[:7]}\t{empty[:7]}" in status.out
    assert "it deletes 1 flow and leaves none" in again.out
    assert "  - w.a  removed" in plan.out
    assert json.loads(allowed.out)[0]["result"] == "ACTIVE"
    results = [(row["commit"], row["result"]) for row in json.loads(history.out)]
    assert results[0] == (empty, "ACTIVE")
    assert results[-1] == (first, "ACTIVE")
    assert json.loads(after.out)[0]["state"] == "OK"


def test_going_back_staying_and_going_on_from_the_command_line(
    machine: Machine, work_tree: Any, flow_text: Any
) -> None:
    first = work_tree.write({"flows/a.yaml": flow_text("w.a")}, "one flow")
    assert work_tree.push(machine.remote).code == 0
    second = work_tree.write({"flows/a.yaml": flow_text("w.a", "bye")}, "slower")
    assert work_tree.push(machine.remote).code == 0

    silent = machine.call("sync", "rollback")
    back = machine.call("sync", "rollback", "--reason", "it breaks", "--for", "2h")
    third = work_tree.write({"flows/a.yaml": flow_text("w.a", "mended")}, "mended")
    waiting = work_tree.push(machine.remote)
    status = machine.call("sync", "status", "--json")
    doctor = machine.call("doctor")
    on = machine.call("sync", "resume", "--reason", "mended")
    again = machine.call("sync", "resume")
    history = machine.call("sync", "history", "--json")

    assert (silent.code, back.code, waiting.code, on.code, again.code) == (2, 0, 0, 0, 1), back.err + on.err
    assert back.out.splitlines()[0] == f"default: ACTIVE {first[:7]}"
    held = next(line for line in waiting.remote if "waits" in line)
    assert held.startswith(f"revision {third[:7]} waits: environment default is pinned to {first[:7]} until ")
    [environment] = json.loads(status.out)
    assert (environment["active"], environment["state"]) == (first, "PINNED")
    assert (environment["pin"]["reason"], environment["pin"]["commit"]) == ("it breaks", first)
    assert "mainstem sync resume default" in doctor.out
    rows = [(row["commit"], row["action"], row["result"], row["reason"]) for row in json.loads(history.out)]
    assert rows[:5] == [
        (third, "sync", "ACTIVE", None),
        (first, "resume", "UNCHANGED", "mended"),
        (third, "sync", "PINNED", None),
        (first, "rollback", "ACTIVE", "it breaks"),
        (second, "sync", "ACTIVE", None),
    ]


def test_hands_in_the_database_are_found(machine: Machine, work_tree: Any, flow_text: Any) -> None:
    work_tree.write({"flows/a.yaml": flow_text("w.a")}, "one flow")
    assert work_tree.push(machine.remote).code == 0
    whole = machine.call("doctor")
    with sqlite3.connect(machine.folder / ".mainstem/state.db") as database:
        database.execute("UPDATE flows SET source = replace(source, 'hello', 'bye')")
        database.execute("UPDATE revisions SET actor = 'somebody else'")
    database.close()

    changed = machine.call("doctor")
    drifted = machine.call("sync", "drift")
    silent = machine.call("sync", "drift", "--heal")
    healed = machine.call("sync", "drift", "--heal", "--reason", "a hand in the database")
    again = machine.call("sync", "drift")

    assert (drifted.code, silent.code, healed.code, again.code) == (5, 2, 0, 0), drifted.err + healed.err
    assert "  ~ w.a  changed" in drifted.out
    assert healed.out.startswith("default: ACTIVE ")
    assert again.out.startswith("default: all flows are what ")
    assert "ledger" not in whole.out
    assert changed.code == 1
    assert "default: row 1 breaks the chain" in changed.out


def test_the_history_in_the_notes_of_a_clone_needs_no_server(work_tree: Any, flow_text: Any) -> None:
    commit = work_tree.write({"flows/a.yaml": flow_text("w.a")})
    rows = [
        Revision("default", commit, "ACTIVE", AT, actor="ann", digest="1" * 64, id=1),
        Revision(
            *("default", commit, "ACTIVE", AT),
            actor="bob",
            reason="why",
            delivery="d-7",
            sender="carol",
            prior="1" * 64,
            digest="2" * 64,
            id=2,
        ),
    ]
    empty = call(work_tree.path, "sync", "history", "--from-notes", ".")
    repository = GitRepository.open(work_tree.path)
    book = NoteBook(LocalSource(repository), NOTES)
    book.append({commit: [str(LedgerLine.of(row, "srv1", str)) for row in rows]}, message="x", at=AT)
    whole = call(work_tree.path, "sync", "history", "--from-notes", ".")
    broken = Revision("default", commit, "ACTIVE", AT, actor="eve", prior="9" * 64, digest="3" * 64, id=3)
    book.append({commit: [str(LedgerLine.of(broken, "srv1", str))]}, message="x", at=AT)
    repository.close()

    forged = call(work_tree.path, "sync", "history", "--from-notes", ".", "--json")

    assert (empty.code, whole.code, forged.code) == (3, 0, 1), whole.err
    assert "ledger.notes.missing" in empty.err
    assert [line.split("\t")[5:] for line in whole.out.splitlines()] == [
        ["bob", "why", "d-7 of carol", "-"],
        ["ann", "", "-", "-"],
    ]
    assert [row["actor"] for row in json.loads(forged.out)] == ["eve", "bob", "ann"]
    assert "row 3 of server srv1 does not continue row 2" in forged.err


def test_a_plan_needs_no_server(work_tree: Any, flow_text: Any) -> None:
    work_tree.write({"flows/a.yaml": flow_text("w.a"), "flows/b.yaml": flow_text("w.b")})
    clean = call(work_tree.path, "plan")
    (work_tree.path / "flows/a.yaml").write_text(flow_text("w.a", "bye"))
    changed = call(work_tree.path, "plan")
    work_tree.write({"flows/c.yaml": flow_text("w.c")})
    between = call(work_tree.path, "plan", "--base", "HEAD~1", "--head", "HEAD", "--json")
    (work_tree.path / "flows/c.yaml").write_text(flow_text("w.c").replace("Log", "Lgo"))
    broken = call(work_tree.path, "plan")

    assert (clean.code, changed.code, between.code, broken.code) == (0, 5, 5, 1)
    assert changed.out.splitlines() == [
        "plan from HEAD to the folder (flows/)",
        "  ~ w.a  changed  tasks.say.message hello -> bye",
        "  = 1 unchanged",
    ]
    assert [row["kind"] for row in json.loads(between.out)["changes"]] == ["changed", "added"]
    assert "flows/c.yaml:5:11  task.type.unknown" in broken.out


@pytest.mark.parametrize(
    ("style", "shown"),
    [
        ("markdown", "| `b.yaml:5:11` | no task type named 'core.log.Lgo' (`task.type.unknown`) |"),
        ("sarif", '"startLine": 5'),
        ("github", "::error file=b.yaml,line=5,col=11,title=task.type.unknown::"),
        ("gitlab", '"begin": 5'),
        ("json", '"kind": "changed"'),
    ],
)
def test_a_plan_is_written_for_who_reads_it(tmp_path: Path, flow_text: Any, style: str, shown: str) -> None:
    for name, message in (("old", "hello"), ("new", "bye")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.yaml").write_text(flow_text("w.a", message))
    (tmp_path / "new/b.yaml").write_text(flow_text("w.b").replace("Log", "Lgo"))

    done = call(tmp_path, "plan", "--base", "old", "--head", "new", "--format", style)

    assert done.code == 1
    assert shown in done.out


def test_the_server_and_the_laptop_tell_of_the_same_changes_in_the_same_words(
    machine: Machine, work_tree: Any, flow_text: Any
) -> None:
    work_tree.write({"flows/a.yaml": flow_text("w.a"), "flows/b.yaml": flow_text("w.b"), "flows/w/data": "1"})
    assert work_tree.push(machine.remote).code == 0
    files = {"flows/a.yaml": flow_text("w.a", "bye"), "flows/b.yaml": flow_text("w.b").replace("Log", "Lgo")}
    work_tree.write(files)
    assert work_tree.push(machine.remote).code == 0

    asked = machine.call("plan", "-e", "default")
    alone = call(work_tree.path, "plan", "--base", "HEAD~1", "--head", "HEAD")

    said = [line for line in asked.out.splitlines()[1:] if line.startswith("  ")]
    assert (asked.code, alone.code) == (1, 1)
    assert said == alone.out.splitlines()[1 : 1 + len(said)]
    assert all("flows/b.yaml:5:11  task.type.unknown" in each.out for each in (asked, alone))


def test_a_plan_of_two_folders_needs_no_repository(tmp_path: Path, flow_text: Any) -> None:
    for name, message in (("old", "hello"), ("new", "bye")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.yaml").write_text(flow_text("w.a", message))

    done = call(tmp_path, "plan", "--base", "old", "--head", "new")
    lost = call(tmp_path, "plan", "--base", "HEAD~1")

    assert (done.code, lost.code) == (5, 3)
    assert "  ~ w.a  changed" in done.out
    assert "[repository.missing]" in lost.err


def test_without_a_server_the_exit_code_says_so(tmp_path: Path) -> None:
    done = call(tmp_path, "sync", "status", MAINSTEM_URL="http://127.0.0.1:9")

    assert done.code == 6
    assert "[server.unreachable]" in done.err


def test_a_plan_on_a_laptop_judges_by_the_policies_of_its_folder_and_says_what_it_cannot_know(
    tmp_path: Path, flow_text: Any
) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "new").mkdir()
    (tmp_path / "new/a.yaml").write_text(
        flow_text("w.a", "\"{{ secret('DB') }}\"")
        + "  - {id: go, type: io.kestra.plugin.scripts.shell.Commands, commands: [id], taskRunner: {type: process}}\n"
    )
    (tmp_path / "mainstem.yaml").write_text("runnerPolicies:\n  - {namespaces: [w], runners: [docker]}\n")

    done = call(tmp_path, "plan", "--base", "old", "--head", "new")

    assert done.code == 5
    assert "  ? not looked up: secret('DB') of w" in done.out.splitlines()
    assert "runner.type.refused" in done.out
