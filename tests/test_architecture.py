"""The order of the packages and what pure modules may import, read from the sources themselves."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ORDER = ("task_runners", "runner", "sync", "webhooks")

# Modules of `runner` that decide: no port, no shell, no clock, no chance.
PURE = (
    "runner/expressions",
    "runner/executions/ending.py",
    "runner/executions/flowables.py",
    "runner/executions/models.py",
    "runner/executions/restarting.py",
    "runner/executions/retries.py",
    "runner/executions/settling.py",
    "runner/executions/slas.py",
    "runner/executions/starting.py",
    "runner/executions/step.py",
    "runner/executions/tree.py",
    "runner/executions/variables.py",
    "runner/flows/check.py",
    "runner/flows/diff.py",
    "runner/flows/models.py",
    "runner/flows/parse.py",
    "runner/flows/plugin_defaults.py",
    "runner/states.py",
    "runner/triggers/conditions.py",
    "runner/triggers/cron.py",
    "runner/triggers/schedule.py",
)
# A lock around a cache and the monotonic clock of the render deadline change no decision, so `threading` and, in
# `expressions`, `time` are not among these.
FORBIDDEN_IN_PURE = {"os", "random", "secrets", "shutil", "socket", "subprocess", "runner.store"}
CLOCKS = {"time"}
MOST_LINES = 500


def sources(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """Yield each imported module, and whether it is only imported for type checking."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, id(node) in typing_only
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module, id(node) in typing_only


def test_packages_import_downward_only() -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {module}"
        for number, package in enumerate(ORDER)
        for path in sources(package)
        for module, _ in imports(path)
        if module.split(".")[0] in ORDER[number + 1 :]
    ]

    assert wrong == []


@pytest.mark.parametrize("place", PURE)
def test_a_module_that_decides_does_no_io_and_asks_no_clock(place: str) -> None:
    path = ROOT / place
    files = sources(place) if path.is_dir() else [path]
    forbidden = FORBIDDEN_IN_PURE if place == "runner/expressions" else FORBIDDEN_IN_PURE | CLOCKS

    wrong = [
        f"{file.relative_to(ROOT)} imports {module}"
        for file in files
        for module, typing_only in imports(file)
        if not typing_only and any(module == name or module.startswith(f"{name}.") for name in forbidden)
    ]

    assert files
    assert wrong == []


def test_only_the_command_line_and_the_settings_read_the_environment() -> None:
    allowed = {"runner/settings.py", "task_runners/keeper.py"}

    wrong = [
        str(path.relative_to(ROOT))
        for path in sources(*ORDER)
        if str(path.relative_to(ROOT)) not in allowed
        and "/cli/" not in str(path)
        and "/bodies/" not in str(path)  # programs that run in the environment of a task
        and path.name not in {"cli.py", "up.py", "demo.py", "distributed.py", "doctor.py"}
        and any(
            isinstance(node, ast.Attribute) and node.attr == "environ" and ast.unparse(node.value) == "os"
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        )
    ]

    assert wrong == []


def test_no_file_is_longer_than_a_reader_can_hold() -> None:
    long = [
        f"{path.relative_to(ROOT)} has {count} lines"
        for path in sources(*ORDER, "tests", "bench")
        if (count := len(path.read_text(encoding="utf-8").splitlines())) > MOST_LINES
    ]

    assert long == []


def calls(path: Path, names: set[str]) -> Iterator[str]:
    """Yield where a file calls one of these built-in functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names:
            yield f"{path.relative_to(ROOT)}:{node.lineno} calls {node.func.id}"


def test_nobody_prints_evaluates_or_unpickles() -> None:
    called = [place for path in sources(*ORDER) for place in calls(path, {"print", "eval", "exec"})]
    imported = [
        f"{path.relative_to(ROOT)} imports {module}"
        for path in sources(*ORDER)
        for module, _ in imports(path)
        if module.split(".")[0] in {"pickle", "marshal", "shelve"}
    ]

    assert called + imported == []


def test_versions_of_the_tables_follow_one_another() -> None:
    """Two branches may each add the next one: their files merge without a conflict, and no store can be migrated."""
    folder = ROOT / "runner" / "store" / "migrations" / "versions"
    texts = [(path.name[:4], path.read_text(encoding="utf-8")) for path in sorted(folder.glob("[0-9]*.py"))]

    numbers = [number for number, _ in texts]
    assert numbers == [f"{number:04}" for number in range(1, len(texts) + 1)]
    assert all(f'\nrevision = "{number}"' in text for number, text in texts)
    assert f'HEAD: Final = "{numbers[-1]}"' in (ROOT / "runner/store/migration.py").read_text(encoding="utf-8")
