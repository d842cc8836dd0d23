"""Templates in a working copy: every command sees what a server would."""

from __future__ import annotations

import json
from typing import Any

TEMPLATE = """\
id: greet
namespace: company
tasks:
  - {id: text, type: core.debug.Return, format: "hello {{ parent.outputs.args.name }}"}
  - {id: say, type: core.log.Log, message: "{{ outputs.text.value }}"}
"""
USE = "{{id: {name}, type: core.flow.Template, namespace: company, templateId: greet, args: {{name: {name}}}}}"
FLOW = f"""\
id: greets
namespace: company.team
tasks:
  - id: both
    type: core.flow.Parallel
    tasks: [{USE.format(name="you")}, {USE.format(name="me")}]
"""
SUITE = """\
id: greets
namespace: company.team
flowId: greets
testCases:
  - id: it_greets_both
    assertions: [{value: "{{ logs }}", contains: "hello you"}, {value: "{{ logs }}", contains: "hello me"}]
"""


def test_each_use_of_a_template_has_its_own_arguments_and_outputs_in_every_command(shell: Any) -> None:
    shell.write("flows/company/_templates/greet.yaml", TEMPLATE)
    shell.write("flows/company/team/greets.yaml", FLOW)
    shell.write("flows/company/team/tests/greets.yaml", SUITE)

    whole = shell.mainstem("validate", "flows")
    ran = shell.mainstem("run", "flows/company/team/greets.yaml")
    tested = shell.mainstem("test", "flows")

    assert whole.stdout.startswith("1 flow and 1 file of tests, no problems"), whole.stdout
    assert sorted(line.split("say: ")[1] for line in ran.stdout.splitlines() if "say: " in line) == [
        "hello me",
        "hello you",
    ], ran.stdout + ran.stderr
    assert tested.returncode == 0, tested.stdout


def test_a_template_that_is_missing_or_wrong_is_told_with_its_place(shell: Any) -> None:
    shell.write("flows/company/_templates/greet.yaml", TEMPLATE.replace("message", "massage"))
    shell.write("flows/company/team/greets.yaml", FLOW.replace("greet,", "gret,"))

    whole = shell.mainstem("validate", "flows", "--json")
    alone = shell.mainstem("validate", "flows/company/_templates/greet.yaml")
    ran = shell.mainstem("run", "flows/company/team/greets.yaml")

    found = {(each["file"], each["line"], each["code"]) for each in json.loads(whole.stdout)}
    assert found == {
        ("flows/company/team/greets.yaml", 6, "template.missing"),
        ("flows/company/_templates/greet.yaml", 5, "task.property.unknown"),
        ("flows/company/_templates/greet.yaml", 5, "task.property.missing"),
    }
    assert "flows/company/_templates/greet.yaml:5:" in alone.stdout
    assert (alone.returncode, ran.returncode) == (1, 1)
    assert "Can't find flow template 'company.gret'" in ran.stderr
