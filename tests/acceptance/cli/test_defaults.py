"""Plugin defaults and variables as files, in a working copy: every command sees what a server would."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from typing import Any

FLOW = "id: greet\nnamespace: company.team\ntasks:\n  - {id: say, type: core.log.Log}\n"
DEFAULTS = "pluginDefaults:\n  - {type: core.log.Log, values: {message: 'hello from %s'}}\n"
SUITE = """\
id: greet
namespace: company.team
flowId: greet
testCases:
  - id: it_says_hello
    assertions: [{taskId: say, value: "{{ logs }}", equalTo: "INFO say: hello from company"}]
"""


def test_all_commands_see_the_defaults_of_the_folders_around(shell: Any) -> None:
    shell.write("flows/_defaults.yaml", DEFAULTS % "everywhere")
    shell.write("flows/company/_defaults.yaml", DEFAULTS % "company")
    shell.write("flows/company/team/greet.yaml", FLOW)
    shell.write("flows/company/team/tests/greet.yaml", SUITE)

    whole = shell.mainstem("validate", "flows")
    alone = shell.mainstem("validate", "flows/company/team/greet.yaml")
    ran = shell.mainstem("run", "flows/company/team/greet.yaml")
    tested = shell.mainstem("test", "flows")

    assert whole.stdout.startswith("1 flow and 1 file of tests, no problems")
    assert (whole.returncode, alone.returncode) == (0, 0), whole.stdout + alone.stdout
    assert "INFO  say: hello from company" in ran.stdout, ran.stdout + ran.stderr
    assert tested.returncode == 0, tested.stdout


VARIABLES = "variables: {region: %s, db: {host: %s, port: 5432}}\n"
PLACE = FLOW.replace("core.log.Log", "core.log.Log, message: '{{ namespace.region }} {{ namespace.db }}'")


def test_all_commands_see_the_variables_of_the_namespaces_around(shell: Any) -> None:
    shell.write("flows/_defaults.yaml", VARIABLES % ("eu", "everywhere"))
    shell.write("flows/company/team/_defaults.yaml", "variables: {db: {host: near}}\n")
    shell.write("flows/company/team/greet.yaml", PLACE)
    shell.write("flows/company/team/tests/greet.yaml", SUITE.replace("INFO say: hello from company", "INFO say: eu {"))

    ran = shell.mainstem("run", "flows/company/team/greet.yaml")
    partly = shell.mainstem("run", "flows/company/team/greet.yaml", "--until", "say")
    tested = shell.mainstem("test", "flows")
    asked = shell.mainstem("eval", "-n", "company.team", "namespace.db.host ~ namespace.regoin")

    assert 'INFO  say: eu {"host":"near","port":5432}' in ran.stdout, ran.stdout + ran.stderr
    assert 'INFO  say: eu {"host":"near","port":5432}' in partly.stdout, partly.stdout + partly.stderr
    assert """'INFO say: eu {"host":"near","port":5432}'""" in tested.stdout, tested.stdout
    assert (asked.returncode, "expression.undefined" in asked.stderr, "`region`" in asked.stderr) == (1, True, True)


CHOSEN = """\
id: greet
namespace: company.team
inputs: [{id: where, type: STRING, defaults: docker}]
tasks:
  - id: body
    type: scripts.shell.Commands
    containerImage: some/image
    taskRunner: {type: "{{ inputs.where }}"}
    commands: ["true"]
  - {id: after, type: core.log.Log, message: after}
"""
DAEMON = "unix:///of/the/defaults.sock"
RUNNERS = f"pluginDefaults: [{{type: docker, values: {{host: '{DAEMON}'}}}}]\n"


def test_a_part_of_a_flow_gets_the_defaults_of_the_task_runner_that_an_expression_names(shell: Any) -> None:
    shell.write("flows/_defaults.yaml", RUNNERS)
    shell.write("flows/company/team/greet.yaml", CHOSEN)
    allowed = {"MAINSTEM_RUNNER_POLICIES": json.dumps([{"dockerHosts": [DAEMON]}])}

    partly = replace(shell, variables=allowed).mainstem("run", "flows/company/team/greet.yaml", "--until", "body")

    assert partly.returncode == 1
    assert f"no Docker daemon answers at {DAEMON}" in partly.stdout + partly.stderr


def test_a_run_finds_the_keys_of_the_folders_and_a_check_their_mistakes(shell: Any) -> None:
    shell.write("flows/company/_kv.yaml", "rate: {value: '{\"eur\": 2}', type: JSON}\n")
    shell.write(
        "flows/company/team/greet.yaml", FLOW.replace("core.log.Log", "core.log.Log, message: \"{{ kv('rate') }}\"")
    )

    ran = shell.mainstem("run", "flows/company/team/greet.yaml")
    sound = shell.mainstem("validate", "flows")
    shell.write("flows/company/_kv.yaml", "rate: null\n")
    faulty = shell.mainstem("validate", "flows")
    alone = shell.mainstem("validate", "flows/company/_kv.yaml")

    assert 'INFO  say: {"eur":2}' in ran.stdout, ran.stdout + ran.stderr
    assert sound.stdout.startswith("1 flow, no problems"), sound.stdout
    for found in (faulty, alone):
        assert (found.returncode, found.stdout.startswith("flows/company/_kv.yaml:1:1  kv.value.invalid")) == (1, True)


def test_an_evaluation_names_what_is_wrong_with_the_files_around(shell: Any) -> None:
    shell.write("flows/company/_defaults.yaml", "description: x\nvariables: [region]\n")

    asked = shell.mainstem("eval", "-n", "company.team", "1")

    assert asked.returncode == 1
    assert "flows/company/_defaults.yaml:2:" in asked.stderr
    assert "defaults.variables.invalid" in asked.stderr


def test_what_is_wrong_with_defaults_is_told_with_its_place(shell: Any) -> None:
    shell.write("flows/company/_defaults.yaml", DEFAULTS.replace("message", "massage") % "x")
    shell.write("flows/company/team/greet.yaml", FLOW)

    whole = shell.mainstem("validate", "flows", "--json")
    alone = shell.mainstem("validate", "flows/company/team/greet.yaml")
    ran = shell.mainstem("run", "flows/company/team/greet.yaml")

    found = [(each["file"], each["line"], each["code"]) for each in json.loads(whole.stdout)]
    assert found == [
        ("flows/company/team/greet.yaml", 4, "task.property.missing"),
        ("flows/company/_defaults.yaml", 2, "default.property.unknown"),
    ]
    assert "flows/company/_defaults.yaml:2:" in alone.stdout
    assert "did you mean 'message'?" in alone.stdout
    assert (alone.returncode, ran.returncode) == (1, 1)
    assert "default.property.unknown" in ran.stderr


def test_a_run_is_repeated_with_the_defaults_that_it_had(shell: Any) -> None:
    shell.write(
        "flows/_defaults.yaml",
        "pluginDefaults:\n  - {type: core.execution.Fail, values: {errorMessage: as told}}\n"
        "variables: {why: because}\n",
    )
    shell.write("flows/team/bad.yaml", "id: bad\nnamespace: team\ntasks: [{id: stop, type: core.execution.Fail}]\n")

    first = shell.mainstem("run", "flows/team/bad.yaml")
    execution_id = first.stdout.rpartition("--from-execution ")[2].split()[0]
    shutil.rmtree(shell.folder / "flows")
    again = shell.mainstem("run", "--from-execution", execution_id)
    asked = shell.mainstem("eval", "--from-execution", execution_id, "namespace.why")

    assert "as told" in first.stdout
    assert "as told" in again.stdout, again.stdout + again.stderr
    assert asked.stdout == "because\n", asked.stderr


def test_the_defaults_have_a_schema(shell: Any) -> None:
    done = shell.mainstem("schema", "--defaults")

    schema = json.loads(done.stdout)
    assert set(schema["properties"]) == {"namespace", "description", "pluginDefaults", "variables"}
    assert schema["properties"]["pluginDefaults"]["items"]
