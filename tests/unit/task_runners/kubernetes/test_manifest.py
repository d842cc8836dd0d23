from __future__ import annotations

import base64
import json
from datetime import timedelta
from typing import Any

import pytest

from task_runners.errors import TaskRunnerError
from task_runners.kubernetes.manifest import Files, login_secret, pod_of
from task_runners.kubernetes.names import label_value, labels_of, name_of
from task_runners.kubernetes.properties import Credentials
from task_runners.kubernetes.runner import Kubernetes
from task_runners.spec import Limits, Policy, TaskSpec
from task_runners.staging.port import Staged

STAGED = Staged("/job/run", "in.tar", 10, "ab")


def spec(**options: Any) -> TaskSpec:
    labels = {"kestra.io/namespace": "a.team", "kestra.io/flow-id": "My_flow", "kestra.io/task-id": "load"}
    return TaskSpec(command=("sh", "-c", "true"), task_run_id="r1", labels=labels, **options)


def pod(
    properties: dict[str, Any] | None = None,
    *,
    files: Files | None = None,
    policy: Policy | None = None,
    **options: Any,
) -> dict[str, Any]:
    runner = Kubernetes.model_validate(properties or {})
    return pod_of(runner, "name", "image:1", spec(**options), files or Files("/job/run"), policy or Policy())


def container(made: dict[str, Any], name: str = "main") -> dict[str, Any]:
    every = [*made["spec"]["containers"], *made["spec"].get("initContainers", [])]
    found: dict[str, Any] = next(each for each in every if each["name"] == name)
    return found


def test_a_pod_has_the_command_the_directory_and_no_rights() -> None:
    made = pod(env={"A": "1"}, task_marker="r1:1", timeout=timedelta(minutes=1))

    main = container(made)
    assert (main["command"], main["workingDir"], main["imagePullPolicy"]) == (
        ["sh", "-c", "true"],
        "/job/run",
        "Always",
    )
    assert {each["name"]: each["value"] for each in main["env"]} == {
        "A": "1",
        "WORKING_DIR": "/job/run",
        "MAINSTEM_TASKRUN": "r1:1",
    }
    assert main["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    assert [each["name"] for each in made["spec"]["containers"]] == ["main"]
    assert "initContainers" not in made["spec"]
    assert made["spec"]["automountServiceAccountToken"] is False
    assert made["spec"]["activeDeadlineSeconds"] == 60 + 600 + 900


def test_dollars_reach_the_body_as_they_are() -> None:
    made = pod_of(
        Kubernetes(), "n", "i", TaskSpec(("sh", "-c", "kill $$; $(A)"), "r", env={"A": "$(B)$$"}), Files("/w"), Policy()
    )

    main = container(made)
    assert main["command"][2] == "kill $$$$; $$(A)"
    assert main["env"][0]["value"] == "$$(B)$$$$"


def test_files_need_one_container_before_and_one_beside() -> None:
    made = pod(files=Files("/job/run", STAGED, comes_back=True))

    assert [each["name"] for each in made["spec"]["initContainers"]] == ["init-files"]
    assert [each["name"] for each in made["spec"]["containers"]] == ["main", "out-files"]
    assert {each["mountPath"] for each in container(made, "out-files")["volumeMounts"]} == {"/job/run", "/mainstem"}


def test_pieces_of_the_flow_are_merged_in_their_order() -> None:
    given = {
        "containerDefaultSpec": {"env": [{"name": "LEVEL", "value": "default"}], "tty": False},
        "podSpec": {
            "priorityClassName": "high",
            "restartPolicy": "Always",
            "containers": [
                {"name": "main", "env": [{"name": "LEVEL", "value": "pod"}], "image": "other"},
                {"name": "side", "image": "side:1"},
            ],
            "initContainers": [{"name": "first", "image": "first:1"}],
            "volumes": [{"name": "cache", "emptyDir": {}}],
        },
        "containerSpec": {"volumeMounts": [{"name": "cache", "mountPath": "/cache"}], "name": "renamed", "tty": True},
        "fileSideCarSpec": {"env": [{"name": "HTTP_PROXY", "value": "x"}]},
        "fileSidecar": {"image": "files:1", "resources": {"limit": {"memory": "64Mi"}}},
        "resources": {"request": {"cpu": "500m"}, "limit": {"memory": "1Gi"}},
        "serviceAccountName": "runner",
        "nodeSelector": {"pool": "batch"},
    }

    policy = Policy(service_accounts=("runner",))
    made = pod(given, files=Files("/job/run", STAGED, comes_back=True), policy=policy, limits=Limits(memory_bytes=5))

    main, side, out = (container(made, name) for name in ("main", "side", "out-files"))
    assert [each for each in main["env"] if each["name"] == "LEVEL"] == [{"name": "LEVEL", "value": "pod"}]
    assert (main["image"], main["tty"], side["tty"]) == ("image:1", True, False)
    assert [each["mountPath"] for each in main["volumeMounts"]] == ["/job/run", "/cache"]
    assert main["resources"] == {"limits": {"memory": "1Gi"}, "requests": {"cpu": "500m"}}
    assert (out["image"], out["resources"]) == ("files:1", {"limits": {"memory": "64Mi"}})
    assert {"name": "HTTP_PROXY", "value": "x"} in out["env"]
    assert [each["name"] for each in made["spec"]["initContainers"]] == ["init-files", "first"]
    assert [each["name"] for each in made["spec"]["volumes"]] == ["kestra-files", "mainstem-state", "cache"]
    whole = made["spec"]
    assert (whole["restartPolicy"], whole["priorityClassName"], whole["serviceAccountName"]) == (
        "Never",
        "high",
        "runner",
    )
    assert (whole["nodeSelector"], whole["automountServiceAccountToken"]) == ({"pool": "batch"}, True)


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"podSpec": {"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}}, "runner.volumes.refused"),
        ({"containerSpec": {"securityContext": {"privileged": True}}}, "runner.privileged.refused"),
        (
            {"containerDefaultSpec": {"securityContext": {"capabilities": {"add": ["SYS_ADMIN"]}}}},
            "runner.privileged.refused",
        ),
        (
            {"podSpec": {"initContainers": [{"name": "i", "securityContext": {"privileged": True}}]}},
            "runner.privileged.refused",
        ),
        ({"podSpec": {"hostPID": True}}, "runner.privileged.refused"),
        ({"podSpec": {"hostNetwork": True}}, "runner.networkMode.refused"),
        ({"podSpec": {"automountServiceAccountToken": True}}, "runner.serviceAccount.refused"),
    ],
)
def test_what_reaches_beyond_the_pod_needs_the_operator(given: dict[str, Any], code: str) -> None:
    with pytest.raises(TaskRunnerError) as caught:
        pod(given)
    allowing = Policy(allow_volumes=True, allow_privileged=True, networks=("host",), service_accounts=("default",))

    assert caught.value.code == code
    assert pod(given, policy=allowing)


@pytest.mark.parametrize("containers", ["main", [{"image": "x"}], [3]])
def test_containers_without_names_are_refused(containers: Any) -> None:
    with pytest.raises(TaskRunnerError, match=r"podSpec\.containers"):
        pod({"podSpec": {"containers": containers}})


def test_a_name_is_readable_valid_and_one_for_each_attempt() -> None:
    first, again, second = name_of(spec()), name_of(spec()), name_of(spec(attempt=2))
    long = name_of(TaskSpec(("x",), "r", labels={"namespace": "n" * 100, "flow-id": "Ünïcode", "task-id": "!"}))

    assert (first, first == again, first == second) == (f"a-team-my-flow-load-{first[-8:]}", True, False)
    assert len(long) <= 63
    assert long.replace("-", "").isalnum()


def test_installations_that_know_the_same_attempt_have_pods_of_their_own() -> None:
    plain, named = spec(), TaskSpec(("x",), "r1", labels={**spec().labels, "mainstem.io/installation": "copy"})
    given = {"mainstem.io/installation": "another", "team": "a"}

    labels = [labels_of(each, given) for each in (plain, named)]

    assert name_of(plain) != name_of(named)
    assert [each.get("mainstem.io/installation") for each in labels] == [None, "copy"]
    assert [each["team"] for each in labels] == ["a", "a"]


@pytest.mark.parametrize(
    ("value", "expected"), [("a/b c", "a-b-c"), ("x" * 70, "x" * 63), ("-_.a.", "a"), ("ü", ""), ("", "")]
)
def test_labels_are_made_valid(value: str, expected: str) -> None:
    assert label_value(value) == expected


def test_the_login_of_a_task_is_one_more_than_those_that_the_operator_allows() -> None:
    given = {
        "credentials": {"username": "u", "password": "p"},
        "podSpec": {"imagePullSecrets": [{"name": "team-pull"}]},
    }

    made = pod(given, policy=Policy(secrets=("team-*",)))

    assert made["spec"]["imagePullSecrets"] == [{"name": "name"}, {"name": "team-pull"}]
    assert pod({"credentials": given["credentials"]})["spec"]["imagePullSecrets"] == [{"name": "name"}]


@pytest.mark.parametrize(
    ("image", "credentials", "registry", "auth"),
    [
        ("ghcr.io/a/b:1", {"username": "u", "password": "p"}, "ghcr.io", "u:p"),
        ("python:3", {"username": "u", "password": "p"}, "https://index.docker.io/v1/", "u:p"),
        ("team/python:3", {"auth": base64.b64encode(b"x:y").decode()}, "https://index.docker.io/v1/", "x:y"),
        ("localhost:5000/a", {"username": "u", "password": "p", "registry": "r"}, "r", "u:p"),
    ],
)
def test_the_login_of_a_registry_becomes_a_secret(
    image: str, credentials: dict[str, str], registry: str, auth: str
) -> None:
    secret = login_secret("name", image, Credentials.model_validate(credentials), {"a": "b"})

    config = json.loads(base64.b64decode(secret["data"][".dockerconfigjson"]))
    assert {key: base64.b64decode(value["auth"]).decode() for key, value in config["auths"].items()} == {registry: auth}
    assert secret["type"] == "kubernetes.io/dockerconfigjson"


@pytest.mark.parametrize("left_out", [None, {}, [], False, 0])
def test_a_pod_that_leaves_the_token_out_gets_none(left_out: Any) -> None:
    made = pod({"podSpec": {"automountServiceAccountToken": left_out}})

    assert made["spec"]["automountServiceAccountToken"] is False


@pytest.mark.parametrize(
    "properties",
    [
        {"podSpec": {"serviceAccountName": "{{ admin }}"}},
        {"podSpec": {"automountServiceAccountToken": True, "podSpec": {"serviceAccountName": "etl"}}},
        {"serviceAccountName": "etl", "podSpec": {"serviceAccountName": ""}},
    ],
)
def test_the_account_of_the_whole_pod_is_judged(properties: dict[str, Any]) -> None:
    with pytest.raises(TaskRunnerError) as raised:
        pod(properties, policy=Policy(service_accounts=("etl",)))

    assert raised.value.code == "runner.serviceAccount.refused"


def test_names_of_any_shape_do_not_stop_the_merging() -> None:
    made = pod({"podSpec": {"volumes": [{"name": ["x"], "emptyDir": {}}]}})

    assert {"name": ["x"], "emptyDir": {}} in made["spec"]["volumes"]


@pytest.mark.parametrize("context", [None, {}, {"capabilities": None}, {"capabilities": {"drop": []}}])
@pytest.mark.parametrize("at", ["containerSpec", "containerDefaultSpec"])
def test_rights_do_not_come_back_by_what_is_left_out(at: str, context: Any) -> None:
    beside = {"name": "side", "image": "side:1", "securityContext": context}
    given = {
        at: {"securityContext": context},
        "fileSideCarSpec": {"securityContext": context},
        "podSpec": {"containers": [beside], "initContainers": [beside | {"name": "first"}]},
    }

    made = pod(given, files=Files("/job/run", STAGED, comes_back=True))

    rights = {
        name: container(made, name)["securityContext"] for name in ("main", "side", "first", "init-files", "out-files")
    }
    assert {each["allowPrivilegeEscalation"] for each in rights.values()} == {False}
    assert [rights[name]["capabilities"]["drop"] for name in ("main", "side", "first")] == [["ALL"]] * 3
    assert {"NET_RAW", "MKNOD"} <= set(rights["init-files"]["capabilities"]["drop"])


def test_a_privileged_container_is_not_told_to_escalate_nothing() -> None:
    made = pod({"containerSpec": {"securityContext": {"privileged": True}}}, policy=Policy(allow_privileged=True))

    assert container(made)["securityContext"] == {"privileged": True}


@pytest.mark.parametrize("name", ["team/pods/other", "../secrets", "A", "a?b", "", "a\n"])
def test_a_namespace_is_no_piece_of_a_path(name: str) -> None:
    with pytest.raises(ValueError, match="namespace"):
        Kubernetes.model_validate({"namespace": name})
