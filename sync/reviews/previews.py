"""Previews: what a change request would make of the namespaces that it changes, beside what is active.

The flows of a commit are put into namespaces of their own (`preview.pr-7.company.team`), without their triggers, and
with every mention of a previewed namespace in them turned to its preview. An environment of its own owns them; it
follows nothing, is written to by nobody, reports nothing, and ends with its change request or after some hours.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final

from runner.errors import ConflictError, FlowError, MainstemError, Problem
from runner.expressions.yaml_text import dump_yaml
from runner.flows.inherited import as_text
from runner.flows.loader import load_all
from runner.flows.namespace_defaults import NamespaceDefaults, stated_namespace
from runner.flows.parse import parse_flow
from runner.previews import environment_of, preview_of, root_of_change
from runner.reports.text import code, inline
from runner.settings import Settings
from runner.store import Store
from runner.store.records import ActiveFlow, Environment, FlowVersion
from runner.store.session import Session
from sync.activation import Activation
from sync.forges.api import Change
from sync.layout import FlowPlace, flow_place, layout_of
from sync.names import MAX_FLOW_BYTES
from sync.parsed import Answers, candidate_of
from sync.plan import FlowKey, Plan
from sync.plan_making import make_plan
from sync.planning import list_files, read_defaults, read_seeds
from sync.ruling import Ruling
from sync.seeds import Seeds
from sync.sifting import Candidate, NewTree
from sync.sources import Source
from sync.sowing import Ground, with_seeds

_SHOWN_FLOWS: Final = 3


class PreviewError(MainstemError):
    """A preview cannot be made; codes `preview.*`."""


@dataclass(frozen=True, slots=True)
class _Original:
    """A flow file of the commit as it stands there, with its namespace."""

    place: FlowPlace
    content: bytes
    namespace: str


class Previews:
    """Makes and removes previews. Safe for any thread.

    Args:
        store: where flows and environments live.
        answers: what plans ask.
        activation: makes plans true.
        settings: the bounds, and what flows may ask for.
        clock: the time that previews end by.
        on_change: called when flows came or went.
    """

    def __init__(
        self,
        store: Store,
        answers: Answers,
        activation: Activation,
        settings: Settings,
        clock: Callable[[], datetime],
        on_change: Callable[[], None],
    ) -> None:
        self._store = store
        self._answers = answers
        self._activation = activation
        self._operator = settings
        self._settings = settings.previews
        self._clock = clock
        self._on_change = on_change

    def make(self, source: Source, base: Environment, change: Change, commit: str, actor: str) -> str:
        """Make, or make anew, the preview of a commit for an environment; return what the comment says, as Markdown."""
        if not self._settings.enabled:
            return "there are no previews on this server"
        try:
            return self._made(source, base, change, commit, actor)
        except MainstemError as error:
            return f"no preview of {code(base.name)}: {inline(error.message)}"

    def _made(self, source: Source, base: Environment, change: Change, commit: str, actor: str) -> str:
        name = environment_of(base.name, change.number, is_fork=change.is_fork)
        until = self._clock() + timedelta(hours=self._settings.hours)
        environment = Environment(
            name=name,
            repository=base.repository,
            ref=change.head_ref or "",
            path=base.path,
            namespaces=(root_of_change(change.number),),
            writes="refuse",
            reports=False,
            previews=base.name,
            change=change.number,
            expires_at=until,
        )
        if not self._store.write(lambda db: db.environments.declare_preview(environment)):
            root = root_of_change(change.number)
            message = f"change request {change.number} of another repository has {root}: close it, or wait for its end"
            raise PreviewError("preview.taken", message)
        try:
            plan = self._plan(source, base, name, change.number, commit)
            if plan.errors:
                first = plan.errors[0]
                raise PreviewError("preview.invalid", f"{first.file or ''}: {first.message}")
            self._activation.apply(plan, actor=actor, seconds=lambda: 0.0, allow_deletes=True)
        except MainstemError:
            self._forget_empty(name)
            raise
        message = f"preview of {base.name} for change request {change.number}, until {until:%Y-%m-%d %H:%M} UTC"
        self._store.write(lambda db: db.environments.set_state(name, "OK", message))
        self._on_change()
        return self._told(name, root_of_change(change.number), commit, until)

    def _told(self, name: str, root: str, commit: str, until: datetime) -> str:
        flows = [f"{each.namespace}.{each.flow_id}" for each in self._flows(name, root)]
        rows = [f"  - {code(f'mainstem exec run {flow} --wait')}" for flow in flows[:_SHOWN_FLOWS]]
        if len(flows) > _SHOWN_FLOWS:
            rows.append(f"  - and {len(flows) - _SHOWN_FLOWS} flows more")
        count = f"{len(flows)} flow{'' if len(flows) == 1 else 's'}"
        end = f"until {until:%Y-%m-%d %H:%M} UTC"
        return "\n".join([f"preview {code(name)} of {code(commit[:12])}: {count}, no triggers, {end}", *rows])

    def remove(self, repository: str, number: int, actor: str = "mainstem") -> int:
        """Remove the previews of a change request; return how many there were."""
        found = self._store.read(lambda db: db.environments.previews(repository, number))
        for environment in found:
            self._remove(environment, actor)
        return len(found)

    def expire(self) -> None:
        """Remove the previews whose time is over."""
        now = self._clock()
        for environment in self._store.read(lambda db: db.environments.expired(now)):
            with contextlib.suppress(ConflictError):  # another process is about it
                self._remove(environment, "mainstem")

    def _remove(self, environment: Environment, actor: str) -> None:
        flows = self._flows(environment.name, root_of_change(environment.change or 0))
        if flows and environment.active is not None:
            empty = NewTree(commit=environment.active, tree=None, flows={})
            plan = make_plan(environment, [ActiveFlow.of(each) for each in flows], empty, self._questions({}, {}))
            plan = self._seeded(plan, environment, Seeds())
            self._activation.apply(plan, actor=actor, seconds=lambda: 0.0, allow_deletes=True)
        self._store.write(partial(_forget, environment))
        self._on_change()

    def _forget_empty(self, name: str) -> None:
        """Take the environment away again when nothing was ever active in it."""
        found = self._store.read(lambda db: db.environments.get(name))
        if found is not None and found.active is None:
            self._store.write(lambda db: db.environments.delete(name))

    # plans

    def _plan(self, source: Source, base: Environment, name: str, number: int, commit: str) -> Plan:
        ruling = Ruling.of(source, base, commit)
        layout = layout_of(base.path, ruling.own)
        listing = list_files(source, commit, layout)
        places = [place for path in listing.files if (place := flow_place(path, layout))]
        source.ensure(listing.files.values())
        defaults, wrong = read_defaults(source, listing.files, layout)
        originals = [_original(source, place, listing.files[place.path]) for place in places]
        chosen = self._chosen(originals, base)
        spaces = {each.namespace for each in chosen}
        candidates = {each.place: _candidate(each, number, spaces, defaults) for each in chosen}
        inherited = {place.path: candidate.defaults for place, candidate in candidates.items()}
        environment = self._store.read(lambda db: db.environments.get(name))
        assert environment is not None, "it was declared just now"
        record = source.repository.commit(commit)
        new = NewTree(
            commit=commit,
            tree=listing.tree,
            flows={place: candidate.blob for place, candidate in candidates.items()},
            problems=(*ruling.problems, *listing.problems, *wrong),
            author=record.author,
            subject=record.subject,
            files_changed=0 if environment.active == commit else 1,
            defaults=lambda version: inherited.get(version.path or ""),
        )
        owners = self._store.read(
            lambda db: {
                (each.namespace, each.flow_id): ActiveFlow.of(each)
                for each in db.flows.list(prefix=root_of_change(number))
                if each.environment not in {name, None}
            }
        )
        ask = ruling.asked(self._questions(candidates, owners), self._operator)
        active = [ActiveFlow.of(each) for each in self._flows(name, root_of_change(number))]
        plan = make_plan(environment, active, new, ask)
        seeds, wrong = read_seeds(source, listing.files, layout)
        return self._seeded(plan, environment, seeds.in_preview(number, spaces), wrong)

    def _seeded(self, plan: Plan, environment: Environment, seeds: Seeds, wrong: Sequence[Problem] = ()) -> Plan:
        now = self._clock()
        ground = self._store.read(lambda db: Ground.of(db, seeds, environment.name, now))
        return with_seeds(plan, environment, seeds, ground, wrong)

    def _chosen(self, originals: Iterable[_Original], base: Environment) -> list[_Original]:
        """Return the flows of all namespaces in which a flow is not what is active; of all when none is."""
        by_space: dict[str, list[_Original]] = {}
        for each in originals:
            by_space.setdefault(each.namespace, []).append(each)
        active = {(each.path, each.source) for each in self._flows(base.name)}
        changed = [
            space
            for space, flows in by_space.items()
            if any((each.place.path, each.content.decode("utf-8", "replace")) not in active for each in flows)
        ]
        found = [each for space in changed or by_space for each in by_space[space]]
        if len(found) > self._settings.max_flows:
            message = f"it would hold {len(found)} flows, more than {self._settings.max_flows}"
            raise PreviewError("preview.flows.many", message, hint="previews.maxFlows in the settings")
        return found

    def _flows(self, environment: str, below: str | None = None) -> list[FlowVersion]:
        """Return the active flows of an environment, looked for below a namespace or everywhere."""
        found = self._store.read(lambda db: db.flows.list(prefix=below))
        return [each for each in found if each.environment == environment]

    def _questions(self, candidates: Mapping[FlowPlace, Candidate], owners: Mapping[FlowKey, ActiveFlow]) -> Any:
        return self._answers.questions(lambda place, _blob: candidates[place], owners, self._clock())


def _forget(environment: Environment, db: Session) -> None:
    """Take a preview away, with the keys that its runs have set once no other of the change request is left."""
    db.environments.delete(environment.name)
    if not db.environments.previews(environment.repository, environment.change or 0):
        db.kv.delete_below(root_of_change(environment.change or 0))


def _original(source: Source, place: FlowPlace, blob: str) -> _Original:
    content = source.repository.blob(blob, limit=MAX_FLOW_BYTES)
    return _Original(place, content, stated_namespace(content) or place.namespace or "")


def _candidate(original: _Original, number: int, spaces: Collection[str], defaults: NamespaceDefaults) -> Candidate:
    """Return a flow as it stands in the preview, with what its own namespaces give it."""
    around = defaults.around(original.namespace, original.content)
    place = original.place
    try:
        source = rewritten(original.content, original.namespace, number, spaces)
    except FlowError as error:
        return Candidate(place, "", None, None, error.problems)
    parsed = parse_flow(source.encode(), file=place.path, inherited=around)
    return candidate_of(place, _blob_of(source), parsed, source, as_text(around))


def rewritten(content: bytes, namespace: str, number: int, spaces: Collection[str]) -> str:
    """Return the source of a flow in a preview: another namespace, no triggers, mentions of `spaces` turned.

    Comments and the order of the author are not kept, nor are tests below the flow. Raises `FlowError`.
    """
    found = next((document.value for document in load_all(content)), None)
    if not isinstance(found, dict):
        raise FlowError("flow.document.invalid", "the file holds no flow")
    inner = {name: _turned(part, number, spaces) for name, part in found.items() if name != "triggers"}
    document = {"id": inner.pop("id", None), **inner, "namespace": preview_of(number, namespace)}
    text = dump_yaml(document)
    try:
        is_same = load_all(text)[0].value == document
    except FlowError:
        is_same = False
    return text if is_same else json.dumps(document, ensure_ascii=False, indent=1)


def _turned(value: Any, number: int, spaces: Collection[str]) -> Any:
    """Return a part of a flow in which every property `namespace` that names one of `spaces` names its preview."""
    if isinstance(value, list):
        return [_turned(each, number, spaces) for each in value]
    if not isinstance(value, dict):
        return value
    return {
        name: preview_of(number, part)
        if name == "namespace" and isinstance(part, str) and part in spaces
        else _turned(part, number, spaces)
        for name, part in value.items()
    }


def _blob_of(source: str) -> str:
    content = source.encode()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
