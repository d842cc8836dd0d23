"""The flow files of a commit, sifted: the same as before, accepted, or refused with a reason. Pure.

Where an environment wants quarantine, a file with errors costs the other files nothing, and its flow keeps its last
good version. What is wrong with no single flow file (a setting, plugin defaults, a link) still keeps the whole commit
from being activated.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePosixPath
from typing import Final, Self

from runner.errors import Problem, Severity
from runner.flows.head import FlowHead
from runner.flows.models import Flow
from runner.flows.namespace_defaults import stated_namespace
from runner.flows.outline import Outline
from runner.policies import FlowUse, TaskUse
from runner.store.records import ActiveFlow, Environment
from sync.layout import FlowPlace
from sync.plan import Change, ChangeKind, FlowKey, nothing

Warnings = Callable[[Sequence[tuple[str, FlowUse]]], Iterable[Problem]]
"""Flows with their files -> what is to be told of them, of each for itself, beside what the language says."""

_ID: Final = re.compile(r"""^id:\s*["']?([A-Za-z0-9][\w.-]*)""", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A flow file of the new tree, parsed. `head` is None when it has errors, which `problems` name.

    `read` gives the whole flow, parsed again perhaps: a plan may hold ten thousand files.
    """

    place: FlowPlace
    blob: str
    head: FlowHead | None
    source: str | None = None
    problems: tuple[Problem, ...] = ()
    defaults: str | None = None
    read: Callable[[], Flow | None] = nothing

    @property
    def flow(self) -> Flow | None:
        """Return the flow, None for a file with errors."""
        return self.read()

    @property
    def key(self) -> FlowKey | None:
        """Return the namespace and the id, None for a file with errors."""
        return (self.head.namespace, self.head.id) if self.head else None

    @property
    def likely_id(self) -> str:
        """Return the id of the flow, or what it seems to be in a file with errors."""
        if self.head is not None:
            return self.head.id
        found = _ID.search(self.source or "")
        return found[1] if found else PurePosixPath(self.place.path).stem

    @property
    def likely_namespace(self) -> str | None:
        """Return the namespace of the flow, or what it seems to be in a file with errors; None where nothing says."""
        if self.head is not None:
            return self.head.namespace
        return stated_namespace((self.source or "").encode()) or self.place.namespace

    @property
    def likely_key(self) -> tuple[str | None, str]:
        """Return the likely namespace and the likely id."""
        return self.likely_namespace, self.likely_id


@dataclass(frozen=True, slots=True)
class Facts:
    """What a plan needs to know of every flow: what others need of it, what it uses, what is to be told of it alone.

    The `warnings` name no file.
    """

    outline: Outline
    tasks: tuple[TaskUse, ...] = ()
    warnings: tuple[Problem, ...] = ()

    @classmethod
    def of(cls, flow: Flow, warnings: Warnings) -> Self:
        """Return the facts of a flow; `warnings` gives what is to be told of it beside what the language says."""
        use = FlowUse.of(flow)
        return cls(Outline.of(flow), use.tasks, tuple(warnings([("", use)])))

    @property
    def use(self) -> FlowUse:
        """Return what policies ask of it."""
        return FlowUse(*self.outline.key, self.tasks)


@dataclass(frozen=True, slots=True)
class Questions:
    """What a plan asks the rest of the program; each is a pure function of its arguments.

    Attributes:
        parse: a flow file of the new tree -> the parsed candidate.
        flow_of: an active version -> its flow, or None when it no longer parses.
        facts_of: an active version -> the facts about it, or None when it no longer parses.
        facts: a file -> the facts about its flow, or None when it has errors.
        compare: two flows -> lines that say what differs.
        check: the facts of all flows with their files -> problems that only show across flows.
        next_fires: a flow -> when its schedules start it next, the earliest first, three times at most.
        owner: a flow's key -> what another environment has active under it, or None.
        likeness: a flow -> a text that is the same for a flow that differs in nothing but its name.
    """

    parse: Callable[[FlowPlace, str], Candidate]
    flow_of: Callable[[ActiveFlow], Flow | None]
    facts_of: Callable[[ActiveFlow], Facts | None]
    facts: Callable[[Candidate], Facts | None]
    compare: Callable[[Flow, Flow], Sequence[str]]
    check: Callable[[Sequence[tuple[str, Facts]]], Sequence[Problem]]
    next_fires: Callable[[Flow | FlowHead], Sequence[datetime]]
    owner: Callable[[FlowKey], ActiveFlow | None]
    likeness: Callable[[Flow], str]


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
    defaults: Callable[[ActiveFlow], str | None] = lambda _version: None


def owns(environment: Environment, namespace: str) -> bool:
    """Whether `environment` may hold flows of `namespace`. Its patterns are `*` or prefixes by whole segments."""
    return any(
        pattern in {"*", namespace} or namespace.startswith(pattern.removesuffix(".*") + ".")
        for pattern in environment.namespaces
    )


class Sifted:
    """The files of the new tree: the same as before, accepted, or refused with a reason."""

    def __init__(self, environment: Environment, active: Sequence[ActiveFlow]) -> None:
        self.active = active
        self.accepted: list[Candidate] = []
        self.refused: list[Candidate] = []
        self.same: dict[FlowPlace, ActiveFlow] = {}
        self.taken: dict[FlowKey, str] = {}
        self.problems: list[Problem] = []
        self._quarantines = environment.on_invalid == "quarantine"

    @classmethod
    def of(cls, environment: Environment, active: Sequence[ActiveFlow], new: NewTree, ask: Questions) -> Self:
        """Return the files of `new`, sifted one by one."""
        by_path = {version.path: version for version in active if version.path}
        found = cls(environment, active)
        found.same = {
            place: by_path[place.path]
            for place, blob in new.flows.items()
            if place.path in by_path and _is_same(by_path[place.path], blob, new)
        }
        found.taken = {(v.namespace, v.flow_id): place.path for place, v in found.same.items()}
        parsed = [ask.parse(place, blob) for place, blob in new.flows.items() if place not in found.same]
        paths = {(version.namespace, version.flow_id): version.path for version in active}
        # Of two files with one name the flow's own has it, wherever in the order a copy stands.
        candidates = sorted(parsed, key=lambda each: each.key is None or paths.get(each.key) != each.place.path)
        found.problems = [*new.problems, *(problem for candidate in candidates for problem in candidate.problems)]
        for candidate in candidates:
            problem = _refusal(environment, candidate, found.taken, ask)
            (found.refused if candidate.head is None or problem else found.accepted).append(candidate)
            if problem is not None:
                found.problems.append(problem)
        return found

    @property
    def broken(self) -> set[str]:
        """Return the paths of files that are refused."""
        return {candidate.place.path for candidate in self.refused}

    @property
    def left(self) -> list[ActiveFlow]:
        """Return the active versions that no file of the new tree gives."""
        return [version for version in self.active if (version.namespace, version.flow_id) not in self.taken]

    @property
    def kept(self) -> list[ActiveFlow]:
        """Return those of them that stay, since the file that would give them is refused, here or where it went."""
        broken, likely = self.broken, {candidate.likely_key for candidate in self.refused}
        return [v for v in self.left if v.path in broken or (self._quarantines and not likely.isdisjoint(_keys(v)))]

    @property
    def gone(self) -> list[ActiveFlow]:
        """Return the versions that end."""
        kept = {id(version) for version in self.kept}
        return [version for version in self.left if id(version) not in kept]

    def cross_checked(self, ask: Questions) -> list[Problem]:
        """Return all problems, with those that only show across flows.

        With quarantine a file that such an error stands in is refused too, until what is left is sound.
        """
        if not self._quarantines:
            return self.problems + (list(ask.check(self._located(ask))) if not _errors(self.problems) else [])
        while True:
            found = list(ask.check(self._located(ask)))
            faulty = {problem.file for problem in _errors(found)}
            apart = [candidate for candidate in self.accepted if candidate.place.path in faulty]
            if not apart:
                return [*self.problems, *found]
            self.problems += [problem for problem in _errors(found) if problem.file in faulty]
            self._refuse(apart)

    def _refuse(self, candidates: Sequence[Candidate]) -> None:
        paths = {candidate.place.path for candidate in candidates}
        self.accepted = [each for each in self.accepted if each.place.path not in paths]
        self.refused += candidates
        self.taken = {key: path for key, path in self.taken.items() if path not in paths}

    def _located(self, ask: Questions) -> list[tuple[str, Facts]]:
        located = [(place.path, ask.facts_of(version)) for place, version in self.same.items()]
        located += [(candidate.place.path, ask.facts(candidate)) for candidate in self.accepted]
        if self._quarantines:
            located += [(version.path or "", ask.facts_of(version)) for version in self.kept]
        return [(path, facts) for path, facts in located if facts is not None]

    def quarantined(self) -> Iterator[Change]:
        """Yield a row for each refused file, where the environment lets the others pass."""
        if not self._quarantines:
            return
        kept = self.kept
        for candidate in self.refused:
            path, likely = candidate.place.path, candidate.likely_key
            stays = next((v for v in kept if v.path == path), None) or next(
                (v for v in kept if likely in _keys(v)), None
            )
            if stays is None:
                yield self._left_out(candidate)
            else:
                note = f"keeps its version of {(stays.commit or 'before')[:7]}"
                yield Change(ChangeKind.QUARANTINED, stays.namespace, stays.flow_id, path, candidate.blob, note=note)

    def _left_out(self, candidate: Candidate) -> Change:
        """Return the row of a file whose flow is not active, or is active by another file."""
        namespace, name = candidate.likely_key
        other = self.taken.get((namespace or "", name))
        note = f"is not active: {other} has its name" if other else "is not active"
        path, blob = candidate.place.path, candidate.blob
        return Change(ChangeKind.QUARANTINED, namespace or "", name, path, blob, note=note, named_by=other)


def _keys(version: ActiveFlow) -> tuple[tuple[str | None, str], ...]:
    """Return how a file that seems to be this flow names it: a file that says no namespace may be of any."""
    return (version.namespace, version.flow_id), (None, version.flow_id)


def _is_same(version: ActiveFlow, blob: str, new: NewTree) -> bool:
    return version.blob == blob and version.defaults == new.defaults(version)


def _errors(problems: Iterable[Problem]) -> list[Problem]:
    return [problem for problem in problems if problem.severity is Severity.ERROR]


def _refusal(
    environment: Environment, candidate: Candidate, taken: dict[FlowKey, str], ask: Questions
) -> Problem | None:
    """Return why a parsed file cannot be active here; one that can takes its name."""
    flow, path, key = candidate.head, candidate.place.path, candidate.key
    if flow is None or key is None:
        return None
    if key in taken:
        text = f"{flow.namespace}.{flow.id} is defined in {taken[key]} already"
        return Problem("flow.id.duplicate", text, file=path, line=1, column=1)
    if not owns(environment, flow.namespace):
        allowed = ", ".join(environment.namespaces)
        text = f"environment {environment.name} may not hold flows of namespace {flow.namespace!r}"
        return Problem("flow.namespace.foreign", text, file=path, hint=f"it owns: {allowed}")
    owner = ask.owner(key)
    if owner is not None:
        text = f"{flow.namespace}.{flow.id} belongs to environment {owner.environment}, which has it in {owner.path}"
        hint = f"one flow has one owner: take it out there, or give {environment.name} other namespaces"
        return Problem("flow.namespace.owned", text, file=path, hint=hint)
    taken[key] = path
    return None
