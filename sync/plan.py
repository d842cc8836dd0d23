"""What a commit would change in an environment. Pure: active versions and files in, a plan out.

The deletion guard lives here: a plan that deletes more than 50 flows, or more than 30 % of an environment with ten or
more flows, or its last flow, is held until somebody allows it. A flow whose file only moved is no deletion.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from runner.errors import Problem, Severity
from runner.flows.models import Flow
from runner.store.records import Environment, FlowVersion
from sync.layout import FlowPlace

MAX_DELETIONS: Final = 50
MAX_DELETED_SHARE: Final = 0.3
SMALL_ENVIRONMENT: Final = 10

_OF_SCHEDULES: Final = ("trigger", "disabled", "draft")
"""What a difference names that may move the next date of a schedule."""

FlowKey = tuple[str, str]
"""A flow's namespace and id."""


class ChangeKind(enum.StrEnum):
    """What happens to a flow."""

    ADDED = "added"
    CHANGED = "changed"
    MOVED = "moved"
    REMOVED = "removed"


@dataclass(frozen=True, slots=True)
class Change:
    """One flow that a plan touches.

    `diff` holds lines such as `tasks.load.timeout PT5M -> PT2M`; `note` says what follows for schedules. `flow` and
    `source` are None for a removed flow.
    """

    kind: ChangeKind
    namespace: str
    flow_id: str
    path: str | None
    blob: str | None = None
    diff: tuple[str, ...] = ()
    note: str | None = None
    flow: Flow | None = field(default=None, repr=False, compare=False)
    source: str | None = field(default=None, repr=False, compare=False)
    defaults: str | None = field(default=None, repr=False, compare=False)

    @property
    def key(self) -> FlowKey:
        """Return the namespace and the id."""
        return self.namespace, self.flow_id

    def as_json(self) -> dict[str, Any]:
        """Return the row as the API and the ledger show it."""
        return {
            "kind": self.kind.value,
            "namespace": self.namespace,
            "flowId": self.flow_id,
            "path": self.path,
            "blob": self.blob,
            "diff": list(self.diff),
            "note": self.note,
        }


@dataclass(frozen=True, slots=True)
class Plan:
    """The difference between what is active in an environment (`base`) and a `commit`.

    `held` says why the deletion guard stopped it, None when it did not. A plan with an error among its problems is
    never applied. `unchanged` counts flows; `files_changed` counts the files beside them that came, went or changed.
    """

    environment: str
    ref: str
    path: str
    base: str | None
    commit: str
    tree: str | None = None
    author: str | None = None
    subject: str | None = None
    changes: tuple[Change, ...] = ()
    unchanged: int = 0
    problems: tuple[Problem, ...] = ()
    held: str | None = None
    rewritten: bool = False
    files_changed: int = 0

    @property
    def is_valid(self) -> bool:
        """Whether no problem is an error."""
        return not self.errors

    @property
    def errors(self) -> tuple[Problem, ...]:
        """Return the problems that keep it from being activated."""
        return tuple(problem for problem in self.problems if problem.severity is Severity.ERROR)

    @property
    def activated(self) -> tuple[Change, ...]:
        """Return what gets a new active version."""
        return tuple(change for change in self.changes if change.kind is not ChangeKind.REMOVED)

    @property
    def removed(self) -> tuple[Change, ...]:
        """Return the flows that end."""
        return tuple(change for change in self.changes if change.kind is ChangeKind.REMOVED)

    def as_json(self) -> dict[str, Any]:
        """Return the plan as the API shows it."""
        return {
            "environment": self.environment,
            "ref": self.ref,
            "path": self.path,
            "base": self.base,
            "commit": self.commit,
            "author": self.author,
            "message": self.subject,
            "valid": self.is_valid,
            "held": self.held,
            "rewritten": self.rewritten,
            "unchanged": self.unchanged,
            "filesChanged": self.files_changed,
            "changes": [change.as_json() for change in self.changes],
            "problems": [problem.as_json() for problem in self.problems],
        }


def plan_of(found: Mapping[str, Any]) -> Plan:
    """Return the plan that `Plan.as_json` made, without the flows themselves."""
    changes = tuple(
        Change(
            ChangeKind(row["kind"]),
            row["namespace"],
            row["flowId"],
            row["path"],
            row["blob"],
            tuple(row["diff"]),
            row["note"],
        )
        for row in found["changes"]
    )
    problems = tuple(Problem(**{**row, "severity": Severity(row["severity"])}) for row in found["problems"])
    return Plan(
        environment=found["environment"],
        ref=found["ref"],
        path=found["path"],
        base=found["base"],
        commit=found["commit"],
        author=found["author"],
        subject=found["message"],
        changes=changes,
        unchanged=found["unchanged"],
        problems=problems,
        held=found["held"],
        rewritten=found["rewritten"],
        files_changed=found["filesChanged"],
    )


@dataclass(frozen=True, slots=True)
class Candidate:
    """A flow file of the new tree, parsed. `flow` is None when it has errors, which `problems` name."""

    place: FlowPlace
    blob: str
    flow: Flow | None
    source: str | None = None
    problems: tuple[Problem, ...] = ()
    defaults: str | None = None


@dataclass(frozen=True, slots=True)
class Questions:
    """What a plan asks the rest of the program; each is a pure function of its arguments.

    Attributes:
        parse: a flow file of the new tree -> the parsed candidate.
        flow_of: an active version -> its flow, or None when it no longer parses.
        compare: two flows -> lines that say what differs.
        check: all flows with their files -> problems that only show across flows.
        next_fire: a flow -> when its earliest schedule fires next, or None.
        owner: a flow's key -> the other environment that owns it, or None.
    """

    parse: Callable[[FlowPlace, str], Candidate]
    flow_of: Callable[[FlowVersion], Flow | None]
    compare: Callable[[Flow, Flow], Sequence[str]]
    check: Callable[[Sequence[tuple[str, Flow]]], Sequence[Problem]]
    next_fire: Callable[[Flow], datetime | None]
    owner: Callable[[FlowKey], str | None]


@dataclass(frozen=True, slots=True)
class NewTree:
    """The commit that is planned: its flow files with their blob ids, and what was refused while listing it.

    `defaults` gives the plugin defaults and templates that an active version would get there, if its file is the same.
    """

    commit: str
    tree: str | None
    flows: Mapping[FlowPlace, str]
    problems: tuple[Problem, ...] = ()
    author: str | None = None
    subject: str | None = None
    rewritten: bool = False
    files_changed: int = 0
    defaults: Callable[[FlowVersion], str | None] = lambda _version: None


def owns(environment: Environment, namespace: str) -> bool:
    """Whether `environment` may hold flows of `namespace`. Its patterns are `*` or prefixes by whole segments."""
    return any(
        pattern in {"*", namespace} or namespace.startswith(pattern.removesuffix(".*") + ".")
        for pattern in environment.namespaces
    )


def make_plan(
    environment: Environment,
    active: Sequence[FlowVersion],
    new: NewTree,
    ask: Questions,
    *,
    allowed_deletions: Collection[FlowKey] = (),
) -> Plan:
    """Return what activating `new` would do to `environment`, whose `active` versions run now.

    Only files whose path, content or plugin defaults changed are parsed. A file that has errors keeps its flow from
    counting as deleted. Deletions in `allowed_deletions` were asked for by name and do not count for the guard.
    """
    by_path = {version.path: version for version in active if version.path}
    same = {
        place: by_path[place.path]
        for place, blob in new.flows.items()
        if place.path in by_path and _is_same(by_path[place.path], blob, new)
    }
    candidates = [ask.parse(place, blob) for place, blob in new.flows.items() if place not in same]
    problems = [*new.problems, *(problem for candidate in candidates for problem in candidate.problems)]
    taken: dict[FlowKey, str] = {(v.namespace, v.flow_id): place.path for place, v in same.items()}
    accepted = [c for c in candidates if _accept(environment, c, taken, problems, ask)]
    changes = [*_activated(active, accepted, ask)]
    broken = {candidate.place.path for candidate in candidates if candidate.flow is None}
    gone = [v for v in active if (v.namespace, v.flow_id) not in taken and v.path not in broken]
    changes += [_removed(version, ask) for version in gone]
    problems += ask.check(_located(same, accepted, ask)) if not _has_error(problems) else []
    return Plan(
        environment=environment.name,
        ref=environment.ref,
        path=environment.path,
        base=environment.active,
        commit=new.commit,
        tree=new.tree,
        author=new.author,
        subject=new.subject,
        changes=tuple(sorted(changes, key=lambda change: (change.key, change.kind))),
        unchanged=len(same),
        problems=tuple(sorted(problems, key=lambda p: (p.file or "", p.line or 0, p.column or 0))),
        held=_guard(gone, accepted, active, len(taken) + len(broken), allowed_deletions),
        rewritten=new.rewritten,
        files_changed=new.files_changed,
    )


def _is_same(version: FlowVersion, blob: str, new: NewTree) -> bool:
    return version.blob == blob and version.defaults == new.defaults(version)


def _has_error(problems: Iterable[Problem]) -> bool:
    return any(problem.severity is Severity.ERROR for problem in problems)


def _accept(
    environment: Environment,
    candidate: Candidate,
    taken: dict[FlowKey, str],
    problems: list[Problem],
    ask: Questions,
) -> bool:
    flow, path = candidate.flow, candidate.place.path
    if flow is None:
        return False
    key = flow.namespace, flow.id
    if key in taken:
        text = f"{flow.namespace}.{flow.id} is defined in {taken[key]} already"
        problems.append(Problem("flow.id.duplicate", text, file=path, line=1, column=1))
        return False
    taken[key] = path
    if not owns(environment, flow.namespace):
        allowed = ", ".join(environment.namespaces)
        text = f"environment {environment.name} may not hold flows of namespace {flow.namespace!r}"
        problems.append(Problem("flow.namespace.foreign", text, file=path, hint=f"it owns: {allowed}"))
        return False
    owner = ask.owner(key)
    if owner is not None:
        text = f"{flow.namespace}.{flow.id} belongs to environment {owner}"
        problems.append(Problem("flow.namespace.owned", text, file=path, hint="one flow has one owner"))
        return False
    return True


def _activated(active: Sequence[FlowVersion], accepted: Sequence[Candidate], ask: Questions) -> Iterable[Change]:
    known = {(version.namespace, version.flow_id): version for version in active}
    for candidate in accepted:
        flow = candidate.flow
        assert flow is not None
        before = known.get((flow.namespace, flow.id))
        kind, diff = ChangeKind.ADDED, tuple[str, ...]()
        if before is not None and (before.blob, before.defaults) == (candidate.blob, candidate.defaults):
            kind, diff = ChangeKind.MOVED, (f"{before.path} -> {candidate.place.path}",)
        elif before is not None:
            old = ask.flow_of(before)
            kind = ChangeKind.CHANGED
            diff = tuple(ask.compare(old, flow)) if old else ("replaces a version that no longer parses",)
        yield Change(
            kind=kind,
            namespace=flow.namespace,
            flow_id=flow.id,
            path=candidate.place.path,
            blob=candidate.blob,
            diff=diff,
            note=_next_note(flow, diff, kind, ask),
            flow=flow,
            source=candidate.source,
            defaults=candidate.defaults,
        )


def _next_note(flow: Flow, diff: Sequence[str], kind: ChangeKind, ask: Questions) -> str | None:
    if flow.draft:
        return "a draft, for who names its revision"
    if kind is ChangeKind.CHANGED and not any(word in line for word in _OF_SCHEDULES for line in diff):
        return None
    fires = ask.next_fire(flow)
    return f"runs next {fires:%Y-%m-%d %H:%M} {fires.tzname()}" if fires else None


def _removed(version: FlowVersion, ask: Questions) -> Change:
    flow = ask.flow_of(version)
    schedules = sum(1 for trigger in flow.triggers if trigger.type.endswith("Schedule")) if flow else 0
    note = f"{schedules} schedule{'s stop' if schedules > 1 else ' stops'}" if schedules else None
    return Change(ChangeKind.REMOVED, version.namespace, version.flow_id, version.path, note=note)


def _located(
    same: Mapping[FlowPlace, FlowVersion], accepted: Sequence[Candidate], ask: Questions
) -> list[tuple[str, Flow]]:
    located = [(place.path, ask.flow_of(version)) for place, version in same.items()]
    located += [(candidate.place.path, candidate.flow) for candidate in accepted]
    return [(path, flow) for path, flow in located if flow is not None]


def _guard(
    gone: Sequence[FlowVersion],
    accepted: Sequence[Candidate],
    active: Sequence[FlowVersion],
    remaining: int,
    allowed: Collection[FlowKey],
) -> str | None:
    before = {(version.namespace, version.flow_id) for version in active}
    arrived = [c for c in accepted if c.flow and (c.flow.namespace, c.flow.id) not in before]
    moved = {c.blob for c in arrived} | {c.flow.id for c in arrived if c.flow}
    deleted = [
        v for v in gone if (v.namespace, v.flow_id) not in allowed and v.blob not in moved and v.flow_id not in moved
    ]
    if not deleted:
        return None
    flows = "flow" if len(deleted) == 1 else "flows"
    if not remaining:
        return f"it deletes {len(deleted)} {flows} and leaves none"
    if len(deleted) > MAX_DELETIONS:
        return f"it deletes {len(deleted)} {flows}, more than {MAX_DELETIONS}"
    if len(active) >= SMALL_ENVIRONMENT and len(deleted) > MAX_DELETED_SHARE * len(active):
        return f"it deletes {len(deleted)} of {len(active)} flows, more than {MAX_DELETED_SHARE:.0%}"
    return None
