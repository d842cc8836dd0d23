"""Every language of script tasks: with the language itself where it is, else with a program that records its call."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from runner.errors import TaskError
from runner.flows.parse import parse_flow
from runner.flows.registry import TypeKind, find
from runner.plugin import Outcome
from runner.states import State
from runner.tasks.languages import LANGUAGES, Language

if TYPE_CHECKING:
    from tests.unit.runner.tasks.conftest import Bench

REAL = [name for name, language in LANGUAGES.items() if language.is_real]
RECORDED = [name for name, language in LANGUAGES.items() if not language.is_real]

# Each hands back 1 + 2, says something on the standard error and ends with the exit code 3.
SCRIPTS = {
    "shell": """echo '::{"outputs": {"sum": '$((1 + 2))'}}::'; echo careful >&2; exit 3""",
    "python": """
import sys
print('::{"outputs": {"sum": %d}}::' % (1 + 2))
print("careful", file=sys.stderr)
sys.exit(3)
""",
    "node": """console.log(`::{"outputs": {"sum": ${1 + 2}}}::`); console.error("careful"); process.exit(3)""",
    "r": """cat(sprintf('::{"outputs": {"sum": %d}}::\\n', 1L + 2L)); message("careful"); quit(status = 3)""",
    "ruby": """puts %(::{"outputs": {"sum": #{1 + 2}}}::); warn "careful"; exit 3""",
    "perl": """printf(qq(::{"outputs": {"sum": %d}}::\\n), 1 + 2); print STDERR "careful\\n"; exit 3;""",
    "php": """<?php printf('::{"outputs": {"sum": %d}}::' . PHP_EOL, 1 + 2); fwrite(STDERR, "careful\\n"); exit(3);""",
    "lua": """print(string.format('::{"outputs": {"sum": %d}}::', 1 + 2)); io.stderr:write("careful\\n"); os.exit(3)""",
    "deno": """
const n: number = 1 + 2
console.log(`::{"outputs": {"sum": ${n}}}::`)
console.error("careful")
Deno.exit(3)
""",
    "bun": """
const n: number = 1 + 2
console.log(`::{"outputs": {"sum": ${n}}}::`)
console.error("careful")
process.exit(3)
""",
}

RECORDER = f"""#!{sys.executable}
import json, os, shutil, sys
call = {{"program": os.path.basename(sys.argv[0]), "argv": sys.argv[1:], "GIVEN": os.environ.get("GIVEN")}}
call["texts"] = {{name: open(name).read() for name in sys.argv[1:] if os.path.isfile(name)}}
with open("calls.jsonl", "a") as file:
    file.write(json.dumps(call) + "\\n")
if sys.argv[1:3] == ["tool", "install"]:
    tools = os.environ["HOME"] + "/.dotnet/tools"
    os.makedirs(tools)
    shutil.copy(sys.argv[0], tools + "/" + sys.argv[-1])
"""


def build(name: str, **fields: Any) -> Any:
    kind: Any = find(TypeKind.TASK, f"scripts.{name}")
    assert kind is not None
    return kind.model_validate({"id": "t", "type": f"scripts.{name}", "taskRunner": {"type": "process"}, **fields})


@pytest.fixture
def installed(optional: Callable[[str, str], NoReturn]) -> Callable[[Language], None]:
    """Skip the test, or fail it where the language is required, when its program is not on this machine."""

    def demand(language: Language) -> None:
        if language.program and shutil.which(language.program) is None:
            optional(language.name, f"{language.program} is not on PATH ({language.install})")

    return demand


@pytest.mark.parametrize("name", REAL)
def test_a_script_runs_with_its_language(bench: Bench, name: str, installed: Callable[[Language], None]) -> None:
    installed(LANGUAGES[name])

    outcome: Outcome = bench.run(build(f"{name}.Script", script=SCRIPTS[name]))

    assert outcome.outputs["vars"] == {"sum": 3}, bench.lines
    assert (outcome.state, outcome.exit_code) == (State.FAILED, 3)
    assert ("WARN", "careful") in bench.lines
    assert outcome.outputs["stdOutLineCount"] == 1


@pytest.mark.parametrize("name", [name for name in REAL if name != "shell"])
def test_commands_find_the_language_and_the_files(
    bench: Bench, name: str, installed: Callable[[Language], None]
) -> None:
    language = LANGUAGES[name]
    installed(language)
    file = f"lib/main{language.suffix}"
    call = " ".join((*language.command, file))

    outcome: Outcome = bench.run(
        build(
            f"{name}.Commands", inputFiles={file: SCRIPTS[name]}, commands=[f"{call} || echo $? > code", "exit 4"]
        ).model_copy(update={"output_files": ["code"]})
    )

    assert outcome.outputs["vars"] == {"sum": 3}, bench.lines
    assert bench.content(outcome.outputs["outputFiles"]["code"]) == b"3\n"
    assert outcome.exit_code == 4


@dataclass
class Recorder:
    """Programs that write how they were called, first on the PATH of a body."""

    bench: Bench
    folder: Path

    def run(self, name: str, *programs: str, **fields: Any) -> list[dict[str, Any]]:
        """Run a task of the type `scripts.<name>` where `programs` record; return their calls."""
        for program in programs:
            (self.folder / program).write_text(RECORDER)
            (self.folder / program).chmod(0o755)
        env = {"PATH": f"{self.folder}:{os.environ['PATH']}", "GIVEN": "{{ 1 + 1 }}"}
        task = build(name, env=env, outputFiles=["calls.jsonl"], **fields)
        outcome: Outcome = self.bench.run(task)
        assert outcome.error is None, self.bench.lines
        content = self.bench.content(outcome.outputs["outputFiles"]["calls.jsonl"])
        return [json.loads(line) for line in content.splitlines()]


@pytest.fixture
def recorder(bench: Bench, tmp_path: Path) -> Recorder:
    folder = tmp_path / "bin"
    folder.mkdir()
    return Recorder(bench, folder)


CALLS = {
    "go": ["run", "./mainstem_script.go"],
    "julia": ["./mainstem_script.jl"],
    "groovy": ["./mainstem_script.groovy"],
    "jbang": ["--quiet", "./mainstem_script.java"],
    "dotnet": ["./mainstem_script.csx"],
    "csharp": ["./mainstem_script.csx"],
    "fsharp": ["fsi", "./mainstem_script.fsx"],
}


@pytest.mark.parametrize("name", [name for name in RECORDED if name != "powershell"])
def test_a_script_is_handed_to_the_program_of_its_language(recorder: Recorder, name: str) -> None:
    language = LANGUAGES[name]

    (call,) = recorder.run(f"{name}.Script", language.program, script="code of {{ flow.id }}")

    assert call == {
        "program": language.program,
        "argv": CALLS[name],
        "GIVEN": "2",
        "texts": {CALLS[name][-1]: "code of flow"},
    }


@pytest.mark.parametrize("name", [name for name in RECORDED if name != "powershell"])
def test_commands_find_the_program_of_the_language(recorder: Recorder, name: str) -> None:
    program = LANGUAGES[name].program

    (call,) = recorder.run(f"{name}.Commands", program, commands=[f"{program} 'a b' main"], inputFiles={"main": "text"})

    assert (call["argv"], call["texts"]) == (["a b", "main"], {"main": "text"})


def test_a_missing_dotnet_script_is_installed_by_the_sdk(recorder: Recorder) -> None:
    install, call = recorder.run("dotnet.Script", "dotnet", script="x")

    assert install["argv"] == ["tool", "install", "-g", "dotnet-script"]
    assert (call["program"], call["argv"]) == ("dotnet-script", ["./mainstem_script.csx"])


@pytest.mark.parametrize(
    ("fields", "argv"),
    [
        ({"extension": ".kt"}, ["--quiet", "./mainstem_script.kt"]),
        ({"extension": "md", "quiet": False}, ["./mainstem_script.md"]),
        ({"extension": "{{ '.jsh' }}", "quiet": "{{ false }}"}, ["./mainstem_script.jsh"]),
    ],
)
def test_jbang_runs_what_the_extension_says(recorder: Recorder, fields: dict[str, Any], argv: list[str]) -> None:
    (call,) = recorder.run("jbang.Script", "jbang", script="x", **fields)

    assert call["argv"] == argv


@pytest.mark.parametrize("extension", ["", ".", "/../x.java", "a/b", ".java; touch x", "{{ '$(touch x)' }}"])
def test_an_extension_that_is_none_is_refused(bench: Bench, extension: str) -> None:
    with pytest.raises(TaskError) as caught:
        bench.run(build("jbang.Script", script="x", extension=extension))

    assert caught.value.code == "task.property.invalid"


OPTIONS = ["-NoProfile", "-NonInteractive", "-Command"]


def test_powershell_runs_the_file_of_a_script(recorder: Recorder) -> None:
    (call,) = recorder.run("powershell.Script", "pwsh", script="'a' | Write-Output", beforeCommands=["cd ."])

    assert call["argv"] == [*OPTIONS, "$ErrorActionPreference = 'Stop'\ncd .\n./mainstem_script.ps1"]


def test_powershell_gets_commands_as_one_text(recorder: Recorder) -> None:
    (call,) = recorder.run("powershell.Commands", "pwsh", commands=["a", "b"], failFast=False, targetOS="WINDOWS")

    assert call["argv"] == [*OPTIONS, "a\r\nb"]


def test_a_system_that_is_none_is_refused(bench: Bench) -> None:
    with pytest.raises(TaskError, match="`targetOS` 'AMIGA' is not one of AUTO, LINUX, WINDOWS"):
        bench.run(build("shell.Script", script="true", targetOS="amiga"))


def test_a_powershell_that_is_not_there_is_named_with_what_brings_it(bench: Bench) -> None:
    with pytest.raises(TaskError) as caught:
        bench.run(build("powershell.Script", script="x", env={"PATH": "/nowhere"}))

    assert caught.value.code == "runner.interpreter.missing"
    assert "PowerShell 7" in caught.value.message


COMMON = """
    taskRunner: {type: io.kestra.plugin.core.runner.Process}
    containerImage: some/image
    beforeCommands: [a]
    interpreter: [/bin/sh, -c]
    failFast: false
    env: {A: b}
    inputFiles: {a: b}
    namespaceFiles: {enabled: true}
    outputFiles: [a]
    outputDir: true
    targetOS: LINUX
    warningOnStdErr: false
    timeout: PT1M
"""


@pytest.mark.parametrize("form", ["Script", "Commands"])
@pytest.mark.parametrize("name", LANGUAGES)
def test_every_type_has_all_common_properties(name: str, form: str) -> None:
    own = "script: a" if form == "Script" else "commands: [a]"
    source = (
        f"id: f\nnamespace: n\ntasks:\n  - id: t\n    type: io.kestra.plugin.scripts.{name}.{form}\n    {own}{COMMON}"
    )

    result = parse_flow(source)

    assert [problem.message for problem in result.problems] == []
