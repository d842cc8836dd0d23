"""The command line starts at once: what is heavy is imported by the command that needs it."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest

from runner.cli import COMMANDS

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
# Those that start a server or look into one need it all, and the user waits for the server anyway.
LIGHT = sorted(name for name, (place, _) in COMMANDS.items() if place.startswith("runner."))


def imported_by(*calls: list[str]) -> set[str]:
    program = "import json, sys; from runner.cli import run\n"
    program += f"for call in {list(calls)!r}: assert run(call) == 0\n"
    program += "print('\\n' + json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("call", [["--version"], ["--help"]])
def test_version_and_help_import_nothing_heavy(call: list[str]) -> None:
    assert imported_by(call) & HEAVY == set()


def test_the_help_of_a_command_imports_nothing_heavy() -> None:
    assert imported_by(*([name, "--help"] for name in LIGHT)) & (HEAVY - {"sqlite3"}) == set()


@pytest.mark.parametrize("option", ["--version", "--help"])
def test_version_and_help_take_at_most_150_ms_more_than_python(option: str) -> None:
    def best(*arguments: str) -> float:
        taken = []
        for _ in range(5):
            started = time.perf_counter()
            subprocess.run([sys.executable, *arguments], capture_output=True, check=True)
            taken.append(time.perf_counter() - started)
        return min(taken)

    assert best("-c", f"from runner.cli import main; main(['{option}'])") - best("-c", "") < 0.15
