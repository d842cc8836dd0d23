"""`mainstem db`: a backup of a server under load, restored elsewhere, goes on; and everything that is refused."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import httpx
import pytest

from runner.store.migration import HEAD

WORKS = """\
id: works
namespace: company.team
inputs:
  - {id: password, type: SECRET}
tasks:
  - id: body
    type: scripts.shell.Commands
    commands: ["while [ ! -e %s/open ]; do sleep 0.1; done", "echo words > stored.txt"]
    outputFiles: [stored.txt]
  - {id: gate, type: core.flow.Pause}
  - {id: check, type: core.execution.Fail, condition: "{{ inputs.password != 'open sesame' }}"}
  - id: whole
    type: core.execution.Fail
    condition: "{{ read(outputs.body.outputFiles['stored.txt']) | trim != 'words' }}"
  - {id: known, type: core.execution.Fail, condition: "{{ secret('KEY') != 'of the file' or kv('k') != 'v' }}"}
"""
INSTANT = """\
id: instant
namespace: company.team
tasks:
  - {id: say, type: core.log.Log, message: hello}
"""


def create(server: Any, token: str, *sources: str) -> None:
    headers = {"authorization": f"Bearer {token}", "content-type": "application/x-yaml"}
    for source in sources:
        answer = httpx.post(f"{server.url}/api/v1/main/flows", content=source, headers=headers, timeout=20)
        assert answer.status_code == 200, answer.text


def states(shell: Any) -> dict[str, str]:
    page = json.loads(shell.mainstem("exec", "list", "--limit", "1000", "--json").stdout)
    return {row["id"]: row["state"]["current"] for row in page["results"]}


def wait_until(shell: Any, holds: Callable[[dict[str, str]], bool]) -> dict[str, str]:
    deadline = time.monotonic() + 60
    while not holds(found := states(shell)):
        assert time.monotonic() < deadline, found
    return found


class Load:
    """Starts executions one after another as long as it is entered."""

    def __init__(self, server: Any, token: str) -> None:
        self.started = 0
        self._stop = threading.Event()
        self._url = f"{server.url}/api/v1/main/executions/company.team/instant"
        self._headers = {"authorization": f"Bearer {token}"}
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(30)

    def _run(self) -> None:
        with httpx.Client(headers=self._headers, timeout=60) as client:
            while not self._stop.is_set():
                assert client.post(self._url).status_code == 200
                self.started += 1


@pytest.fixture
def gate() -> Iterator[Path]:
    """Give a folder whose file `open` lets bodies end; those of a server that is root run as others and see it too."""
    with tempfile.TemporaryDirectory(prefix="gate-") as folder:
        Path(folder).chmod(0o711)
        yield Path(folder, "open")


@pytest.mark.timeout(240)
def test_a_backup_under_load_restored_into_an_empty_home_goes_on(
    shell: Any, start_up: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory, gate: Path
) -> None:
    old, new = shell, type(shell)(tmp_path_factory.mktemp("new"))
    old.write(".mainstem/secrets.yaml", "company:\n  KEY: of the file\n").chmod(0o600)
    first = start_up(old)
    token = (old.folder / ".mainstem/token").read_text().strip()
    create(first, token, WORKS % gate.parent, INSTANT)
    old.mainstem("kv", "set", "company.team", "k", "v")
    gate.touch()
    ids = [
        json.loads(old.mainstem("exec", "run", "company.team.works", "-i", "password=open sesame", "--json").stdout)[
            "id"
        ]
        for _ in range(3)
    ]
    wait_until(old, lambda found: all(found[each] == "PAUSED" for each in ids))
    gate.unlink()
    running = json.loads(
        old.mainstem("exec", "run", "company.team.works", "-i", "password=open sesame", "--json").stdout
    )
    wait_until(old, lambda found: found[running["id"]] == "RUNNING")

    with Load(first, token) as load:
        done = old.mainstem("db", "backup", str(new.folder / "b.tar"), "--json")
    first.process.send_signal(signal.SIGKILL)
    first.process.wait(30)
    gate.touch()
    restored = new.mainstem("db", "restore", "b.tar")
    second = start_up(new)
    wait_until(new, lambda found: all(found[each] == "PAUSED" for each in [*ids, running["id"]]))
    resumed = [new.mainstem("exec", "resume", each).returncode for each in [*ids, running["id"]]]
    found = wait_until(new, lambda found: set(found.values()) <= {"SUCCESS", "FAILED"})

    assert done.returncode == 0, done.stderr
    assert load.started > 0
    parts = {part["name"] for part in json.loads(done.stdout)["parts"]}
    assert parts == {"state.db", "logs.db", "git", "storage", "token", "secrets.yaml", "encryption.key"}
    assert restored.returncode == 0, restored.stderr
    assert resumed == [0, 0, 0, 0]
    assert set(found.values()) == {"SUCCESS"}
    assert (new.folder / ".mainstem/token").read_text().strip() == token
    assert new.mainstem("flows", "list", "-q").stdout.split() == ["company.team.instant", "company.team.works"]
    assert new.mainstem("db", "check").returncode == 0
    git = subprocess.run(
        ["git", "--git-dir", new.folder / ".mainstem/git/flows.git", "fsck", "--strict"],
        capture_output=True,
        check=False,
    )
    assert git.returncode == 0, git.stderr
    create(second, token, INSTANT.replace("instant", "later"))
    assert new.mainstem("exec", "run", "company.team.later", "--wait").returncode == 0
    second.stop()


@pytest.fixture
def home(shell: Any) -> Path:
    """A home with an empty database, made as the distributed roles ask for it."""
    assert shell.mainstem("db", "migrate").returncode == 0
    return Path(shell.folder / ".mainstem")


def test_migrate_makes_the_tables_and_says_when_there_is_nothing_to_do(shell: Any) -> None:
    first, second = shell.mainstem("db", "migrate"), shell.mainstem("db", "migrate", "--json")

    assert f"state.db: schema {HEAD}, was without tables\n" in first.stdout
    assert json.loads(second.stdout)["from"] == json.loads(second.stdout)["to"] == HEAD


def test_check_names_what_contradicts_itself(shell: Any, home: Path) -> None:
    with sqlite3.connect(home / "state.db") as database:
        database.execute("PRAGMA foreign_keys=0")
        database.execute(
            "INSERT INTO attempts (task_run_id, execution_id, number, epoch, state, histories)"
            " VALUES ('r', 'e', 1, 1, 'RUNNING', '[]')"
        )
    database.close()

    done, as_json = shell.mainstem("db", "check"), shell.mainstem("db", "check", "--json")

    assert done.returncode == as_json.returncode == 1
    assert "attempt 1 belongs to no task run r" in done.stdout
    assert any("attempt 1" in finding for finding in json.loads(as_json.stdout)["findings"])


def test_a_damaged_file_is_named_by_check_and_refused_by_backup(shell: Any, home: Path) -> None:
    content = bytearray((home / "state.db").read_bytes())
    content[4096 * 2 : 4096 * 6] = b"x" * 4096 * 4
    (home / "state.db").write_bytes(content)

    checked, kept = shell.mainstem("db", "check"), shell.mainstem("db", "backup", "b.tar")

    assert checked.returncode == 1
    assert "Traceback" not in checked.stderr
    assert kept.returncode == 1
    assert "[store.file.corrupt]" in kept.stderr
    assert not (shell.folder / "b.tar").exists()


def test_a_database_of_a_newer_program_is_refused(shell: Any, home: Path) -> None:
    with sqlite3.connect(home / "state.db") as database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
    database.close()
    shell.mainstem("db", "backup", "b.tar")

    codes = [shell.mainstem("db", *arguments) for arguments in (["migrate"], ["check"])]
    restored = shell.mainstem("db", "restore", "b.tar", "--home", "other")

    for done in [*codes, restored]:
        assert done.returncode == 1
        assert "[store.schema.new]" in done.stderr
    assert not (shell.folder / "other/state.db").exists()


def test_nothing_is_written_over(shell: Any, home: Path) -> None:
    shell.mainstem("db", "backup", "b.tar")

    again, occupied = shell.mainstem("db", "backup", "b.tar"), shell.mainstem("db", "restore", "b.tar")

    assert "[store.backup.exists]" in again.stderr
    assert "[store.restore.occupied]" in occupied.stderr
    assert (again.returncode, occupied.returncode) == (1, 1)


@pytest.mark.parametrize("part", ["token", "secrets.yaml", "git/flows.git/HEAD", "storage/x"])
def test_a_home_with_any_part_of_a_server_is_not_restored_into(shell: Any, home: Path, part: str) -> None:
    shell.mainstem("db", "backup", "b.tar")
    shell.write(f"other/{part}", "mine")

    done = shell.mainstem("db", "restore", "b.tar", "--home", "other")

    assert "[store.restore.occupied]" in done.stderr
    assert (shell.folder / "other" / part).read_text() == "mine"
    assert not (shell.folder / "other/state.db").exists()


def test_a_running_server_keeps_its_database(shell: Any, start_up: Callable[..., Any]) -> None:
    server = start_up(shell)
    shell.mainstem("db", "backup", "b.tar")

    migrated, restored = shell.mainstem("db", "migrate"), shell.mainstem("db", "restore", "b.tar")
    checked = shell.mainstem("db", "check")
    server.stop()

    for done in (migrated, restored):
        assert done.returncode == 1
        assert f"a server already runs (pid {server.process.pid}) at {server.url}" in done.stderr
        assert "hint: stop it first" in done.stderr
    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("check", "--home", "nothing"), 3, "[store.file.missing]"),
        (("backup", "--home", "nothing"), 3, "[store.file.missing]"),
        (("restore", "nothing.tar"), 3, "[file.missing]"),
        (("restore", "up.yaml", "--home", "other"), 1, "[store.restore.invalid]"),
        (("backup", "no/folder/b.tar"), 1, "[store.backup.denied]"),
        (("check", "--database", "mysql://x"), 1, "[store.url.invalid]"),
        (("check", "--database", "postgresql://u:hidden@127.0.0.1:1/x"), 1, "[store.unreachable]"),
        (("backup", "b.tar", "--database", "postgresql://u:hidden@127.0.0.1:1/x"), 1, "hint: run: pg_dump"),
        (("restore", "up.yaml", "--database", "postgresql://u:hidden@127.0.0.1:1/x"), 1, "hint: run: pg_restore"),
        (("restore", "up.yaml", "--database", "sqlite:///elsewhere.db"), 1, "[store.restore.elsewhere]"),
        (("restroe", "b.tar"), 2, "rror"),
    ],
)
def test_what_is_refused_says_why(shell: Any, home: Path, arguments: tuple[str, ...], code: int, said: str) -> None:
    shell.write("up.yaml", "no: backup\n")

    done = shell.mainstem("db", *arguments)

    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert "hidden" not in done.stderr
    assert "Traceback" not in done.stderr
