"""What of a pod's description reaches beyond the pod, in the words of Kubernetes: privileges, and what others own.

The privileges are those that the Pod Security Standards forbid at their level `baseline`, besides the few that all
engines know (`task_runners.policy`), and what puts a pod on a node, or before others, that is not for tasks. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

__all__ = ["HOST_VOLUMES", "Named", "is_privilege", "named_by"]

HOST_VOLUMES: Final = frozenset({"hostPath", "gitRepo", "flexVolume"})
"""Volumes that are folders of the node, or run programs on it."""

_UNCONFINED: Final = frozenset({"seccompProfile", "appArmorProfile"})
_SELINUX_TYPES: Final = frozenset({"container_t", "container_init_t", "container_kvm_t", "container_engine_t"})
_SELINUX_OTHERS: Final = ("user", "role")
_SAFE_SYSCTLS: Final = frozenset(
    {
        "kernel.shm_rmid_forced",
        "net.ipv4.ip_local_port_range",
        "net.ipv4.ip_local_reserved_ports",
        "net.ipv4.ip_unprivileged_port_start",
        "net.ipv4.ping_group_range",
        "net.ipv4.tcp_fin_timeout",
        "net.ipv4.tcp_keepalive_intvl",
        "net.ipv4.tcp_keepalive_probes",
        "net.ipv4.tcp_keepalive_time",
        "net.ipv4.tcp_syncookies",
    }
)
_CONTROL_PLANE: Final = frozenset({"node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master"})
_PROBES: Final = frozenset({"httpGet", "tcpSocket"})
_SECRETS: Final = frozenset({"secret", "secretref", "secretkeyref", "nodepublishsecretref"})
_OLDER_DRIVERS: Final = frozenset(
    {
        "awsElasticBlockStore",
        "azureDisk",
        "cephfs",
        "cinder",
        "fc",
        "gcePersistentDisk",
        "glusterfs",
        "iscsi",
        "nfs",
        "photonPersistentDisk",
        "portworxVolume",
        "quobyte",
        "rbd",
        "vsphereVolume",
    }
)
"""Volumes of a server or a disk that a pod names itself, the disk behind somebody's claim among them."""
_CLAIMS: Final = frozenset({"persistentVolumeClaim", "dataSource", "dataSourceRef"})


class Named(NamedTuple):
    """An object of the cluster that a pod asks for: `secret`, `claim` or `csiDriver`, and its name."""

    kind: str
    name: str


def is_privilege(key: str, value: Any) -> bool:
    """Return whether an entry of a description gives a container more than the usual rights at its node."""
    if key == "seLinuxOptions" and isinstance(value, Mapping):
        kind = str(value.get("type") or "container_t")
        return kind not in _SELINUX_TYPES or any(value.get(each) for each in _SELINUX_OTHERS)
    if key in _UNCONFINED and isinstance(value, Mapping):
        return value.get("type") == "Unconfined"
    if key == "sysctls" and isinstance(value, list | tuple):
        return any(not isinstance(each, Mapping) or str(each.get("name")) not in _SAFE_SYSCTLS for each in value)
    if key in _PROBES and isinstance(value, Mapping):
        return bool(value.get("host"))  # the node asks it, in whose network more can be reached than in that of the pod
    return (key == "hostProcess" and value is True) or _is_place(key, value)


def _is_place(key: str, value: Any) -> bool:
    """Return whether an entry puts a pod on a node, or before other pods, that are not for tasks."""
    if key == "tolerations" and isinstance(value, list | tuple):
        return any(_is_of_all_nodes(each) for each in value)
    if key == "priorityClassName":
        return str(value).startswith("system-")
    return key == "nodeName" and bool(value)  # past the scheduler, and with it past the taints of the node


def _is_of_all_nodes(toleration: Any) -> bool:
    """Return whether a toleration leads to each node there is, or to those of the control plane."""
    key = str(toleration.get("key") or "") if isinstance(toleration, Mapping) else ""
    return not key or key in _CONTROL_PLANE


def named_by(key: str, value: Any) -> Iterator[Named]:
    """Yield the Secrets, volume claims and drivers of inline volumes that an entry of a description names.

    A driver may hand out what no Secret of the namespace holds: `secrets-store.csi.k8s.io` gives those of a vault.
    """
    if key.lower() in _SECRETS and isinstance(value, Mapping):
        yield from (Named("secret", str(value[each])) for each in ("name", "secretName") if value.get(each))
    elif key in _CLAIMS and isinstance(value, Mapping):
        yield from (Named("claim", str(value[each])) for each in ("name", "claimName") if value.get(each))
    elif key == "csi" and isinstance(value, Mapping):
        yield Named("csiDriver", str(value.get("driver") or ""))
    elif key in _OLDER_DRIVERS and isinstance(value, Mapping):
        yield Named("csiDriver", key)
    elif key == "imagePullSecrets" and isinstance(value, list | tuple):
        yield from (
            Named("secret", str(each["name"])) for each in value if isinstance(each, Mapping) and each.get("name")
        )
    elif key in {"azureFile", "storageos", "scaleIO"} and isinstance(value, Mapping) and value.get("secretName"):
        yield Named("secret", str(value["secretName"]))
