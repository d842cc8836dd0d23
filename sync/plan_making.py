"""How a plan is made. Pure: active versions and files in, a plan out.

The deletion guard lives here: a plan that deletes more than 50 flows, or more than 30 % of an environment with ten or
more flows, or its last flow, is held until somebody allows it. A flow whose file only moved is no deletion.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import Final

from runner.flows.head import FlowHead
from runner.flows.models import Flow
from runner.store.records import ActiveFlow, Environment
from sync.plan import Change, ChangeKind, FlowKey, Plan, ordered, sorted_changes
from sync.sifting import Candidate, NewTree, Questions, Sifted

MAX_DELETIONS: Final = 50
MAX_DELETED_SHARE: Final = 0.3
SMALL_ENVIRONMENT: Final = 10
_OF_SCHEDULES: Final = ("trigger", "disabled", "draft")
"""What a difference names that may move the next date of a schedule."""


def make_plan(
    environment: Environment,
    active: Sequence[ActiveFlow],
    new: NewTree,
    ask: Questions,
    *,
    allowed_deletions: Collection[FlowKey] = (),
) -> Plan:
    """Return what activating `new` would do to `environment`, whose `active` versions run now.

    Only files whose path, content or plugin defaults changed are parsed. A file that has errors keeps its flow from
    counting as deleted. Deletions in `allowed_deletions` were asked for by name and do not count for the guard.
    """
    sifted = Sifted.of(environment, active, new, ask)
    problems = sifted.cross_checked(ask)
    renames = _renames(sifted.gone, sifted.accepted, active, ask)
    changes = [*_activated(active, sifted.accepted, renames, ask), *sifted.quarantined()]
    names = {id(version): candidate.key for candidate, version in renames}
    changes += [_removed(version, names.get(id(version)), ask) for version in sifted.gone]
    return Plan(
        environment=environment.name,
        ref=environment.ref,
        path=environment.path,
        base=environment.active,
        commit=new.commit,
        tree=new.tree,
        author=new.author,
        subject=new.subject,
        changes=sorted_changes(changes),
        unchanged=len(sifted.same),
        problems=ordered(problems),
        held=_guard(sifted, active, {id(version) for _, version in renames}, allowed_deletions),
        rewritten=new.rewritten,
        files_changed=new.files_changed,
    )


def _renames(
    gone: Sequence[ActiveFlow], accepted: Sequence[Candidate], active: Sequence[ActiveFlow], ask: Questions
) -> list[tuple[Candidate, ActiveFlow]]:
    """Return the flows that come back under another name: the same in all else, or the same tasks in the same file."""
    before = {(version.namespace, version.flow_id) for version in active}
    arrived = [candidate for candidate in accepted if candidate.key not in before]
    if not gone or not arrived:
        return []
    left = [(version, flow) for version in gone if (flow := ask.flow_of(version)) is not None]
    by_likeness = {ask.likeness(flow): version for version, flow in left}
    by_path = {version.path: (version, flow) for version, flow in left}
    found: dict[int, tuple[Candidate, ActiveFlow]] = {}
    for candidate in arrived:
        flow = candidate.flow
        assert flow is not None
        version = by_likeness.get(ask.likeness(flow))
        old, before_flow = by_path.get(candidate.place.path, (None, None))
        if version is None and before_flow is not None and _is_kin(before_flow, flow):
            version = old
        if version is not None:
            found.setdefault(id(version), (candidate, version))
    return list(found.values())


def _is_kin(old: Flow, new: Flow) -> bool:
    """Whether half of the tasks of both are the same by id."""
    before, after = {task.id for task in old.all_tasks()}, {task.id for task in new.all_tasks()}
    return 2 * len(before & after) >= max(len(before), len(after))


def _activated(
    active: Sequence[ActiveFlow],
    accepted: Sequence[Candidate],
    renames: Sequence[tuple[Candidate, ActiveFlow]],
    ask: Questions,
) -> Iterable[Change]:
    known = {(version.namespace, version.flow_id): version for version in active}
    names = {id(candidate): version for candidate, version in renames}
    for candidate in accepted:
        head = candidate.head
        assert head is not None
        before = known.get((head.namespace, head.id)) or names.get(id(candidate))
        old = ask.flow_of(before) if before is not None else None
        kind, diff = _difference(candidate, head, before, old, ask)
        note, was, then = _fires(head, old, diff, kind, ask)
        yield Change(
            kind=kind,
            namespace=head.namespace,
            flow_id=head.id,
            path=candidate.place.path,
            blob=candidate.blob,
            diff=diff,
            note=note,
            before=was,
            after=then,
            head=head,
            source=candidate.source,
            defaults=candidate.defaults,
            read=candidate.read,
        )


def _difference(
    candidate: Candidate, head: FlowHead, before: ActiveFlow | None, old: Flow | None, ask: Questions
) -> tuple[ChangeKind, tuple[str, ...]]:
    if before is None:
        return ChangeKind.ADDED, ()
    if (before.namespace, before.flow_id) != (head.namespace, head.id):
        named = ("id ", "namespace ")
        other = [line for line in _compared(old, candidate, ask) if not line.startswith(named)]
        return ChangeKind.RENAMED, (f"from {before.namespace}.{before.flow_id}", *other)
    if (before.blob, before.defaults) == (candidate.blob, candidate.defaults):
        return ChangeKind.MOVED, (f"{before.path} -> {candidate.place.path}",)
    lines = _compared(old, candidate, ask) if old else ["replaces a version that no longer parses"]
    return ChangeKind.CHANGED, tuple(lines)


def _compared(old: Flow | None, candidate: Candidate, ask: Questions) -> Sequence[str]:
    new = candidate.flow if old is not None else None
    return ask.compare(old, new) if old is not None and new is not None else ()


Times = tuple[str, ...]


def _fires(
    flow: FlowHead, old: Flow | None, diff: Sequence[str], kind: ChangeKind, ask: Questions
) -> tuple[str | None, Times, Times]:
    """Return a note about the next times, the times before and the times after; nothing where they stay."""
    if flow.draft:
        return "a draft, for who names its revision", (), ()
    if kind is ChangeKind.CHANGED and not any(word in line for word in _OF_SCHEDULES for line in diff):
        return None, (), ()
    then = ask.next_fires(flow)
    was = ask.next_fires(old) if old is not None and kind is ChangeKind.CHANGED else ()
    if kind is ChangeKind.CHANGED and list(was) == list(then):
        return (f"still runs next {_shown(then)}" if then else None), (), ()
    note = f"runs next {_shown(then)}" if then else ("runs by itself no more" if was else None)
    if was:
        note = f"{note}; before: {_shown(was)}"
    return note, _texts(was), _texts(then)


def _shown(times: Sequence[datetime]) -> str:
    """Return `2026-11-22 06:00 UTC, then 2026-11-22 07:00, 2026-11-22 08:00`; with seconds where they matter."""
    form = "%Y-%m-%d %H:%M:%S" if any(each.second for each in times) else "%Y-%m-%d %H:%M"
    first, *rest = (each.strftime(form) for each in times)
    shown = f"{first} {times[0].tzname()}"
    return f"{shown}, then {', '.join(rest)}" if rest else shown


def _texts(times: Sequence[datetime]) -> Times:
    return tuple(each.isoformat(timespec="seconds") for each in times)


def _removed(version: ActiveFlow, new_name: FlowKey | None, ask: Questions) -> Change:
    flow = ask.flow_of(version)
    schedules = sum(1 for trigger in flow.triggers if trigger.type.endswith("Schedule")) if flow else 0
    renamed_to = ".".join(new_name) if new_name else None
    parts = [f"renamed to {renamed_to}"] if renamed_to else []
    parts += [f"{schedules} schedule{'s stop' if schedules > 1 else ' stops'}"] if schedules and not new_name else []
    was = ask.next_fires(flow) if flow else ()
    return Change(
        ChangeKind.REMOVED,
        version.namespace,
        version.flow_id,
        version.path,
        note="; ".join(parts) or None,
        renamed_to=renamed_to,
        before=_texts(was),
    )


def _guard(
    sifted: Sifted, active: Sequence[ActiveFlow], renamed: Collection[int], allowed: Collection[FlowKey]
) -> str | None:
    before = {(version.namespace, version.flow_id) for version in active}
    arrived = [c for c in sifted.accepted if c.key and c.key not in before]
    moved = {c.blob for c in arrived} | {c.head.id for c in arrived if c.head}
    deleted = [
        v
        for v in sifted.gone
        if (v.namespace, v.flow_id) not in allowed
        and v.blob not in moved
        and v.flow_id not in moved
        and id(v) not in renamed
    ]
    if not deleted:
        return None
    flows = "flow" if len(deleted) == 1 else "flows"
    if not len(sifted.taken) + len(sifted.refused):
        return f"it deletes {len(deleted)} {flows} and leaves none"
    if len(deleted) > MAX_DELETIONS:
        return f"it deletes {len(deleted)} {flows}, more than {MAX_DELETIONS}"
    if len(active) >= SMALL_ENVIRONMENT and len(deleted) > MAX_DELETED_SHARE * len(active):
        return f"it deletes {len(deleted)} of {len(active)} flows, more than {MAX_DELETED_SHARE:.0%}"
    return None
