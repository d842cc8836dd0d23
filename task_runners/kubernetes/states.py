"""What the status of a pod means for its task: a pure reading of the object and of what was said about it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

from task_runners.errors import FailureReason
from task_runners.kubernetes.manifest import IN_FILES, MAIN, OUT_FILES
from task_runners.progress import Note
from task_runners.spec import JobStatus, Phase, Usage

__all__ = ["gone", "has_left_files", "has_stopped", "image_fault", "is_ending", "notes_of", "runs", "status_of"]

Object = Mapping[str, Any]

_PATIENCE_S: Final = 60.0
_FAILURES: Final = 2
_WARNING: Final = "Warning"
_HOPELESS: Final = frozenset({"InvalidImageName", "ErrImageNeverPull"})
_PULL: Final = frozenset({"ErrImagePull", "ImagePullBackOff", "RegistryUnavailable", "SignatureValidationFailed"})
_CONFIG: Final = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})
# What a registry says when asking again changes nothing.
_FINAL_WORDS: Final = ("not found", "manifest unknown", "denied", "unauthorized", "forbidden", "does not exist")
_OWN_DISK: Final = re.compile(
    r"(local storage usage|EmptyDir volume .*) exceeds the|exceeded its local ephemeral storage"
)
_DISRUPTIONS: Final = {
    "PreemptionByScheduler": FailureReason.PREEMPTED,
    "PreemptionByKubeScheduler": FailureReason.PREEMPTED,
    "EvictionByEvictionAPI": FailureReason.EVICTED,
    "TerminationByKubelet": FailureReason.EVICTED,
    "DeletionByTaintManager": FailureReason.NODE_LOST,
    "DeletionByPodGC": FailureReason.NODE_LOST,
}
_REASONS: Final = {
    "Evicted": FailureReason.EVICTED,
    "Preempting": FailureReason.PREEMPTED,
    "Terminated": FailureReason.PREEMPTED,  # the node is shut down, as spot machines are
    "NodeShutdown": FailureReason.PREEMPTED,
    "Shutdown": FailureReason.PREEMPTED,
    "NodeLost": FailureReason.NODE_LOST,
    "DeadlineExceeded": FailureReason.DEADLINE,
    "UnexpectedAdmissionError": FailureReason.UNSCHEDULABLE,
    "OutOfcpu": FailureReason.UNSCHEDULABLE,
    "OutOfmemory": FailureReason.UNSCHEDULABLE,
}

# What a deletion sends to a body, as its exit code tells it. Where the deletion was ours, its cause counts instead.
_ENDED_BY_REMOVAL: Final = frozenset({128 + 9, 128 + 15})
_REMOVED: Final = JobStatus(Phase.LOST, None, FailureReason.LOST, "the pod was removed by somebody else")


def status_of(pod: Object, events: Sequence[Object] = (), *, fails_fast: bool = True) -> JobStatus:
    """Return where the task of a pod stands; `events` are what was said about it, the oldest first."""
    status = pod.get("status") or {}
    details = {"podName": pod["metadata"]["name"], "nodeName": (pod.get("spec") or {}).get("nodeName")}
    found = (
        _disrupted(status)
        or _failed_to_start(pod, events, fails_fast=fails_fast)
        or _ended(pod)
        or _unhelpful_end(status)
        or _under_way(pod, events)
    )
    return JobStatus(
        found.phase, found.exit_code, found.failure_reason, found.message, found.usage, details, notes_of(events)
    )


def notes_of(events: Iterable[Object]) -> tuple[Note, ...]:
    """Return what is to be told of the events of a pod; what was said several times is told once."""
    texts = {f"{event.get('reason')}: {event.get('message')}": event.get("type") == _WARNING for event in events}
    return tuple(Note(text, text, "WARN" if is_warning else "DEBUG") for text, is_warning in texts.items())


def gone(last: Object | None) -> JobStatus:
    """Return the status of a pod that is not there any more, from what was `last` seen of it."""
    if last is None:
        return _REMOVED
    known = status_of(last)
    return known if known.phase.is_final else replace(_REMOVED, details=known.details)


def has_left_files(pod: Object) -> bool:
    """Return whether a container still holds the files of the task."""
    return runs(pod, OUT_FILES)


def runs(pod: Object, container: str) -> bool:
    """Return whether a container of a pod runs, and is not being ended with all of it."""
    return not is_ending(pod) and "running" in _all_states(pod).get(container, {})


def has_stopped(pod: Object, container: str) -> bool:
    """Return whether a container runs no more, or soon does not. One of which an old state is known has not."""
    phase = (pod.get("status") or {}).get("phase")
    return is_ending(pod) or phase in {"Succeeded", "Failed"} or "terminated" in _all_states(pod).get(container, {})


def is_ending(pod: Object) -> bool:
    """Return whether a pod was told to end: its containers have got their SIGTERM, or get it any moment."""
    return bool(pod["metadata"].get("deletionTimestamp"))


# --- endings ----------------------------------------------------------------------------------------------------------


def _disrupted(status: Object) -> JobStatus | None:
    for condition in status.get("conditions") or []:
        if condition.get("type") == "DisruptionTarget" and condition.get("status") == "True":
            reason = _DISRUPTIONS.get(str(condition.get("reason")), FailureReason.EVICTED)
            # What the pod as a whole says is more exact: which limit was passed, what the node lacks.
            message = str(status.get("message") or condition.get("message") or condition.get("reason"))
            return JobStatus(Phase.FAILED, None, _thrown_out(reason, message), message)
    word = str(status.get("reason") or "")
    if status.get("phase") == "Failed" and word in _REASONS:
        message = str(status.get("message") or word)
        return JobStatus(Phase.FAILED, None, _thrown_out(_REASONS[word], message), message)
    return None


def _thrown_out(reason: FailureReason, message: str) -> FailureReason:
    """Return `reason`, unless the pod itself used more disk than it may: elsewhere it would do so again."""
    is_own = reason is FailureReason.EVICTED and _OWN_DISK.search(message)
    return FailureReason.DISK_FULL if is_own else reason


def _ended(pod: Object) -> JobStatus | None:
    inits = _states(pod, "initContainerStatuses")
    for name, state in inits.items():
        code = (state.get("terminated") or {}).get("exitCode")
        if code:
            return _failed_init(name, state["terminated"])
    states = {name: state for name, state in _states(pod, "containerStatuses").items() if name != OUT_FILES}
    if not states or not all("terminated" in state for state in states.values()):
        return None
    order = sorted(states, key=lambda name: name != MAIN)
    worst = next((name for name in order if states[name]["terminated"]["exitCode"]), MAIN)
    return _exit_of(pod, worst, states[worst]["terminated"], states.get(MAIN, states[worst])["terminated"])


def _failed_init(name: str, ended: Object) -> JobStatus:
    reason = FailureReason.INPUT_FILES if name == IN_FILES else FailureReason.CONFIG_ERROR
    said = str(ended.get("message") or "").strip()
    message = f"the container {name} failed with exit code {ended['exitCode']}" + (f": {said[:300]}" if said else "")
    return JobStatus(Phase.FAILED, None, reason, message)


def _exit_of(pod: Object, name: str, ended: Object, main: Object) -> JobStatus:
    code, usage = int(ended["exitCode"]), Usage(wall_seconds=_seconds(main))
    if code == 0:
        return JobStatus(Phase.SUCCEEDED, 0, usage=usage)
    reason, message = FailureReason.APP_EXIT, f"command failed with exit code {code}"
    if ended.get("reason") == "OOMKilled":
        limit = _memory_limit(pod, name)
        reason, message = FailureReason.OOM_KILLED, f"out of memory (limit {limit})" if limit else "out of memory"
    elif ended.get("reason") in {"StartError", "ContainerCannotRun"}:
        reason, message = FailureReason.CONFIG_ERROR, f"the container cannot be started: {ended.get('message')}"
    elif pod["metadata"].get("deletionTimestamp") and code in _ENDED_BY_REMOVAL:
        return replace(_REMOVED, exit_code=code, usage=usage)
    elif name != MAIN:
        message = f"the container {name} failed with exit code {code}"
    return JobStatus(Phase.FAILED, code, reason, message, usage)


def _unhelpful_end(status: Object) -> JobStatus | None:
    if status.get("phase") not in {"Failed", "Succeeded"}:
        return None
    message = str(status.get("message") or status.get("reason") or "the pod ended without saying how")
    return JobStatus(Phase.LOST, None, FailureReason.LOST, message)


# --- before the end ---------------------------------------------------------------------------------------------------


def _failed_to_start(pod: Object, events: Sequence[Object], *, fails_fast: bool) -> JobStatus | None:
    for name, state in _all_states(pod).items():
        waiting = state.get("waiting")
        if waiting is None or (pod.get("status") or {}).get("phase") != "Pending":
            continue
        reason = str(waiting.get("reason"))
        if reason in _CONFIG and fails_fast:
            message = f"the container {name} cannot be made: {waiting.get('message') or reason}"
            return JobStatus(Phase.FAILED, None, FailureReason.CONFIG_ERROR, message)
        if fails_fast and (fault := image_fault(waiting, events)):
            return JobStatus(Phase.FAILED, None, FailureReason.IMAGE_PULL, fault)
    return None


def image_fault(waiting: Object, events: Sequence[Object]) -> str | None:
    """Return what is wrong with an image, once it is clear that waiting does not help.

    That is at once where a registry says that there is no such image or that we may not have it, else after the second
    failure or a minute of them.
    """
    reason, message = str(waiting.get("reason")), str(waiting.get("message") or "")
    if reason in _HOPELESS:
        return message or reason
    if reason not in _PULL:
        return None
    failures = [event for event in events if event.get("type") == _WARNING and "image" in str(event.get("message"))]
    text = next((str(event["message"]) for event in failures if event.get("reason") == "Failed"), message)
    is_final = any(word in f"{message} {text}".lower() for word in _FINAL_WORDS)
    count = sum(int(event.get("count") or 1) for event in failures if event.get("message") == text)
    return text or reason if is_final or count >= _FAILURES or _span_s(failures) >= _PATIENCE_S else None


def _under_way(pod: Object, events: Sequence[Object]) -> JobStatus:
    states = _states(pod, "containerStatuses")
    main = states.get(MAIN, {})
    if "running" in main or "terminated" in main:
        return JobStatus(Phase.RUNNING, usage=_age((main.get("running") or {}).get("startedAt")))
    waits = _age(pod["metadata"].get("creationTimestamp"))
    if "running" in _states(pod, "initContainerStatuses").get(IN_FILES, {}):
        return JobStatus(Phase.STAGING_IN, message="input files are brought to the pod", usage=waits)
    for condition in (pod.get("status") or {}).get("conditions") or []:
        if condition.get("type") == "PodScheduled" and condition.get("reason") == "Unschedulable":
            message = str(condition.get("message") or "Unschedulable")
            return JobStatus(Phase.PENDING, None, FailureReason.UNSCHEDULABLE, message, waits)
    waiting = [state["waiting"] for state in _all_states(pod).values() if "waiting" in state]
    reasons = [str(each.get("message") or each.get("reason")) for each in waiting]
    is_image = any(each.get("reason") in _PULL for each in waiting)
    last = str(events[-1].get("message")) if events else "the pod waits"
    reason = FailureReason.IMAGE_PULL if is_image else None
    return JobStatus(Phase.PENDING, None, reason, reasons[0] if is_image else last, waits)


# --- the object -------------------------------------------------------------------------------------------------------


def _states(pod: Object, key: str) -> dict[str, Mapping[str, Any]]:
    found = (pod.get("status") or {}).get(key) or []
    return {str(each["name"]): each.get("state") or {} for each in found}


def _all_states(pod: Object) -> dict[str, Mapping[str, Any]]:
    return _states(pod, "initContainerStatuses") | _states(pod, "containerStatuses")


def _memory_limit(pod: Object, name: str) -> str:
    containers = (pod.get("spec") or {}).get("containers") or []
    limits = next((each.get("resources", {}).get("limits") for each in containers if each["name"] == name), None)
    text = str((limits or {}).get("memory") or "")
    return f"{int(text) / 1024**2:g} MiB" if text.isdigit() else text


def _seconds(ended: Object) -> float | None:
    began, ended_at = _moment(ended.get("startedAt")), _moment(ended.get("finishedAt"))
    return (ended_at - began).total_seconds() if began and ended_at else None


def _age(since: Any) -> Usage:
    began = _moment(since)
    # The clocks of node and worker differ: this only tells how patiently to look.
    return Usage(wall_seconds=max(0.0, (datetime.now(UTC) - began).total_seconds()) if began else None)


def _span_s(events: Sequence[Object]) -> float:
    moments = [_moment(event.get(key)) for event in events for key in ("firstTimestamp", "lastTimestamp")]
    known = [moment for moment in moments if moment is not None]
    return (max(known) - min(known)).total_seconds() if known else 0.0


def _moment(text: Any) -> datetime | None:
    try:
        return datetime.fromisoformat(str(text))
    except ValueError:
        return None
