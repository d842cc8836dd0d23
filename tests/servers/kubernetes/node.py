"""The one node of the cluster: what fits on it, which pods live there, and what can happen to it."""

from __future__ import annotations

import tempfile
import threading
import uuid
from pathlib import Path
from typing import Any

from tests.servers.kubernetes.answers import Refusal
from tests.servers.kubernetes.containers import Container, quantity
from tests.servers.kubernetes.kubelet import PodLife
from tests.servers.kubernetes.objects import Object, Objects, now
from tests.servers.kubernetes.states import condition

__all__ = ["Node"]

_PAUSE_IMAGE = "mainstem-test/busybox:1"


class Node:
    """Runs pods with a Docker daemon.

    `private_images` can only be fetched with the given user and password; they are `aliases` of images of the daemon.
    """

    def __init__(self, objects: Objects, client: Any) -> None:
        self.name = "node-1"
        self.labels = {"kubernetes.io/hostname": self.name, "kubernetes.io/os": "linux"}
        self.capacity = {"cpu": 1000.0, "memory": 1024.0**4}
        self.private_images: dict[str, tuple[str, str]] = {}
        self.aliases: dict[str, str] = {}
        self.is_lost = False
        self.is_stopping = False
        self.objects, self.client = objects, client
        self.folder = Path(tempfile.mkdtemp(prefix="node-"))
        self.folder.chmod(0o755)
        self._lives: dict[str, PodLife] = {}
        self._pause = ""
        self._lock = threading.Lock()

    def image(self, name: str) -> str:
        """Return the name by which the daemon knows an image."""
        return self.aliases.get(name, name)

    def pause(self) -> str:
        """Return the process namespace of pods whose containers share one; here all of them share the same."""
        with self._lock:
            if not self._pause:
                host = {"Init": True, "NetworkMode": "none"}
                described = {"Image": _PAUSE_IMAGE, "Cmd": ["sleep", "86400"], "HostConfig": host}
                self._pause = self.client.create_container_from_config(described)["Id"]
                self.client.start(self._pause)
            return f"container:{self._pause}"

    def run(self, pod: Object) -> None:
        """Take a new pod."""
        life = self._lives[pod["metadata"]["uid"]] = PodLife(self, pod)
        life.begin()

    def refuses(self, spec: dict[str, Any]) -> str:
        """Return why the scheduler cannot place a pod here, or an empty text."""
        prefix = "0/1 nodes are available: 1 "
        if any(self.labels.get(key) != value for key, value in (spec.get("nodeSelector") or {}).items()):
            return prefix + "node(s) didn't match Pod's node affinity/selector."
        for name, has in self.capacity.items():
            asked = [(c.get("resources") or {}).get("requests") or {} for c in spec["containers"]]
            if sum(quantity(each.get(name)) for each in asked) > has:
                return f"{prefix}Insufficient {name}."
        return ""

    def delete(self, pod: Object, grace_s: float) -> None:
        """Have a pod end; on a node that is lost nobody does."""
        life = self._lives.get(pod["metadata"]["uid"])
        if life is not None:
            life.delete(grace_s)

    def container(self, pod: Object, name: str) -> Container | None:
        """Return a container of a pod, if it was made."""
        life = self._lives.get(pod["metadata"]["uid"])
        return life.containers.get(name) if life is not None else None

    def write_event(
        self, namespace: str, pod: str, uid: str, kind: str, reason: str, message: str, source: str
    ) -> None:
        """Write an event about a pod."""
        reference = {"kind": "Pod", "namespace": namespace, "name": pod, "uid": uid, "apiVersion": "v1"}
        event = {
            "metadata": {"name": f"{pod}.{uuid.uuid4().hex[:16]}"},
            "involvedObject": reference,
            "reason": reason,
            "message": message,
            "type": kind,
            "source": {"component": source},
            "firstTimestamp": now(),
            "lastTimestamp": now(),
            "count": 1,
        }
        self.objects.create("events", namespace, event)

    def wake_pods(self) -> None:
        """Have all pods look at their containers."""
        for life in list(self._lives.values()):
            life.wake()

    # --- what can happen ----------------------------------------------------------------------------------------------

    def evict(self, namespace: str, name: str, message: str = "The node was low on resource: memory.") -> None:
        """End a pod since the node is short of something."""
        self._life(namespace, name).end("Evicted", message)

    def preempt(self, namespace: str, name: str) -> None:
        """Remove a pod in favour of a more important one, as the scheduler does."""
        self._disrupt(namespace, name, "PreemptionByScheduler", "preempting to accommodate a higher priority pod")

    def lose(self) -> None:
        """Cut the node off: its pods go on somewhere, and nobody hears of them until they are removed."""
        self.is_lost = True
        for obj in self.objects.list("pods", None)[1]:
            if obj["spec"].get("nodeName") != self.name:
                continue

            def unknown(pod: Object) -> None:
                pod["status"] |= {"reason": "NodeLost", "message": f"Node {self.name} is unresponsive"}
                condition(pod, "Ready", "False", "NodeLost", "the node is unresponsive")

            self.objects.update("pods", obj["metadata"]["namespace"], obj["metadata"]["name"], unknown)

    def give_up_lost(self) -> None:
        """Remove the pods of the lost node, as the taint manager does after five minutes."""
        for obj in self.objects.list("pods", None)[1]:
            self._disrupt(
                obj["metadata"]["namespace"],
                obj["metadata"]["name"],
                "DeletionByTaintManager",
                "Taint manager: deleting due to NoExecute taint",
            )
            self.objects.remove("pods", obj["metadata"]["namespace"], obj["metadata"]["name"])

    def _disrupt(self, namespace: str, name: str, reason: str, message: str) -> None:
        def mark(pod: Object) -> None:
            condition(pod, "DisruptionTarget", "True", reason, message)
            pod["metadata"] |= {"deletionTimestamp": now(), "deletionGracePeriodSeconds": 1}

        self.objects.update("pods", namespace, name, mark)
        if not self.is_lost:
            self._life(namespace, name).delete(0)

    def _life(self, namespace: str, name: str) -> PodLife:
        uid = self.objects.get("pods", namespace, name)["metadata"]["uid"]
        life = self._lives.get(uid)
        if life is None:
            raise Refusal(404, "NotFound", f"{name} does not run here")
        return life

    def stop(self) -> None:
        """End everything."""
        self.is_stopping = True
        self.wake_pods()
        for life in list(self._lives.values()):
            life.join(20)
        if self._pause:
            self.client.remove_container(self._pause, force=True)
        self.folder.rmdir()
