"""A plan: what a commit would change in an environment, and what is wrong with it."""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

from runner.errors import Problem, Severity
from runner.flows.head import FlowHead
from runner.flows.models import Flow
from runner.rules import RepositoryRules
from sync.dashboards import DashboardChange, WantedDashboards, dashboard_change_of
from sync.seeds import Seeding, SeedingKind, Seeds, seeding_of
from sync.signatures.verdict import CommitSignature

FlowKey = tuple[str, str]
"""A flow's namespace and id."""


def nothing() -> None:
    """Return no flow."""
    return


class ChangeKind(enum.StrEnum):
    """What happens to a flow.

    One that is renamed arrives under its new name and is removed under the old one. One that is quarantined has a file
    with errors, and stays as it is while the rest of the commit is activated.
    """

    ADDED = "added"
    CHANGED = "changed"
    MOVED = "moved"
    RENAMED = "renamed"
    REMOVED = "removed"
    QUARANTINED = "quarantined"


@dataclass(frozen=True, slots=True)
class Change:
    """One flow that a plan touches.

    `diff` holds lines such as `tasks.load.timeout PT5M -> PT2M`; `note` says what follows for schedules. `before` and
    `after` are the next times, at most three, at which its schedules start it, in ISO 8601; both are empty where
    nothing changes about them. `head` and `source` are None for a flow that is removed or quarantined; `read` gives the
    whole flow, or None too. `commit` is that whose files the flow runs with, None for that of the plan. `named_by` is
    the file that has the flow's name already, for a second one in quarantine: that flow is not in quarantine.
    `renamed_to` is the new `namespace.id` of a flow that is removed under its old name alone.
    """

    kind: ChangeKind
    namespace: str
    flow_id: str
    path: str | None
    blob: str | None = None
    diff: tuple[str, ...] = ()
    note: str | None = None
    named_by: str | None = None
    renamed_to: str | None = None
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    head: FlowHead | None = field(default=None, repr=False, compare=False)
    source: str | None = field(default=None, repr=False, compare=False)
    defaults: str | None = field(default=None, repr=False, compare=False)
    commit: str | None = field(default=None, repr=False, compare=False)
    read: Callable[[], Flow | None] = field(default=nothing, repr=False, compare=False)

    @property
    def key(self) -> FlowKey:
        """Return the namespace and the id."""
        return self.namespace, self.flow_id

    @property
    def title(self) -> str:
        """Return `namespace.id`, or the path of a file that has the name of another."""
        return (self.path or "") if self.named_by else f"{self.namespace}.{self.flow_id}"

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
            "namedBy": self.named_by,
            "renamedTo": self.renamed_to,
            "fires": {"before": list(self.before), "after": list(self.after)},
        }


@dataclass(frozen=True, slots=True)
class Plan:
    """The difference between what is active in an environment (`base`) and a `commit`.

    `held` says why the deletion guard stopped it, None when it did not. A plan with an error among its problems is
    never applied, unless the error is one of a file in quarantine. `unchanged` counts flows; `files_changed` counts the
    files beside them that came, went or changed; `unchecked` names what could not be looked up here. `seeds` are the
    keys that the commit wants, None where that is not known and all keys stay; `seedings` what becomes of them; so it
    is with `dashboards` and `dashboard_changes`.
    `signature` is None where no policy asks for one.

    `rules` are what the commit says in its settings file, None where that is not known, and `rules_changed` the lines
    in which they differ from those in force. `followed` is the ref that names the commit, of those that fit a pattern.
    `required` are the checks that must be green at the forge before it is activated, within `wait_s` seconds; with
    `tests` the tests of its flows must have passed by then too.
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
    unchecked: tuple[str, ...] = ()
    rules: RepositoryRules | None = field(default=None, repr=False, compare=False)
    rules_changed: tuple[str, ...] = ()
    followed: str | None = None
    seedings: tuple[Seeding, ...] = ()
    seeds: Seeds | None = field(default=None, repr=False, compare=False)
    dashboard_changes: tuple[DashboardChange, ...] = ()
    dashboards: WantedDashboards | None = field(default=None, repr=False, compare=False)
    signature: CommitSignature | None = None
    required: tuple[str, ...] = ()
    tests: bool = False
    wait_s: int = 0

    @property
    def is_valid(self) -> bool:
        """Whether nothing keeps it from being activated; some of its files may be in quarantine."""
        return not self.errors

    @property
    def is_whole(self) -> bool:
        """Whether it is valid with every file."""
        return self.is_valid and not self.quarantined

    @property
    def errors(self) -> tuple[Problem, ...]:
        """Return the problems that keep it from being activated."""
        apart = {change.path for change in self.quarantined if change.path is not None}
        return tuple(each for each in self.problems if each.severity is Severity.ERROR and each.file not in apart)

    @property
    def faults(self) -> tuple[Problem, ...]:
        """Return all errors, those of files in quarantine too."""
        return tuple(problem for problem in self.problems if problem.severity is Severity.ERROR)

    @property
    def activated(self) -> tuple[Change, ...]:
        """Return what gets a new active version."""
        stays = {ChangeKind.REMOVED, ChangeKind.QUARANTINED}
        return tuple(change for change in self.changes if change.kind not in stays)

    @property
    def quarantined(self) -> tuple[Change, ...]:
        """Return what is left as it is since a file has errors."""
        return tuple(change for change in self.changes if change.kind is ChangeKind.QUARANTINED)

    @property
    def standing(self) -> frozenset[FlowKey]:
        """Return the flows that stay as they are since their own files have errors."""
        return frozenset(change.key for change in self.quarantined if change.named_by is None)

    def with_quarantine(self, apart: Iterable[Change], commits: Mapping[FlowKey, str | None]) -> Self:
        """Return the plan with the files that stay `apart`; their flows run with the files of `commits`.

        A file that is at fault in the plan itself is left to it.
        """
        faulty = {problem.file for problem in self.faults}
        added = [change for change in apart if change.path not in faulty]
        keys = {change.key for change in added if change.named_by is None}
        changes = [replace(each, commit=commits.get(each.key)) if each.key in keys else each for each in self.changes]
        return replace(self, changes=sorted_changes([*changes, *added]))

    def without_sources(self) -> Self:
        """Return the plan as it is told of: of thousands of flows, neither the texts nor what reads them is kept."""
        told = (replace(each, head=None, source=None, defaults=None, read=nothing) for each in self.changes)
        return replace(self, changes=tuple(told), seeds=None, dashboards=None)

    @property
    def differences(self) -> tuple[Change, ...]:
        """Return the changes of what is active, without the files in quarantine, for which nothing changes."""
        return tuple(change for change in self.changes if change.kind is not ChangeKind.QUARANTINED)

    @property
    def sown(self) -> tuple[Seeding, ...]:
        """Return the keys that are written or removed."""
        return tuple(each for each in self.seedings if each.kind is not SeedingKind.KEPT)

    @property
    def removed(self) -> tuple[Change, ...]:
        """Return the flows that end, under their names at least."""
        return tuple(change for change in self.changes if change.kind is ChangeKind.REMOVED)

    @property
    def counts(self) -> Counter[ChangeKind]:
        """Return how many flows there are of each kind; one that is renamed is no flow that is removed."""
        return Counter(change.kind for change in self.changes if change.renamed_to is None)

    def with_problems(self, found: Iterable[Problem], *, unchecked: tuple[str, ...] | None = None) -> Self:
        """Return the plan with further problems, and with what could not be looked up when that is given."""
        return replace(
            self,
            problems=ordered([*self.problems, *found]),
            unchecked=self.unchecked if unchecked is None else unchecked,
        )

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
            "unchecked": list(self.unchecked),
            "settingsChanged": list(self.rules_changed),
            "followed": self.followed,
            "keys": [seeding.as_json() for seeding in self.seedings],
            "dashboards": [change.as_json() for change in self.dashboard_changes],
            "signature": self.signature.as_json() if self.signature else None,
            "requiredChecks": list(self.required),
            "requiresTests": self.tests,
        }


def sorted_changes(changes: Iterable[Change]) -> tuple[Change, ...]:
    """Return changes by namespace and id."""
    return tuple(sorted(changes, key=lambda change: (change.key, change.kind)))


def ordered(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """Return problems by the places where they stand."""
    return tuple(sorted(problems, key=lambda each: (each.file or "", each.line or 0, each.column or 0)))


def change_of(row: Mapping[str, Any]) -> Change:
    """Return the change that `Change.as_json` made, without the flow itself."""
    return Change(
        ChangeKind(row["kind"]),
        row["namespace"],
        row["flowId"],
        row["path"],
        row["blob"],
        tuple(row["diff"]),
        row["note"],
        # Rows that were written before there were these say nothing of them.
        row.get("namedBy"),
        row.get("renamedTo"),
        tuple(row.get("fires", {}).get("before", ())),
        tuple(row.get("fires", {}).get("after", ())),
    )


def problem_of(row: Mapping[str, Any]) -> Problem:
    """Return the problem that `Problem.as_json` made."""
    return Problem(**{**row, "severity": Severity(row["severity"])})


def plan_of(found: Mapping[str, Any]) -> Plan:
    """Return the plan that `Plan.as_json` made, without the flows themselves."""
    changes = tuple(change_of(row) for row in found["changes"])
    problems = tuple(problem_of(row) for row in found["problems"])
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
        unchecked=tuple(found.get("unchecked", ())),
        rules_changed=tuple(found.get("settingsChanged", ())),
        followed=found.get("followed"),
        seedings=tuple(seeding_of(row) for row in found.get("keys", ())),
        dashboard_changes=tuple(dashboard_change_of(row) for row in found.get("dashboards", ())),
        signature=CommitSignature.from_json(found.get("signature")),
        required=tuple(found.get("requiredChecks", ())),
        tests=found.get("requiresTests", False),
    )
