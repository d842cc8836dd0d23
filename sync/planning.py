"""From a commit of a repository to a plan: list the files, fetch and parse what changed, compare."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from runner.errors import MainstemError, NotFoundError, Problem, Severity
from runner.flows.inherited import from_text
from runner.flows.namespace_defaults import NamespaceDefaults
from runner.rules import changed_rules
from runner.secrets.sealed import Seal
from runner.settings import Settings
from runner.store import Store
from runner.store.records import ActiveFlow, Environment, FlowVersion, Revision
from runner.store.session import Session
from sync.dashboards import WantedDashboards, gathered_dashboards
from sync.hanging import standing_dashboards, with_dashboards, without_dashboards
from sync.heap import seldom_searched
from sync.layout import (
    FlowPlace,
    Layout,
    defaults_place,
    flow_place,
    is_namespace_file,
    layout_of,
    template_place,
)
from sync.names import MAX_FLOW_BYTES
from sync.needs import Holds, unknown, with_needs, with_outsiders
from sync.parsed import Answers, FlowFiles, gathered_defaults, parse_file
from sync.plan import Change, FlowKey, Plan
from sync.plan_making import make_plan
from sync.repository import Listing, blob_id
from sync.ruling import Ruling, read_rules, rules_in_force
from sync.seeds import Seeds, gathered_seeds
from sync.sifting import Candidate, NewTree
from sync.signatures.policy import SignaturePolicies
from sync.sources import Source
from sync.sowing import Ground, with_seeds, without_seeds

_REMEMBERED: Final = 64
_CLOSED: Final = frozenset({"secret.sealed.key", "secret.file.mode"})


@dataclass(frozen=True, slots=True)
class Stand:
    """An environment, its active flows, and those of all other environments."""

    environment: Environment
    active: tuple[ActiveFlow, ...]
    others: tuple[ActiveFlow, ...]

    @property
    def owners(self) -> dict[FlowKey, ActiveFlow]:
        """Return the flows that other environments own."""
        return {(v.namespace, v.flow_id): v for v in self.others if v.environment is not None}


def read_layout(source: Source, commit: str, path: str) -> Layout:
    """Return where flows and files stand in a commit: `.mainstem.yaml` at the root, or the environment's path.

    Raises:
        FlowError: `repository.settings.invalid`.
    """
    return layout_of(path, read_rules(source, commit))


def list_files(source: Source, commit: str, layout: Layout) -> Listing:
    """Return the files below the folders of a layout, as one listing; `tree` is that of the flows' folder."""
    listings = [source.repository.listing(commit, folder) for folder in layout.roots()]
    files = {path: blob for listing in listings for path, blob in listing.files.items()}
    return Listing(listings[0].tree, files, tuple(p for listing in listings for p in listing.problems))


def read_defaults(source: Source, files: Mapping[str, str], layout: Layout) -> tuple[NamespaceDefaults, list[Problem]]:
    """Return the defaults and templates among the files of a commit (path to blob id), and what is wrong with them."""
    source.ensure(blob for path, blob in files.items() if defaults_place(path, layout) or template_place(path, layout))
    return gathered_defaults(files, layout, lambda path: source.repository.blob(files[path], limit=MAX_FLOW_BYTES))


def read_seeds(
    source: Source, files: Mapping[str, str], layout: Layout, seal: Seal | None = None
) -> tuple[Seeds, list[Problem]]:
    """Return what the files of a commit (path to blob id, all of them here) want, and what is wrong there.

    Without a `seal` no secret is opened.
    """
    return gathered_seeds(files, layout, lambda path: source.repository.blob(files[path], limit=MAX_FLOW_BYTES), seal)


def read_dashboards(source: Source, files: Mapping[str, str], layout: Layout) -> tuple[WantedDashboards, list[Problem]]:
    """Return the dashboards of a commit (path to blob id, all of them here), and what is wrong there."""
    return gathered_dashboards(files, layout, lambda path: source.repository.blob(files[path], limit=MAX_FLOW_BYTES))


class Planner:
    """Makes plans for environments. Keeps the parsed files of each repository in memory."""

    def __init__(
        self,
        store: Store,
        answers: Answers,
        settings: Settings,
        clock: Callable[[], datetime],
        holds: Holds = unknown,
        signatures: SignaturePolicies | None = None,
        seal: Seal | None = None,
    ) -> None:
        self._store = store
        self._seal = seal
        self._settings = settings
        self._signatures = signatures or SignaturePolicies()
        self._holds = holds
        self._answers = answers
        self._clock = clock
        self._files: dict[str, FlowFiles] = {}
        self._defaults: OrderedDict[tuple[str, str], NamespaceDefaults] = OrderedDict()  # by environment and commit

    @seldom_searched()
    def plan(
        self,
        source: Source,
        environment: str,
        commit: str,
        *,
        allowed_deletions: Collection[FlowKey] = (),
        is_drift: bool = False,
        is_trusted: bool = True,
        is_ordered: bool = False,
        is_admitted: bool = False,
    ) -> Plan:
        """Return the plan of `commit`, whose trees are readable, for what is active in `environment` now.

        Without `is_trusted` nothing is said about which secrets and keys there are, nor what they hold: a stranger
        could try out names. No secret of the commit is opened then.
        With `is_ordered` somebody wants the very commit, so its own rules count and not those in force (`sync.ruling`).

        With `is_drift` an active flow counts as changed when its source is not what its blob id stands for. The
        signature of what `is_admitted` is not asked for: it was active once, or another commit stands for it.

        Raises:
            FetchError: blobs that are needed cannot be fetched.
        """
        stand = self._store.read(lambda db: _stand(db, environment))
        active_flows = self._as_they_are(environment) if is_drift else stand.active
        record = source.repository.commit(commit)
        ruling = Ruling.of(source, stand.environment, commit, is_ordered=is_ordered or is_drift)
        layout = layout_of(stand.environment.path, ruling.own)
        listing = list_files(source, commit, layout)
        flows = {place: blob for path, blob in listing.files.items() if (place := flow_place(path, layout))}
        source.ensure(listing.files.values())
        defaults, wrong = read_defaults(source, listing.files, layout)
        self._remember(environment, commit, defaults)
        active = stand.environment.active
        is_known = active is not None and active in source.repository
        before = self._files_of(source, active, stand.environment.path) if active and is_known else {}
        new = NewTree(
            commit=commit,
            tree=listing.tree,
            flows=flows,
            problems=(*ruling.problems, *listing.problems, *wrong),
            author=record.author,
            subject=record.subject,
            rewritten=is_known and not source.repository.is_ancestor(active or "", commit),
            files_changed=_changed(before, _beside(listing.files, layout)),
            defaults=self._inherits(environment, defaults),
        )
        ask = self._answers.questions(self._parser(source, defaults), stand.owners, self._clock())
        ask = ruling.asked(ask, self._settings)
        plan = make_plan(stand.environment, active_flows, new, ask, allowed_deletions=allowed_deletions)
        plan = replace(plan, rules=ruling.own, rules_changed=ruling.changed)
        wanted = read_seeds(source, listing.files, layout, self._seal if is_trusted else None)
        if is_drift or (is_ordered and is_admitted):
            plan = self._restored(plan, stand.environment, *wanted)
        else:
            plan = self._seeded(plan, stand.environment, *wanted, is_trusted=is_trusted)
        plan = self._hung(plan, stand.environment, *read_dashboards(source, listing.files, layout))
        plan = replace(plan, required=ruling.required, tests=ruling.tests, wait_s=ruling.wait_s)
        plan = with_outsiders(plan, stand.others, self._answers.facts.of_active)
        plan = with_needs(plan, self._holds if is_trusted else unknown)
        return plan if is_admitted or is_drift else self.judged(plan, source, stand.environment, commit)

    def judged(self, plan: Plan, source: Source, environment: Environment, commit: str) -> Plan:
        """Return a plan with what is to be said of the signature of `commit`, or of that and those before it.

        Raises:
            FetchError: commits or keys that are needed cannot be fetched.
        """
        found = self._signatures.judge(source, environment, commit)
        return replace(plan.with_problems(found.problems), signature=found.signature)

    def signer(self, source: Source, environment: str, base: str | None) -> Callable[[bytes], bytes | None]:
        """Return what signs a commit of the server on top of `base`; see `SignaturePolicies.signer`."""
        stand = self._store.read(lambda db: db.environments.get(environment))
        return self._signatures.signer(source, stand, base) if stand is not None else lambda _payload: None

    def _as_they_are(self, environment: str) -> list[ActiveFlow]:
        """Return the active flows, without an id of their content where that is not what the id stands for."""
        versions = self._store.read(lambda db: db.flows.of_environment(environment))
        return [ActiveFlow.of(each, blob="" if _is_other(each) else None) for each in versions]

    def _inherits(self, environment: str, defaults: NamespaceDefaults) -> Callable[[ActiveFlow], str | None]:
        """Return what tells the text of what an active flow inherits; only templates ask for the sources of flows."""
        if not defaults.templates:
            return lambda row: defaults.text(row.namespace, "")
        versions = self._store.read(lambda db: db.flows.of_environment(environment))
        sources = {(each.namespace, each.flow_id): each.source for each in versions}
        return lambda row: defaults.text(row.namespace, sources.get((row.namespace, row.flow_id), ""))

    def known_defaults(self, environment: Environment) -> NamespaceDefaults | None:
        """Return the plugin defaults of the active commit of an environment if they were read before."""
        return self._defaults.get((environment.name, environment.active or ""))

    def defaults(self, source: Source, environment: Environment) -> NamespaceDefaults:
        """Return the plugin defaults of the active commit of an environment, as far as it is here."""
        commit = environment.active
        if commit is None or commit not in source.repository:
            return NamespaceDefaults()
        layout = read_layout(source, commit, environment.path)
        found, _ = read_defaults(source, list_files(source, commit, layout).files, layout)
        self._remember(environment.name, commit, found)
        return found

    def _remember(self, environment: str, commit: str, defaults: NamespaceDefaults) -> None:
        self._defaults[environment, commit] = defaults
        if len(self._defaults) > _REMEMBERED:
            self._defaults.popitem(last=False)

    def _seeded(
        self, plan: Plan, environment: Environment, seeds: Seeds, wrong: Sequence[Problem], *, is_trusted: bool = True
    ) -> Plan:
        now, name = self._clock(), environment.name
        if is_trusted:
            ground = self._store.read(lambda db: Ground.of(db, seeds, name, now))
        else:
            ground = self._store.read(lambda db: Ground.of_git(db, name, now))
        return with_seeds(plan, environment, seeds, ground, wrong)

    def _restored(self, plan: Plan, environment: Environment, seeds: Seeds, wrong: Sequence[Problem]) -> Plan:
        """Return a plan of what was active once: secrets that no key opens today must not keep anybody from it."""
        errors = {each.code for each in wrong if each.severity is Severity.ERROR}
        is_closed = bool(errors) and errors <= _CLOSED
        return without_seeds(plan) if is_closed else self._seeded(plan, environment, seeds, wrong)

    def _hung(
        self, plan: Plan, environment: Environment, dashboards: WantedDashboards, wrong: Sequence[Problem]
    ) -> Plan:
        return with_dashboards(plan, environment, dashboards, self._store.read(standing_dashboards), wrong)

    def recall(self, source: Source, environment: str, row: Revision, quarantined: Sequence[Change] = ()) -> Plan:
        """Return the plan of a commit that was active once, from the flows that the store kept.

        For when the repository is away and the mirror has lost the commit, or when files of it were `quarantined`.
        Files beside the flows cannot be compared, and keys and rules stay as they are where the commit is lost.
        """
        stand = self._store.read(lambda db: _stand(db, environment))
        versions = self._store.read(lambda db: db.flows.as_of(environment, row.at))
        kept = {FlowPlace(version.path or "", version.namespace): version for version in versions}
        new = NewTree(
            commit=row.commit,
            tree=row.tree,
            flows={place: version.blob for place, version in kept.items()},
            author=row.author,
            subject=row.message,
            defaults=lambda version: kept[FlowPlace(version.path or "", version.namespace)].defaults,
        )

        def parse(place: FlowPlace, blob: str) -> Candidate:
            version = kept[place]
            around = NamespaceDefaults.only(from_text(version.defaults))
            return parse_file(place, blob, version.source.encode, around)

        ask = self._answers.questions(parse, stand.owners, self._clock())
        plan = make_plan(stand.environment, stand.active, new, ask)
        plan = plan.with_quarantine(quarantined, {(v.namespace, v.flow_id): v.commit for v in versions})
        try:
            rules = read_rules(source, row.commit)
            layout = layout_of(stand.environment.path, rules)
            files = list_files(source, row.commit, layout).files
            source.ensure(files.values())
            plan = replace(
                plan, rules=rules, rules_changed=changed_rules(rules_in_force(source, stand.environment), rules)
            )
            sown = self._restored(plan, stand.environment, *read_seeds(source, files, layout, self._seal))
            return self._hung(sown, stand.environment, *read_dashboards(source, files, layout))
        except (MainstemError, KeyError):
            return without_dashboards(without_seeds(plan))

    @staticmethod
    def _files_of(source: Source, commit: str, path: str) -> dict[str, str]:
        try:
            layout = read_layout(source, commit, path)
            return _beside(list_files(source, commit, layout).files, layout)
        except MainstemError:
            return {}  # a commit that is half gone cannot say what changed: all files count as new

    def _parser(self, source: Source, defaults: NamespaceDefaults) -> Callable[[FlowPlace, str], Candidate]:
        key = str(source.repository.path)
        if key not in self._files:
            self._files[key] = FlowFiles(source.repository)
        files, edition = self._files[key], repr(defaults)
        return lambda place, blob: files.parse(place, blob, defaults, edition)


def _beside(files: Mapping[str, str], layout: Layout) -> dict[str, str]:
    """Return the files that tasks may read."""
    return {path: blob for path, blob in files.items() if is_namespace_file(path, layout)}


def _changed(before: Mapping[str, str], after: Mapping[str, str]) -> int:
    return len({path for path, _ in before.items() ^ after.items()})


def _is_other(version: FlowVersion) -> bool:
    """Whether the source of a version is not what its blob id stands for."""
    return blob_id(version.source.encode()) != version.blob


def _stand(db: Session, name: str) -> Stand:
    environment = db.environments.get(name)
    if environment is None:
        raise NotFoundError("environment.missing", f"there is no environment {name!r}")
    rows = db.flows.all_active()
    return Stand(
        environment,
        tuple(row for row in rows if row.environment == name),
        tuple(row for row in rows if row.environment not in {name, None}),
    )
