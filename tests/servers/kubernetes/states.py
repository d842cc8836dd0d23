"""The status of a pod, as a kubelet writes it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tests.servers.kubernetes.objects import Object, now

__all__ = ["condition", "container_status", "phase_of"]


def condition(obj: Object, kind: str, status: str, reason: str = "", message: str = "") -> None:
    """Set a condition of a pod."""
    conditions = obj["status"].setdefault("conditions", [])
    new = {"type": kind, "status": status, "lastProbeTime": None, "lastTransitionTime": now()}
    new |= ({"reason": reason} if reason else {}) | ({"message": message} if message else {})
    obj["status"]["conditions"] = [each for each in conditions if each["type"] != kind] + [new]


def container_status(spec: Mapping[str, Any], state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the status of one container that is in `state` (`waiting`, `running` or `terminated`)."""
    return {
        "name": spec["name"],
        "image": spec["image"],
        "imageID": "",
        "ready": "running" in state,
        "started": "running" in state,
        "restartCount": 0,
        "state": dict(state),
        "lastState": {},
    }


def phase_of(states: Iterable[Mapping[str, Any]]) -> str:
    """Return the phase of a pod whose containers are in these states."""
    found = list(states)
    if any("waiting" in state for state in found):
        return "Pending"
    if any("running" in state for state in found):
        return "Running"
    return "Failed" if any(state["terminated"]["exitCode"] for state in found) else "Succeeded"
