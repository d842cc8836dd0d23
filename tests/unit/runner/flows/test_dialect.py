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
