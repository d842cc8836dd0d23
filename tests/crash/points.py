"""The places at which synchronisation may be cut off: before or after which call the process kills itself."""

from __future__ import annotations

import functools
import os
import signal
from importlib import import_module
from typing import Any, Final, Literal

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
EVERY: Final[dict[str, tuple[str, str]]] = {**APPLY, **FETCH, **REPORT, **NOTE, **WRITE, **PUSH}


def kill_at(point: str) -> None:
    """Have this process kill itself, as `kill -9` does, when it comes to `point` for the first time."""
    when, target = EVERY[point]
    module, _, path = target.partition(":")
    *owners, name = path.split(".")
    owner: Any = functools.reduce(getattr, owners, import_module(module))
    setattr(owner, name, _deadly(getattr(owner, name), "before" if when == "before" else "after"))


def _deadly(call: Any, when: Literal["before", "after"]) -> Any:
    @functools.wraps(call)
    def wrapped(*arguments: Any, **options: Any) -> Any:
        if when == "after":
            call(*arguments, **options)
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError(when)

    return wrapped
