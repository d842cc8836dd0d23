"""The script tasks of before 0.11, whose properties and file names differ from those of today."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from runner.errors import TaskError
from runner.flows.parse import parse_flow
from runner.flows.registry import TypeKind, find
from runner.plugin import Outcome
from runner.tasks.script_legacy import Bash, Node, Python

if TYPE_CHECKING:
    from tests.unit.runner.tasks.conftest import Bench


def run(bench: Bench, kind: Any, **fields: Any) -> Outcome:
    task = kind.model_validate({"id": "t", "type": "x", "taskRunner": {"type": "process"}, **fields})
    outcome: Outcome = bench.run(task)
    return outcome


@pytest.mark.parametrize(("name", "kind"), [("Bash", Bash), ("Python", Python), ("Node", Node)])
def test_the_old_names_find_their_types(name: str, kind: Any) -> None:
    assert find(TypeKind.TASK, f"io.kestra.core.tasks.scripts.{name}") is kind


def test_bash_hands_back_files_under_both_names(bench: Bench) -> None:
    outcome = run(
        bench,
        Bash,
        inputFiles={"in.txt": "given"},
        outputFiles=["first"],
        outputsFiles=["second"],
        files=["third"],
        outputDirs=["folder"],
        commands=[
            "cat in.txt > {{ outputFiles.first }}",
            "echo 2 > {{ outputFiles.second }}",
            "echo 3 > third",
            "mkdir {{ outputDirs.folder }}/sub",
            "echo 4 > {{ outputDirs.folder }}/sub/fourth",
        ],
    )

    assert outcome.error is None, bench.lines
    assert sorted(outcome.outputs["files"]) == ["first", "folder/sub/fourth", "second", "third"]
    assert outcome.outputs["files"] == outcome.outputs["outputFiles"]
    assert bench.content(outcome.outputs["files"]["first"]) == b"given"


def test_bash_has_its_interpreter_in_two_properties_and_may_go_on_after_failures(bench: Bench) -> None:
    outcome = run(
        bench,
        Bash,
        interpreter="/bin/bash",
        interpreterArgs=["-u", "-c"],
        exitOnFailed=False,
        commands=["false", "[[ $- == *u* ]] && echo strict"],
    )

    assert (outcome.exit_code, bench.lines) == (0, [("INFO", "strict")])


def test_bash_ends_at_the_first_failure(bench: Bench) -> None:
    outcome = run(bench, Bash, commands=["exit 66", "echo never"])

    assert (outcome.exit_code, outcome.outputs["files"]) == (66, {})


MAIN = """
import sys
from kestra import Kestra
import helper
Kestra.outputs({"said": helper.said, "args": sys.argv[1:], "apart": sys.prefix != sys.base_prefix})
"""


@pytest.mark.parametrize("is_apart", [True, False])
def test_python_runs_its_main_file(bench: Bench, is_apart: bool) -> None:  # noqa: FBT001 - a column of the table
    outcome = run(
        bench,
        Python,
        inputFiles={"main.py": MAIN, "helper.py": "said = 'hello'"},
        args=["a", "{{ 1 + 1 }}"],
        virtualEnv=is_apart,
    )

    assert outcome.error is None, bench.lines
    assert outcome.outputs["vars"] == {"said": "hello", "args": ["a", "2"], "apart": is_apart}


def test_python_runs_commands_of_its_own_with_its_requirements(
    bench: Bench, tmp_path: Path, make_wheel: Callable[[Path, str, str], Path]
) -> None:
    make_wheel(tmp_path, "greeting", "1.0")

    outcome = run(
        bench,
        Python,
        inputFiles={"other.py": "import greeting; print(greeting.said)"},
        requirements=["greeting==1.0"],
        env={"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path)},
        commands=["./bin/python other.py", "./bin/greeting"],
    )

    assert outcome.error is None, bench.lines
    assert bench.lines == [("INFO", "greeting 1.0")] * 2


def test_node_runs_its_main_file_with_the_module_kestra(bench: Bench, optional: Callable[[str, str], NoReturn]) -> None:
    if shutil.which("node") is None:
        optional("node", "node is not on PATH (apt install nodejs)")
    main = """
        const Kestra = require("./kestra");
        Kestra.outputs({args: process.argv.slice(2), said: require("./helper").said});
        Kestra.counter("rows", 3, {k: "v"});
        Kestra.timer("fixed", 2.5);
        Kestra.timer("measured", (done) => setTimeout(done, 5));
    """

    outcome = run(bench, Node, inputFiles={"main.js": main, "helper.js": "exports.said = 'hello'"}, args=["a", "b"])

    assert outcome.outputs["vars"] == {"args": ["a", "b"], "said": "hello"}, bench.lines
    assert [(one.kind, one.name) for one in bench.metrics] == [
        ("counter", "rows"),
        ("timer", "fixed"),
        ("timer", "measured"),
    ]
    assert bench.metrics[2].value >= 0.004


def test_node_installs_the_packages_of_its_package_file(bench: Bench, tmp_path: Path) -> None:
    npm = tmp_path / "npm"
    npm.write_text('#!/bin/sh\necho "$@" > called\necho noise\n')
    npm.chmod(0o755)

    outcome = run(
        bench,
        Node,
        npmPath=str(npm),
        nodePath="cat called",
        inputFiles={"main.js": "1", "package.json": "{}"},
        outputFiles=["called"],
    )

    assert bench.content(outcome.outputs["files"]["called"]) == b"install\n"
    assert ("INFO", "noise") not in bench.lines


@pytest.mark.parametrize(("kind", "name"), [(Python, "main.py"), (Node, "main.js")])
def test_a_main_file_that_is_not_there_is_asked_for(bench: Bench, kind: Any, name: str) -> None:
    with pytest.raises(TaskError, match=f"`inputFiles` has no {name}") as caught:
        run(bench, kind, inputFiles={"other": ""})

    assert caught.value.code == "file.inputs.invalid"


@pytest.mark.parametrize(
    ("lines", "runner", "image"),
    [
        ("runner: DOCKER, dockerOptions: {image: php}", "io.kestra.plugin.scripts.runner.docker.Docker", "php"),
        ("runner: PROCESS", "io.kestra.plugin.core.runner.Process", None),
        ("dockerOptions: {image: php}", "io.kestra.plugin.core.runner.Process", None),
    ],
)
def test_the_old_options_of_docker_become_a_task_runner(lines: str, runner: str, image: str | None) -> None:
    task = f"{{id: t, type: io.kestra.core.tasks.scripts.Bash, commands: [a], {lines}}}"

    result = parse_flow(f"id: f\nnamespace: n\ntasks:\n  - {task}\n")

    assert result.flow is not None, result.problems
    found: Any = result.flow.tasks[0]
    assert (found.task_runner["type"], found.container_image) == (runner, image)


def test_a_mistake_in_the_old_options_is_told_where_it_stands() -> None:
    task = "{id: t, type: io.kestra.core.tasks.scripts.Bash, commands: [a], runner: DOCKER"

    result = parse_flow(f"id: f\nnamespace: n\ntasks:\n  - {task},\n     dockerOptions: {{wrong: 1}}}}\n")

    assert [(problem.line, "wrong" in problem.message) for problem in result.problems] == [(5, True)]
