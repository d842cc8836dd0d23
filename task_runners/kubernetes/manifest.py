"""The pod of a task, as the API wants it: values in, JSON out."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from task_runners.errors import TaskRunnerError
from task_runners.files import FileLimits
from task_runners.kubernetes.merging import merged
from task_runners.kubernetes.names import labels_of
from task_runners.kubernetes.properties import Amounts, Credentials, Resources
from task_runners.kubernetes.scripts import STATE, fetching, sending
from task_runners.policy import demand_described
from task_runners.spec import Policy, TaskSpec
from task_runners.staging.port import SignedUpload, Staged

if TYPE_CHECKING:
    from task_runners.kubernetes.runner import Kubernetes

__all__ = ["IN_FILES", "MAIN", "OUT_FILES", "ROOT", "Files", "grace_s", "literal", "login_secret", "pod_of"]

MAIN, IN_FILES, OUT_FILES = "main", "init-files", "out-files"
ROOT = "mainstem.io/working-dir"
_FILES, _STATE = "kestra-files", "mainstem-state"
_MARGIN_S = 900  # after which a pod that nobody follows any more ends by itself
_MOUNTS_ACCOUNT = "automountServiceAccountToken"
# Of what container engines give by default, all but what it takes to write files of any owner.
_NOT_FOR_FILES = (
    "AUDIT_WRITE",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "NET_RAW",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
)
_DOCKER_HUB = "https://index.docker.io/v1/"

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Files:
    """What travels: the archive that has to be there first, and whether files come back (to `upload` if it is set).

    None that come back have more than `file_bytes`, and their archive no more than `archive_bytes`.
    """

    root: str
    staged: Staged | None = None
    comes_back: bool = False
    upload: SignedUpload | None = None
    file_bytes: int = FileLimits().file_bytes
    archive_bytes: int = FileLimits().total_bytes


def pod_of(runner: Kubernetes, name: str, image: str, spec: TaskSpec, files: Files, policy: Policy) -> Object:
    """Return the pod for a task: what the flow gave laid over what we need.

    Raises:
        TaskRunnerError: `runner.property.invalid` for pieces that are no pod, or `runner....refused` for what the
            operator does not allow; judged on the whole pod.
    """
    given = dict(runner.pod_spec)
    containers, inits = _containers(given, "containers"), _containers(given, "initContainers")
    pod_spec = merged(_pod_defaults(runner, spec, files), given)
    pod_spec["containers"] = [
        _main(runner, containers.pop(MAIN, {}), image, spec, files, policy),
        *(_beside(runner, each, policy) for each in containers.values()),
        *([_out_files(runner, containers, files)] if files.comes_back else []),
    ]
    pod_spec["initContainers"] = [
        *([_in_files(runner, files)] if files.staged is not None else []),
        *(_beside(runner, each, policy) for each in inits.values()),
    ]
    pod_spec["restartPolicy"] = "Never"  # the engine retries, not the node
    if not pod_spec.get(_MOUNTS_ACCOUNT):  # what is left out means a token
        pod_spec[_MOUNTS_ACCOUNT] = False
    login = runner.config and runner.config.model_dump(by_alias=True)
    demand_described(policy, runner.type, {"podSpec": pod_spec, "config": login, "namespace": runner.namespace})
    if runner.credentials is not None:  # that Secret is made for this pod alone: no policy has to name it
        pod_spec["imagePullSecrets"] = [{"name": name}, *(pod_spec.get("imagePullSecrets") or [])]
    meta = {"name": name, "labels": labels_of(spec, runner.labels), "annotations": {ROOT: files.root}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": _given(pod_spec)}


def login_secret(name: str, image: str, credentials: Credentials, labels: Mapping[str, str]) -> Object:
    """Return the Secret by which a node fetches the image."""
    auth = credentials.auth or _encoded(f"{credentials.username or ''}:{credentials.password or ''}")
    config = {"auths": {credentials.registry or _registry_of(image): {"auth": auth}}}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "labels": dict(labels)},
        "type": "kubernetes.io/dockerconfigjson",
        "data": {".dockerconfigjson": _encoded(json.dumps(config))},
    }


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _registry_of(image: str) -> str:
    first, slash, _ = image.partition("/")
    return first if slash and ("." in first or ":" in first or first == "localhost") else _DOCKER_HUB


def literal(text: str) -> str:
    """Return what Kubernetes makes `text` of: it replaces `$(NAME)` and takes two dollars for one."""
    return text.replace("$", "$$")


def _given(values: Mapping[str, Any]) -> Object:
    return {key: value for key, value in values.items() if value not in (None, [], {})}


def _containers(given: Object, key: str) -> dict[str, Object]:
    found = given.pop(key, None) or []
    if not isinstance(found, Sequence) or not all(isinstance(each, Mapping) and each.get("name") for each in found):
        raise TaskRunnerError("runner.property.invalid", f"`podSpec.{key}` is no list of containers with names")
    return {str(each["name"]): dict(each) for each in found}


# --- the pod ----------------------------------------------------------------------------------------------------------


def _pod_defaults(runner: Kubernetes, spec: TaskSpec, files: Files) -> Object:
    longest = spec.timeout or runner.wait_until_completion
    is_moving = files.staged is not None or files.comes_back
    return _given(
        {
            "serviceAccountName": runner.service_account_name,
            # A body that does not ask for an account gets no token of one.
            _MOUNTS_ACCOUNT: runner.service_account_name is not None,
            "nodeSelector": dict(runner.node_selector),
            # The first process of a container ignores SIGTERM unless it handles it: so the body is not the first.
            "shareProcessNamespace": True,
            "terminationGracePeriodSeconds": grace_s(spec.grace.total_seconds()),
            "activeDeadlineSeconds": int((longest + runner.wait_until_running).total_seconds()) + _MARGIN_S,
            "volumes": [{"name": _FILES, "emptyDir": {}}, *([{"name": _STATE, "emptyDir": {}}] if is_moving else [])],
        }
    )


def grace_s(seconds: float) -> int:
    """Return the whole seconds that a pod gets to end: at least one, since zero forgets the pod before it has ended."""
    return max(1, round(seconds))


def _main(runner: Kubernetes, given: Object, image: str, spec: TaskSpec, files: Files, policy: Policy) -> Object:
    env = spec.environment(files.root)
    resources = _resources(runner.resources)
    if spec.limits.memory_bytes is not None:
        resources = merged({"limits": {"memory": str(spec.limits.memory_bytes)}}, resources)
    own = {
        "name": MAIN,
        "image": image,
        "imagePullPolicy": runner.pull_policy.as_kubernetes,
        "command": [literal(part) for part in spec.command],
        "workingDir": files.root,
        "env": [{"name": key, "value": literal(value)} for key, value in env.items()],
        "resources": resources,
        "volumeMounts": [{"name": _FILES, "mountPath": files.root}],
    }
    container = merged(merged(merged(runner.container_default_spec, given), _given(own)), runner.container_spec)
    return _confined(container, _rights(policy)) | {"name": MAIN}


def _beside(runner: Kubernetes, given: Object, policy: Policy) -> Object:
    """Return a container that the flow has put beside the task's."""
    return _confined(merged(runner.container_default_spec, given), _rights(policy))


def _rights(policy: Policy) -> Object:
    return _given({"drop": ["ALL"], "add": list(policy.capabilities)})


def _confined(container: Object, capabilities: Object) -> Object:
    """Return a container that has no more than these capabilities and gets no further ones.

    What a flow leaves out, or takes out by a null, Kubernetes would give: what it gives more must stand there, where
    the policy sees it.
    """
    given = _without_nulls(container.get("securityContext") or {})
    if not isinstance(given, Mapping):
        raise TaskRunnerError("runner.property.invalid", "a `securityContext` is a map")
    if given.get("privileged") is True:  # has all of them, and Kubernetes refuses to hear the opposite
        return {**container, "securityContext": dict(given)}
    own = {"allowPrivilegeEscalation": False, "capabilities": capabilities}
    return {**container, "securityContext": merged(own, given)}


def _without_nulls(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    return {key: _without_nulls(each) for key, each in value.items() if each is not None}


def _resources(given: Resources) -> Object:
    return _given({"requests": _amounts(given.request), "limits": _amounts(given.limit)})


def _amounts(given: Amounts) -> dict[str, str]:
    return {name: str(value) for name, value in (("cpu", given.cpu), ("memory", given.memory)) if value is not None}


# --- the containers that move files -----------------------------------------------------------------------------------


def _helper(runner: Kubernetes, name: str, script: str, root: str) -> Object:
    side = runner.file_sidecar
    own = {
        "name": name,
        "image": side.image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["sh", "-c", literal(script)],
        "resources": _resources(side.resources),
        "volumeMounts": [{"name": _FILES, "mountPath": root}, {"name": _STATE, "mountPath": STATE}],
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }
    defaults = merged(runner.container_default_spec, side.default_spec)
    container = merged(merged(defaults, _given(own)), runner.file_side_car_spec)
    return _confined(container, {"drop": list(_NOT_FOR_FILES)}) | {"name": name}


def _in_files(runner: Kubernetes, files: Files) -> Object:
    assert files.staged is not None
    return _helper(runner, IN_FILES, fetching(files.staged, files.root), files.root)


def _out_files(runner: Kubernetes, others: Mapping[str, Object], files: Files) -> Object:
    if OUT_FILES in others:
        raise TaskRunnerError("runner.property.invalid", f"`podSpec` may not have a container named {OUT_FILES}")
    script = sending(files.upload, files.root, files.file_bytes, files.archive_bytes)
    return _helper(runner, OUT_FILES, script, files.root)
