"""Which policy counts for a namespace, and what of it a plan and a task show."""

from __future__ import annotations

import pytest

from runner.errors import Severity
from runner.flows.parse import parse_flow
from runner.policies import FlowUse, policy_for, policy_problems
from runner.settings import RunnerPolicySettings, Settings

FLOW = """\
id: work
namespace: {namespace}
{defaults}
tasks:
  - id: body
    type: scripts.shell.Commands
    commands: ["true"]
    taskRunner: {{type: docker}}
    containerImage: busybox
"""
DEFAULTS = """\
pluginDefaults:
  - type: io.kestra.plugin.scripts.runner.docker.Docker
    values: {networkMode: host, pullPolicy: NEVER}
"""
RULES = (
    RunnerPolicySettings(namespaces=("*",), runners=("docker",)),
    RunnerPolicySettings(namespaces=("company",), runners=("kubernetes",), volumes=True),
    RunnerPolicySettings(namespaces=("company.data",), networks=("host",)),
)


@pytest.mark.parametrize(
    ("namespace", "expected"),
    [
        ("other", (("docker",), False)),
        ("company", (("kubernetes",), True)),
        ("company.web", (("kubernetes",), True)),
        ("company.data.raw", (None, False)),
        ("company-evil", (("docker",), False)),
    ],
)
def test_the_closest_rule_counts_alone(namespace: str, expected: tuple[tuple[str, ...] | None, bool]) -> None:
    policy = policy_for(Settings(runner_policies=RULES), namespace)

    assert (policy.runners, policy.allow_volumes) == expected


def test_a_namespace_of_one_letter_is_closer_than_all() -> None:
    own = RunnerPolicySettings(
        namespaces=("a",),
        runners=("kubernetes",),
        secrets=("x",),
        claims=("y",),
        cluster_namespaces=("z",),
        docker_hosts=("tcp://d",),
    )

    policy = policy_for(Settings(runner_policies=(*RULES, own)), "a.b")

    assert (policy.runners, policy.secrets, policy.claims) == (("kubernetes",), ("x",), ("y",))
    assert (policy.cluster_namespaces, policy.docker_hosts) == (("z",), ("tcp://d",))


@pytest.mark.parametrize(
    ("namespace", "expected"),
    [
        ("preview.pr-7.company.web", (("kubernetes",), True)),
        ("preview.pr-7.company.data", (None, False)),
        ("preview.pr-7.other", (("docker",), False)),
    ],
)
def test_a_preview_has_the_policy_of_what_it_is_of(
    namespace: str, expected: tuple[tuple[str, ...] | None, bool]
) -> None:
    policy = policy_for(Settings(runner_policies=RULES), namespace)

    assert (policy.runners, policy.allow_volumes) == expected


@pytest.mark.parametrize("name", ["preview", "preview.pr-7", "preview.pr-7.company"])
def test_a_rule_that_names_previews_counts_there_alone(name: str) -> None:
    rules = (*RULES, RunnerPolicySettings(namespaces=(name,), runners=("docker",)))

    policy = policy_for(Settings(runner_policies=rules), "preview.pr-7.company.data")

    assert (policy.runners, policy.networks) == (("docker",), None)


def test_without_a_rule_nothing_reaches_beyond_a_task() -> None:
    policy = policy_for(Settings(), "any")

    assert (policy.allow_volumes, policy.allow_privileged, policy.allow_other_networks) == (False, False, False)


@pytest.mark.parametrize(
    ("namespace", "defaults", "codes"),
    [
        ("other", "", []),
        ("company", "", ["runner.type.refused"]),
        ("other", DEFAULTS, ["runner.networkMode.refused"]),
        ("company.data", DEFAULTS, []),
    ],
)
def test_a_plan_warns_of_tasks_that_will_fail_with_defaults_merged_in(
    namespace: str, defaults: str, codes: list[str]
) -> None:
    flow = parse_flow(FLOW.format(namespace=namespace, defaults=defaults)).require()

    problems = list(policy_problems(Settings(runner_policies=RULES), [("flows/work.yaml", FlowUse.of(flow))]))

    assert [problem.code for problem in problems] == codes
    assert {problem.severity for problem in problems} <= {Severity.WARNING}
    assert all("task 'body'" in problem.message for problem in problems)


@pytest.mark.parametrize(
    ("groups", "asked", "expected"),
    [
        (("cpu",), "workerGroup: {key: gpu}", ["task.workerGroup.refused"]),
        (("cpu", "g*"), "workerGroup: {key: gpu}", []),
        (("a",), "workerSelector: {tags: [a, b], match: ANY}", ["task.workerGroup.refused"]),
        ((), "description: none", []),
        (None, "workerGroup: {key: gpu}", []),
    ],
)
def test_a_plan_warns_of_worker_groups_that_are_not_for_a_namespace(
    groups: tuple[str, ...] | None, asked: str, expected: list[str]
) -> None:
    rules = (RunnerPolicySettings(worker_groups=groups),)
    flow = parse_flow(FLOW.format(namespace="other", defaults=asked)).require()

    problems = list(policy_problems(Settings(runner_policies=rules), [("flows/work.yaml", FlowUse.of(flow))]))

    assert [problem.code for problem in problems] == expected


POD = """\
id: work
namespace: other
tasks:
  - id: body
    type: scripts.shell.Commands
    commands: ["true"]
    taskRunner: {{type: kubernetes, podSpec: {pod}}}
"""


@pytest.mark.parametrize(
    ("pod", "codes"),
    [
        ("{securityContext: {procMount: {}}}", ["runner.privileged.refused"]),
        ("{securityContext: {capabilities: {add: 5}}}", ["runner.privileged.refused"]),
        ("{securityContext: {capabilities: {add: [[NET_ADMIN]]}}}", ["runner.privileged.refused"]),
        ("{securityContext: [capabilities], volumes: {a: b}, labels: [1], containers: 7}", []),
        ("{volumes: [{name: x, hostPath: []}]}", ["runner.volumes.refused"]),
        ("{serviceAccountName: '{{ inputs.account }}', containers: [{name: a, image: '{{ inputs.image }}'}]}", []),
        ("{serviceAccountName: admin}", ["runner.serviceAccount.refused"]),
    ],
)
def test_a_plan_judges_values_of_any_shape_and_leaves_expressions_to_the_run(pod: str, codes: list[str]) -> None:
    rules = (RunnerPolicySettings(namespaces=("*",), images=("company/*",)),)
    flow = parse_flow(POD.format(pod=pod)).require()

    problems = list(policy_problems(Settings(runner_policies=rules), [("flows/work.yaml", FlowUse.of(flow))]))

    assert [problem.code for problem in problems] == codes
