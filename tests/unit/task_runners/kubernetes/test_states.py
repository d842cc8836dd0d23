from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from task_runners.errors import FailureReason
from task_runners.kubernetes.runner import Kubernetes
from task_runners.kubernetes.states import gone, has_stopped, notes_of, status_of
from task_runners.spec import Phase

DONE = {"terminated": {"exitCode": 0, "reason": "Completed"}}
RUNNING: dict[str, Any] = {"running": {}}


def failed(code: int, reason: str = "Error", **more: Any) -> dict[str, Any]:
    return {"terminated": {"exitCode": code, "reason": reason, **more}}


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    return {"waiting": {"reason": reason, "message": message}}


def pod(phase: str = "Running", inits: dict[str, Any] | None = None, **containers: Any) -> dict[str, Any]:
    more = containers.pop("status", {})
    limits = {"resources": {"limits": {"memory": "33554432"}}}
    return {
        "metadata": {"name": "p"},
        "spec": {"containers": [{"name": name.replace("_", "-"), **limits} for name in containers]},
        "status": {
            "phase": phase,
            "initContainerStatuses": [{"name": name, "state": state} for name, state in (inits or {}).items()],
            "containerStatuses": [
                {"name": name.replace("_", "-"), "state": state} for name, state in containers.items()
            ],
            **more,
        },
    }


# What a kubelet says: the first three are the doing of the pod, the last one is not.
POD_DISK = "Pod ephemeral local storage usage exceeds the total limit of containers 1Gi. "
CONTAINER_DISK = 'Container main exceeded its local ephemeral storage limit "1Gi". '
VOLUME_DISK = 'Usage of EmptyDir volume "work" exceeds the limit "1Gi". '
NODE_DISK = "The node was low on resource: ephemeral-storage. Threshold quantity: 1Gi, available: 2Mi. "


def evicted(message: str) -> dict[str, Any]:
    """Return what an eviction by the kubelet leaves in the status of a pod."""
    condition = {"type": "DisruptionTarget", "status": "True", "reason": "TerminationByKubelet", "message": message}
    return {"reason": "Evicted", "message": message, "conditions": [condition]}


def disruption(reason: str) -> dict[str, Any]:
    return {"conditions": [{"type": "DisruptionTarget", "status": "True", "reason": reason, "message": "m"}]}


@pytest.mark.parametrize(
    ("found", "phase", "code", "reason"),
    [
        (pod(main=DONE), Phase.SUCCEEDED, 0, None),
        (pod(main=DONE, out_files=RUNNING), Phase.SUCCEEDED, 0, None),
        (pod(main=failed(7), out_files=RUNNING), Phase.FAILED, 7, FailureReason.APP_EXIT),
        (pod(main=DONE, side=RUNNING), Phase.RUNNING, None, None),
        (pod(main=DONE, side=failed(3)), Phase.FAILED, 3, FailureReason.APP_EXIT),
        (pod(side=failed(3), main=failed(4)), Phase.FAILED, 4, FailureReason.APP_EXIT),
        (pod(main=failed(137, "OOMKilled")), Phase.FAILED, 137, FailureReason.OOM_KILLED),
        (pod(main=failed(128, "StartError", message="no x")), Phase.FAILED, 128, FailureReason.CONFIG_ERROR),
        (pod("Pending", {"init-files": failed(1, message="no space")}), Phase.FAILED, None, FailureReason.INPUT_FILES),
        (pod("Pending", {"first": failed(1)}), Phase.FAILED, None, FailureReason.CONFIG_ERROR),
        (pod("Pending", {"init-files": RUNNING}, main=waiting("PodInitializing")), Phase.STAGING_IN, None, None),
        (pod("Pending", main=waiting("ContainerCreating")), Phase.PENDING, None, None),
        (pod(main=RUNNING), Phase.RUNNING, None, None),
        (pod(main=RUNNING, status=disruption("PreemptionByScheduler")), Phase.FAILED, None, FailureReason.PREEMPTED),
        (pod(main=RUNNING, status=disruption("EvictionByEvictionAPI")), Phase.FAILED, None, FailureReason.EVICTED),
        (pod(main=RUNNING, status=disruption("DeletionByTaintManager")), Phase.FAILED, None, FailureReason.NODE_LOST),
        (pod("Failed", main=failed(137), status={"reason": "Evicted"}), Phase.FAILED, None, FailureReason.EVICTED),
        (pod("Failed", status=evicted(POD_DISK)), Phase.FAILED, None, FailureReason.DISK_FULL),
        (pod("Failed", status=evicted(CONTAINER_DISK)), Phase.FAILED, None, FailureReason.DISK_FULL),
        (pod("Failed", status=evicted(VOLUME_DISK)), Phase.FAILED, None, FailureReason.DISK_FULL),
        (pod("Failed", status=evicted(NODE_DISK)), Phase.FAILED, None, FailureReason.EVICTED),
        (pod("Failed", status={"reason": "DeadlineExceeded"}), Phase.FAILED, None, FailureReason.DEADLINE),
        (pod("Failed", status={"reason": "Terminated"}), Phase.FAILED, None, FailureReason.PREEMPTED),
        (pod("Failed", status={"reason": "Odd"}), Phase.LOST, None, FailureReason.LOST),
        ({"metadata": {"name": "p"}}, Phase.PENDING, None, None),
    ],
)
def test_the_status_of_a_pod_means_one_thing(
    found: dict[str, Any], phase: Phase, code: int | None, reason: FailureReason | None
) -> None:
    status = status_of(found)

    assert (status.phase, status.exit_code, status.failure_reason) == (phase, code, reason)


def test_an_end_names_what_it_was() -> None:
    assert status_of(pod(main=failed(137, "OOMKilled"))).message == "out of memory (limit 32 MiB)"
    assert status_of(pod(main=DONE, side=failed(3))).message == "the container side failed with exit code 3"
    ended = {"exitCode": 0, "startedAt": "2026-01-01T00:00:00Z", "finishedAt": "2026-01-01T00:00:05Z"}
    assert status_of(pod(main={"terminated": ended})).usage.wall_seconds == 5


@pytest.mark.parametrize(
    ("ended", "expected"),
    [
        (failed(137), (Phase.LOST, 137, FailureReason.LOST)),
        (failed(143), (Phase.LOST, 143, FailureReason.LOST)),
        (failed(137, "OOMKilled"), (Phase.FAILED, 137, FailureReason.OOM_KILLED)),
        (failed(7), (Phase.FAILED, 7, FailureReason.APP_EXIT)),
        (DONE, (Phase.SUCCEEDED, 0, None)),
    ],
)
def test_a_kill_on_the_way_to_a_removal_is_no_end_that_the_body_made(
    ended: dict[str, Any], expected: tuple[Phase, int | None, FailureReason | None]
) -> None:
    found = pod(main=ended)
    found["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"

    statuses = [status_of(found), gone(found)]

    assert {(each.phase, each.exit_code, each.failure_reason) for each in statuses} == {expected}


def event(reason: str, message: str, *, count: int = 1, kind: str = "Warning", at: str = "00:00:00") -> dict[str, Any]:
    stamp = f"2026-01-01T{at}Z"
    return {"reason": reason, "message": message, "count": count, "type": kind, "lastTimestamp": stamp}


BROKEN = 'Failed to pull image "x:1": i/o timeout'


@pytest.mark.parametrize(
    ("state", "events", "fails"),
    [
        (waiting("InvalidImageName", "bad"), [], True),
        (waiting("ErrImageNeverPull", "bad"), [], True),
        (waiting("ErrImagePull", 'image "x:1" not found'), [], True),
        (waiting("ErrImagePull", "pull access denied"), [], True),
        # What may pass is tried again.
        (waiting("ErrImagePull", BROKEN), [event("Failed", BROKEN)], False),
        (waiting("ImagePullBackOff", "Back-off"), [event("Failed", BROKEN)], False),
        (waiting("ImagePullBackOff", "Back-off"), [event("Failed", BROKEN, count=2)], True),
        (
            waiting("ImagePullBackOff", "Back-off"),
            [event("Failed", BROKEN), event("Failed", BROKEN, at="00:00:20")],
            True,
        ),
        (waiting("ImagePullBackOff"), [event("Failed", BROKEN), event("Failed", "other image", at="00:01:10")], True),
        (waiting("ContainerCreating"), [event("Failed", BROKEN, count=9)], False),
    ],
)
def test_an_image_is_given_up_when_waiting_does_not_help(
    state: dict[str, Any], events: list[dict[str, Any]], *, fails: bool
) -> None:
    found = pod("Pending", main=state)

    fast, patient = status_of(found, events), status_of(found, events, fails_fast=False)

    assert (fast.phase, fast.failure_reason) == (
        (Phase.FAILED, FailureReason.IMAGE_PULL) if fails else (Phase.PENDING, patient.failure_reason)
    )
    assert patient.phase is Phase.PENDING


def test_a_missing_secret_of_a_container_is_named() -> None:
    status = status_of(pod("Pending", main=waiting("CreateContainerConfigError", 'secret "s" not found')))

    assert (status.phase, status.failure_reason) == (Phase.FAILED, FailureReason.CONFIG_ERROR)
    assert 'secret "s" not found' in str(status.message)


def test_a_pod_without_a_place_says_why_while_it_waits() -> None:
    found = pod(
        "Pending", status={"conditions": [{"type": "PodScheduled", "reason": "Unschedulable", "message": "no cpu"}]}
    )

    status = status_of(found)

    assert (status.phase, status.failure_reason, status.message) == (
        Phase.PENDING,
        FailureReason.UNSCHEDULABLE,
        "no cpu",
    )


def test_events_are_told_once_and_warnings_as_such() -> None:
    events = [event("Pulling", "x", kind="Normal"), event("Failed", "y"), event("Failed", "y", count=3)]

    assert [(note.text, note.level) for note in notes_of(events)] == [("Pulling: x", "DEBUG"), ("Failed: y", "WARN")]


def test_a_pod_that_is_gone_counts_as_it_was_last_seen() -> None:
    assert gone(None).phase is Phase.LOST
    assert gone(pod(main=RUNNING)).failure_reason is FailureReason.LOST
    assert gone(pod(main=failed(143))).exit_code == 143
    assert gone(pod(main=RUNNING, status=disruption("PreemptionByScheduler"))).failure_reason is FailureReason.PREEMPTED


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (pod("Pending", {"init-files": waiting("PodInitializing")}), False),  # what a watch says that is behind
        (pod("Pending"), False),
        (pod("Pending", {"init-files": RUNNING}), False),
        (pod("Pending", {"init-files": DONE}), True),
        (pod("Pending", {"init-files": failed(1)}), True),
        (pod("Failed", status=evicted(NODE_DISK)), True),
        ({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}, True),
    ],
)
def test_a_container_has_stopped_when_somebody_has_seen_that_it_has(found: dict[str, Any], *, expected: bool) -> None:
    assert has_stopped(found, "init-files") is expected


@pytest.mark.parametrize(("age_s", "seconds"), [(0, 0.2), (20, 1.0), (1000, 5.0)])
def test_a_pod_that_waits_or_runs_long_is_looked_at_less_often(age_s: int, seconds: float) -> None:
    begun = datetime.now(UTC)
    since = (begun - timedelta(seconds=age_s)).isoformat()
    pending = pod("Pending", main=waiting("ContainerCreating"))
    pending["metadata"]["creationTimestamp"] = since

    found = [Kubernetes().interval(status_of(each)) for each in (pending, pod(main={"running": {"startedAt": since}}))]

    older_s = (datetime.now(UTC) - begun).total_seconds()  # a pod grows older meanwhile
    assert all(seconds <= each <= seconds + 0.001 + older_s / 20 for each in found), found
    assert Kubernetes().interval(status_of(pod(main=DONE))) == 0.2
