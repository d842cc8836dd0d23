"""The chart: what it renders to is as it was, valid, and hardened; wrong values are refused by name."""

from __future__ import annotations

import json
import re
import runpy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml

import runner
from task_runners.kubernetes.names import OWNED as OWNED_LABEL
from tests.charts.rendering import CHART, ROOT, SETS, golden, golden_file, render, values

# Of custom resources there are no schemas here: their version and what their spec must have.
CUSTOM = {
    ("monitoring.coreos.com/v1", "ServiceMonitor"): {"selector", "endpoints"},
    ("monitoring.coreos.com/v1", "PrometheusRule"): {"groups"},
    ("keda.sh/v1alpha1", "ScaledObject"): {"scaleTargetRef", "triggers", "minReplicaCount", "maxReplicaCount"},
    ("gateway.networking.k8s.io/v1", "HTTPRoute"): {"parentRefs", "rules"},
}
RUN = "run: python docs/generate_chart.py"


def pods(name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the name and the spec of each pod of a set of values."""
    for document in golden(name):
        if document["kind"] in {"Deployment", "StatefulSet", "Job"}:
            yield document["metadata"]["name"], document["spec"]["template"]["spec"]


@pytest.mark.parametrize("name", SETS)
def test_the_chart_passes_the_strict_lint(helm: Any, name: str) -> None:
    report = helm.lint(str(CHART), values(name), strict=True, namespace="flows", kube_version="v1.30.0")

    assert (report["messages"], report["errors"]) == ([], [])


@pytest.mark.parametrize("name", SETS)
def test_the_chart_renders_to_the_golden_file(helm: Any, name: str) -> None:
    rendered = render(helm, values(name))

    assert rendered == golden_file(name).read_text(encoding="utf-8"), (
        "run: python -m tests.charts, and look at git diff"
    )


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("version", ["1.30", "1.36"])
def test_each_manifest_is_valid_for_kubernetes(module: Callable[[str], Any], name: str, version: str) -> None:
    validate = module("kubernetes_validate").validate

    for document in golden(name):
        kind = (document["apiVersion"], document["kind"])
        if kind in CUSTOM:
            assert set(document["spec"]) >= CUSTOM[kind], kind
        else:
            validate(document, version, strict=True)


@pytest.mark.parametrize("name", SETS)
def test_no_name_is_used_twice(name: str) -> None:
    names = [(each["kind"], each["metadata"].get("namespace"), each["metadata"]["name"]) for each in golden(name)]

    assert len(names) == len(set(names))


@pytest.mark.parametrize("name", SETS)
def test_pods_have_no_root_and_a_read_only_root_file_system(name: str) -> None:
    found = dict(pods(name))

    assert found
    for pod in found.values():
        context = pod["containers"][0]["securityContext"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert context["readOnlyRootFilesystem"] is True
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert {"requests", "limits"} <= set(pod["containers"][0]["resources"])
        assert not any("hostPath" in volume for volume in pod["volumes"])


@pytest.mark.parametrize("name", SETS)
def test_each_mount_has_a_volume(name: str) -> None:
    for document in golden(name):
        if document["kind"] not in {"Deployment", "StatefulSet", "Job"}:
            continue
        pod = document["spec"]["template"]["spec"]
        claims = [each["metadata"]["name"] for each in document["spec"].get("volumeClaimTemplates", ())]

        mounted = {mount["name"] for mount in pod["containers"][0]["volumeMounts"]}

        assert mounted == {volume["name"] for volume in pod["volumes"]} | set(claims)


@pytest.mark.parametrize("name", SETS)
def test_selectors_find_the_pods_that_they_are_for(name: str) -> None:
    documents = golden(name)
    labels = [
        each["spec"]["template"]["metadata"]["labels"]
        for each in documents
        if each["kind"] in {"Deployment", "StatefulSet"}
    ]

    selectors = [each["spec"]["selector"] for each in documents if each["kind"] == "Service"]
    selectors += [each["spec"]["podSelector"]["matchLabels"] for each in documents if each["kind"] == "NetworkPolicy"]
    selectors += [
        each["spec"]["selector"]["matchLabels"] for each in documents if each["kind"] == "PodDisruptionBudget"
    ]

    assert selectors
    for selector in selectors:
        assert any(selector.items() <= each.items() for each in labels), selector


def test_only_pods_that_run_tasks_have_a_token_of_the_cluster() -> None:
    tokens = {name: pod.get("automountServiceAccountToken") for name, pod in pods("distributed")}

    assert {name for name, has_token in tokens.items() if has_token is not False} == {"team-mainstem-worker-default"}


def test_the_runner_may_do_no_more_than_start_follow_and_remove_pods() -> None:
    roles = [each for each in golden("distributed-pools") if each["kind"] == "Role"]

    rights = {
        (resource, verb)
        for role in roles
        for rule in role["rules"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }

    assert {role["metadata"]["namespace"] for role in roles} == {"tasks-a", "tasks-b"}
    assert {resource for resource, _ in rights} == {"pods", "pods/log", "pods/exec", "events", "secrets"}
    assert not {verb for _, verb in rights} & {"*", "update", "patch", "deletecollection", "escalate", "bind"}


def test_the_runner_gets_the_rights_that_its_page_says_it_needs() -> None:
    page = (ROOT / "docs" / "reference" / "task-runners.md").read_text(encoding="utf-8")
    blocks = [
        yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL) if "kind: Role" in block
    ]

    granted = next(each for each in golden("distributed") if each["kind"] == "Role")

    assert [block["rules"] for block in blocks] == [granted["rules"]]


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        ({}, "database.existingSecret"),
        ({"database": {"existingSecret": "d"}}, "broker.existingSecret"),
        ({"database": {"existingSecret": "d"}, "broker": {"existingSecret": "b"}}, "credentials.existingSecret"),
    ],
)
def test_distributed_mode_names_the_value_that_is_missing(helm: Any, given: dict[str, Any], missing: str) -> None:
    with pytest.raises(helm.HelmRenderError, match=re.escape(f"{missing} is missing")):
        render(helm, {"mode": "distributed", **given})


def test_a_queue_that_no_selector_can_hold_is_refused_for_an_hpa(helm: Any) -> None:
    pool = {"queue": "tasks.linux+gpu", "autoscaling": {"by": "queue"}}
    given = {**values("distributed"), "workers": {"gpu": pool}}

    with pytest.raises(helm.HelmRenderError, match=re.escape("workers.gpu.autoscaling.by")):
        render(helm, given)
    manifests = render(helm, given | {"workers": {"gpu": pool | {"autoscaling": {"by": "keda"}}}})

    assert "tasks.linux+gpu" in manifests


@pytest.mark.parametrize("by", ["cpu", "queue"])
def test_an_hpa_is_not_told_to_keep_no_pod_at_all(helm: Any, by: str) -> None:
    given = {**values("distributed"), "workers": {"gpu": {"autoscaling": {"by": by, "minReplicas": 0}}}}

    with pytest.raises(helm.HelmRenderError, match=re.escape("workers.gpu.autoscaling.minReplicas")):
        render(helm, given)


@pytest.mark.parametrize(("is_enabled", "namespaces"), [(True, ["tasks-a", "tasks-b"]), (False, [])])
def test_pods_of_tasks_reach_the_api_for_their_files_whoever_else_may(
    helm: Any, namespaces: list[str], *, is_enabled: bool
) -> None:
    ingress = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ingress"}}}
    runner = {"enabled": is_enabled, "namespaces": ["tasks-a", "tasks-b"]}
    given = {**values("distributed"), "kubernetesRunner": runner, "networkPolicy": {"apiFrom": [ingress]}}

    manifests = [each for each in yaml.safe_load_all(render(helm, given)) if each]

    api = next(each for each in manifests if each["metadata"]["name"].endswith("-api") and "ingress" in each["spec"])
    first, *others = api["spec"]["ingress"][0]["from"]
    assert first == ingress
    assert [each["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"] for each in others] == namespaces
    assert all(each["podSelector"]["matchExpressions"][0]["key"] == OWNED_LABEL for each in others)


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({"mod": "standalone"}, "mod"),
        ({"mode": "cluster"}, "mode"),
        ({"serve": {"replcias": 3}}, "replcias"),
        ({"workers": {"gpu": {"autoscaling": {"by": "kedaa"}}}}, "workers/gpu/autoscaling/by"),
        ({"workers": {"GPU": {}}}, "GPU"),
        ({"settings": {"zonee": "UTC"}}, "zonee"),
        ({"settings": {"database": "sqlite:///x"}}, "database"),
        ({"settings": {"repositories": [{"name": "a", "uri": "b"}]}}, "uri"),
        ({"settings": {"retention": {"logDays": 3}}}, "logDays"),
        ({"image": {"digest": "latest"}}, "digest"),
        ({"extraEnv": [{"nam": "A"}]}, "nam"),
        ({"url": "flows.example.org"}, "url"),
        ({"metrics": {"rules": {"taskWaitSeconds": 3}}}, "taskWaitSeconds"),
    ],
)
def test_a_wrong_value_is_refused_by_its_name(helm: Any, given: dict[str, Any], word: str) -> None:
    with pytest.raises(helm.HelmError, match=word):
        render(helm, given)


def test_the_notes_tell_the_address_of_webhooks(helm: Any) -> None:
    rendered = render(helm, values("standalone-followed"))

    assert "#   webhook   https://flows.example.org/hooks/team" in rendered.splitlines()


def test_version_schema_and_readme_are_those_of_the_program() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    generator = runpy.run_path(str(ROOT / "docs" / "generate_chart.py"))

    assert chart["version"] == chart["appVersion"] == runner.__version__
    assert (CHART / "values.schema.json").read_text(encoding="utf-8") == generator["schema"](), RUN
    assert (CHART / "README.md").read_text(encoding="utf-8") == generator["readme"](), RUN


def test_each_value_stands_in_the_schema() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))

    def missing(node: Any, part: dict[str, Any], path: str) -> Iterator[str]:
        part = schema["$defs"][part["$ref"].rsplit("/", 1)[1]] if "$ref" in part else part
        if not isinstance(node, dict) or part.get("additionalProperties") is not False:
            return
        for key, value in node.items():
            if key not in part["properties"]:
                yield f"{path}{key}"
            else:
                yield from missing(value, part["properties"][key], f"{path}{key}.")

    written = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))

    assert list(missing(written, schema, "")) == []
