"""What a flow may ask of a task runner, judged on the final properties: defaults merged in, expressions rendered.

The whole description is searched, so that a patch in a corner of it (`podSpec`, `containerSpec`) counts as much as the
property that is meant for the purpose. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from task_runners.errors import FailureReason, TaskRunnerError
from task_runners.pod_policy import HOST_VOLUMES, is_privilege, named_by
from task_runners.registry import canonical_name

if TYPE_CHECKING:
    from task_runners.base import TaskRunner
    from task_runners.spec import Policy

__all__ = ["OWN_NETWORKS", "Refusal", "demand_allowed", "demand_described", "refusals", "registry_of"]

_IMAGE: Final = re.compile(r"[a-z0-9][a-zA-Z0-9._/:@-]*")
# An engine takes such a name for the digest of an image that it has, whatever registry that came from.
_DIGEST: Final = re.compile(r"(?:sha256:)?[0-9a-f]+")
_HUB: Final = "docker.io"
_DOCKER: Final = "scripts.runner.docker.Docker"
# An address in which no part of a pattern can reach over another part than it stands for.
_DAEMON: Final = re.compile(r"unix:/*[^@?#\s]+|(?:[a-z]+://)?[^/@?#\s]+|ssh://(?:[^/@?#\s]+@)?[^/@?#\s]+")
# A named network of a daemon may be the one on which somebody's database listens.
OWN_NETWORKS: Final = frozenset({"", "bridge", "default", "none"})
"""Networks of containers that lead to nobody else's, unless the daemon says otherwise."""
_PRIVILEGES: Final = frozenset({"privileged", "hostPID", "hostIPC", "allowPrivilegeEscalation"})
_TRUTHS: Final = frozenset({"1", "1.0", "true", "t", "yes", "y", "on"})
_TOKENS: Final = frozenset({"automountServiceAccountToken", "serviceAccountToken"})
_WORDS: Final = {"secret": "secret", "claim": "claim", "csiDriver": "volume driver"}
_ACCOUNTS: Final = ("serviceAccountName", "serviceAccount")
# A kubeconfig in a flow that names files of the worker is the worker's login, not one of the flow.
_FILES_OF_WORKER: Final = ("clientCertFile", "clientKeyFile")


class _Identities(NamedTuple):
    """The properties of a task runner that say as whom a job acts, and the one by which a flow logs in by itself."""

    names: frozenset[str]
    own_login: str
    is_pod: bool = False

    def named(self, properties: Mapping[str, Any]) -> list[str]:
        """Return as whom a job with these properties acts, as far as they say it."""
        if self.is_pod:
            return _accounts_of_pod(properties)
        return [str(value) for key, value in _entries(properties) if key in self.names and value]

    def is_own(self, properties: Mapping[str, Any]) -> bool:
        """Return whether a flow with these properties logs in by itself, so that it reaches what it could anyhow."""
        login = properties.get(self.own_login)
        files = login if isinstance(login, Mapping) else {}
        return bool(login) and not any(files.get(each) for each in _FILES_OF_WORKER)


_IDENTITIES: Final = {
    "ee.kubernetes.runner.Kubernetes": _Identities(frozenset(_ACCOUNTS), "config", is_pod=True),
    "ee.aws.runner.Batch": _Identities(frozenset({"taskRoleArn", "executionRoleArn", "stsRoleArn"}), "accessKeyId"),
    "ee.gcp.runner.Batch": _Identities(frozenset({"impersonatedServiceAccount"}), "serviceAccount"),
    "ee.gcp.runner.CloudRun": _Identities(
        frozenset({"impersonatedServiceAccount", "runtimeServiceAccount"}), "serviceAccount"
    ),
    # What runs on a pool acts as the identities of the pool.
    "ee.azure.runner.Batch": _Identities(frozenset({"poolId", "resourceId"}), "accessKey"),
}


class Refusal(NamedTuple):
    """One thing that is not allowed: what is asked for, a sentence, the name that was judged if there is one, a hint.

    The hint is that of the policy that refuses, so it says who can allow it.
    """

    asked: str
    message: str
    name: str = ""
    hint: str = ""

    @property
    def code(self) -> str:
        """The stable code of the error."""
        return f"runner.{self.asked}.refused"

    @property
    def is_certain(self) -> bool:
        """Whether it is one whatever expressions give: before they are rendered a name may still become another."""
        return "{{" not in self.name


def demand_allowed(policy: Policy, runner: TaskRunner, image: str | None) -> None:
    """Raise `TaskRunnerError` with the reason POLICY for the first thing that `policy` does not allow."""
    demand_described(policy, runner.type, runner.model_dump(by_alias=True, exclude_none=True), image)


def demand_described(policy: Policy, type_name: str, properties: Mapping[str, Any], image: str | None = None) -> None:
    """Raise as `demand_allowed` does, for a description of what is to run in the words of its engine."""
    for refusal in refusals(policy, type_name, properties, image):
        raise TaskRunnerError(
            refusal.code,
            refusal.message,
            hint=refusal.hint,
            failure_reason=FailureReason.POLICY,
        )


def refusals(policy: Policy, type_name: str, properties: Mapping[str, Any], image: str | None) -> Iterator[Refusal]:
    """Yield what `policy` does not allow of a task runner with these properties, whatever shape their values have.

    What one of `also` forbids comes first: nobody else could allow it.
    """
    for other in policy.also:
        yield from refusals(other, type_name, properties, image)
    yield from (each._replace(hint=policy.hint) for each in _refusals(policy, type_name, properties, image))


def _refusals(policy: Policy, type_name: str, properties: Mapping[str, Any], image: str | None) -> Iterator[Refusal]:
    if policy.runners is not None and canonical_name(type_name) not in map(canonical_name, policy.runners):
        yield Refusal("type", f"flows of this namespace may not use the task runner {type_name}")
    for name in filter(None, (image,)):
        yield from _image(policy, name)
    for key, value in _entries(properties):
        yield from _entry(policy, key, value)
    if canonical_name(type_name) == _DOCKER:
        yield from _daemon(policy, properties)
    known = _IDENTITIES.get(canonical_name(type_name))
    yield from _identities(policy, known, properties)
    if known is not None and known.is_pod:
        yield from _objects(policy, known, properties)
        yield from _cluster_namespace(policy, properties)


def _daemon(policy: Policy, properties: Mapping[str, Any]) -> Iterator[Refusal]:
    """Yield a refusal of a daemon that is not listed: what a worker reaches, its flows are not to reach by it."""
    host = str(properties.get("host") or "")
    patterns = policy.docker_hosts or ()
    is_plain = _DAEMON.fullmatch(host) is not None and ".." not in host
    is_listed = not {host, "*"}.isdisjoint(patterns) or any(is_plain and fnmatchcase(host, each) for each in patterns)
    if host and not is_listed:
        message = f"flows of this namespace may not use the Docker daemon {host!r} (`host`), only that of the workers"
        yield Refusal("host", message, host)


def _entry(policy: Policy, key: str, value: Any) -> Iterator[Refusal]:
    if key == "image" and (name := value.get("reference") if isinstance(value, Mapping) else value):
        yield from _image(policy, str(name))
    elif not policy.allow_privileged and (privilege := _privilege(policy, key, value)):
        yield privilege
    elif _is_host_volume(key, value) and not policy.allow_volumes:
        yield Refusal("volumes", f"flows of this namespace may not mount folders of the host, or buckets (`{key}`)")
    elif key == "networkMode" and isinstance(value, str) and not _is_network(policy, value):
        yield Refusal("networkMode", f"flows of this namespace may not use the network {value!r}", value)
    elif key == "portBindings" and value and not _is_network(policy, "host"):
        yield Refusal("networkMode", "flows of this namespace may not publish ports on the host (`portBindings`)")
    elif key == "hostPort" and value and not _is_network(policy, "host"):
        yield Refusal("networkMode", "flows of this namespace may not take ports of the host", str(value))
    elif key == "hostNetwork" and _is_true(value) and not _is_network(policy, "host"):
        yield Refusal("networkMode", "flows of this namespace may not use the network of the host")


def _privilege(policy: Policy, key: str, value: Any) -> Refusal | None:
    if (key in _PRIVILEGES and _is_true(value)) or is_privilege(key, value):
        return _not_privileged(f"set `{key}` so")
    if key == "procMount" and value not in (None, "Default"):
        return _not_privileged("unmask `/proc`", str(value))
    if key == "capabilities" and isinstance(value, Mapping):
        added = [str(each) for each in _listed(value.get("add")) if each not in policy.capabilities]
        # One that no expression can change decides whether the refusal is certain.
        return _not_privileged("add capabilities", min(added, key=lambda name: "{{" in name)) if added else None
    return None


def _not_privileged(what: str, name: str = "") -> Refusal:
    return Refusal("privileged", f"flows of this namespace may not {what}", name)


def _identities(policy: Policy, known: _Identities | None, properties: Mapping[str, Any]) -> Iterator[Refusal]:
    """Yield the identities that a job may not have.

    Under the login of the worker those of the list, and none without one; a flow that logs in by itself reaches no
    further than its own credentials do.
    """
    if known is None or (policy.service_accounts is None and known.is_own(properties)):
        return
    for name in known.named(properties):
        if not any(fnmatchcase(name, pattern) for pattern in policy.service_accounts or ()):
            yield Refusal("serviceAccount", f"jobs of flows of this namespace may not act as {name!r}", name)


def _objects(policy: Policy, known: _Identities, properties: Mapping[str, Any]) -> Iterator[Refusal]:
    """Yield the Secrets, volume claims and drivers of volumes that a pod may not have; as with identities.

    Whoever may make a pod could read each of them by it, also those of the server.
    """
    allowed = {"secret": policy.secrets, "claim": policy.claims, "csiDriver": policy.csi_drivers}
    is_own = known.is_own(properties)
    for key, value in _entries(properties):
        for kind, name in named_by(key, value):
            patterns = allowed[kind]
            is_free = patterns is None and is_own
            if not is_free and not any(fnmatchcase(name, pattern) for pattern in patterns or ()):
                yield Refusal(kind, f"pods of flows of this namespace may not use the {_WORDS[kind]} {name!r}", name)


def _cluster_namespace(policy: Policy, properties: Mapping[str, Any]) -> Iterator[Refusal]:
    """Yield a refusal of the namespace of the cluster in which a pod would start; where some are listed, one is named.

    Without a name it would be that of the login, which the description does not tell.
    """
    if policy.cluster_namespaces is None:
        return
    login = properties.get("config")
    inherited = login.get("namespace") if isinstance(login, Mapping) else None
    name = str(properties.get("namespace") or inherited or "")
    if not name:
        yield Refusal("namespace", "pods of flows of this namespace must say their `namespace` of the cluster")
    elif not any(fnmatchcase(name, pattern) for pattern in policy.cluster_namespaces):
        message = f"pods of flows of this namespace may not start in the namespace {name!r} of the cluster"
        yield Refusal("namespace", message, name)


def _accounts_of_pod(properties: Mapping[str, Any]) -> list[str]:
    """Return the service accounts of a pod; a token that is asked for without a name is one of `default`.

    Only the pod itself has an account: the same words further down name something else.
    """
    pod = properties.get("podSpec")
    places = (properties, pod if isinstance(pod, Mapping) else {})
    named = [str(place[key]) for place in places for key in _ACCOUNTS if place.get(key)]
    asks_for_token = any(key in _TOKENS and value for key, value in _entries(properties))
    return named or (["default"] if asks_for_token else [])


def _is_true(value: Any) -> bool:
    """Return whether a value is one, or becomes one when a task runner takes it: a plan sees it before that."""
    return value is True or str(value).strip().lower() in _TRUTHS


def _listed(value: Any) -> Sequence[Any]:
    """Return the items of a list, and what is none as the only item of one."""
    if isinstance(value, list | tuple):
        return value
    return [value] if value else []


def _entries(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield each key of a description with its value, in all depths."""
    if isinstance(value, list | tuple):
        for item in value:
            yield from _entries(item)
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield str(key), inner
            yield from _entries(inner)


def _is_host_volume(key: str, value: Any) -> bool:
    is_list = isinstance(value, list | tuple)
    if key == "fileHandlingStrategy":
        return str(value) == "MOUNT"
    return key in HOST_VOLUMES or (key == "volumes" and is_list and any(map(_is_of_others, value)))


def _is_of_others(volume: Any) -> bool:
    """Return whether an item of `volumes` is a folder of the host, or a bucket (Cloud Run)."""
    return isinstance(volume, str) or (isinstance(volume, Mapping) and "bucket" in volume)


def _is_network(policy: Policy, name: str) -> bool:
    if policy.networks is not None:
        return any(fnmatchcase(name, pattern) for pattern in policy.networks)
    return name in OWN_NETWORKS or policy.allow_other_networks


def _image(policy: Policy, name: str) -> Iterator[Refusal]:
    is_plain = _IMAGE.fullmatch(name) is not None and ".." not in name and _DIGEST.fullmatch(name) is None
    registry = registry_of(name)
    if policy.registries is not None and not (is_plain and registry in policy.registries):
        yield Refusal("image", f"flows of this namespace may not use the registry of the image {name!r}", name)
    patterns = policy.images
    if patterns is not None and not (is_plain and any(_is_of(pattern, name) for pattern in patterns)):
        yield Refusal("image", f"flows of this namespace may not use the image {name!r}", name)


def _is_of(pattern: str, image: str) -> bool:
    """Return whether an image matches; a pattern without a registry is one for Docker Hub: not `python:5000/other`."""
    registry = registry_of(image)
    if registry != _HUB:
        is_for_hub = registry_of(pattern) == _HUB and not pattern.startswith("*")
        return not is_for_hub and fnmatchcase(image, pattern)
    return any(fnmatchcase(each, pattern) for each in (image, f"{registry}/{_repository(image)}"))


def registry_of(image: str) -> str:
    """Return the registry that an image comes from; `docker.io` for names without one."""
    first, slash, _ = image.partition("/")
    is_registry = "." in first or ":" in first or first == "localhost" or first != first.lower()
    return first if slash and is_registry else _HUB


def _repository(image: str) -> str:
    registry = registry_of(image)
    rest = image.removeprefix(f"{registry}/")
    return rest if "/" in rest or registry != _HUB else f"library/{rest}"
