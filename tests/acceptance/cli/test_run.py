"""`mainstem run` as a user calls it: without a server, on a terminal and in a pipe."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

GREETING = """\
id: greet
namespace: company.team
inputs:
  - {id: who, type: STRING, defaults: world}
  - {id: count, type: INT, defaults: 3}
  - {id: data, type: FILE, required: false}
tasks:
  - {id: say, type: core.log.Log, message: "hello {{ inputs.who }} {{ inputs.count + 1 }}"}
  - id: each
    type: core.flow.ForEach
    values: [a, b]
    tasks:
      - {id: one, type: scripts.shell.Commands, commands: ["echo run {{ taskrun.value }}"]}
outputs:
  - {id: who, type: STRING, value: "{{ inputs.who }}"}
"""
FAILING = """\
id: failing
namespace: company.team
inputs:
  - {id: data, type: FILE, required: false}
  - {id: password, type: SECRET, required: false}
tasks:
  - {id: first, type: core.log.Log, message: at first}
  - id: work
    type: scripts.shell.Commands
    commands: ["echo before", "echo last words >&2; exit 3"]
  - {id: never, type: core.log.Log, message: never said}
"""
CALLED = """\
id: called
namespace: company.team
triggers:
  - {id: hook, type: core.trigger.Webhook, key: k}
tasks:
  - {id: say, type: core.log.Log, message: "called by {{ trigger.body.name ?? 'nobody' }}"}
"""
SLEEPING = """\
id: sleeping
namespace: company.team
tasks:
  - {id: nap, type: scripts.shell.Commands, commands: ["echo $$ > %s", "sleep 300"]}
"""
PAUSING = """\
id: pausing
namespace: company.team
tasks:
  - id: gate
    type: core.flow.Pause
    onResume:
      - {id: reason, type: STRING, defaults: none given}
  - {id: last, type: core.log.Log, message: "on because {{ outputs.gate.onResume.reason }}"}
"""


def repeat_of(output: str) -> tuple[str, str]:
    found = re.search(r"^Repeat it: mainstem run --from-execution (\S+) --until (\S+)$", output, re.MULTILINE)
    assert found is not None, output
    return found[1], found[2]


def wait_for_file(path: Path) -> str:
    deadline = time.monotonic() + 60
    while not path.exists() or not path.read_text().strip():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return path.read_text().strip()


def is_alive(pid: str) -> bool:
    return Path("/proc", pid).exists()


def test_a_flow_runs_to_its_outputs_with_plain_lines_in_a_pipe(shell: Any) -> None:
    shell.write("greet.yaml", GREETING)

    done = shell.mainstem("run", "greet.yaml", "-i", "who=me", "-i", "count=4")

    assert done.returncode == 0, done.stderr
    assert re.search(r"^\d\d:\d\d:\d\d INFO  say: hello me 5$", done.stdout, re.MULTILINE)
    assert done.stdout.splitlines()[-1].startswith("SUCCESS in ")
    assert done.stdout.endswith("   outputs: who=me\n")
    assert "\x1b" not in done.stdout
    assert list(shell.temporary.iterdir()) == []


def test_a_failure_ends_with_the_task_its_last_lines_its_exit_code_and_how_to_repeat_it(shell: Any) -> None:
    shell.write("failing.yaml", FAILING)

    done = shell.mainstem("run", "failing.yaml")

    assert done.returncode == 1
    *_, state, why, before, words, repeat = done.stdout.splitlines()
    assert state.startswith("FAILED in ")
    assert why == "work failed (exit code 3, APP_EXIT): Command failed with exit code 3"
    assert [before, words] == ["  before", "  last words"]
    assert repeat_of(repeat)[1] == "work"


def test_the_printed_command_repeats_the_run_with_its_file(shell: Any) -> None:
    shell.write(
        "failing.yaml", FAILING.replace("echo before", "cat data.txt").replace("exit 3", "exit $(wc -l < data.txt)")
    )
    text = (shell.folder / "failing.yaml").read_text()
    shell.write(
        "failing.yaml", text.replace("    commands", '    inputFiles: {data.txt: "{{ inputs.data }}"}\n    commands')
    )
    shell.write("rows.txt", "one\ntwo\n")
    first = shell.mainstem("run", "failing.yaml", "-i", "data=@rows.txt")
    execution_id, task = repeat_of(first.stdout)

    again = shell.mainstem("run", "--from-execution", execution_id, "--until", task)
    shorter = shell.mainstem("run", "--from-execution", execution_id, "--until", "first")

    assert "work failed (exit code 2, APP_EXIT)" in first.stdout, first.stderr
    assert again.returncode == 1
    assert "work failed (exit code 2, APP_EXIT)" in again.stdout, again.stderr
    assert shorter.returncode == 0
    assert "at first" in shorter.stdout


def test_secret_inputs_are_not_kept_and_have_to_be_given_again(shell: Any) -> None:
    shell.write("failing.yaml", FAILING)
    first = shell.mainstem("run", "failing.yaml", "-i", "password=open sesame")
    execution_id, _ = repeat_of(first.stdout)
    kept = [path.read_text() for path in (shell.folder / ".local/state/mainstem/runs").iterdir()]

    refused = shell.mainstem("run", "--from-execution", execution_id)
    given = shell.mainstem("run", "--from-execution", execution_id, "-i", "password=again")

    assert len(kept) == 1
    assert "sesame" not in kept[0]
    assert refused.returncode == 1
    assert "hint: give them again: -i password=…" in refused.stderr
    assert "work failed" in given.stdout


def test_the_json_of_a_run_is_that_of_the_api(shell: Any) -> None:
    shell.write("greet.yaml", GREETING)
    shell.write("failing.yaml", FAILING)

    good = shell.mainstem("run", "greet.yaml", "-l", "team=data", "--json")
    bad = shell.mainstem("run", "failing.yaml", "--json")

    body = json.loads(good.stdout)
    assert body["state"]["current"] == "SUCCESS"
    assert {"key": "team", "value": "data"} in body["labels"]
    assert [run["taskId"] for run in body["taskRunList"]] == ["say", "each", "one", "one"]
    assert [run["runner"] for run in body["taskRunList"]] == [None, None, *["core.runner.Process"] * 2]
    assert bad.returncode == 1
    assert json.loads(bad.stdout)["taskRunList"][1]["attempts"][0]["exitCode"] == 3
    assert repeat_of(bad.stderr)[1] == "work"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("-i", "count=many"), 1, "[input.invalid]"),
        (("-i", "coutn=1"), 1, "did you mean 'count'?"),
        (("-i", "data=@nothing.csv"), 1, "[input.file.missing]"),
        (("-i", "novalue"), 2, "'novalue' is not NAME=VALUE"),
        (("-l", "nolabel"), 2, "'nolabel' is not KEY=VALUE"),
        (("--until", "saay"), 3, "did you mean 'say'?"),
        (("--from-execution", "report.json"), 2, "name a flow file, or a run"),
        (("--runner", "procces"), 1, "[runner.type.unknown]"),
    ],
)
def test_what_is_wrong_is_said_with_its_exit_code(shell: Any, arguments: tuple[str, ...], code: int, said: str) -> None:
    shell.write("greet.yaml", GREETING)

    done = shell.mainstem("run", "greet.yaml", *arguments)

    assert done.returncode == code, done.stdout + done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_required_input_that_is_missing_is_named(shell: Any) -> None:
    shell.write("greet.yaml", GREETING.replace(", defaults: 3", ""))

    done = shell.mainstem("run", "greet.yaml")

    assert done.returncode == 1
    assert "`count`, missing required input" in done.stderr


def test_a_file_with_problems_is_answered_as_validate_does(shell: Any) -> None:
    shell.write("greet.yaml", GREETING.replace("core.log.Log", "core.log.Lgo"))

    done, checked = shell.mainstem("run", "greet.yaml"), shell.mainstem("validate", "greet.yaml")

    assert done.returncode == 1
    assert "greet.yaml:8:21  task.type.unknown" in done.stderr
    assert checked.stdout.splitlines()[:3] == done.stderr.splitlines()[:3]


def test_a_run_that_takes_too_long_is_stopped_with_its_body(shell: Any, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    shell.write("sleeping.yaml", SLEEPING % pid)

    for seconds in ("2", "8", "30"):  # on a busy machine the body may not have begun in so short a time
        done = shell.mainstem("run", "sleeping.yaml", "--timeout", seconds)
        if pid.exists():
            break

    assert done.returncode == 124, done.stderr
    assert "KILLED in " in done.stdout
    assert f"had not ended after {seconds} s" in done.stderr
    assert not is_alive(pid.read_text().strip())
    assert list(shell.temporary.iterdir()) == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 143)])
def test_a_signal_ends_the_run_and_leaves_nothing(
    shell: Any, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    pid = tmp_path / "pid"
    shell.write("sleeping.yaml", SLEEPING % pid)
    before = signal.signal(number, signal.SIG_DFL)  # whoever runs tests under nohup has HUP ignored, and hands it on
    process: subprocess.Popen[str] = shell.start("run", "sleeping.yaml")
    signal.signal(number, before)
    body = wait_for_file(pid)

    process.send_signal(number)
    output, _ = process.communicate(timeout=60)

    assert process.returncode == code
    assert "KILLED in " in output
    assert not is_alive(body)
    assert list(shell.temporary.iterdir()) == []


def test_a_pause_stops_a_run_that_nobody_can_be_asked_about(shell: Any) -> None:
    shell.write("pausing.yaml", PAUSING)

    stopped = shell.mainstem("run", "pausing.yaml")
    resumed = shell.mainstem("run", "pausing.yaml", "--resume")

    assert stopped.returncode == 1
    assert "gate waits for somebody to go on" in stopped.stderr
    assert "go on at every pause with --resume" in stopped.stderr
    assert resumed.returncode == 0, resumed.stderr
    assert "on because none given" in resumed.stdout


def test_a_pause_asks_on_a_terminal(shell: Any) -> None:
    shell.write("pausing.yaml", PAUSING)

    code, seen = shell.terminal("run", "pausing.yaml", answers={"Go on?": "y\n", "reason (STRING)": "lunch is over\n"})
    refused, _ = shell.terminal("run", "pausing.yaml", answers={"Go on?": "n\n"})

    assert code == 0, seen
    assert "on because lunch is over" in seen
    assert refused == 1


def test_a_pause_with_a_duration_ends_by_itself(shell: Any) -> None:
    flow = PAUSING.replace("    onResume", "    pauseDuration: PT1S\n    onResume")
    shell.write("pausing.yaml", flow.replace("{{ outputs.gate.onResume.reason }}", "of the time"))

    done = shell.mainstem("run", "pausing.yaml")

    assert done.returncode == 0, done.stdout + done.stderr
    assert "on because of the time" in done.stdout


def test_a_terminal_gets_a_tree_with_colours_unless_they_are_unwanted(shell: Any) -> None:
    shell.write("greet.yaml", GREETING)

    code, seen = shell.terminal("run", "greet.yaml")
    plain_code, plain = shell.terminal("run", "greet.yaml", NO_COLOR="1")
    _, dumb = shell.terminal("run", "greet.yaml", TERM="dumb")

    assert (code, plain_code) == (0, 0)
    assert "├── \x1b[32m✓\x1b[0m say" in seen
    assert "    └── \x1b[32m✓\x1b[0m one[b]" in seen
    assert "├── ✓ say" in plain
    assert "\x1b[32m" not in plain
    assert "├──" not in dumb


def test_the_log_of_a_task_cannot_write_anywhere_on_the_terminal(shell: Any) -> None:
    shell.write("greet.yaml", GREETING)

    _, seen = shell.terminal("run", "greet.yaml", "-i", "who=\x1b]0;owned\x07[red]x[/]")

    assert "\x1b]0;" not in seen
    assert "[red]x[/]" in seen


def test_subflows_beside_the_file_and_namespace_files_are_found(shell: Any) -> None:
    flow = "id: parent\nnamespace: company.team\ntasks:\n"
    flow += "  - {id: call, type: core.flow.Subflow, namespace: company.team, flowId: child}\n"
    flow += "  - {id: file, type: core.log.Log, message: \"{{ read('note.txt') }}\"}\n"
    child = "id: child\nnamespace: company.team\ntasks:\n  - {id: hi, type: core.log.Log, message: from the child}\n"
    shell.write("flows/company.team/parent.yaml", flow)
    shell.write("flows/company.team/child.yaml", child)
    shell.write("flows/company.team/note.txt", "words of a file")

    done = shell.mainstem("run", "flows/company.team/parent.yaml")

    assert done.returncode == 0, done.stdout + done.stderr
    assert "file: words of a file" in done.stdout


def test_secrets_come_by_name_and_are_masked(shell: Any) -> None:
    flow = GREETING.replace("hello {{ inputs.who }}", "{{ secret('API_KEY') }} {{ secret('OTHER') }}")
    shell.write("greet.yaml", flow)
    shell.write(".mainstem/secrets.yaml", "company:\n  OTHER: from-the-file\n").chmod(0o600)

    done = shell.mainstem("run", "greet.yaml", SECRET_API_KEY="ZnJvbS10aGUtZW52")
    missing = shell.mainstem("run", "greet.yaml")

    assert done.returncode == 0, done.stdout + done.stderr
    assert "say: ****** ****** 4" in done.stdout
    assert "from-the" not in done.stdout
    assert "Cannot find secret for key 'API_KEY'" in missing.stdout


def test_a_run_that_a_webhook_started_is_repeated_with_its_body(shell: Any) -> None:
    report = {
        "id": "e1",
        "namespace": "company.team",
        "flowId": "called",
        "trigger": {"id": "hook", "type": "core.trigger.Webhook", "variables": {"body": {"name": "Ann"}}},
        "flow": {"source": CALLED},
    }
    shell.write("report.json", json.dumps(report))

    done = shell.mainstem("run", "--from-execution", "report.json")

    assert done.returncode == 0, done.stderr
    assert "INFO  say: called by Ann" in done.stdout
