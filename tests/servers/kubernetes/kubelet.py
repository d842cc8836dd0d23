"""The node: takes one pod through its life, in a thread of its own."""

from __future__ import annotations

import base64
import json
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import docker.errors

from tests.servers.kubernetes.answers import Refusal
from tests.servers.kubernetes.containers import Container, NotStarted
from tests.servers.kubernetes.expansion import expanded
from tests.servers.kubernetes.objects import Object, now
from tests.servers.kubernetes.states import condition, container_status, phase_of

if TYPE_CHECKING:
    from tests.servers.kubernetes.node import Node

__all__ = ["PodLife"]

_PULL_AGAIN_S = 0.4  # a kubelet waits ten seconds at first
_LOOK_S = 5.0
_IMAGE = re.compile(r"[a-z0-9][a-z0-9._/:@-]*(:[\w.-]+)?")


class _Over(Exception):  # noqa: N818 - it is the end
    """The pod is not to go on."""


class PodLife:
    """One pod on the node, from its creation to its removal."""

    def __init__(self, node: Node, pod: Object) -> None:
        meta = pod["metadata"]
        self.namespace, self.name, self.uid = meta["namespace"], meta["name"], meta["uid"]
        self.spec: dict[str, Any] = pod["spec"]
        self.containers: dict[str, Container] = {}
        self.grace_s: float | None = None
        self._node = node
        self._changed = threading.Event()
        self._states: dict[str, dict[str, Any]] = {}
        self._pulls: dict[str, int] = {}
        self._born = 0.0
        self._failure: tuple[str, str] | None = None
        self._thread = threading.Thread(target=self._live, name=f"pod-{self.name}", daemon=True)

    def begin(self) -> None:
        """Start the life."""
        self._thread.start()

    def delete(self, grace_s: float) -> None:
        """End it: SIGTERM, SIGKILL after the grace, then the object is removed."""
        self.grace_s = grace_s if self.grace_s is None else min(self.grace_s, grace_s)
        self.wake()

    def end(self, reason: str, message: str) -> None:
        """End it as the kubelet does on its own account: an eviction, a deadline."""
        self._failure = (reason, message)
        self.wake()

    def wake(self) -> None:
        """Have the thread look."""
        self._changed.set()

    def join(self, seconds: float) -> None:
        """Wait for the end of the thread."""
        self._thread.join(seconds)

    # --- the thread ---------------------------------------------------------------------------------------------------

    def _live(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="pod-", dir=self._node.folder))
        self._folder.chmod(0o755)
        try:
            self._schedule()
            self._start_all()
            self._wait_for(lambda: all("terminated" in self._states[c["name"]] for c in self.spec["containers"]))
        except _Over:
            pass
        self._stop_containers()
        self._tell()
        if self._failure is not None and self.grace_s is None:
            self._fail(*self._failure)
        if not self._node.is_lost:
            while self.grace_s is None and not self._node.is_stopping:
                self._changed.wait(_LOOK_S)
                self._changed.clear()
        for container in self.containers.values():
            container.remove()
        shutil.rmtree(self._folder, ignore_errors=True)
        if self.grace_s is not None:
            self._node.objects.remove("pods", self.namespace, self.name, self.uid)

    def _wait_for(self, is_reached: Callable[[], bool], seconds: float | None = None) -> None:
        """Wait until something is reached or time is up. Raises `_Over` when the pod has to end first."""
        until = None if seconds is None else time.monotonic() + seconds
        while True:
            self._take_states()
            if is_reached():
                return
            self._check()
            left = _LOOK_S if until is None else until - time.monotonic()
            if left <= 0:
                return
            self._changed.wait(left if "activeDeadlineSeconds" not in self.spec else min(left, 0.05))
            self._changed.clear()

    def _check(self) -> None:
        deadline = self.spec.get("activeDeadlineSeconds")
        if deadline is not None and time.monotonic() - self._born > deadline:
            self._failure = ("DeadlineExceeded", "Pod was active on the node longer than the specified deadline")
        if self.grace_s is not None or self._failure is not None or self._node.is_stopping:
            raise _Over

    def _schedule(self) -> None:
        self._born = time.monotonic()
        said = ""
        while reason := self._node.refuses(self.spec):
            if reason != said:
                said = reason
                self.event("Warning", "FailedScheduling", reason, source="default-scheduler")
                is_bound = partial(condition, kind="PodScheduled", status="False")
                self._update(partial(is_bound, reason="Unschedulable", message=reason))
            self._changed.wait(0.1)
            self._changed.clear()
            if self.grace_s is not None or self._node.is_stopping:
                raise _Over

        def bind(pod: Object) -> None:
            pod["spec"]["nodeName"] = self._node.name
            condition(pod, "PodScheduled", "True")

        self._update(bind)
        message = f"Successfully assigned {self.namespace}/{self.name} to {self._node.name}"
        self.event("Normal", "Scheduled", message, source="default-scheduler")

    def _start_all(self) -> None:
        inits, mains = self.spec.get("initContainers") or [], self.spec["containers"]
        for spec in inits:
            self._states[spec["name"]] = {"waiting": {"reason": "PodInitializing"}}
        for spec in mains:
            self._states[spec["name"]] = {"waiting": {"reason": "PodInitializing" if inits else "ContainerCreating"}}
        mounts = {}
        for volume in self.spec.get("volumes") or []:
            mounts[volume["name"]] = str(self._folder / volume["name"])
            (self._folder / volume["name"]).mkdir()
            (self._folder / volume["name"]).chmod(0o777)
        self._tell()
        for spec in inits:
            self._start(spec, mounts)
            self._wait_for(lambda spec=spec: "terminated" in self._states[spec["name"]])  # type: ignore[misc]  # bound now
            if self._states[spec["name"]]["terminated"]["exitCode"]:
                raise _Over
        for spec in mains:
            self._start(spec, mounts)

    def _start(self, spec: dict[str, Any], mounts: dict[str, str]) -> None:
        self._pull(spec)
        env = self._environment(spec)
        image = self._node.image(spec["image"])
        processes = self._node.pause() if self.spec.get("shareProcessNamespace") else ""
        words = {key: [expanded(word, env) for word in spec[key]] for key in ("command", "args") if spec.get(key)}
        container = Container(self._node.client, image, spec | words, mounts, self._node.wake_pods, processes)
        self.containers[spec["name"]] = container
        self.event("Normal", "Created", f"Container created: {spec['name']}")
        try:
            container.start(env)
        except NotStarted as error:
            self.event("Warning", "Failed", f"Error: {error}")
        else:
            self.event("Normal", "Started", f"Container started: {spec['name']}")
        self._take_states()

    def _environment(self, spec: dict[str, Any]) -> dict[str, str]:
        env: dict[str, str] = {}
        for variable in spec.get("env") or []:
            reference = (variable.get("valueFrom") or {}).get("secretKeyRef")
            if reference is None:
                env[variable["name"]] = expanded(variable.get("value", ""), env)
                continue
            try:
                secret = self._node.objects.get("secrets", self.namespace, reference["name"])
                env[variable["name"]] = base64.b64decode(secret["data"][reference["key"]]).decode()
            except Refusal as error:
                self._wait_in(spec, "CreateContainerConfigError", error.message)
                self.event("Warning", "Failed", f"Error: {error.message}")
                self._wait_for(lambda: False)
        return env

    def _pull(self, spec: dict[str, Any]) -> None:
        image, policy = spec["image"], spec.get("imagePullPolicy", "IfNotPresent")
        while True:
            fault = self._pull_fault(image, policy)
            if fault is None:
                if policy == "Always":
                    self.event("Normal", "Pulled", f'Successfully pulled image "{image}" in 5ms')
                return
            reason, message = fault
            tries = self._pulls[image] = self._pulls.get(image, 0) + 1
            self._wait_in(spec, reason, message)
            self.event("Warning", "InspectFailed" if reason == "InvalidImageName" else "Failed", message)
            self._wait_for(lambda: False, _PULL_AGAIN_S)
            if reason == "ErrImagePull":
                self._wait_in(spec, "ImagePullBackOff", f'Back-off pulling image "{image}": {message}')
                self.event("Normal", "BackOff", f'Back-off pulling image "{image}"')
                self._wait_for(lambda: False, _PULL_AGAIN_S * tries)

    def _pull_fault(self, image: str, policy: str) -> tuple[str, str] | None:
        if not _IMAGE.fullmatch(image):
            return "InvalidImageName", f'Failed to apply default image tag "{image}": invalid reference format'
        if policy != "Never":
            self.event("Normal", "Pulling", f'Pulling image "{image}"')
        login = self._node.private_images.get(image)
        if login is not None and login not in self._logins(image):
            return "ErrImagePull", f'Failed to pull image "{image}": pull access denied: authorization failed'
        try:
            self._node.client.inspect_image(self._node.image(image))
        except docker.errors.APIError:
            if policy == "Never":
                return "ErrImageNeverPull", f'Container image "{image}" is not present with pull policy of Never'
            return (
                "ErrImagePull",
                f'Failed to pull image "{image}": rpc error: code = NotFound desc = not found',
            )
        return None

    def _logins(self, image: str) -> set[tuple[str, str]]:
        found = set()
        for reference in self.spec.get("imagePullSecrets") or []:
            try:
                secret = self._node.objects.get("secrets", self.namespace, reference["name"])
            except Refusal:
                continue
            config = json.loads(base64.b64decode(secret["data"][".dockerconfigjson"]))
            for registry, entry in config["auths"].items():
                if image.startswith(registry):
                    user, _, password = base64.b64decode(entry["auth"]).decode().partition(":")
                    found.add((user, password))
        return found

    # --- what the API shows -------------------------------------------------------------------------------------------

    def _wait_in(self, spec: dict[str, Any], reason: str, message: str) -> None:
        self._states[spec["name"]] = {"waiting": {"reason": reason, "message": message}}
        self._tell()

    def _take_states(self) -> None:
        for name, container in self.containers.items():
            if container.state is not None:
                self._states[name] = {"terminated": container.state}
            elif container.id:
                self._states[name] = {"running": {"startedAt": container.started_at}}
        self._tell()

    def _tell(self) -> None:
        if self._node.is_lost or not self._states:
            return
        inits, mains = self.spec.get("initContainers") or [], self.spec["containers"]

        def change(pod: Object) -> None:
            status = pod["status"]
            status["startTime"] = status.get("startTime") or now()
            if inits:
                status["initContainerStatuses"] = [container_status(c, self._states[c["name"]]) for c in inits]
            status["containerStatuses"] = [container_status(c, self._states[c["name"]]) for c in mains]
            failed = any(self._states[c["name"]].get("terminated", {}).get("exitCode") for c in inits)
            status["phase"] = "Failed" if failed else phase_of(self._states[c["name"]] for c in mains)
            is_ready = str(status["phase"] == "Running")
            if not any(each["type"] == "Ready" and each["status"] == is_ready for each in status["conditions"]):
                condition(pod, "Ready", is_ready)

        self._update(change)

    def _fail(self, reason: str, message: str) -> None:
        def change(pod: Object) -> None:
            pod["status"] |= {"phase": "Failed", "reason": reason, "message": message}

        self._update(change)
        self.event("Warning", reason, message)

    def _update(self, change: Callable[[Object], None]) -> None:
        self._node.objects.update("pods", self.namespace, self.name, change)

    def event(self, kind: str, reason: str, message: str, source: str = "kubelet") -> None:
        """Write an event about the pod."""
        self._node.write_event(self.namespace, self.name, self.uid, kind, reason, message, source)

    def _stop_containers(self) -> None:
        grace = 0.0 if self._failure or self._node.is_stopping else self.grace_s or 0.0
        running = [container for container in self.containers.values() if container.state is None]
        for container in running:
            container.signal("SIGTERM" if grace else "SIGKILL")
        until = time.monotonic() + grace
        for container in running:
            if not container.wait(max(0.0, until - time.monotonic())):
                container.signal("SIGKILL")
            container.wait(10)
        if not self._node.is_stopping:
            self._take_states()
