"""The commands that talk to a server, as a user types them."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

HELLO = """id: hello
namespace: company.shell
inputs:
  - {id: who, type: STRING, defaults: world}
  - {id: data, type: FILE, required: false}
tasks:
  - {id: say, type: core.log.Log, message: "hello {{ inputs.who }}"}
outputs:
  - {id: who, type: STRING, value: "{{ inputs.who }}"}
"""
FAILS = """id: fails
namespace: company.shell
tasks:
  - {id: no, type: core.execution.Fail, errorMessage: "as intended"}
"""
WAITS = """id: waits
namespace: company.shell
tasks:
  - {id: gate, type: core.flow.Pause}
  - {id: last, type: core.log.Log, message: gone on}
"""
WRITES = """id: writes
namespace: company.shell
tasks:
  - id: each
    type: core.flow.ForEach
    values: [a, b]
    tasks:
      - {id: write, type: core.storage.Write, content: "of {{ taskrun.value }}", extension: .txt}
outputs:
  - {id: numbers, type: JSON, value: "[1, 2]"}
"""
MENDS = """\
id: mends
namespace: company.mends
inputs:
  - {id: who, type: STRING, defaults: me}
tasks:
  - {id: say, type: core.debug.Return, format: "{{ inputs.who }}"}
  - {id: needs, type: core.kv.Get, key: mended, errorOnMissing: true}
outputs:
  - {id: said, type: STRING, value: "{{ outputs.say.value }}"}
  - {id: who, type: STRING, value: "{{ inputs.who }}"}
"""


@pytest.fixture(scope="module", autouse=True)
def flows(server: Any) -> None:
    headers = {"authorization": f"Bearer {server.token}", "content-type": "application/x-yaml"}
    for source in (HELLO, FAILS, WAITS, WRITES, MENDS):
        answer = httpx.post(f"{server.url}/api/v1/main/flows", content=source, headers=headers, timeout=20)
        assert answer.status_code == 200, answer.text


def started(server: Any, flow: str) -> str:
    done = server.mainstem("exec", "run", flow, "--json")
    assert done.returncode == 0, done.stderr
    return str(json.loads(done.stdout)["id"])


def wait_for(server: Any, execution_id: str, state: str) -> dict[str, Any]:
    deadline = time.monotonic() + 60
    while True:
        body: dict[str, Any] = json.loads(server.mainstem("exec", "get", execution_id, "--json").stdout)
        if body["state"]["current"] == state:
            return body
        assert time.monotonic() < deadline, body["state"]


def test_a_flow_is_run_and_followed(server: Any, tmp_path: Path) -> None:
    file = tmp_path / "data.csv"
    file.write_text("1,2")

    done = server.mainstem("exec", "run", "company.shell.hello", "-i", "who=me", "-i", f"data=@{file}", "-f")

    assert done.returncode == 0, done.stderr
    assert "INFO  say  hello me" in done.stdout
    assert "SUCCESS" in done.stdout
    assert "who = me" in done.stdout


def test_a_failed_run_exits_with_one(server: Any) -> None:
    done = server.mainstem("exec", "run", "company.shell.fails", "--wait", "--json")

    assert done.returncode == 1
    assert json.loads(done.stdout)["state"]["current"] == "FAILED"


def test_a_failed_run_names_its_log_and_a_followed_log_ends_with_the_state(server: Any) -> None:
    shown = server.mainstem("exec", "run", "company.shell.fails", "--wait").stdout.splitlines()
    execution_id = shown[0].split()[1]

    followed = server.mainstem("exec", "logs", execution_id, "-f")

    assert shown[-1] == f"  its log: mainstem exec logs {execution_id}"
    assert followed.returncode == 1
    assert "as intended" in followed.stdout
    assert followed.stderr.startswith(f"company.shell.fails  {execution_id}  FAILED  ")


def test_what_failed_is_run_again_and_a_run_is_repeated_from_a_task(server: Any) -> None:
    failed = server.mainstem("exec", "run", "company.mends.mends", "--wait").stdout
    execution_id = failed.split()[1]
    server.mainstem("kv", "set", "company.mends", "mended", "yes")

    restarted = server.mainstem("exec", "restart", execution_id, "--wait", "--json")
    repeated = server.mainstem("exec", "replay", execution_id, "--task", "needs", "-i", "who=you", "--wait", "--json")

    assert f"  run what failed again: mainstem exec restart {execution_id}\n" in failed
    assert json.loads(restarted.stdout)["id"] == execution_id
    body = json.loads(repeated.stdout)
    assert (body["originalId"], body["outputs"]) == (execution_id, {"said": "me", "who": "you"})


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("restart",), 1, "[execution.restart.nothing]"),
        (("replay", "--task", "sya"), 3, "did you mean 'say'?"),
        (("replay", "--task", "nothing"), 3, "there are say"),
        (("replay", "-i", "whoo=me"), 1, "did you mean 'who'?"),
    ],
)
def test_what_cannot_be_run_again_is_said(server: Any, arguments: tuple[str, ...], code: int, said: str) -> None:
    verb, *options = arguments
    execution_id = server.mainstem("exec", "run", "company.shell.hello", "-i", "who=me", "--wait").stdout.split()[1]

    done = server.mainstem("exec", verb, execution_id, *options)

    assert done.returncode == code
    assert said in done.stderr


def test_a_path_without_an_at_is_answered_with_what_sends_the_file(server: Any) -> None:
    done = server.mainstem("exec", "run", "company.shell.hello", "-i", "data=data.csv")

    assert done.returncode == 1
    assert "send the file with -i data=@data.csv" in done.stderr


def test_a_replay_takes_the_inputs_that_its_own_revision_has(server: Any) -> None:
    without = "id: drops\nnamespace: company.replays\ntasks: [{id: say, type: core.log.Log, message: hi}]\n"
    headers = {"authorization": f"Bearer {server.token}", "content-type": "application/x-yaml"}
    flows = f"{server.url}/api/v1/main/flows"
    first = without + "inputs: [{id: who, type: STRING, defaults: me}]\n"
    httpx.post(flows, content=first, headers=headers, timeout=20).raise_for_status()
    execution_id = server.mainstem("exec", "run", "company.replays.drops", "--wait").stdout.split()[1]
    httpx.put(f"{flows}/company.replays/drops", content=without, headers=headers, timeout=20).raise_for_status()

    repeated = server.mainstem("exec", "replay", execution_id, "-i", "who=you", "--json")
    newer = server.mainstem("exec", "replay", execution_id, "-i", "who=you", "--revision", "2")

    assert (repeated.returncode, newer.returncode) == (0, 1), repeated.stderr
    assert json.loads(repeated.stdout)["inputs"] == {"who": "you"}
    assert "has no input 'who'" in newer.stderr


def test_the_files_of_an_execution_are_saved_by_task_and_value(server: Any, tmp_path: Path) -> None:
    shown = server.mainstem("exec", "run", "company.shell.writes", "--wait").stdout
    execution_id = shown.split()[1]

    saved = server.mainstem("exec", "download", execution_id, "-d", str(tmp_path / "out"))

    assert saved.returncode == 0, saved.stderr
    paths = [Path(line) for line in saved.stdout.splitlines()]
    assert [path.parent.relative_to(tmp_path / "out") for path in paths] == [Path("write/a"), Path("write/b")]
    assert [path.read_text() for path in paths] == ["of a", "of b"]
    assert "  numbers = [1, 2]\n" in shown


def test_a_paused_execution_is_resumed_and_another_one_killed_and_deleted(server: Any) -> None:
    first, second = started(server, "company.shell.waits"), started(server, "company.shell/waits")
    wait_for(server, first, "PAUSED")
    wait_for(server, second, "PAUSED")

    resumed, killed = server.mainstem("exec", "resume", first), server.mainstem("exec", "kill", second)
    wait_for(server, first, "SUCCESS")
    wait_for(server, second, "KILLED")
    log = server.mainstem("exec", "logs", first, "-f")
    deleted = server.mainstem("exec", "delete", second)
    gone = server.mainstem("exec", "get", second)

    assert [resumed.returncode, killed.returncode, deleted.returncode, gone.returncode] == [0, 0, 0, 3]
    assert "gone on" in log.stdout


def test_lists_are_tabs_in_a_pipe_ids_when_quiet_and_json_when_asked(server: Any) -> None:
    execution_id = started(server, "company.shell.hello")
    wait_for(server, execution_id, "SUCCESS")

    plain = server.mainstem("exec", "list", "-n", "company", "--flow", "hello", "--state", "success").stdout
    quiet = server.mainstem("exec", "list", "-q", "--limit", "1").stdout
    as_json = json.loads(server.mainstem("exec", "list", "--json").stdout)

    assert plain.splitlines()[0].split("\t")[:3] == [execution_id, "SUCCESS", "company.shell"]
    assert quiet == f"{execution_id}\n"
    assert as_json["results"][0]["id"] == execution_id


def test_flows_are_listed_and_printed_as_they_were_written(server: Any) -> None:
    names = server.mainstem("flows", "list", "-q", "-n", "company.shell").stdout.splitlines()
    source = server.mainstem("flows", "get", "company.shell.hello").stdout
    missing = server.mainstem("flows", "get", "company.shell.nothing")

    assert names == [f"company.shell.{name}" for name in ("fails", "hello", "waits", "writes")]
    assert source == HELLO
    assert missing.returncode == 3


def test_values_are_stored_typed_read_and_removed(server: Any) -> None:
    server.mainstem("kv", "set", "company.shell", "number", "5")
    server.mainstem("kv", "set", "company.shell", "words", "some words")
    server.mainstem("kv", "set", "company.shell", "digits", "5", "--text")

    shown = [
        server.mainstem("kv", "get", "company.shell", key, "--json").stdout for key in ("number", "words", "digits")
    ]
    keys = server.mainstem("kv", "list", "-n", "company.shell", "-q").stdout.split()
    removed = [server.mainstem("kv", "delete", "company.shell", "number").returncode for _ in range(2)]

    assert [json.loads(text)["value"] for text in shown] == [5, "some words", "5"]
    assert keys == ["digits", "number", "words"]
    assert removed == [0, 3]


def test_a_token_works_until_it_is_revoked(server: Any) -> None:
    secret = server.mainstem("token", "create", "viewer-1", "--role", "viewer").stdout.strip()

    read = server.mainstem("flows", "list", MAINSTEM_TOKEN=secret)
    write = server.mainstem("exec", "run", "company.shell.hello", MAINSTEM_TOKEN=secret)
    listed = server.mainstem("token", "list").stdout
    server.mainstem("token", "revoke", "viewer-1")
    after = server.mainstem("flows", "list", MAINSTEM_TOKEN=secret)

    assert (read.returncode, write.returncode, after.returncode) == (0, 4, 4)
    assert "access.denied" in write.stderr
    assert "viewer-1\tviewer\t*" in listed
    assert secret not in listed


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("exec", "run", "nonsense"), 2),
        (("exec", "run", "company.shell.hello", "-i", "novalue"), 2),
        (("exec", "run", "company.shell.unknown"), 3),
        (("exec", "list", "--context", "unknown"), 3),
        (("flows", "list", "--url", "http://127.0.0.1:1"), 6),
    ],
)
def test_what_goes_wrong_has_its_exit_code(server: Any, arguments: tuple[str, ...], code: int) -> None:
    done = server.mainstem(*arguments)

    assert done.returncode == code
    assert "rror:" in done.stderr
    assert "Traceback" not in done.stderr


def test_git_gets_in_by_the_credential_helper_and_only_here(server: Any, tmp_path: Path) -> None:
    host = urlsplit(server.url).netloc
    helper = f"!cd {server.folder} && {server.mainstem.__func__.__globals__['MAINSTEM']} git-credential"

    done = subprocess.run(
        ["git", "-c", f"credential.{server.url}.helper={helper}", "clone", "-q", f"{server.url}/git/flows.git", "c"],
        cwd=tmp_path,
        env=server.environ | {"GIT_TERMINAL_PROMPT": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    answers = [
        server.mainstem("git-credential", operation, stdin=f"protocol=http\nhost={name}\n\n").stdout
        for operation, name in (("get", host), ("get", "example.com"), ("get", f"{host}.example.com"), ("store", host))
    ]

    assert done.returncode == 0, done.stderr
    assert (tmp_path / "c/flows/company.shell/hello.yaml").read_text() == HELLO
    assert answers == [f"username=mainstem\npassword={server.token}\n", "", "", ""]


def test_the_figures_and_the_health_are_served(server: Any) -> None:
    headers = {"authorization": f"Bearer {server.token}"}

    figures = httpx.get(f"{server.url}/metrics", headers=headers, timeout=60)
    ready = httpx.get(f"{server.url}/health/ready", timeout=60)

    assert "mainstem_process_workers_busy" in figures.text
    assert ready.json() == {"status": "UP", "missing": []}


def test_the_audit_log_tells_of_tokens_and_of_who_had_none(server: Any) -> None:
    server.mainstem("token", "create", "audited", "--role", "viewer")
    server.mainstem("token", "revoke", "audited")
    refused = server.mainstem("token", "list", MAINSTEM_URL=server.url, MAINSTEM_TOKEN="wrong")

    shown = server.mainstem("audit", "--action", "token", "--target", "audited")
    found = json.loads(server.mainstem("audit", "--result", "REFUSED", "-n", "1", "--json").stdout)["results"]
    settings = json.loads(server.mainstem("audit", "--action", "settings", "--json").stdout)["results"]

    assert refused.returncode == 4
    assert [line.split("\t")[1:4] for line in shown.stdout.splitlines()] == [
        ["admin", "token.revoke", "audited"],
        ["admin", "token.create", "audited"],
    ]
    assert (found[0]["actor"], found[0]["target"]) == ("unknown", "GET /api/v1/main/tokens")
    assert [row["target"] for row in settings] == ["up"]


SHOWS = """id: shows
namespace: vault.deep
tasks:
  - id: body
    type: scripts.shell.Commands
    env: {TOKEN: "{{ secret('FORGE_TOKEN') }}"}
    commands: ['echo "it is $TOKEN"']
"""


def test_a_secret_goes_in_by_the_standard_input_and_never_comes_out(server: Any) -> None:
    headers = {"authorization": f"Bearer {server.token}", "content-type": "application/x-yaml"}
    assert httpx.post(f"{server.url}/api/v1/main/flows", content=SHOWS, headers=headers, timeout=20).is_success
    value = "open-sesame-1f7b"

    first = server.mainstem("secret", "set", "vault", "forge_token", "--description", "git", stdin="one-before-it\n")
    done = server.mainstem("secret", "set", "vault", "forge_token", stdin=f"{value}\n")
    listed = server.mainstem("secret", "ls", "-n", "vault")
    ran = server.mainstem("exec", "run", "vault.deep.shows", "-f")
    short = server.mainstem("secret", "set", "vault", "PIN", stdin="12\n")
    gone = server.mainstem("secret", "delete", "vault", "FORGE_TOKEN")
    again = server.mainstem("secret", "rm", "vault", "FORGE_TOKEN")

    assert (first.returncode, done.returncode, done.stdout) == (0, 0, ""), first.stderr + done.stderr
    assert listed.stdout.splitlines() == ["vault\tFORGE_TOKEN\there\tgit"]
    assert "it is ******" in ran.stdout, ran.stdout + ran.stderr
    assert value not in listed.stdout + ran.stdout + ran.stderr
    assert (short.returncode, "secret.value.invalid" in short.stderr) == (1, True)
    assert (gone.returncode, again.returncode) == (0, 3)
    assert value.encode() not in (server.folder / ".mainstem" / "state.db").read_bytes()
