"""Bodies that do not behave, through a whole engine: each ends in bounded time, says why, and leaves nothing behind."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from runner.states import State

if TYPE_CHECKING:
    from runner.executions.models import Execution
    from tests.hostile.executions.conftest import Lab

Shell = Callable[..., str]


def until(holds: Callable[[], object], within_s: float = 60) -> None:
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def begun(lab: Lab, execution: Execution, word: str = "begun") -> None:
    """Wait until the body has said that it runs."""
    until(lambda: word in lab.messages(execution))


STUBBORN = """trap '' TERM INT HUP
echo begun
while true; do sleep 4321.7; done"""
ESCAPING = """(setsid sh -c 'trap "" TERM; (sleep 4321.8 &) ; sleep 4321.8' >/dev/null 2>&1 &)
echo begun
%s"""


def test_a_body_that_ignores_the_signal_is_killed_with_its_execution(lab: Lab, shell: Shell) -> None:
    execution = lab.start(shell(STUBBORN))
    begun(lab, execution)

    lab.local.engine.kill(execution.id)
    ended = lab.end(execution)

    assert ended.state is State.KILLED
    assert [run.state for run in lab.runs(execution)] == [State.KILLED]
    assert lab.left_processes("4321.7") == []


def test_a_body_that_ignores_the_signal_ends_with_its_timeout(lab: Lab, shell: Shell) -> None:
    failed = lab.run(shell(STUBBORN, options="timeout: PT1S"))

    assert failed.state is State.FAILED
    assert "ran longer than 1 s" in str(lab.run_of(failed, "s").error)
    assert lab.left_processes("4321.7") == []


@pytest.mark.parametrize(("end", "state"), [("exit 0", State.SUCCESS), ("exit 3", State.FAILED)])
def test_what_forked_away_ends_with_the_body(lab: Lab, shell: Shell, end: str, state: State) -> None:
    ended = lab.run(shell(ESCAPING % end))

    assert ended.state is state
    assert lab.left_processes("4321.8") == []


def test_what_forked_away_ends_with_a_kill(lab: Lab, shell: Shell) -> None:
    execution = lab.start(shell(ESCAPING % "sleep 4321.8"))
    begun(lab, execution)

    lab.local.engine.kill(execution.id)

    assert lab.end(execution).state is State.KILLED
    assert lab.left_processes("4321.8") == []


def test_a_child_that_holds_the_pipes_does_not_keep_the_task_open(lab: Lab, shell: Shell) -> None:
    started = time.monotonic()

    ended = lab.run(shell("sleep 4321.9 &\necho done"))

    assert ended.state is State.SUCCESS
    assert time.monotonic() - started < 10
    assert "done" in lab.messages(ended)
    assert lab.left_processes("4321.9") == []


def test_a_flood_without_a_newline_is_cut_and_the_task_goes_on(lab: Lab, shell: Shell) -> None:
    ended = lab.run(shell("head -c 60000000 /dev/zero | tr '\\0' x\necho\necho end"))

    kept = sum(len(message) for message in lab.messages(ended))
    assert ended.state is State.SUCCESS
    assert kept < 2_000_000


def test_a_flood_of_lines_is_bounded_and_counted(lab: Lab, shell: Shell) -> None:
    other = "  - {id: r, type: core.debug.Return, format: late}\n"

    ended = lab.run(shell("yes 0123456789abcdef | head -n 1500000", after=other), within_s=60)

    assert ended.state is State.SUCCESS
    lines = lab.logs(ended, 2_000_000)
    assert sum(len(entry.message) for entry in lines) < 12_000_000
    assert any("dropped" in entry.message or "limit" in entry.message for entry in lines[-5:])


@pytest.mark.parametrize(
    "telling",
    [
        'echo "$S"',
        'echo "$S" >&2',
        'printf %s "$S" | cut -c1-9 | tr -d "\\n"; sleep 0.1; printf %s "$S" | cut -c10-',
        'printf %s "$S" | base64',
        'echo "x=$(printf %s "$S" | od -An -tx1 | tr -d " \\n")"',
        'echo "$S"; exit 1',
        'echo "::{\\"logs\\": [{\\"level\\": \\"INFO\\", \\"message\\": \\"$S\\"}]}::"',
    ],
)
def test_a_secret_that_a_body_tells_is_masked_wherever_it_goes(lab: Lab, shell: Shell, telling: str) -> None:
    from tests.hostile.executions.conftest import SECRET

    ended = lab.run(shell(telling, options="env: {S: \"{{ secret('PASSWORD') }}\"}"))

    everything = repr((lab.messages(ended), lab.rows(ended), lab.runs(ended), ended))
    assert SECRET not in everything
    assert SECRET.encode().hex() not in everything
    assert "aHVudGVyMi1ydWxlcy" not in everything


def test_a_body_that_hits_a_limit_of_the_system_fails_with_what_it_ended_with(lab: Lab, shell: Shell) -> None:
    failed = lab.run(shell("ulimit -f 100\nhead -c 50000000 /dev/zero > big\necho after"))

    assert failed.state is State.FAILED
    assert "after" not in lab.messages(failed)
    assert lab.outputs(failed)["s"]["exitCode"] != 0
    assert list(lab.host.settings.work_root.glob("*")) == []


def test_working_directories_are_gone_after_every_kind_of_end(lab: Lab, shell: Shell) -> None:
    lab.run(shell("mkdir -p a/b; chmod 000 a; exit 1"))
    lab.run(shell("ln -s / root; mkfifo pipe; touch file"))
    stuck = lab.start(shell(STUBBORN))
    begun(lab, stuck)
    lab.local.engine.kill(stuck.id)
    lab.end(stuck)

    assert list(lab.host.settings.work_root.glob("*")) == []


JOB = """
tasks:
  - id: w
    type: core.flow.WorkingDirectory
    tasks:
      - {id: slow, type: scripts.shell.Commands, commands: ["sleep 4322.1"], timeout: PT0.5S, allowFailure: true}
      - {id: next, type: scripts.shell.Commands, commands: ["echo begun", "%s"]}
"""


def test_a_timeout_inside_a_working_directory_ends_that_task_only(lab: Lab) -> None:
    ended = lab.run(JOB % "true")

    states = {run.task_id: run.state for run in lab.runs(ended)}
    assert states == {"w": State.WARNING, "slow": State.WARNING, "next": State.SUCCESS}
    assert "ran longer than 0.5 s" in str(lab.run_of(ended, "slow").error)
    assert lab.left_processes("4322.1") == []


def test_a_kill_reaches_the_task_that_a_working_directory_runs_now(lab: Lab) -> None:
    execution = lab.start(JOB % "sleep 4322.2")
    begun(lab, execution)

    lab.local.engine.kill(execution.id)
    ended = lab.end(execution)

    assert ended.state is State.KILLED
    assert lab.run_of(ended, "next").state is State.KILLED
    assert lab.left_processes("4322.2") == []
