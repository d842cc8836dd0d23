"""The commands that ask a server: what they say when it is a pipe, a terminal, wrong, or down."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

GREETS = """\
id: greets
namespace: company.team
inputs:
  - {id: who, type: STRING, defaults: world}
  - {id: data, type: FILE, required: false}
tasks:
  - {id: say, type: core.log.Log, message: "hello {{ inputs.who }}"}
  - {id: check, type: core.execution.Fail, condition: "{{ inputs.who == 'bad' }}"}
triggers:
  - {id: nightly, type: core.trigger.Schedule, cron: "0 3 * * *"}
"""
WAITS = """\
id: waits
namespace: company.team
tasks:
  - {id: say, type: core.log.Log, message: waiting now}
  - {id: gate, type: core.flow.Pause}
"""


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory, shell_in: Callable[..., Any]) -> Any:
    return shell_in(tmp_path_factory.mktemp("user"))


@pytest.fixture(scope="module", autouse=True)
def server(user: Any, up: Callable[..., Any]) -> Iterator[Any]:
    with up(user) as running:
        token = (user.folder / ".mainstem/token").read_text().strip()
        headers = {"authorization": f"Bearer {token}", "content-type": "application/x-yaml"}
        for source in (GREETS, WAITS):
            answer = httpx.post(f"{running.url}/api/v1/main/flows", content=source, headers=headers, timeout=20)
            assert answer.status_code == 200, answer.text
        yield running


def test_two_revisions_of_a_flow_are_compared_by_meaning(user: Any, server: Any) -> None:
    token = (user.folder / ".mainstem/token").read_text().strip()
    headers = {"authorization": f"Bearer {token}", "content-type": "application/x-yaml"}
    for text in ("one", "two"):
        source = WAITS.replace("waits", "changes").replace("waiting now", text)
        method = "POST" if text == "one" else "PUT"
        place = "" if method == "POST" else "/company.team/changes"
        httpx.request(method, f"{server.url}/api/v1/main/flows{place}", content=source, headers=headers, timeout=20)

    last = user.mainstem("flows", "diff", "company.team.changes")
    named = user.mainstem("flows", "diff", "company.team.changes", "1", "2", "--json")
    same = user.mainstem("flows", "diff", "company.team.changes", "2", "2")
    missing = user.mainstem("flows", "diff", "company.team.changes", "1", "7")

    assert (last.returncode, last.stdout) == (5, "tasks.say.message one -> two\n")
    assert (named.returncode, json.loads(named.stdout)["changes"][0]["path"]) == (5, "tasks.say.message")
    assert (same.returncode, same.stdout) == (0, "revisions 2 and 2 mean the same\n")
    assert missing.returncode == 3


def test_waiting_ends_with_124_though_nothing_happens(user: Any) -> None:
    started = time.monotonic()

    waited = user.mainstem("exec", "run", "company.team.waits", "--wait", "--timeout", "1")
    for seconds in ("1", "5", "20"):  # on a busy machine the task may not have spoken after a second
        followed = user.mainstem("exec", "run", "company.team.waits", "--follow", "--timeout", seconds)
        if "waiting now" in followed.stdout:
            break

    assert time.monotonic() - started < 90
    assert (waited.returncode, followed.returncode) == (124, 124)
    assert "has not ended within 1 s; it goes on" in waited.stderr
    assert "waiting now" in followed.stdout


def test_ctrl_c_leaves_the_log_and_says_how_to_come_back(user: Any) -> None:
    execution_id = json.loads(user.mainstem("exec", "run", "company.team.waits", "--json").stdout)["id"]
    process = user.start("exec", "logs", "-f", execution_id)
    assert "waiting now" in process.stdout.readline()

    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    state = json.loads(user.mainstem("exec", "get", execution_id, "--json").stdout)["state"]["current"]

    assert process.returncode == 130
    assert f"follow it again: mainstem exec logs -f {execution_id}" in said
    assert state == "PAUSED"


def test_labels_are_written_either_way_and_found_again(user: Any) -> None:
    first = user.mainstem("exec", "run", "company.team.greets", "-l", "team=data:eu", "--json")
    second = user.mainstem("exec", "run", "company.team.greets", "-l", "team:ops", "--json")

    found = [user.mainstem("exec", "list", "-q", "-l", text).stdout.split() for text in ("team:data:eu", "team=ops")]

    assert found == [[json.loads(first.stdout)["id"]], [json.loads(second.stdout)["id"]]]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("exec", "run", "company.team.greets", "-i", "whoo=me"), 1, "did you mean 'who'?"),
        (("exec", "run", "company.team.nothing"), 3, "[flow.missing]"),
        (("exec", "run", "company.team.greets", "-l", "nolabel"), 2, "'nolabel' is not KEY=VALUE"),
        (("exec", "list", "-s", "lost"), 2, "'lost' is not one of"),
        (("exec", "list", "-l", "nolabel"), 2, "'nolabel' is not KEY=VALUE"),
        (("exec", "list", "--since", "yesterday"), 1, "ISO-8601 duration"),
        (("exec", "get", "nothing"), 3, "[execution.missing]"),
        (("exec", "logs", "-f", "nothing"), 3, "[execution.missing]"),
        (("exec", "kill", "nothing"), 3, "[execution.missing]"),
        (("exec", "lgos"), 2, "there is no command 'lgos'; did you mean 'logs'?"),
        (("flows", "get", "nonsense"), 2, "is not NAMESPACE.FLOW"),
        (("flows", "get", "company.team.greets", "--revision", "9"), 3, "[flow.missing]"),
        (("flows", "lsit"), 2, "did you mean 'list'?"),
        (("trigger", "next", "nonsense"), 2, "is not NAMESPACE.FLOW"),
        (("trigger", "disable", "company.team.greets/other"), 3, "[trigger.missing]"),
        (("kv", "get", "company.team", "nothing"), 3, "[kv.key.missing]"),
        (("kv", "set", "company.team", "a/b", "1"), 1, "[kv.key.invalid]"),
        (("token", "revoke", "nobody"), 3, "[token.missing]"),
        (("sync", "history", "nothing"), 3, "[environment.missing]"),
        (("sync", "run", "nothing"), 3, "[environment.missing]"),
        (("plan", "-e", "nothing"), 3, "[environment.missing]"),
        (("flows", "list", "--token", "wrong"), 4, "[access.token."),
        (("flows", "list", "--url", "http://127.0.0.1:1"), 6, "(--url) does not answer"),
        (("flows", "list", "--url", "nonsense"), 1, "[server.url.invalid]"),
        (("run", "--from-execution", "nothing"), 3, "[execution.missing]"),
    ],
)
def test_what_is_wrong_is_said_with_its_exit_code(user: Any, arguments: tuple[str, ...], code: int, said: str) -> None:
    done = user.mainstem(*arguments)

    assert done.returncode == code, done.stdout + done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["trigger list", "sync status", "sync history", "flows list", "token list"])
def test_a_pipe_gets_tabs_and_a_terminal_gets_heads(user: Any, command: str) -> None:
    piped = user.mainstem(*command.split()).stdout
    _, seen = user.terminal(*command.split())

    assert "\t" in piped.splitlines()[0]
    assert not piped.isupper()
    assert seen.splitlines()[0].isupper()
    assert "\t" not in seen


@pytest.mark.parametrize(
    "command",
    [
        "exec list",
        "flows list",
        "flows get company.team.greets",
        "trigger list",
        "trigger next company.team.greets",
        "kv list",
        "token list",
        "sync status",
        "sync history",
        "plan -e default",
        "version",
        "explain task.type.unknown",
        "doctor",
        "db check",
    ],
)
def test_every_command_that_reads_gives_json(user: Any, command: str) -> None:
    done = user.mainstem(*command.split(), "--json")

    assert isinstance(json.loads(done.stdout), dict | list), done.stderr


def test_a_run_of_the_server_is_repeated_here_with_its_files(user: Any) -> None:
    user.write("rows.csv", "1,2\n")
    first = user.mainstem("exec", "run", "company.team.greets", "-i", "who=bad", "-i", "data=@rows.csv", "-w", "--json")
    execution_id = json.loads(first.stdout)["id"]

    again = user.mainstem("run", "--from-execution", execution_id)
    changed = user.mainstem("run", "--from-execution", execution_id, "-i", "who=good", "--json")
    seen = user.mainstem("eval", "inputs.who", "--from-execution", execution_id)

    assert again.returncode == 1
    assert "hello bad" in again.stdout
    assert "check failed" in again.stdout
    assert changed.returncode == 0, changed.stderr
    assert json.loads(changed.stdout)["inputs"]["data"].endswith("rows.csv")
    assert seen.stdout == "bad\n"


def test_a_schedule_runs_its_past_again_rests_and_is_told_to_stop(user: Any) -> None:
    name, backfill = "company.team.greets/nightly", ("trigger", "backfill")

    begun = user.mainstem(*backfill, "create", name, "--start", "2020-01-01T00:00:00Z", "-i", "who=past", "-l", "a=b")
    second = user.mainstem(*backfill, "create", name, "--start", "2020-01-01T00:00:00Z")
    paused = user.mainstem(*backfill, "pause", name)
    listed = user.mainstem("trigger", "list")
    resumed = user.mainstem(*backfill, "resume", name)
    ended = user.mainstem(*backfill, "delete", name)
    shown = user.mainstem(*backfill, "show", name, "--json")

    assert f"{name}: backfill from 2020-01-01 00:00:00Z to " in begun.stdout, begun.stderr
    assert "[trigger.backfill.present]" in second.stderr
    assert "paused at" in paused.stdout
    assert "backfill (paused)" in listed.stdout
    assert ", at 20" in resumed.stdout
    assert ended.stdout == f"{name} has no backfill\n"
    assert json.loads(shown.stdout) is None


def test_a_trigger_is_begun_anew_but_not_unlocked_when_it_waits_for_nothing(user: Any) -> None:
    user.mainstem("trigger", "restart", "company.team.greets/nightly")

    unlocked = user.mainstem("trigger", "unlock", "company.team.greets/nightly")

    assert "[trigger.unlocked]" in unlocked.stderr
