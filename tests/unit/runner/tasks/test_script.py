from __future__ import annotations

import os
import sys
import tempfile
import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from runner.errors import TaskError
from runner.executions.models import LogEntry
from runner.plugin import Outcome
from runner.states import State
from runner.tasks.script_families import (
    NodeScript,
    PythonCommands,
    PythonScript,
    ShellCommands,
    ShellScript,
)
from runner.tasks.script_python import with_json_words

if TYPE_CHECKING:
    from tests.unit.runner.tasks.conftest import Bench

PROCESS = {"type": "io.kestra.plugin.core.runner.Process"}


def build(kind: Any, **fields: Any) -> Any:
    return kind.model_validate({"id": "t", "type": "x", "taskRunner": PROCESS, **fields})


def run(bench: Bench, kind: Any, **fields: Any) -> Outcome:
    outcome: Outcome = bench.run(build(kind, **fields))
    return outcome


def test_a_body_hands_back_values_counts_and_logs(bench: Bench) -> None:
    commands = ["echo one", "echo two >&2", """echo '::{"outputs": {"a": {{ 1 + 1 }}}}::'"""]

    outcome = run(bench, ShellCommands, commands=commands)

    assert outcome.state is State.SUCCESS
    assert dict(outcome.outputs) | {"taskRunner": None} == {
        "exitCode": 0,
        "vars": {"a": 2},
        "outputFiles": {},
        "stdOutLineCount": 2,
        "stdErrLineCount": 1,
        "taskRunner": None,
    }
    assert outcome.outputs["taskRunner"]["type"] == "core.runner.Process"
    assert sorted(bench.lines) == [("INFO", "one"), ("WARN", "two")]


def test_a_body_that_fails_keeps_its_outputs(bench: Bench) -> None:
    commands = ["echo x > made.txt", """echo '::{"outputs": {"a": 1}}::'""", "exit 66", "echo never"]

    outcome = run(bench, ShellCommands, commands=commands, outputFiles=["made.txt"])

    assert (outcome.state, outcome.error) == (State.FAILED, "Command failed with exit code 66")
    assert (outcome.exit_code, outcome.failure_reason) == (66, "APP_EXIT")
    assert outcome.outputs["exitCode"] == 66
    assert outcome.outputs["vars"] == {"a": 1}
    assert bench.content(outcome.outputs["outputFiles"]["made.txt"]) == b"x\n"
    assert bench.lines == [("ERROR", "Command failed with exit code 66")]


def test_fail_fast_decides_whether_a_failure_in_between_counts(bench: Bench) -> None:
    commands = ["no-such-program", "echo last"]

    fast = run(bench, ShellCommands, commands=commands)
    slow = run(bench, ShellCommands, commands=commands, failFast=False)

    assert (fast.outputs["exitCode"], fast.outputs["stdOutLineCount"]) == (127, 0)
    assert (slow.outputs["exitCode"], slow.outputs["stdOutLineCount"]) == (0, 1)


def test_markers_become_metrics_and_logs(bench: Bench) -> None:
    script = """
        echo '::{"metrics": [{"name": "rows", "type": "counter", "value": 3, "tags": {"k": "v"}}]}::'
        echo '::{"logs": [{"level": "ERROR", "message": "from the body"}]}::'
        echo '::{broken}::'
    """

    run(bench, ShellScript, script=script)

    assert [(one.kind, one.name, one.value, one.tags) for one in bench.metrics] == [("counter", "rows", 3, {"k": "v"})]
    assert bench.lines[0] == ("ERROR", "from the body")
    assert bench.lines[1][0] == "WARN"
    assert bench.lines[1][1].startswith("Invalid outputs '::{broken}::'")


def test_files_are_staged_and_taken_back(bench: Bench) -> None:
    folder = bench.root / "files" / "company.team" / "_files"
    folder.mkdir(parents=True)
    (folder / "lib.sh").write_text("hello() { echo from lib; }")
    (folder / "other.txt").write_text("not wanted")
    uri = bench.file("d.txt", b"stored\n")

    outcome = run(
        bench,
        ShellCommands,
        namespaceFiles={"enabled": True, "include": ["*.sh"]},
        inputFiles={"in.txt": uri, "nested/text.txt": "content\n"},
        commands=[
            ". {{ workingDir }}/lib.sh",
            "hello > out/a.txt || { mkdir out; hello > out/a.txt; }",
            f"cat in.txt nested/text.txt {uri} > all.txt",
            "ls > names.txt",
            'echo "::{\\"outputs\\": {\\"same\\": \\"$([ "$WORKING_DIR" = {{ workingDir }} ] && echo yes)\\"}}::"',
        ],
        outputFiles=["out/*", "*.txt"],
    )

    files = {path: bench.content(uri) for path, uri in outcome.outputs["outputFiles"].items()}
    assert files == {
        "out/a.txt": b"from lib\n",
        "all.txt": b"stored\ncontent\nstored\n",
        "in.txt": b"stored\n",
        "names.txt": b"all.txt\nin.txt\nlib.sh\nnames.txt\nnested\nout\n",
    }
    assert outcome.outputs["vars"] == {"same": "yes"}


def test_an_output_file_can_be_named_by_its_path(bench: Bench) -> None:
    outcome = run(bench, ShellScript, outputFiles=["result"], script="printf %s {{ outputFiles.result }} > result")

    content = bench.content(outcome.outputs["outputFiles"]["result"]).decode()
    assert content.startswith("/")
    assert content.endswith("/result")


def test_everything_in_the_output_directory_becomes_an_output(bench: Bench) -> None:
    script = 'cd "$OUTPUT_DIR"; echo a > a; mkdir {{ outputDir }}/b; echo c > b/c'

    outcome = run(bench, ShellScript, outputDir=True, script=script)

    assert sorted(outcome.outputs["outputFiles"]) == ["a", "b/c"]


def test_the_environment_is_clean_and_holds_env(bench: Bench) -> None:
    outcome = run(
        bench,
        ShellCommands,
        env={"GIVEN": "{{ secret('password') }}", "NUMBER": 5},
        commands=["env > env.txt", 'echo "$GIVEN $NUMBER"'],
        outputFiles=["env.txt"],
    )

    names = {line.partition(b"=")[0] for line in bench.content(outcome.outputs["outputFiles"]["env.txt"]).splitlines()}
    assert names - {b"PWD", b"SHLVL", b"_", b"OLDPWD", b"TZ", b"LC_ALL"} == {
        *(b"GIVEN", b"NUMBER", b"WORKING_DIR", b"PATH", b"LANG", b"HOME", b"TMPDIR"),
        *(b"MAINSTEM_TASKRUN", b"MAINSTEM_EPOCH", b"TASK_IDEMPOTENCY_KEY"),
    }
    assert ("INFO", "****** 5") in bench.lines


def test_a_secret_in_a_command_is_neither_in_argv_nor_in_the_log(bench: Bench) -> None:
    script = "tr '\\0' ' ' < /proc/$$/cmdline > argv.txt; echo {{ secret('password') }}; echo aHVudGVyMiBydWxlcw=="

    outcome = run(bench, ShellScript, script=script, outputFiles=["argv.txt"], interpreter=["/bin/sh", "-uc"])

    assert b"hunter2" not in bench.content(outcome.outputs["outputFiles"]["argv.txt"])
    assert bench.lines == [("INFO", "******"), ("INFO", "******")]
    assert not any("hunter2" in entry.message for entry in bench.logs)


def test_an_interpreter_that_takes_its_text_as_an_argument_gets_no_secrets(bench: Bench) -> None:
    outcome = run(bench, ShellScript, script="hello", interpreter=["/bin/echo"], failFast=False)

    assert bench.lines == [("INFO", "hello")]
    assert outcome.state is State.SUCCESS
    with pytest.raises(TaskError) as caught:
        run(bench, ShellScript, script="{{ secret('password') }}", interpreter=["/bin/echo"])
    assert caught.value.code == "task.command.secret"
    assert "hunter2" not in str(caught.value)


def test_an_interpreter_that_is_not_there_is_named(bench: Bench) -> None:
    with pytest.raises(TaskError, match="no-such-shell"):
        run(bench, ShellScript, script="x", interpreter=["/no-such-shell", "-c"])


def test_before_commands_share_the_shell(bench: Bench) -> None:
    run(bench, ShellCommands, beforeCommands=["export GREETING=hi", "cd /"], commands=["echo $GREETING from $PWD"])

    assert bench.lines == [("INFO", "hi from /")]


def test_python_scripts_run_with_the_interpreter_of_the_machine(bench: Bench) -> None:
    script = """
        import sys, json
        values = {"n": null, "t": true, "exe": sys.executable, "v": {{ {"a": false} }}}
        print("::" + json.dumps({"outputs": values}) + "::")
    """.replace("\n        ", "\n")

    outcome = run(bench, PythonScript, script=script)

    assert outcome.error is None, bench.lines
    values = dict(outcome.outputs["vars"])
    assert not Path(values.pop("exe")).is_relative_to(sys.prefix)
    assert values == {"n": None, "t": True, "v": {"a": False}}


def test_a_python_script_finds_the_files_beside_it_and_its_exit_code_counts(bench: Bench) -> None:
    uri = bench.file("d.txt", b"hello there!")

    helper = "import os\ndef size(path):\n    return os.path.getsize(path)\n"
    script = """
        import helper, json, sys
        print("::" + json.dumps({"outputs": {"bytes": helper.size("URI")}}) + "::")
        sys.exit(3)
    """.replace("\n        ", "\n").replace("URI", uri)

    outcome = run(bench, PythonScript, inputFiles={"helper.py": helper}, script=script)

    assert outcome.outputs["vars"] == {"bytes": 12}
    assert outcome.error == "Command failed with exit code 3"


KESTRA = """
from kestra import Kestra
Kestra.outputs({"text": "value", "whole": 2})
Kestra.counter("rows", 1, {"k": "v"})
Kestra.timer("taken", lambda: None)
Kestra.logger().warning("careful %s", 1)
"""


def test_a_python_body_can_use_the_module_of_kestra_without_installing_it(bench: Bench) -> None:
    outcome = run(bench, PythonScript, script=KESTRA, outputFiles=["**"])

    assert outcome.error is None, bench.lines
    assert outcome.outputs["vars"] == {"text": "value", "whole": 2}
    assert outcome.outputs["outputFiles"] == {}
    assert [(one.kind, one.name, one.tags) for one in bench.metrics] == [
        ("counter", "rows", {"k": "v"}),
        ("timer", "taken", {}),
    ]
    assert bench.lines == [("WARN", "careful 1")]


def test_an_installed_package_kestra_goes_first(bench: Bench) -> None:
    package = "class Kestra:\n    outputs = staticmethod(lambda values: print('installed', sorted(values)))\n"
    script = "import sys\nsys.path.append('site')\nfrom kestra import Kestra\nKestra.outputs({'a': 1})\n"

    outcome = run(bench, PythonScript, inputFiles={"site/kestra/__init__.py": package}, script=script)

    assert outcome.error is None, bench.lines
    assert bench.lines == [("INFO", "installed ['a']")]


def test_a_language_that_is_not_there_is_named_with_what_brings_it(bench: Bench) -> None:
    with pytest.raises(TaskError) as caught:
        run(bench, NodeScript, script="1", env={"PATH": "/nowhere"})

    assert caught.value.code == "runner.interpreter.missing"
    assert caught.value.message == (
        "Command failed with exit code 127: node is not on this machine; install it (apt install nodejs), "
        "or use a container task runner"
    )
    assert caught.value.outputs["exitCode"] == 127


def test_another_program_that_is_not_there_does_not_blame_the_language(bench: Bench) -> None:
    outcome = run(bench, PythonCommands, commands=["no-such-program"])

    assert outcome.error == "Command failed with exit code 127"


def test_the_timeout_ends_the_body(bench: Bench) -> None:
    task = build(ShellScript, script="echo started; sleep 60")

    for seconds in (0.5, 5, 30):  # on a busy machine the body may not have begun in so short a time
        outcome = bench.run(task, deadline_s=seconds)
        if bench.lines:
            break

    assert outcome.state is State.FAILED
    assert outcome.failure_reason == "DEADLINE"
    assert ("INFO", "started") in bench.lines


def test_a_cancelled_body_is_killed(bench: Bench) -> None:
    cancelled = threading.Event()
    log = bench.host.log

    def cancel_when_it_speaks(entry: LogEntry) -> None:
        log(entry)
        if entry.message == "started":
            cancelled.set()

    bench.host = replace(bench.host, log=cancel_when_it_speaks)

    outcome = bench.run(build(ShellScript, script="echo started; sleep 60"), cancelled=cancelled)

    assert (outcome.state, outcome.failure_reason) == (State.KILLED, "CANCELLED")
    assert bench.lines == [("INFO", "started")]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may run bodies as somebody else")
def test_a_body_of_another_user_works_in_its_directory_and_hands_files_back(bench: Bench) -> None:
    with tempfile.TemporaryDirectory() as room:  # the folders of pytest itself are closed to others
        Path(room).chmod(0o711)
        settings = bench.host.settings.model_copy(update={"work": Path(room) / "work"})
        bench.host = replace(bench.host, settings=settings, uid_of=lambda _namespace: 234_567)

        outcome = run(bench, ShellScript, inputFiles={"a/in": "x"}, script="cat a/in > out; id -u", outputFiles=["out"])

    assert outcome.error is None, bench.lines
    assert bench.lines == [("INFO", "234567")]
    assert bench.content(outcome.outputs["outputFiles"]["out"]) == b"x"


def test_the_working_directory_is_private_and_removed(bench: Bench) -> None:
    task = build(ShellScript, script="mkdir -p locked/in; touch locked/in/file; chmod 0 locked/in locked")
    with bench.context(task) as ctx:
        task.run(ctx)
        directory = ctx.work_dir()
        mode = directory.stat().st_mode & 0o777

    assert mode == 0o700
    assert not directory.exists()


def test_tasks_of_a_working_directory_see_each_others_files(bench: Bench, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()

    for script in ("echo one > file", "cat file"):
        bench.run(build(ShellScript, script=script), work_dir_factory=lambda: shared)

    assert bench.lines == [("INFO", "one")]
    assert (shared / "file").exists()


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"taskRunner": {"type": "no.such.Runner"}}, "runner.type.unknown"),
        ({"taskRunner": {**PROCESS, "wrong": 1}}, "runner.property.invalid"),
        ({"inputFiles": "no json"}, "file.inputs.invalid"),
        ({"inputFiles": {"../x": "y"}}, "file.path.refused"),
        ({"inputFiles": {"a": "file:///etc/passwd"}}, "file.local.refused"),
        ({"namespaceFiles": "yes"}, "file.namespace.invalid"),
        ({"env": ["A=1"]}, "task.env.invalid"),
        ({"beforeCommands": {"a": 1}}, "task.property.invalid"),
    ],
)
def test_properties_that_cannot_be_used_are_named(bench: Bench, fields: dict[str, Any], code: str) -> None:
    with pytest.raises(TaskError) as caught:
        run(bench, ShellScript, script="true", **fields)

    assert caught.value.code == code


@pytest.mark.parametrize("glob", ["../*", "a/../../*"])
def test_output_patterns_stay_in_the_directory(bench: Bench, glob: str) -> None:
    outcome = run(bench, ShellScript, script="true", outputFiles=[glob])

    assert outcome.state is State.FAILED
    assert outcome.outputs["outputFiles"] == {}


@pytest.mark.parametrize(
    ("source", "places"),
    [
        ("print(1)\n", []),
        ("print(true)\n", [0]),
        ('"""Text."""\nfrom __future__ import annotations\nx = null\n', [2]),
        ("# comment\n\n@wraps\ndef f():\n    return false\n", [2]),
        ("this is no python true\n", [0]),
        ('"""only true"""\n', []),
    ],
)
def test_json_words_are_defined_where_a_script_uses_them(source: str, places: list[int]) -> None:
    lines = with_json_words(source).splitlines()

    assert [index for index, text in enumerate(lines) if text.startswith("true, false, null")] == places
