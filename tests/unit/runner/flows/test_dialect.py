"""Old shapes of flows become the present one, and their problems keep their lines."""

from __future__ import annotations

from typing import Any

import pytest

from runner.flows.dialect import rewrite
from runner.flows.parse import parse_flow

SCRIPT = "io.kestra.plugin.scripts.shell.Commands"
PROCESS = {"type": "io.kestra.plugin.core.runner.Process"}
DOCKER = "io.kestra.plugin.scripts.runner.docker.Docker"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"runner": "PROCESS"}, {"taskRunner": PROCESS, "outputDirectory": True}),
        ({"runner": "process", "docker": {"image": "x"}}, {"taskRunner": PROCESS, "outputDirectory": True}),
        ({"runner": "DOCKER"}, {"taskRunner": {"type": DOCKER}, "outputDirectory": True}),
        (
            {"runner": "DOCKER", "docker": {"image": "alpine", "pullPolicy": "NEVER"}},
            {
                "taskRunner": {"type": DOCKER, "pullPolicy": "NEVER"},
                "containerImage": "alpine",
                "outputDirectory": True,
            },
        ),
        ({"docker": {"image": "alpine"}}, {"taskRunner": {"type": DOCKER}, "containerImage": "alpine"}),
        (
            {"docker": {"image": "alpine"}, "containerImage": "debian"},
            {"taskRunner": {"type": DOCKER}, "containerImage": "debian"},
        ),
        (
            {"docker": {"user": "root"}, "taskRunner": {"type": DOCKER, "user": "me"}},
            {"taskRunner": {"type": DOCKER, "user": "me"}},
        ),
        ({"docker": {"image": "alpine"}, "taskRunner": PROCESS}, {"taskRunner": PROCESS}),
        ({"runner": "PROCESS", "outputDir": False}, {"taskRunner": PROCESS, "outputDir": False}),
    ],
)
def test_the_old_runner_of_a_script_becomes_a_task_runner(old: dict[str, Any], new: dict[str, Any]) -> None:
    flow, _ = rewrite({"tasks": [{"type": SCRIPT, **old}]})

    assert flow["tasks"] == [{"type": SCRIPT, **new}]


def test_a_runner_of_another_kind_of_task_is_its_own_property() -> None:
    task = {"type": "acme.Race", "runner": "DOCKER"}

    assert rewrite({"tasks": [task]})[0]["tasks"] == [task]


def test_an_unknown_old_runner_is_reported_at_its_line() -> None:
    parsed = parse_flow(
        "id: a\nnamespace: x\ntasks:\n  - id: one\n"
        "    type: scripts.shell.Commands\n    commands: [ls]\n    runner: MOON\n"
    )

    assert [(problem.line, problem.column, problem.code) for problem in parsed.problems] == [
        (7, 13, "runner.type.unknown")
    ]


def test_the_tree_that_was_given_is_not_changed() -> None:
    tree = {"revision": 3, "taskDefaults": [], "labels": [{"key": "a", "value": "b"}]}

    flow, moved = rewrite(tree)

    assert flow == {"pluginDefaults": [], "labels": {"a": "b"}}
    assert tree == {"revision": 3, "taskDefaults": [], "labels": [{"key": "a", "value": "b"}]}
    assert moved[("labels", "a")] == ("labels", 0, "value")


def test_the_inputs_of_a_form_become_inputs_under_its_name() -> None:
    flow, _ = rewrite(
        {
            "inputs": [
                {"id": "all", "type": "STRING"},
                {
                    "id": "ad",
                    "type": "form",
                    "dependsOn": {"inputs": ["all"], "condition": "{{ inputs.all == 'x' }}"},
                    "inputs": [
                        {"id": "user", "type": "STRING"},
                        {"id": "more", "type": "FORM", "inputs": [{"name": "n", "type": "INT"}]},
                        {
                            "id": "last",
                            "type": "INT",
                            "dependsOn": {"inputs": ["ad.user"], "condition": "{{ inputs.ad.user == 'y' }}"},
                        },
                    ],
                },
                {"id": "end", "type": "STRING"},
            ]
        }
    )

    needed = {"inputs": ["all"], "condition": "{{ inputs.all == 'x' }}"}
    both = {"inputs": ["all", "ad.user"], "condition": "{{ (inputs.all == 'x') and (inputs.ad.user == 'y') }}"}
    assert flow["inputs"] == [
        {"id": "all", "type": "STRING"},
        {"id": "ad.user", "type": "STRING", "dependsOn": needed},
        {"name": "ad.more.n", "type": "INT", "dependsOn": needed},
        {"id": "ad.last", "type": "INT", "dependsOn": both},
        {"id": "end", "type": "STRING"},
    ]


def test_problems_of_inputs_in_forms_and_after_them_have_their_lines() -> None:
    parsed = parse_flow(
        "id: a\nnamespace: x\ninputs:\n  - id: f\n    type: FORM\n    inputs:\n"
        "      - {id: n, type: INT, defaults: many}\n      - {id: s, type: STRING}\n  - {id: z, type: FORM}\n"
        "tasks: [{id: p, type: core.flow.Pause, onResume: [{id: g, type: FORM, inputs: [{id: q, type: NO}]}]}]\n"
    )

    assert [(problem.code, problem.line) for problem in parsed.problems] == [
        ("input.defaults.invalid", 7),
        ("input.type.unknown", 9),
        ("input.type.unknown", 10),
    ]
    assert parsed.problems[1].hint == "a form holds other inputs: give it `inputs`, a list"
