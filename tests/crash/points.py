"""The places at which work may be cut off: before or after which call the process kills itself."""

from __future__ import annotations

import functools
import inspect
import os
import signal
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, Final

APPLY: Final = {
    "apply.begun": ("before", "sync.activation:Activation.apply"),
    "apply.environment.switched": ("after", "runner.store.repositories:Environments.swap_active"),
    "apply.flows.switched": ("after", "sync.activation:_switch_flows"),
    "apply.triggers.switched": ("after", "sync.activation:_switch_triggers"),
    "apply.revision.written": ("after", "runner.store.ledger:Revisions.add"),
    "apply.audit.written": ("after", "sync.activation:_audit"),
    "apply.done": ("after", "sync.activation:Activation.apply"),
}
FETCH: Final = {
    "fetch.refs.read": ("after", "sync.mirror:MirrorSource.heads"),
    "fetch.pack.received": ("before", "sync.mirror:check_pack"),
    "fetch.pack.checked": ("before", "sync.objects:SharedObjectStore.add_thin_pack"),
    "fetch.pack.stored": ("after", "sync.objects:SharedObjectStore.add_thin_pack"),
    "fetch.done": ("after", "sync.mirror:MirrorSource.fetch"),
    "fetch.blobs.brought": ("after", "sync.mirror:MirrorSource.ensure"),
    "plan.made": ("after", "sync.planning:Planner.plan"),
}
REPORT: Final = {
    "report.begun": ("before", "sync.reports.publication:Publication.write"),
    "report.branch.seen": ("after", "sync.reports.branch:ReportBranch.look"),
    "report.remembered": ("before", "sync.reports.branch:ReportBranch.commit"),
    "report.commit.made": ("after", "sync.repository:GitRepository.commit_changes"),
    "report.pushed": ("after", "sync.mirror:MirrorSource.push"),
    "report.rows.removed": ("after", "runner.store.outbox:Outbox.delete"),
    "report.done": ("after", "sync.reports.publication:Publication._remember"),
}
NOTE: Final = {
    "note.begun": ("before", "sync.reports.ledger_mirror:LedgerMirror._append"),
    "note.read": ("after", "sync.reports.notes:NoteBook._head"),
    "note.pushed": ("after", "sync.reports.notes:NoteBook.append"),
    "note.remembered": ("after", "sync.reports.ledger_notes:Untold.remember"),
    "note.done": ("after", "sync.reports.ledger_mirror:LedgerMirror.write"),
}
WRITE: Final = {
    "write.commit.made": ("after", "sync.repository:GitRepository.commit_changes"),
    "write.planned": ("after", "sync.planning:Planner.plan"),
    "write.ref.moved": ("after", "sync.sources:LocalSource.push"),
    "write.done": ("after", "sync.commits:Commits.commit"),
}
PUSH: Final = {
    "push.pack.checked": ("after", "sync.hosted:check_pack"),
    "push.pack.stored": ("after", "sync.hosted:HostedRepository._index"),
    "push.planned": ("after", "sync.service:SyncService.plan"),
    "push.ref.moved": ("after", "sync.repository:GitRepository.set_head"),
    "push.applied": ("after", "sync.hosted:HostedRepository._apply"),
}
PROCESS: Final = {
    "process.prepared": ("before", "task_runners.supervisor:Supervisor.start_body"),
    "process.begun": ("after", "task_runners.supervisor:Supervisor.start_body"),
    "process.ended": ("before", "task_runners.base:collect_outputs"),
    "process.collected": ("after", "task_runners.base:collect_outputs"),
    "process.cleaned": ("after", "task_runners.process:Process.cleanup"),
    "process.recorded": ("after", "runner.worker:Worker._record"),
}
DOCKER: Final = {
    "docker.created": ("after", "task_runners.docker:Docker._create"),
    "docker.staged": ("after", "task_runners.staging.direct:TarStream.put"),
    "docker.begun": ("after", "task_runners.docker:Docker._begin"),
    "docker.ended": ("before", "task_runners.staging.direct:TarStream.get"),
    "docker.collected": ("after", "task_runners.staging.direct:TarStream.get"),
    "docker.recorded": ("before", "task_runners.docker:Docker.cleanup"),
    "docker.cleaned": ("after", "task_runners.docker:Docker.cleanup"),
}
KUBERNETES: Final = {
    "kubernetes.staged": ("after", "task_runners.kubernetes.transfer:staged_files"),
    "kubernetes.secret.made": ("before", "task_runners.kubernetes.api:Api.create", "pods"),
    "kubernetes.pod.made": ("after", "task_runners.kubernetes.api:Api.create", "pods"),
    "kubernetes.brought": ("after", "task_runners.kubernetes.transfer:bring"),
    "kubernetes.ended": ("before", "task_runners.kubernetes.transfer:fetch"),
    "kubernetes.collected": ("after", "task_runners.kubernetes.transfer:fetch"),
    "kubernetes.recorded": ("before", "task_runners.kubernetes.runner:Kubernetes.cleanup"),
    "kubernetes.secret.deleted": ("after", "task_runners.kubernetes.api:Api.delete", "secrets"),
    "kubernetes.cleaned": ("after", "task_runners.kubernetes.runner:Kubernetes.cleanup"),
}
AWS: Final = {
    "aws.staged": ("after", "task_runners.cloud_job:CloudTaskRunner._wrapped"),
    "aws.queue.made": ("after", "task_runners.aws_batch:Batch._make_queue"),
    "aws.begun": ("after", "task_runners.aws_batch:Batch._start"),
    "aws.ended": ("before", "task_runners.cloud_job:CloudTaskRunner.collect"),
    "aws.collected": ("after", "task_runners.cloud_job:CloudTaskRunner.collect"),
    "aws.recorded": ("before", "task_runners.aws_batch:Batch._discard"),
    "aws.discarded": ("after", "task_runners.aws_batch:Batch._discard"),
}
RUNNERS: Final[dict[str, tuple[str, ...]]] = {**PROCESS, **DOCKER, **KUBERNETES, **AWS}
SYNC: Final[dict[str, tuple[str, ...]]] = {**APPLY, **FETCH, **REPORT, **NOTE, **WRITE, **PUSH}


def kill_at(point: str) -> None:
    """Have this process kill itself, as `kill -9` does, when it comes to `point` for the first time."""
    _make_deadly(SYNC[point], lambda: True)


def kill_when_told(order: Path, prefix: str) -> None:
    """Have this process kill itself at whatever point of a task runner the file `order` names; it is removed then."""

    def is_told(point: str) -> bool:
        try:
            told = order.read_text() == point
        except FileNotFoundError:
            return False
        if told:
            order.unlink()
        return told

    for point in RUNNERS:
        if point.startswith(f"{prefix}."):
            _make_deadly(RUNNERS[point], functools.partial(is_told, point))


def _make_deadly(place: tuple[str, ...], is_due: Callable[[], bool]) -> None:
    """Replace what `place` names: before or after, which call, and optionally a word among its arguments."""
    when, target, *words = place
    module, _, path = target.partition(":")
    *owners, name = path.split(".")
    owner: Any = functools.reduce(getattr, owners, import_module(module))
    call = getattr(owner, name)

    @functools.wraps(call)
    def wrapped(*arguments: Any, **options: Any) -> Any:
        is_meant = all(word in arguments for word in words)
        if is_meant and when == "before" and is_due():
            os.kill(os.getpid(), signal.SIGKILL)
        result = call(*arguments, **options)
        if is_meant and when == "after" and is_due():
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    is_static = isinstance(inspect.getattr_static(owner, name), staticmethod)
    setattr(owner, name, staticmethod(wrapped) if is_static else wrapped)
