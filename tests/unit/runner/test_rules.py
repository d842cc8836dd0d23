from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
import yaml

from runner.errors import Severity
from runner.flows.parse import parse_flow
from runner.flows.schema import repository_schema
from runner.policies import FlowUse, policy_for, policy_problems, rule_problems, tightened
from runner.rules import PolicyRule, RepositoryRules, RulesError, changed_rules, parse_rules
from runner.settings import RunnerPolicySettings, Settings
from task_runners.policy import refusals
from task_runners.spec import Policy

WHOLE = b"""\
version: 1
flows: pipelines
files: ./data
namespaces: [company.team]
policies:
  - namespaces: [company.team]
    tasks: [core.*]
    runners: [docker]
    images: [ghcr.io/company/*]
    registries: [ghcr.io]
    networks: [none]
    serviceAccounts: [batch]
    volumes: false
    privileged: false
checks:
  required: [ci/build]
  withinS: 60
reports:
  enabled: false
  include: default
  retentionDays: 7
  maxPages: 20
"""


def test_every_key_is_read_and_told_as_it_was_written() -> None:
    rules = parse_rules(WHOLE)

    assert (rules.flows, rules.files, rules.namespaces) == ("pipelines", "data", ("company.team",))
    assert rules.checks.required == ("ci/build",)
    assert rules.policies[0].service_accounts == ("batch",)
    assert RepositoryRules.of_json(rules.as_json()) == rules
    assert rules.as_json()["policies"][0]["serviceAccounts"] == ["batch"]


@pytest.mark.parametrize("source", [b"", b"# nothing yet\n", b"{}", b"---\n"])
def test_a_file_without_keys_says_nothing(source: bytes) -> None:
    assert parse_rules(source) == RepositoryRules()


@pytest.mark.parametrize(
    ("source", "place", "words", "hint"),
    [
        ("flow: pipelines", (1, 1), "flow is no key of this file", "did you mean `flows`?"),
        ("policies:\n  - runner: [docker]", (2, 5), "policies.0.runner is no key", "did you mean `runners`?"),
        ("checks:\n  zzz: 1", (2, 3), "checks.zzz is no key", "its keys are required, tests, withinS"),
        ("report: {}", (1, 1), "report is no key", "did you mean `reports`?"),
        ("flows: ../up", (1, 8), "'../up' is no folder of this repository", None),
        ("flows: /etc", (1, 8), "'/etc' is no folder of this repository", None),
        ("files: 3", (1, 8), "files: input should be a valid string", None),
        ("- flows", (1, 1), "it is a map; its keys are version, flows", "flows: pipelines"),
        ("namespaces: [a, '*']", (1, 17), "namespaces.1: string should match pattern", None),
        ("policies: [{volumes: true}]", (1, 22), "policies.0.volumes: input should be False", None),
        ("checks: {required: ci}", (1, 20), "checks.required: input should be a valid", None),
        ("checks: {withinS: 1}", (1, 19), "checks.withinS: input should be greater than or equal to 10", None),
        ("reports: {retentionDays: 0}", (1, 26), "reports.retentionDays: input should be greater", None),
        ("version: 2", (1, 10), "version: input should be 1", None),
        ("flows: a\nflows: b", (2, 1), "", None),
        ("flows: [", (2, 1), "", None),
    ],
)
def test_what_cannot_be_used_is_named_with_its_place(
    source: str, place: tuple[int, int], words: str, hint: str | None
) -> None:
    with pytest.raises(RulesError) as caught:
        parse_rules(source.encode())

    first = caught.value.problems[0]
    assert caught.value.code == first.code == "repository.settings.invalid"
    assert (first.file, first.line, first.column) == (".mainstem.yaml", *place)
    assert words in first.message
    assert hint is None or hint == first.hint


def test_all_mistakes_of_a_file_are_told_at_once() -> None:
    with pytest.raises(RulesError) as caught:
        parse_rules(b"flow: a\nchecks: {required: ci}\nversion: 3\n")

    assert [each.line for each in caught.value.problems] == [3, 2, 1]


def test_a_change_is_told_key_by_key() -> None:
    before = parse_rules(
        b"policies: [{images: [a/*], volumes: false}]\nchecks: {required: [ci]}\nreports: {enabled: true}"
    )
    after = parse_rules(b"policies: [{images: ['*'], volumes: false}]\nflows: x\nreports: {enabled: false}")

    assert changed_rules(before, after) == (
        "checks.required [ci] -> nothing",
        "flows nothing -> x",
        "policies[0].images [a/*] -> [*]",
        "reports.enabled true -> false",
    )
    assert changed_rules(after, after) == ()


@pytest.mark.parametrize(
    ("rule", "operator", "asked", "expected"),
    [
        ({"images": ("ghcr.io/*",)}, {}, ({}, "ghcr.io/a"), []),
        ({"images": ("ghcr.io/*",)}, {}, ({}, "evil/a"), ["image"]),
        ({"images": ("*",)}, {"images": ("ghcr.io/*",)}, ({}, "evil/a"), ["image"]),  # nothing is widened
        ({"images": ("ghcr.io/*",)}, {"images": ("*/b",)}, ({}, "ghcr.io/b"), []),
        ({"runners": ("kubernetes",)}, {}, ({}, None), ["type"]),
        ({"volumes": False}, {"allow_volumes": True}, ({"volumes": ["/a:/b"]}, None), ["volumes", "volumes"]),
        ({}, {"allow_volumes": True}, ({"volumes": ["/a:/b"]}, None), []),
        ({"networks": ("none",)}, {}, ({"networkMode": "bridge"}, None), ["networkMode"]),
        ({}, {}, ({"networkMode": "host"}, None), ["networkMode"]),
        ({}, {}, ({"networkMode": "db"}, None), ["networkMode"]),
        ({}, {"networks": ("db",)}, ({"networkMode": "db"}, None), []),
        ({"privileged": False}, {"allow_privileged": True}, ({"privileged": True}, None), ["privileged", "privileged"]),
    ],
)
def test_the_stricter_of_operator_and_repository_counts_when_a_task_runs(
    rule: dict[str, Any], operator: dict[str, Any], asked: tuple[dict[str, Any], str | None], expected: list[str]
) -> None:
    policy = tightened(Policy(**operator), [PolicyRule.model_validate({_camel(k): v for k, v in rule.items()})])

    assert [each.asked for each in refusals(policy, "docker", *asked)] == expected


SECRET = {"volumes": [{"name": "s", "secret": {"secretName": "a"}}]}
CLAIM = {"volumes": [{"name": "s", "persistentVolumeClaim": {"claimName": "a"}}]}
DRIVER = {"volumes": [{"name": "s", "csi": {"driver": "a"}}]}


@pytest.mark.parametrize(
    ("key", "asked", "refused"),
    [
        ("secrets", {"podSpec": SECRET}, "secret"),
        ("claims", {"podSpec": CLAIM}, "claim"),
        ("csi_drivers", {"podSpec": DRIVER}, "csiDriver"),
        ("cluster_namespaces", {"namespace": "a"}, "namespace"),
    ],
)
def test_what_pods_may_reach_is_what_both_operator_and_repository_list(
    key: str, asked: dict[str, Any], refused: str
) -> None:
    def found(operator: str, rule: str | None) -> list[str]:
        rules = RepositoryRules.of_json({"policies": [{_camel(key): [rule]} if rule else {}]}).policies
        listed: dict[str, Any] = {key: (operator,)}
        policy = tightened(Policy(**listed), rules)
        return [each.asked for each in refusals(policy, "kubernetes", asked, None)]

    assert found("a", "a") == found("a", None) == []
    assert found("a", "b") == found("b", "a") == found("b", None) == [refused]


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.title() for part in rest)


FLOW = """\
id: load
namespace: {namespace}
tasks:
  - id: all
    type: core.flow.Sequential
    tasks:
      - {{id: say, type: core.log.Log, message: hello}}
      - id: body
        type: io.kestra.plugin.scripts.shell.Script
        script: echo
        containerImage: "{image}"
        workerGroup: {{key: gpu}}
        taskRunner: {{type: docker}}
"""


@pytest.mark.parametrize(
    ("rule", "namespace", "image", "codes"),
    [
        ({"tasks": ["core.*"]}, "w", "x", ["flow.task.forbidden"]),
        ({"tasks": ["*.Sequential", "core.log.*", "scripts.shell.*"]}, "w", "x", []),
        ({"tasks": ["core.flow.*", "core.log.Log", "scripts.*"]}, "w", "x", []),
        ({"tasks": ["io.kestra.plugin.core.*", "scripts.shell.Script"]}, "w", "x", []),
        ({"tasks": []}, "w", "x", ["flow.task.forbidden"] * 3),
        ({"tasks": ["core.*"], "namespaces": ["w"]}, "w.inner", "x", ["flow.task.forbidden"]),
        ({"tasks": ["core.*"], "namespaces": ["w"]}, "wide", "x", []),
        ({"tasks": ["core.*"], "namespaces": ["w"]}, "preview.pr-7.w", "x", ["flow.task.forbidden"]),
        ({"images": ["ghcr.io/*"]}, "w", "x", ["runner.image.refused"]),
        ({"images": ["ghcr.io/*"]}, "w", "{{ vars.image }}", []),  # judged when the task runs
        ({"runners": ["process"]}, "w", "x", ["runner.type.refused"]),
        ({"workerGroups": ["cpu"]}, "w", "x", ["task.workerGroup.refused"]),
        ({"workerGroups": ["cpu", "g*"]}, "w", "x", []),
        ({"workerGroups": []}, "preview.pr-7.w", "x", ["task.workerGroup.refused"]),
    ],
)
def test_what_a_repository_forbids_itself_is_an_error_of_the_flow(
    rule: dict[str, Any], namespace: str, image: str, codes: list[str]
) -> None:
    rules = RepositoryRules.of_json({"policies": [rule]})
    flow = parse_flow(FLOW.format(namespace=namespace, image=image)).flow
    assert flow is not None

    found = list(rule_problems(Settings(), rules.policies, [("flows/load.yaml", FlowUse.of(flow))]))

    assert [each.code for each in found] == codes
    assert all(each.severity is Severity.ERROR and each.file == "flows/load.yaml" for each in found)


BODY = """\
id: load
namespace: w
tasks:
  - {{id: body, type: scripts.shell.Script, script: echo, containerImage: x, taskRunner: {spec}}}
"""
POD = {"type": "kubernetes"}


def _added(*names: str, place: str = "containerSpec") -> dict[str, Any]:
    return {**POD, place: {"securityContext": {"capabilities": {"add": list(names)}}}}


@pytest.mark.parametrize("is_forbidden", [True, False], ids=["privileged: false", "rule without it"])
@pytest.mark.parametrize("operator", [{}, {"capabilities": ("CHOWN",)}, {"privileged": True}], ids=str)
@pytest.mark.parametrize(
    ("spec", "needs"),
    [
        ({"type": "docker"}, None),
        ({"type": "docker", "privileged": True}, "privileged"),
        ({"type": "docker", "privileged": "yes"}, "privileged"),
        ({"type": "docker", "privileged": False}, None),
        (_added("CHOWN"), "CHOWN"),
        (_added("CHOWN", place="containerDefaultSpec"), "CHOWN"),
        (_added("CHOWN", "SYS_ADMIN"), "privileged"),
        (_added("SYS_ADMIN"), "privileged"),
        (_added(), None),
        ({**POD, "podSpec": {"containers": [{"securityContext": {"capabilities": {"add": "CHOWN"}}}]}}, "CHOWN"),
        ({**POD, "podSpec": {"hostPID": True}}, "privileged"),
    ],
)
def test_a_plan_and_a_run_judge_privileges_alike(
    spec: dict[str, Any], needs: str | None, operator: dict[str, Any], *, is_forbidden: bool
) -> None:
    settings = Settings(runner_policies=(RunnerPolicySettings(namespaces=("*",), **operator),))
    rules = [PolicyRule(privileged=False if is_forbidden else None)]
    flow = parse_flow(BODY.format(spec=json.dumps(spec))).flow
    assert flow is not None
    located = [("flows/load.yaml", FlowUse.of(flow))]

    at_run = list(refusals(tightened(policy_for(settings, "w"), rules), spec["type"], spec, "x"))

    planned = [*rule_problems(settings, rules, located), *policy_problems(settings, located)]
    has_all = bool(operator.get("privileged")) and not is_forbidden
    is_allowed = needs is None or has_all or needs in operator.get("capabilities", ())
    assert {each.code for each in planned} == {each.code for each in at_run}
    assert not at_run if is_allowed else {each.asked for each in at_run} == {"privileged"}


@pytest.mark.parametrize(
    ("name", "codes"), [("CHOWN", []), ("{{ inputs.x }}", []), ("KILL", ["runner.privileged.refused"])]
)
def test_a_capability_that_an_expression_names_is_judged_when_the_task_runs(name: str, codes: list[str]) -> None:
    settings = Settings(runner_policies=(RunnerPolicySettings(namespaces=("*",), capabilities=("CHOWN",)),))
    flow = parse_flow(BODY.format(spec=json.dumps(_added(name)))).flow
    assert flow is not None

    found = rule_problems(settings, [PolicyRule(privileged=False)], [("flows/load.yaml", FlowUse.of(flow))])

    assert [each.code for each in found] == codes
    assert list(refusals(Policy(), "kubernetes", _added(name), "x"))


def test_the_schema_for_editors_takes_what_the_server_takes_and_knows_every_key() -> None:
    schema = repository_schema()
    validator = jsonschema.Draft7Validator(schema)

    assert list(validator.iter_errors(yaml.safe_load(WHOLE))) == []
    assert list(validator.iter_errors({"policies": [{"runner": ["docker"]}]}))
    assert list(validator.iter_errors({"policies": [{"volumes": True}]}))
    assert all(
        each.get("description")
        for part in (schema, *schema["definitions"].values())
        for each in part["properties"].values()
    )
