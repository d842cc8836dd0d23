"""The command line starts at once: what is heavy is imported by the command that needs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from runner.cli import COMMANDS

MAINSTEM = Path(sys.executable).with_name("mainstem")
HEAVY = {
    "alembic",
    "asyncio",
    "cryptography",
    "docker",
    "dramatiq",
    "dulwich",
    "httpx",
    "importlib.metadata",
    "jinja2",
    "pydantic",
    "redis",
    "rich",
    "sqlalchemy",
    "sqlite3",
    "starlette",
    "uvicorn",
    "yaml",
}
# Packages bring types of tasks, their properties are models, their values may be sealed, and `plan` reads git.
NEEDED_BY_FLOWS = {"cryptography", "dulwich", "importlib.metadata", "pydantic", "yaml"}
# Those that start a server or look into one need it all, and the user waits for the server anyway.
LIGHT = sorted(name for name, (place, _) in COMMANDS.items() if place.startswith("runner."))


def imported_by(*calls: list[str]) -> set[str]:
    program = "import json, sys; from runner.cli import call\n"
    program += f"for words in {list(calls)!r}: assert call(words) == 0\n"
    program += "print('\\n' + json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("call", [["--version"], ["--help"]])
def test_version_and_help_import_nothing_heavy(call: list[str]) -> None:
    assert imported_by(call) & HEAVY == set()


def test_the_help_of_a_command_imports_nothing_heavy() -> None:
    assert imported_by(*([name, "--help"] for name in LIGHT)) & (HEAVY - {"sqlite3"}) == set()


def test_checking_flows_imports_no_database(tmp_path: Path) -> None:
    flow = tmp_path / "flow.yaml"
    flow.write_text("id: a\nnamespace: company.team\ntasks: [{id: say, type: core.log.Log, message: hello}]\n")

    imported = imported_by(["validate", str(flow)], ["plan", "--base", str(tmp_path), str(tmp_path)])

    assert imported & (HEAVY - NEEDED_BY_FLOWS) == set()


def test_an_interrupt_during_the_imports_of_a_command_is_one_whatever_becomes_of_it_there(tmp_path: Path) -> None:
    (tmp_path / "interrupted.py").write_text(
        "import signal\n"
        "try:\n"
        "    signal.raise_signal(signal.SIGINT)\n"
        "except KeyboardInterrupt:\n"
        "    raise RuntimeError('a class could not be made') from None\n"
    )
    program = "from runner.cli import COMMANDS, main\n"
    program += "COMMANDS['interrupted'] = ('interrupted:command', '')\nmain(['interrupted'])"

    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


@pytest.mark.alone("measures milliseconds of the processor")
@pytest.mark.parametrize("option", ["--version", "--help"])
def test_version_and_help_take_at_most_150_ms(option: str) -> None:
    def seconds() -> float:
        process = subprocess.Popen([MAINSTEM, option], stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        # Of the processor, since others may keep it busy; reading the modules' files is in it too.
        return usage.ru_utime + usage.ru_stime

    assert min(seconds() for _ in range(5)) < 0.15


def test_following_a_repository_loads_no_http_client_of_tasks_and_forges() -> None:
    program = "import sys, sync.service; print({'httpx', 'rich', 'pygments'} & set(sys.modules))"

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "set()"
