"""The client that Kestra publishes, unchanged, against our server.

Its environment is made once and kept in pytest's cache; `MAINSTEM_TEST_KESTRAPY` names the Python of another one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest

from tests.servers.locks import only_one

PACKAGES = ("kestrapy==2.0.3", "regex")  # kestrapy imports regex without declaring it
PROGRAM = '''
import json, sys, time
from kestrapy import KestraClient
from kestrapy.models import ApiSecretMetaEE, ApiSecretTag, ApiSecretValue, Namespace

host, token = sys.argv[1:]
client = KestraClient(host=host, token=token, timeout=20)
flow = """
id: hello_from_client
namespace: company.client
inputs:
  - {id: who, type: STRING, defaults: nobody}
  - {id: count, type: INT, required: false}
  - {id: data, type: FILE, required: false}
tasks:
  - id: hello
    type: io.kestra.plugin.core.log.Log
    message: Hello {{ inputs.who }}
triggers:
  - id: hook
    type: io.kestra.plugin.core.trigger.Webhook
    key: s3cret
"""
seen = {}
created = client.flows.create_flow("main", flow)
seen["created"] = [created.namespace, created.id, created.revision, created.disabled, created.deleted]
seen["type"] = client.flows.flow("company.client", "hello_from_client", "main").tasks[0].type
seen["found"] = [item.id for item in client.flows.search_flows("main", page=1, size=10).results]
updated = client.flows.update_flow("company.client", "hello_from_client", "main", flow.replace("Hello {{", "Hi {{"))
seen["updated"] = updated.revision
revisions = client.flows.list_flow_revisions("company.client", "hello_from_client", "main")
seen["revisions"] = [item.revision for item in revisions]
violations = client.flows.validate_flows("main", "id: x\\nnamespace: a\\ntasks: 1\\n")
seen["violations"] = [item.constraints for item in violations]

execution = client.executions.create_execution(
    "main", "company.client", "hello_from_client", wait=True, labels=["from:client"],
    inputs={"who": "you", "count": 3, "data": b"content"},
)
seen["state"] = str(getattr(execution.state.current, "value", execution.state.current))
again = client.executions.execution(execution.id, "main")
seen["inputs"] = {key: again.inputs[key] for key in ("who", "count")}
seen["file"] = client.executions.download_file_from_execution(execution.id, again.inputs["data"], "main").decode()
seen["tasks"] = [run.task_id for run in again.task_run_list]
seen["searched"] = client.executions.search_executions("main", page=1, size=10)["total"]
seen["logs"] = [entry.message for entry in client.logs.list_logs_from_execution(execution.id, "main")]
seen["followed"] = [
    entry.message for entry in client.logs.follow_logs_from_execution(execution.id, "main") if entry.message
]
seen["frames"] = [item.id == execution.id for item in client.executions.follow_execution(execution.id, "main")]
seen["log_page"] = client.logs.search_logs("main", page=1, size=10).total

client.kv.set_key_value("company.client", "answer", "main", "42")
value = client.kv.key_value("company.client", "answer", "main")
seen["kv"] = [str(getattr(value.type, "value", value.type)), value.value]
seen["kv_deleted"] = [client.kv.delete_key_value("company.client", "answer", "main") for _ in range(2)]
seen["triggers"] = client.triggers.search_triggers("main", page=1, size=10)["total"]
hooked = client.executions.trigger_execution_by_get_webhook("main", "company.client", "hello_from_client", "s3cret")
seen["hooked"] = [hooked.flow_id, hooked.flow_revision]
for frame in client.executions.follow_execution(hooked.id, "main"):
    seen["hook_state"] = str(getattr(frame.state.current, "value", frame.state.current))
spaces = client.namespaces
spaces.create_namespace("main", Namespace(id="client.object", deleted=False, variables={"db": {"host": "a"}}))
made = spaces.namespace("client.object", "main")
made.description = "Ours"
seen["namespace"] = [made.variables, spaces.update_namespace("client.object", "main", made).description]
seen["around"] = spaces.inherited_variables("client.object", "main")
secret = ApiSecretValue(key="TOKEN", value="of-the-client", tags=[ApiSecretTag(key="owner", value="data")])
seen["secret"] = [[each.key for each in spaces.put_secrets("client.object", "main", secret)]]
about = ApiSecretMetaEE(key="TOKEN", description="of the forge", tags=[])
seen["secret"] += [[each.description for each in spaces.patch_secret("client.object", "TOKEN", "main", about)]]
listed = spaces.list_secrets("main", page=1, size=100).results
seen["secret"] += [[each.key for each in listed if each.namespace == "client.object"]]
spaces.delete_secret("client.object", "TOKEN", "main")
spaces.delete_namespace("client.object", "main")

client.executions.delete_execution(execution.id, "main")
client.flows.delete_flow("company.client", "hello_from_client", "main")
try:
    client.flows.flow("company.client", "hello_from_client", "main")
except Exception as error:  # its kind is what is looked at
    seen["gone"] = type(error).__name__
print(json.dumps(seen))
'''


PROPOSING = """
import json, sys
from kestrapy import KestraClient

host, token = sys.argv[1:]
client = KestraClient(host=host, token=token, timeout=20)
flow = "id: a\\nnamespace: w\\ntasks:\\n  - {id: say, type: core.log.Log, message: MESSAGE}\\n"
changed = client.flows.update_flow("w", "a", "main", flow.replace("MESSAGE", "slower"))
created = client.flows.create_flow("main", flow.replace("id: a", "id: b"))
client.flows.delete_flow("w", "a", "main")
left = client.flows.flow("w", "a", "main", source=True)
found = [each.id for each in client.flows.search_flows("main", page=1, size=10).results]
print(json.dumps([changed.revision, created.id, created.revision, left.revision, found]))
"""


@pytest.fixture(scope="session")
def python(request: pytest.FixtureRequest, optional: Callable[[str, str], NoReturn]) -> str:
    given = os.environ.get("MAINSTEM_TEST_KESTRAPY")
    if given:
        return given
    assert request.config.cache is not None
    folder = Path(request.config.cache.mkdir("kestrapy-2.0.3"))
    python = folder / "bin" / "python"
    with only_one("kestrapy"):
        problem = _install(folder, python)
    if problem:
        optional("kestrapy", f"cannot be installed: {problem}")
    return str(python)


def _install(folder: Path, python: Path) -> str:
    """Make the environment if it is not made yet, or only by half. Return what went wrong."""
    try:
        subprocess.run([python, "-c", "import kestrapy"], capture_output=True, check=True)
        return ""
    except (OSError, subprocess.CalledProcessError):
        pass
    steps = (
        [sys.executable, "-m", "venv", "--clear", str(folder)],
        [str(python), "-m", "pip", "install", "-q", *PACKAGES],
    )
    for step in steps:
        done = subprocess.run(step, capture_output=True, text=True, timeout=110, check=False)
        if done.returncode != 0:
            return done.stderr.strip()[-300:] or f"{step[0]} ended with {done.returncode}"
    return ""


@pytest.fixture
def seen(server: Any, python: str) -> dict[str, Any]:
    done = subprocess.run(
        [python, "-c", textwrap.dedent(PROGRAM), server.url, server.token],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.timeout(240)
def test_the_published_client_writes_a_flow_runs_it_and_reads_its_log(server: Any, seen: dict[str, Any]) -> None:
    log = subprocess.run(
        ["git", "--git-dir", server.folder / ".mainstem/git/flows.git", "log", "--format=%s", "main"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout

    assert seen["created"] == ["company.client", "hello_from_client", 1, False, False]
    assert seen["type"] == "io.kestra.plugin.core.log.Log"
    assert "hello_from_client" in seen["found"]
    assert (seen["updated"], seen["revisions"]) == (2, [1, 2])
    assert seen["violations"][0]
    assert seen["state"] == "SUCCESS"
    assert seen["inputs"] == {"who": "you", "count": 3}
    assert seen["file"] == "content"
    assert seen["tasks"] == ["hello"]
    assert seen["logs"] == seen["followed"] == ["Hi you"]
    assert seen["frames"] == [True]
    assert seen["log_page"] >= 1
    assert seen["kv"] == ["NUMBER", 42]
    assert seen["kv_deleted"] == [True, False]
    assert seen["hooked"] == ["hello_from_client", 2]
    assert seen["hook_state"] == "SUCCESS"
    assert seen["namespace"] == [{"db": {"host": "a"}}, "Ours"]
    assert seen["around"] == {"client": {}, "client.object": {"db": {"host": "a"}}}
    assert seen["secret"] == [["TOKEN"], ["of the forge"], ["TOKEN"]]
    assert seen["gone"] == "NotFoundException"
    assert "company.client.hello_from_client" in log


@pytest.mark.timeout(240)
def test_the_published_client_reads_the_answers_of_proposals(proposing: Any, python: str) -> None:
    done = subprocess.run(
        [python, "-c", PROPOSING, proposing.url, proposing.token],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [2, "b", 1, 1, ["a"]]
