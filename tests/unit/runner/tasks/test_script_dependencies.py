"""`dependencies` of Python tasks, from a folder of packages made here: installed once, kept, bounded, told when not."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from runner.errors import TaskError
from runner.plugin import Outcome
from runner.tasks.bodies import launch
from runner.tasks.script_families import script_class

if TYPE_CHECKING:
    from tests.unit.runner.tasks.conftest import Bench

SCRIPT = 'import greeting; print(\'::{"outputs": {"said": "%s"}}::\' % greeting.said)'


@dataclass
class Shelf:
    """Runs Python tasks whose packages come from the folder `wheels`, and knows the folder where they are kept."""

    bench: Bench
    wheels: Path
    path: str
    make_wheel: Callable[[Path, str, str], Path]

    def task(self, form: str = "Script", env: dict[str, str] | None = None, **fields: Any) -> Any:
        index = {"PATH": self.path, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(self.wheels)}
        kind = script_class(f"Python{form}")
        base = {"id": "t", "type": "x", "taskRunner": {"type": "process"}, "dependencies": ["greeting"]}
        return kind.model_validate({**base, "env": index | (env or {}), **fields})

    def run(self, form: str = "Script", **fields: Any) -> Outcome:
        outcome: Outcome = self.bench.run(self.task(form, **fields))
        assert outcome.error is None, self.bench.lines
        return outcome

    @property
    def told(self) -> list[str]:
        """How the packages of each body came to be there."""
        return [entry.message.split(" (")[0] for entry in self.bench.logs if "dependencies" in entry.message]

    @property
    def kept(self) -> list[Path]:
        found = (self.bench.host.settings.work_root / ".packages" / "own").iterdir()
        return sorted(path for path in found if path.is_dir())


@pytest.fixture
def shelf(bench: Bench, tmp_path: Path, make_wheel: Callable[[Path, str, str], Path]) -> Shelf:
    """Give a shelf whose PATH has no uv."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    make_wheel(wheels, "greeting", "1.0")
    own = os.path.realpath(sys.prefix)
    folders = [
        folder
        for folder in os.environ["PATH"].split(os.pathsep)
        if not Path(folder, "uv").exists() and not os.path.realpath(folder).startswith(own)
    ]
    return Shelf(bench, wheels, os.pathsep.join(folders), make_wheel)


def test_packages_are_installed_once_and_found_by_later_bodies(shelf: Shelf) -> None:
    first = shelf.run(script=SCRIPT)
    shutil.rmtree(shelf.wheels)
    second = shelf.run(script=SCRIPT)

    assert first.outputs["vars"] == second.outputs["vars"] == {"said": "greeting 1.0"}
    assert shelf.told == ["the dependencies were installed by pip", "the dependencies were there already"]
    assert first.outputs["stdOutLineCount"] == 1


def test_programs_of_packages_are_on_the_path(shelf: Shelf) -> None:
    shelf.run("Commands", commands=["greeting"])

    assert shelf.bench.lines == [("INFO", "greeting 1.0")]


def test_files_that_are_called_like_modules_do_not_stand_in_the_way(shelf: Shelf) -> None:
    files = {f"{name}.py": "raise SystemExit('never')" for name in ("json", "hashlib", "pip", "venv", "platform")}

    shelf.run("Commands", inputFiles=files, commands=["greeting"])

    assert shelf.bench.lines == [("INFO", "greeting 1.0")]


def test_uv_installs_where_it_is_there(shelf: Shelf, optional: Callable[[str, str], NoReturn]) -> None:
    uv = shutil.which("uv") or optional("uv", "uv is not on PATH (pip install uv)")
    shelf.path = f"{Path(uv).parent}{os.pathsep}{shelf.path}"

    outcome = shelf.run(script=SCRIPT)
    program = shelf.run("Commands", commands=["greeting"])
    by_pip = shelf.run(script=SCRIPT, packageManager="PIP")

    assert outcome.outputs["vars"] == by_pip.outputs["vars"] == {"said": "greeting 1.0"}
    assert program.exit_code == 0
    assert [text.removeprefix("the dependencies were ") for text in shelf.told] == [
        "installed by uv",
        "there already",
        "installed by pip",
    ]


def test_an_interpreter_without_pip_gets_its_packages_all_the_same(shelf: Shelf, tmp_path: Path) -> None:
    python = shutil.which("python3", path=shelf.path)
    assert python
    subprocess.run([python, "-m", "venv", "--without-pip", tmp_path / "bare"], check=True)
    shelf.path = f"{tmp_path / 'bare' / 'bin'}{os.pathsep}{shelf.path}"

    outcome = shelf.run(script=SCRIPT)

    assert outcome.outputs["vars"] == {"said": "greeting 1.0"}
    assert shelf.told == ["the dependencies were installed by venv and pip"]


def test_other_requirements_and_other_settings_get_other_packages(shelf: Shelf, tmp_path: Path) -> None:
    shelf.make_wheel(shelf.wheels, "greeting", "2.0")
    (tmp_path / "others").mkdir()
    shelf.make_wheel(tmp_path / "others", "greeting", "3.0")

    said = [
        shelf.run(script=SCRIPT, dependencies=["greeting<2"]),
        shelf.run(script=SCRIPT, dependencies='["greeting"]'),
        shelf.run(script=SCRIPT, env={"PIP_FIND_LINKS": str(tmp_path / "others")}),
    ]

    assert [each.outputs["vars"]["said"][-3:] for each in said] == ["1.0", "2.0", "3.0"]
    assert len(shelf.kept) == 3


def test_tasks_that_start_at_once_install_once(shelf: Shelf) -> None:
    with ThreadPoolExecutor(4) as pool:
        outcomes = list(
            pool.map(lambda number: shelf.bench.run(shelf.task(script=SCRIPT), attempts=number), range(1, 5))
        )

    assert [each.outputs["vars"] for each in outcomes] == [{"said": "greeting 1.0"}] * 4
    assert sorted(shelf.told) == [
        "the dependencies were installed by pip",
        *["the dependencies were there already"] * 3,
    ]


def test_what_a_killed_installer_left_is_made_anew(shelf: Shelf) -> None:
    shelf.run(script=SCRIPT)
    (kept,) = shelf.kept
    half = kept.rename(kept.with_name(kept.name + ".building"))
    (half / "greeting.py").write_text("said = 'half'")

    outcome = shelf.run(script=SCRIPT)

    assert outcome.outputs["vars"] == {"said": "greeting 1.0"}
    assert shelf.kept == [kept]


def test_an_unversioned_requirement_is_looked_up_anew_after_a_month(shelf: Shelf) -> None:
    shelf.run(script=SCRIPT)
    (kept,) = shelf.kept
    (kept / ".mainstem-environment").write_text(str(time.time() - launch.OLDEST_S))
    shelf.make_wheel(shelf.wheels, "greeting", "2.0")

    outcome = shelf.run(script=SCRIPT)

    assert outcome.outputs["vars"] == {"said": "greeting 2.0"}


@pytest.mark.parametrize("fields", [{"dependencyCacheEnabled": False}, {"dependencies": ["./lib.whl"]}])
def test_what_may_not_or_cannot_be_kept_is_installed_each_time(shelf: Shelf, fields: dict[str, Any]) -> None:
    name = "greeting-1.0-py3-none-any.whl"
    uri = shelf.bench.file(name, (shelf.wheels / name).read_bytes())
    fields = {key: [f"./{name}"] if key == "dependencies" else value for key, value in fields.items()}

    for _ in range(2):
        shelf.run(script=SCRIPT, inputFiles={name: uri}, outputFiles=["**/*.py"], **fields)

    assert shelf.told == ["the dependencies were installed by pip"] * 2
    assert not (shelf.bench.host.settings.work_root / ".packages").exists() or shelf.kept == []


@pytest.mark.parametrize("manager", ["UV", "PIP"])
def test_an_installer_that_fails_is_quoted(
    shelf: Shelf, manager: str, optional: Callable[[str, str], NoReturn]
) -> None:
    if manager == "UV":
        uv = shutil.which("uv") or optional("uv", "uv is not on PATH (pip install uv)")
        shelf.path = f"{Path(uv).parent}{os.pathsep}{shelf.path}"

    with pytest.raises(TaskError) as caught:
        shelf.run(script="print('never')", dependencies=["no-such-package"], packageManager=manager)

    assert caught.value.code == "task.dependencies.failed"
    assert caught.value.message.startswith(f"the dependencies cannot be installed; {manager.lower()} says:\n")
    assert "no-such-package" in caught.value.message
    assert caught.value.outputs == {}
    assert ("INFO", "never") not in shelf.bench.lines


@pytest.mark.parametrize(
    "line", ["greeting; touch made", "$(touch made)", "`touch made`", "greeting' && touch made; '"]
)
def test_a_requirement_is_no_command(shelf: Shelf, tmp_path: Path, line: str) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()

    with pytest.raises(TaskError) as caught:
        shelf.bench.run(shelf.task(script="1", dependencies=[line]), work_dir_factory=lambda: shared)

    assert caught.value.code == "task.dependencies.failed"
    assert not (shared / "made").exists()


def test_a_secret_in_a_requirement_is_not_told(shelf: Shelf) -> None:
    with pytest.raises(TaskError) as caught:
        shelf.run(script="1", dependencies=["greeting=={{ secret('password') }}"])

    assert "hunter2" not in caught.value.message


def test_a_cancelled_installation_ends(shelf: Shelf, tmp_path: Path, cancel_after: Callable[[float], Any]) -> None:
    slow = tmp_path / "bin"
    slow.mkdir()
    (slow / "uv").write_text("#!/bin/sh\nexec sleep 60\n")
    (slow / "uv").chmod(0o755)
    shelf.path = f"{slow}{os.pathsep}{shelf.path}"

    outcome = shelf.bench.run(shelf.task(script=SCRIPT), cancelled=cancel_after(0.5))

    assert outcome.failure_reason == "CANCELLED"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may run bodies as somebody else")
def test_packages_are_kept_apart_for_each_user(shelf: Shelf) -> None:
    with tempfile.TemporaryDirectory() as room:  # the folders of pytest itself are closed to others
        Path(room).chmod(0o711)
        wheels = shutil.copytree(shelf.wheels, Path(room) / "wheels")
        bench = shelf.bench
        settings = bench.host.settings.model_copy(update={"work": Path(room) / "work"})
        uids = [0]
        bench.host = replace(bench.host, settings=settings, uid_of=lambda _namespace: uids[0])
        found = {}
        for uids[0] in (234_567, 234_568):
            shelf.run(script=SCRIPT, env={"PIP_FIND_LINKS": str(wheels)})
            status = (settings.work_root / ".packages" / str(uids[0])).stat()
            found[uids[0]] = (status.st_uid, status.st_mode & 0o777)

    assert found == {234_567: (234_567, 0o700), 234_568: (234_568, 0o700)}
    assert shelf.told == ["the dependencies were installed by pip"] * 2


def environment(folder: Path, number: int) -> Path:
    path = folder / f"{number:032x}"
    path.mkdir()
    (path / ".mainstem-environment").write_text("0")
    os.utime(path / ".mainstem-environment", (number, number))
    return path


def test_the_environments_used_longest_ago_leave_unless_a_body_uses_them(tmp_path: Path) -> None:
    made = [environment(tmp_path, number) for number in range(launch.MOST_ENVIRONMENTS + 5)]
    (tmp_path / f"{'f' * 32}.building").mkdir()
    used = os.open(tmp_path / f"{made[0].name}.lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(used, fcntl.LOCK_SH)

    launch.prune(tmp_path, keep=made[1].name)

    left = {path.name for path in tmp_path.iterdir() if path.is_dir()}
    os.close(used)
    assert left == {made[0].name, made[1].name, *(path.name for path in made[5:])}


@pytest.mark.parametrize(
    ("line", "may_stay"),
    [
        ("pandas", True),
        ("requests[socks] >=2,<3 ; python_version < '3.13'", True),
        ("thing @ https://host/thing-1.0.whl", True),
        ("thing @ file:///tmp/thing.whl", False),
        ("-r requirements.txt", False),
        ("./lib", False),
        ("lib/thing", False),
        ("--index-url somewhere", False),
    ],
)
def test_only_what_means_the_same_in_every_directory_is_kept(line: str, may_stay: bool) -> None:  # noqa: FBT001 - a column of the table
    assert bool(launch._REGISTRY_LINE.fullmatch(line)) is may_stay


def test_the_wanted_version_runs_the_script_where_it_is_there(shelf: Shelf, tmp_path: Path) -> None:
    python = shutil.which("python3", path=shelf.path)
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "python3.99").write_text(f'#!/bin/sh\necho 3.99 got "$1"\nexec {python} "$@"\n')
    (folder / "python3.99").chmod(0o755)
    shelf.path = f"{folder}{os.pathsep}{shelf.path}"

    shelf.run(script="print('ran')", pythonVersion="3.99.1", dependencies=None)
    shelf.run(script="print('ran')", pythonVersion="3.98", dependencies=None)

    assert shelf.bench.lines == [
        ("INFO", "3.99 got ./mainstem_script.py"),
        ("INFO", "ran"),
        ("WARN", "python3.98 is not on PATH, python3 runs the script"),
        ("INFO", "ran"),
    ]


@pytest.mark.parametrize("fields", [{"pythonVersion": "newest"}, {"packageManager": "CONDA"}])
def test_a_version_or_manager_that_is_none_is_refused(shelf: Shelf, fields: dict[str, Any]) -> None:
    with pytest.raises(TaskError) as caught:
        shelf.run(script="1", **fields)

    assert caught.value.code == "task.property.invalid"
