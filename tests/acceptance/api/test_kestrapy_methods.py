"""Each method of the published client against a server: whether a route answers it is what the documentation says.

The program below calls every method with plausible arguments and looks at whether there was a route, and whether the
client could read the answer; what answers hold is tested beside it and in the unit tests of the routes.
"""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.api.test_kestrapy import python  # noqa: F401 - a fixture

PAGE = Path(__file__).parents[3] / "docs" / "compatibility-routes.md"
BEGIN, END = "<!-- methods: begin -->", "<!-- methods: end -->"
PROGRAM = '''
import inspect, json, sys, requests
from kestrapy import KestraClient

host, token = sys.argv[1:]
client = KestraClient(host=host, token=token, timeout=10)
flow = """
id: sample
namespace: company.methods
tasks:
  - {id: say, type: core.log.Log, message: hello}
triggers:
  - {id: daily, type: core.trigger.Schedule, cron: "0 9 * * *"}
"""
client.flows.create_flow("main", flow)
execution = client.executions.create_execution("main", "company.methods", "sample", wait=True).id
seen, send = [], requests.Session.request


def request(self, method, url, **options):
    answer = send(self, method, url, **options)
    code = ""
    if answer.status_code >= 400:
        try:
            code = answer.json().get("code", "")
        except ValueError:
            pass
    seen.append((answer.status_code, code))
    return answer


requests.Session.request = request
known = {
    "tenant": "main", "namespace": "company.methods", "id": "sample", "flow_id": "sample", "execution_id": execution,
    "trigger_id": "daily", "task_id": "say", "body": flow, "key": "answer", "value": "1", "path": "a.txt",
    "from_path": "a.txt", "to_path": "b.txt", "label": [], "status": "SUCCESS", "new_status": "SUCCESS",
}


def argument(name, parameter, group):
    if name == "id" and group in ("executions", "outputs"):
        return execution
    if name in known:
        return known[name]
    text = str(parameter.annotation)
    if "List" in text or "list" in text:
        return []
    if "Dict" in text or "dict" in text:
        return {}
    if "bool" in text:
        return False
    if "int" in text:
        return 1
    if "bytes" in text:
        return b"x"
    return "x"


found = {}
for group in ("flows", "executions", "logs", "triggers", "kv", "files", "namespaces", "outputs", "metrics", "plugins",
              "dashboards"):
    api = getattr(client, group)
    for name, method in inspect.getmembers(api, inspect.ismethod):
        if name.startswith("_"):
            continue
        parameters = inspect.signature(method).parameters.items()
        given = {key: argument(key, each, group) for key, each in parameters if each.default is inspect.Parameter.empty
                 and each.kind is not inspect.Parameter.VAR_KEYWORD}
        seen.clear()
        try:
            result = method(**given)
            if inspect.isgenerator(result):
                next(result, None)
                result.close()
        except Exception as error:  # what the client cannot do is noted, whatever it raises
            note = f"{type(error).__name__}: {error}"[:200]
        else:
            note = ""
        status, code = seen[-1] if seen else (0, note)
        # What was answered with success and could not be made into the client's model says so.
        found[f"{group}.{name}"] = [status, note if status < 400 else code]
print(json.dumps(found))
'''


def methods_of(server: Any, python: str) -> dict[str, tuple[int, str]]:  # noqa: F811 - the fixture's value
    done = subprocess.run(
        [python, "-c", PROGRAM, server.url, server.token], capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, tuple[int, str]] = {name: tuple(answer) for name, answer in json.loads(done.stdout).items()}
    return found


def table(found: dict[str, tuple[int, str]]) -> str:
    """Return the table of the page: for each part of the client the methods that a route answers, and the others."""
    groups: dict[str, tuple[list[str], list[str]]] = {}
    for name, (status, code) in found.items():
        group, _, method = name.partition(".")
        is_absent = status == 405 or (status == 404 and code == "route.missing")
        groups.setdefault(group, ([], []))[is_absent].append(f"`{method}`")
    rows = [
        f"| `{group}` | {', '.join(sorted(there))} | {', '.join(sorted(absent)) or 'none'} |"
        for group, (there, absent) in groups.items()
    ]
    return "\n".join(["| part of the client | answered | no route |", "|---|---|---|", *rows])


@pytest.mark.timeout(300)
def test_the_page_says_which_methods_of_the_client_are_answered(server: Any, python: str) -> None:  # noqa: F811 - a fixture
    found = methods_of(server, python)
    page = PAGE.read_text()

    shown = re.search(f"{BEGIN}\n(.*?)\n{END}", page, re.DOTALL)

    assert [name for name, (status, _) in found.items() if status in {0, 500}] == []
    assert {name: note for name, (status, note) in found.items() if status < 400 and note} == {}
    assert shown is not None
    assert shown[1] == table(found)
