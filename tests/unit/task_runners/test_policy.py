"""What flows may ask of task runners: refused wherever in the properties it stands."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from task_runners.policy import refusals, registry_of
from task_runners.registry import runner_class
from task_runners.spec import Policy

DOCKER = "scripts.runner.docker.Docker"
KUBERNETES = "ee.kubernetes.runner.Kubernetes"


def asked(policy: Policy, properties: dict[str, Any], *, image: str | None = None, kind: str = DOCKER) -> list[str]:
    return [refusal.asked for refusal in refusals(policy, kind, properties, image)]


@pytest.mark.parametrize(
    ("properties", "expected"),
    [
        ({"volumes": ["/var/run/docker.sock:/s"]}, ["volumes"]),
        ({"privileged": True}, ["privileged"]),
        ({"networkMode": "host"}, ["networkMode"]),
        ({"networkMode": "container:db"}, ["networkMode"]),
        ({"networkMode": "bridge"}, []),
        ({"networkMode": "default"}, []),
        ({"networkMode": "none"}, []),
        ({"networkMode": ""}, []),
        ({"networkMode": "compose_default"}, ["networkMode"]),
        ({"portBindings": ["8080:80"]}, ["networkMode"]),
        ({"portBindings": []}, []),
        ({"fileHandlingStrategy": "MOUNT"}, ["volumes"]),
        ({"fileHandlingStrategy": "VOLUME"}, []),
        ({"podSpec": {"nodeName": "control-1"}}, ["privileged"]),
        ({"podSpec": {"priorityClassName": "system-node-critical"}}, ["privileged"]),
        ({"podSpec": {"priorityClassName": "batch"}}, []),
        ({"podSpec": {"tolerations": [{"operator": "Exists"}]}}, ["privileged"]),
        ({"podSpec": {"tolerations": [{"key": "", "operator": "Exists"}]}}, ["privileged"]),
        ({"podSpec": {"tolerations": [{"key": "node-role.kubernetes.io/control-plane"}]}}, ["privileged"]),
        ({"podSpec": {"tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}]}}, []),
        ({"podSpec": {"hostNetwork": True}}, ["networkMode"]),
        ({"podSpec": {"hostPID": True}}, ["privileged"]),
        ({"podSpec": {"volumes": [{"name": "x", "hostPath": {"path": "/"}}]}}, ["volumes"]),
        ({"podSpec": {"volumes": [{"name": "x", "emptyDir": {}}]}}, []),
        ({"containerSpec": {"securityContext": {"privileged": True}}}, ["privileged"]),
        ({"containerDefaultSpec": {"securityContext": {"capabilities": {"add": ["SYS_ADMIN"]}}}}, ["privileged"]),
        ({"podSpec": {"initContainers": [{"securityContext": {"allowPrivilegeEscalation": True}}]}}, ["privileged"]),
        ({"networkMode": "ns:/proc/1/ns/net"}, ["networkMode"]),
        ({"networkMode": "slirp4netns:allow_host_loopback=true"}, ["networkMode"]),
        ({"podSpec": {"containers": [{"ports": [{"containerPort": 22, "hostPort": 22}]}]}}, ["networkMode"]),
        ({"podSpec": {"containers": [{"ports": [{"containerPort": 22}]}]}}, []),
        ({"podSpec": {"volumes": [{"name": "x", "gitRepo": {"repository": "x"}}]}}, ["volumes"]),
        ({"podSpec": {"securityContext": {"windowsOptions": {"hostProcess": True}}}}, ["privileged"]),
        ({"podSpec": {"securityContext": {"seLinuxOptions": {"type": "spc_t"}}}}, ["privileged"]),
        ({"podSpec": {"securityContext": {"seLinuxOptions": {"level": "s0:c1"}}}}, []),
        ({"containerSpec": {"securityContext": {"seccompProfile": {"type": "Unconfined"}}}}, ["privileged"]),
        ({"containerSpec": {"securityContext": {"appArmorProfile": {"type": "Unconfined"}}}}, ["privileged"]),
        ({"containerSpec": {"securityContext": {"seccompProfile": {"type": "RuntimeDefault"}}}}, []),
        ({"podSpec": {"securityContext": {"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}}}, ["privileged"]),
        ({"podSpec": {"securityContext": {"sysctls": [{"name": "net.ipv4.tcp_syncookies", "value": "1"}]}}}, []),
        (
            {"podSpec": {"containers": [{"livenessProbe": {"httpGet": {"port": 80, "host": "10.0.0.1"}}}]}},
            ["privileged"],
        ),
        ({"containerSpec": {"lifecycle": {"preStop": {"tcpSocket": {"port": 1, "host": "::1"}}}}}, ["privileged"]),
        ({"podSpec": {"containers": [{"readinessProbe": {"httpGet": {"port": 80, "host": ""}}}]}}, []),
    ],
)
def test_nothing_reaches_beyond_the_task_by_default(properties: dict[str, Any], expected: list[str]) -> None:
    assert asked(Policy(), properties) == expected


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("tcp://a.docker.internal:2376", []),
        ("unix:///run/user/1000/docker.sock", []),
        ("ssh://ci@build.internal", []),
        ("tcp://a.docker.internal:2375", ["host"]),
        ("unix:///var/run/docker.sock", ["host"]),
        # What a star stands for is a part of a name, and no way to somewhere else.
        ("tcp://evil.example/x.docker.internal:2376", ["host"]),
        ("tcp://evil.example?x.docker.internal:2376", ["host"]),
        ("tcp://evil.example#x.docker.internal:2376", ["host"]),
        ("tcp://a@evil.example:1@x.docker.internal:2376", ["host"]),
        ("unix:///run/user/../../var/run/docker.sock", ["host"]),
        ("ssh://ci@evil.example@build.internal", ["host"]),
        ("", []),
    ],
)
def test_a_flow_names_no_docker_daemon_but_those_of_the_list(host: str, expected: list[str]) -> None:
    policy = Policy(docker_hosts=("tcp://*.docker.internal:2376", "unix:///run/user/*/docker.sock", "ssh://*@build.*"))

    assert asked(policy, {"host": host}) == asked(policy, {"host": host}, kind="docker") == expected
    assert asked(Policy(), {"host": host}) == (["host"] if host else [])
    assert asked(Policy(docker_hosts=("*",)), {"host": host}) == []
    assert asked(Policy(), {"host": host}, kind=KUBERNETES) == []


def test_a_docker_daemon_that_an_expression_names_is_judged_when_the_task_runs() -> None:
    [found] = refusals(Policy(), DOCKER, {"host": "tcp://{{ inputs.host }}"}, None)

    assert (found.code, found.is_certain) == ("runner.host.refused", False)


@pytest.mark.parametrize("kind", ["docker", "kubernetes", "ee.aws.runner.Batch", "ee.azure.runner.Batch"])
def test_capabilities_have_no_second_name_that_a_policy_would_miss(kind: str) -> None:
    with pytest.raises(ValidationError, match=r"capAdd\n.*not permitted"):
        runner_class(kind).model_validate({"type": kind, "capAdd": ["SYS_ADMIN"]})


def test_what_the_operator_allows_is_allowed() -> None:
    policy = Policy(allow_volumes=True, allow_privileged=True, networks=("host",))

    allowed = {"volumes": ["/a:/a"], "privileged": True, "networkMode": "host", "portBindings": ["80"]}
    assert asked(policy, {**allowed, "fileHandlingStrategy": "MOUNT"}) == []
    assert asked(policy, {"networkMode": "bridge"}) == ["networkMode"]


@pytest.mark.parametrize(
    ("properties", "expected"),
    [
        ({"namespace": "etl-a"}, []),
        ({"config": {"namespace": "etl-a"}}, []),
        ({"namespace": "etl-a", "config": {"namespace": "other"}}, []),
        ({"namespace": "other", "config": {"namespace": "etl-a"}}, ["namespace"]),
        ({"config": {"masterUrl": "https://k", "namespace": "other"}}, ["namespace"]),
        ({}, ["namespace"]),
        ({"namespace": {"a": "b"}, "config": "x"}, ["namespace"]),
    ],
)
def test_pods_start_in_the_namespaces_of_the_cluster_that_are_listed(
    properties: dict[str, Any], expected: list[str]
) -> None:
    assert asked(Policy(cluster_namespaces=("etl-*",)), properties, kind=KUBERNETES) == expected
    assert asked(Policy(), properties, kind=KUBERNETES) == []
    assert asked(Policy(cluster_namespaces=("etl-*",)), properties) == []


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ("ghcr.io/company/tool:1", []),
        ("python:3.13", []),
        ("docker.io/library/python:3.13", []),
        ("ghcr.io/other/tool", ["image"]),
        ("ghcr.io.evil.example/company/tool", ["image", "image"]),
        ("GHCR.io/company/tool", ["image", "image"]),
        ("ghcr.io/company/../other/tool", ["image", "image"]),
        ("localhost:5000/company/tool", ["image", "image"]),
        ("{{ inputs.image }}", ["image", "image"]),
        ("sha256:1f0c", ["image", "image"]),
        ("beef", ["image", "image"]),
        ("gHCR/company/tool", ["image", "image"]),
    ],
)
def test_images_and_registries_are_those_of_the_list(image: str, expected: list[str]) -> None:
    policy = Policy(
        images=("ghcr.io/company/*", "docker.io/library/python:*"),
        registries=("ghcr.io", "docker.io"),
    )

    assert asked(policy, {}, image=image) == expected


@pytest.mark.parametrize("image", ["python:5000/evil/image", "python.evil.example/image", "python/image"])
def test_a_pattern_without_a_registry_is_one_for_docker_hub(image: str) -> None:
    policy = Policy(images=("python*", "python:*"), registries=None)

    hub = asked(policy, {}, image="python:3.13")

    assert (hub, asked(policy, {}, image=image)) == ([], [] if image == "python/image" else ["image"])


def test_images_of_helpers_in_a_patch_count_too() -> None:
    policy = Policy(registries=("ghcr.io",))

    assert asked(policy, {"podSpec": {"containers": [{"name": "side", "image": "evil.example/x"}]}}) == ["image"]
    assert asked(policy, {"fileSidecar": {"image": "busybox"}}) == ["image"]


def test_types_are_compared_whatever_their_spelling() -> None:
    policy = Policy(runners=("docker", KUBERNETES))

    assert asked(policy, {}, kind="io.kestra.plugin.scripts.runner.docker.Docker") == []
    assert asked(policy, {}, kind="process") == ["type"]


ROLE = "arn:aws:iam::123456789012:role/etl"
ETL = "etl@team.iam.gserviceaccount.com"
AWS, RUN, GOOGLE, AZURE = (
    "ee.aws.runner.Batch",
    "ee.gcp.runner.CloudRun",
    "ee.gcp.runner.Batch",
    "ee.azure.runner.Batch",
)
TOKEN = {"volumes": [{"name": "t", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}]}


@pytest.mark.parametrize(
    ("kind", "properties", "listed"),
    [
        (KUBERNETES, {"serviceAccountName": "etl"}, "etl"),
        (KUBERNETES, {"podSpec": {"serviceAccountName": "etl"}}, "etl"),
        (KUBERNETES, {"podSpec": {"serviceAccount": "etl"}}, "e*"),
        (KUBERNETES, {"podSpec": {"automountServiceAccountToken": True}}, "default"),
        (KUBERNETES, {"podSpec": TOKEN}, "default"),
        (AWS, {"taskRoleArn": ROLE}, "arn:aws:iam::123456789012:role/*"),
        (AWS, {"executionRoleArn": ROLE}, ROLE),
        (AWS, {"stsRoleArn": ROLE}, ROLE),
        (RUN, {"runtimeServiceAccount": ETL}, ETL),
        (GOOGLE, {"impersonatedServiceAccount": ETL}, "*@team.iam.gserviceaccount.com"),
        (AZURE, {"poolId": "etl"}, "etl"),
        (AZURE, {"registry": {"identityReference": {"resourceId": "/subscriptions/1/x"}}}, "*"),
    ],
)
def test_as_whom_a_job_acts_needs_the_operator(kind: str, properties: dict[str, Any], listed: str) -> None:
    assert asked(Policy(), properties, kind=kind) == ["serviceAccount"]
    assert asked(Policy(service_accounts=("other",)), properties, kind=f"io.kestra.plugin.{kind}") == ["serviceAccount"]
    assert asked(Policy(service_accounts=("other", listed)), properties, kind=kind) == []


@pytest.mark.parametrize(
    ("kind", "properties"),
    [
        (KUBERNETES, {"config": {"masterUrl": "https://k"}, "serviceAccountName": "etl"}),
        (AWS, {"accessKeyId": "{{ secret('KEY') }}", "taskRoleArn": ROLE}),
        (GOOGLE, {"serviceAccount": '{"private_key": "s3cret"}', "impersonatedServiceAccount": ETL}),
        (AZURE, {"accessKey": "key", "poolId": "etl"}),
    ],
)
def test_a_flow_with_credentials_of_its_own_may_name_any_unless_there_is_a_list(
    kind: str, properties: dict[str, Any]
) -> None:
    found = list(refusals(Policy(service_accounts=()), kind, properties, None))

    assert asked(Policy(), properties, kind=kind) == []
    assert [refusal.asked for refusal in found] == ["serviceAccount"]
    assert "s3cret" not in found[0].message


@pytest.mark.parametrize(
    ("pod", "listed"),
    [
        ({"serviceAccountName": "{{ admin }}"}, "etl"),
        ({"automountServiceAccountToken": True, "securityContext": {"serviceAccount": "etl"}}, "etl"),
        ({"automountServiceAccountToken": True, "podSpec": {"serviceAccountName": "etl"}}, "etl"),
        ({**TOKEN, "affinity": [{"serviceAccountName": "etl"}]}, "etl"),
        ({"serviceAccountName": ["etl"]}, "etl"),
    ],
)
def test_the_account_of_a_pod_is_that_of_the_pod_itself(pod: dict[str, Any], listed: str) -> None:
    policy = Policy(service_accounts=(listed,))

    assert asked(policy, {"podSpec": pod}, kind=KUBERNETES) == ["serviceAccount"]


def test_words_of_an_account_further_down_name_none() -> None:
    pod = {"containers": [{"name": "main", "env": [{"serviceAccountName": "admin"}]}]}

    assert asked(Policy(), {"podSpec": pod}, kind=KUBERNETES) == []


SECRET = {"volumes": [{"name": "s", "secret": {"secretName": "database"}}]}
PROJECTED = {"volumes": [{"name": "s", "projected": {"sources": [{"secret": {"name": "database"}}]}}]}
VARIABLE = {"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "database", "key": "url"}}}]}
VARIABLES = {"envFrom": [{"secretRef": {"name": "database"}}]}
DRIVER = {"volumes": [{"name": "s", "csi": {"driver": "secrets-store.csi.k8s.io"}}]}
PULLED = {"imagePullSecrets": [{"name": "database"}]}
DISK = {"volumes": [{"name": "d", "awsElasticBlockStore": {"volumeID": "vol-of-somebodys-claim"}}]}
SHARE = {"volumes": [{"name": "d", "nfs": {"server": "files", "path": "/home"}}]}
CLAIM = {"volumes": [{"name": "h", "persistentVolumeClaim": {"claimName": "home"}}]}
COPY = {"volumes": [{"ephemeral": {"volumeClaimTemplate": {"spec": {"dataSource": {"name": "home"}}}}}]}


@pytest.mark.parametrize(
    ("properties", "kind", "listed"),
    [
        ({"podSpec": SECRET}, "secret", Policy(secrets=("data*",))),
        ({"podSpec": PROJECTED}, "secret", Policy(secrets=("database",))),
        ({"podSpec": PULLED}, "secret", Policy(secrets=("database",))),
        ({"podSpec": DRIVER}, "csiDriver", Policy(csi_drivers=("*.csi.k8s.io",))),
        ({"containerSpec": VARIABLE}, "secret", Policy(secrets=("database",))),
        (
            {"containerDefaultSpec": {"envFrom": [{"secretRef": {"name": "database"}}]}},
            "secret",
            Policy(secrets=("*",)),
        ),
        ({"podSpec": DISK}, "csiDriver", Policy(csi_drivers=("awsElasticBlockStore",))),
        ({"podSpec": SHARE}, "csiDriver", Policy(csi_drivers=("nfs",))),
        ({"podSpec": CLAIM}, "claim", Policy(claims=("home",))),
        ({"podSpec": COPY}, "claim", Policy(claims=("*",))),
    ],
)
def test_pods_see_the_secrets_and_claims_that_are_listed(properties: dict[str, Any], kind: str, listed: Policy) -> None:
    own = {"config": {"masterUrl": "https://k", "oauthToken": "t"}, **properties}

    assert asked(Policy(), properties, kind=KUBERNETES) == [kind]
    others = Policy(secrets=("other",), claims=("other",), csi_drivers=("other",))

    assert asked(others, own, kind=KUBERNETES) == [kind]
    assert asked(listed, properties, kind=KUBERNETES) == []
    assert asked(Policy(), own, kind=KUBERNETES) == []


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (Policy(), ["csiDriver", "secret"]),
        (Policy(csi_drivers=("x",)), ["secret"]),
        (Policy(secrets=("database",)), ["csiDriver"]),
        (Policy(csi_drivers=("x",), secrets=("*",)), []),
    ],
)
def test_a_volume_in_a_pod_needs_its_driver_and_the_secret_that_the_driver_reads(
    policy: Policy, expected: list[str]
) -> None:
    volume = {"name": "s", "csi": {"driver": "x", "nodePublishSecretRef": {"name": "database"}}}

    assert asked(policy, {"podSpec": {"volumes": [volume]}}, kind=KUBERNETES) == expected


@pytest.mark.parametrize("volume", [{}, {"driver": None}, {"driver": ["x"]}, {"volumeAttributes": {"a": "b"}}])
def test_a_volume_that_names_no_driver_is_none_that_is_listed(volume: dict[str, Any]) -> None:
    pod = {"volumes": [{"name": "s", "csi": volume}]}

    assert asked(Policy(csi_drivers=("x",)), {"podSpec": pod}, kind=KUBERNETES) == ["csiDriver"]


def test_a_plan_sees_a_bucket_of_cloud_run_as_a_volume() -> None:
    properties = {"volumes": [{"bucket": "payroll", "mountPath": "/data"}]}

    assert asked(Policy(), properties, kind=RUN) == ["volumes"]
    assert asked(Policy(allow_volumes=True), properties, kind=RUN) == []


def test_an_image_that_is_mounted_is_judged_as_one_that_runs() -> None:
    pod = {"volumes": [{"name": "i", "image": {"reference": "evil.example/x:1", "pullPolicy": "Always"}}]}

    assert asked(Policy(registries=("ghcr.io",)), {"podSpec": pod}, kind=KUBERNETES) == ["image"]
    assert asked(Policy(images=("evil.example/*",)), {"podSpec": pod}, kind=KUBERNETES) == []


def test_a_login_with_files_of_the_worker_is_none_of_the_flow() -> None:
    properties = {"config": {"clientCertFile": "/etc/w.pem", "clientKeyFile": "/etc/w.key"}, "podSpec": SECRET}

    assert asked(Policy(), {**properties, "serviceAccountName": "etl"}, kind=KUBERNETES) == ["serviceAccount", "secret"]


HOSTILE: list[Any] = [
    None,
    True,
    0,
    -1.5,
    float("nan"),
    "",
    "{{",
    "x" * 10_000,
    [],
    {},
    [[]],
    [{}],
    [None],
    {"": None},
    {1: 2},
    {"add": 5},
    {"add": [["NET_ADMIN"]]},
    {"add": [{}]},
    {"add": {"NET_ADMIN": 1}},
    {"add": "NET_ADMIN"},
    {"path": ["/"]},
    {"name": [{}], "type": [[]]},
    [{"hostPath": {"path": [{}]}}, 1, None, ["a:b"]],
]
KEYS = [
    "image",
    "privileged",
    "procMount",
    "capabilities",
    "volumes",
    "hostPath",
    "networkMode",
    "hostNetwork",
    "labels",
    "config",
    "podSpec",
    "containers",
    "serviceAccountName",
    "serviceAccount",
    "automountServiceAccountToken",
    "taskRoleArn",
    "accessKeyId",
    "poolId",
    "impersonatedServiceAccount",
    "seLinuxOptions",
    "seccompProfile",
    "sysctls",
    "httpGet",
    "hostPort",
    "secret",
    "secretRef",
    "persistentVolumeClaim",
    "csi",
    "imagePullSecrets",
    "portBindings",
    "fileHandlingStrategy",
    "nodeName",
    "tolerations",
    "priorityClassName",
    "namespace",
    "host",
]
STRICT = Policy(
    images=("x/*",),
    registries=("x",),
    networks=("x",),
    service_accounts=("x",),
    runners=(DOCKER,),
    cluster_namespaces=("x",),
)


@pytest.mark.parametrize("kind", [DOCKER, "process", KUBERNETES, AWS, RUN, GOOGLE, AZURE, "no such type"])
@pytest.mark.parametrize("policy", [Policy(), STRICT])
def test_a_value_of_any_shape_passes_or_is_refused(kind: str, policy: Policy) -> None:
    shapes = [{key: value} for key in KEYS for value in HOSTILE]
    every = [each for shape in shapes for each in (shape, {"podSpec": shape}, {"podSpec": {"containers": [shape]}})]

    found = [refusal for each in every for refusal in refusals(policy, kind, each, None)]

    assert {refusal.asked for refusal in found} >= {"volumes", "privileged"}


@pytest.mark.parametrize("added", [5, "NET_ADMIN", {"NET_ADMIN": 1}, [["NET_ADMIN"]], [{}], [None, "CHOWN"]])
def test_capabilities_of_another_shape_are_none_that_are_allowed(added: Any) -> None:
    policy = Policy(capabilities=("CHOWN",))

    assert asked(policy, {"podSpec": {"capabilities": {"add": added}}}) == ["privileged"]
    assert asked(policy, {"podSpec": {"capabilities": {"add": ["CHOWN"]}}}) == []


def test_a_name_without_a_registry_is_one_of_docker_hub() -> None:
    names = ["python", "company/tool", "ghcr.io/a/b", "localhost/a", "host:5000/a"]

    assert [registry_of(name) for name in names] == ["docker.io", "docker.io", "ghcr.io", "localhost", "host:5000"]


@pytest.mark.parametrize("value", [True, "true", "Yes", "on", 1, "1"])
def test_a_privilege_is_one_however_it_is_written(value: Any) -> None:
    found = [each.code for each in refusals(Policy(), "docker", {"privileged": value}, None)]

    assert found == ["runner.privileged.refused"]


def test_the_hint_is_that_of_the_policy_that_refuses() -> None:
    own = Policy(hint="ask yourself", allow_volumes=False, allow_privileged=True)
    both = Policy(hint="ask the operator", also=(own,))

    found = list(refusals(both, "docker", {"volumes": ["/a:/b"], "privileged": True}, None))

    assert [(each.asked, each.hint) for each in found] == [
        ("volumes", "ask yourself"),
        ("volumes", "ask the operator"),
        ("privileged", "ask the operator"),
    ]
