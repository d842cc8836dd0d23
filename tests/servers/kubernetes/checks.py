"""What an API server demands of a new object before it keeps it."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator, Mapping
from typing import Any

from tests.servers.kubernetes.answers import Refusal
from tests.servers.kubernetes.containers import quantity
from tests.servers.kubernetes.objects import Object

__all__ = ["admit"]

_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_CONTAINER_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-\w.]{0,61}[A-Za-z0-9])?)?", re.ASCII)
_LABEL_KEY = re.compile(r"([a-z0-9.-]{1,253}/)?[A-Za-z0-9]([-\w.]{0,61}[A-Za-z0-9])?", re.ASCII)
_ENV_NAME = re.compile(r"[^=\x00-\x1f]+")


def admit(resource: str, obj: Object) -> Object:
    """Return a new object with the defaults filled in. Raises `Refusal` 422."""
    meta = obj.setdefault("metadata", {})
    if "name" not in meta and meta.get("generateName"):
        meta["name"] = meta["generateName"] + secrets.token_hex(3)[:5]
    faults = list(_meta_faults(meta))
    if resource == "pods":
        faults += _pod_faults(obj.get("spec") or {})
    if faults:
        raise Refusal(422, "Invalid", f'{resource} "{meta.get("name", "")}" is invalid: {"; ".join(faults)}')
    if resource == "pods":
        spec = obj["spec"]
        defaults = {"restartPolicy": "Always", "terminationGracePeriodSeconds": 30, "dnsPolicy": "ClusterFirst"}
        obj["spec"] = defaults | {"schedulerName": "default-scheduler", "serviceAccountName": "default"} | spec
        obj["status"] = {"phase": "Pending", "qosClass": "BestEffort", "conditions": []}
    return obj


def _meta_faults(meta: Mapping[str, Any]) -> Iterator[str]:
    if not _NAME.fullmatch(meta.get("name") or ""):
        yield f"metadata.name: Invalid value: {meta.get('name')!r}: a lowercase RFC 1123 subdomain is required"
    for key, value in (meta.get("labels") or {}).items():
        if not _LABEL_KEY.fullmatch(key):
            yield f"metadata.labels: Invalid value: {key!r}"
        if not isinstance(value, str) or not _LABEL_VALUE.fullmatch(value):
            yield f"metadata.labels: Invalid value: {value!r}: a valid label must be an empty string or consist of"
    if not all(isinstance(value, str) for value in (meta.get("annotations") or {}).values()):
        yield "metadata.annotations: Invalid value: must be a string"


def _pod_faults(spec: Mapping[str, Any]) -> Iterator[str]:
    if not spec.get("containers"):
        yield "spec.containers: Required value"
    seen: set[str] = set()
    volumes = {volume["name"] for volume in spec.get("volumes") or []}
    for container in [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]:
        name = container.get("name") or ""
        if not _CONTAINER_NAME.fullmatch(name):
            yield f"spec.containers.name: Invalid value: {name!r}"
        if name in seen:
            yield f"spec.containers.name: Duplicate value: {name!r}"
        seen.add(name)
        yield from _container_faults(container, volumes)


def _container_faults(container: Mapping[str, Any], volumes: set[str]) -> Iterator[str]:
    if not container.get("image"):
        yield "spec.containers.image: Required value"
    if not all(isinstance(part, str) for key in ("command", "args") for part in container.get(key) or []):
        yield "spec.containers.command: Invalid value"
    for mount in container.get("volumeMounts") or []:
        if mount["name"] not in volumes:
            yield f"spec.containers.volumeMounts.name: Not found: {mount['name']!r}"
        if ":" in mount["mountPath"]:
            yield "spec.containers.volumeMounts.mountPath: must not contain ':'"
    for variable in container.get("env") or []:
        if not _ENV_NAME.fullmatch(variable["name"]) or not isinstance(variable.get("value", ""), str):
            yield f"spec.containers.env: Invalid value: {variable['name']!r}"
    resources = container.get("resources") or {}
    for name, value in (resources.get("requests") or {}).items():
        limit = (resources.get("limits") or {}).get(name)
        if limit is not None and quantity(value) > quantity(limit):
            yield f"spec.containers.resources.requests: Invalid value: {value!r}: must be at most the {name} limit"
