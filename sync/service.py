"""Keep environments at the commits that git names: the door to this package.

One lock per repository (`GitRepository.lock`) is held from looking at a ref to having applied what it names, so that
pushes, polling, receivers, writes of the API and the report writer come one after the other. Where a forge is to be
asked in between it is let go of, and the look begins anew.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any, Final
from zoneinfo import ZoneInfo

from runner.errors import ConflictError, MainstemError, NotFoundError
from runner.flows.catalogue import Catalogue
from runner.policies import policy_problems
from runner.secrets.age import AgeKeys
from runner.secrets.encryption import Encryption
from runner.secrets.sealed import Seal
from runner.settings import Settings
from runner.store import Store
from runner.store.records import Environment, FlowVersion, Pin, Repository, Revision
from runner.store.session import Session
from sync.activation import RACED, Activation, Outcome, RevisionResult
from sync.checks import Checks
from sync.commits import Commits
from sync.dashboard_writes import DashboardWrites
from sync.deployments import Deployments
from sync.drift import Drift
from sync.facts import FlowFacts
from sync.file_writes import GitFileWrites
from sync.files import GitNamespaceFiles
from sync.following import Following
from sync.heap import LARGE, give_back
from sync.inquiry import Inquiry
from sync.namespaces import Namespaces
from sync.needs import Holds, unknown
from sync.orders import Orders
from sync.origins import Origins
from sync.parsed import Answers
from sync.plan import FlowKey, Plan
from sync.planning import Planner
from sync.proposals import Proposals
from sync.reverts import Reverts
from sync.reviews.previews import Previews
from sync.reviews.reviewer import Reviewer
from sync.signatures.policy import SignaturePolicies
from sync.sources import Source
from sync.standing import Standing
from sync.trials import Trials
from sync.writes import FlowWrites

log = logging.getLogger(__name__)

_SHORTEST_SHA: Final = 7
_FORCING: Final = frozenset({"manual", "api"})


def _now() -> datetime:
    return datetime.now(UTC)


def _follow(environment: str, ref: str, commit: str, db: Session) -> None:
    db.environments.set_followed(environment, ref, commit)


def _no_page(_environment: str, _commit: str) -> None:
    return None


class SyncService:
    """Reconciles repositories, makes and applies plans, and writes flows. Safe for any thread.

    Args:
        store: where flows and environments live.
        catalogue: parsed flows; it is told when the active ones change.
        settings: declared repositories and environments, the time zone.
        home: the folder of the hosted repository and of the mirrors; the home of the settings by default.
        on_applied: called after a revision was activated, outside the transaction, with its result.
        page_of: an environment and a commit -> the address of the page with the plan, None when there is none.
        holds: whether a secret or key that a flow names is there, for plans.
        clock: the time that rows are dated with.
    """

    def __init__(
        self,
        store: Store,
        catalogue: Catalogue,
        settings: Settings,
        *,
        home: Path | None = None,
        on_applied: Callable[[RevisionResult], None] | None = None,
        page_of: Callable[[str, str], str | None] = _no_page,
        holds: Holds = unknown,
        clock: Callable[[], datetime] = _now,
    ) -> None:
        zone = ZoneInfo(settings.zone)
        self._store = store
        self._catalogue = catalogue
        self._settings = settings
        self._on_applied = on_applied
        self._clock = clock
        self._origins = Origins(store, settings, (home or settings.home).absolute())
        seal = Seal(AgeKeys(settings.age_key_file), partial(Encryption.of, settings, home))
        answers = Answers(FlowFacts(store, partial(policy_problems, settings)), zone)
        signatures = SignaturePolicies(settings.environments)
        self._planner = Planner(store, answers, settings, clock, holds, signatures, seal)
        self._activation = Activation(store, zone, clock, catalogue.in_force)
        self._trials = Trials(store, settings)
        self._checks = Checks(store, self._origins, clock, self._origins.open_api, self._trials)
        self._orders = Orders(store, self._origins, self._planner, self._activation, clock)
        self._standing = Standing(store, self._activation.pin, clock)
        self._drift = Drift(store, self._origins, self._planner, self._activation, clock)
        self._previews = Previews(store, answers, self._activation, settings, clock, catalogue.invalidate)
        self._reviewer = Reviewer(store, self._origins, self._planner, self._previews, settings, page_of, clock)
        self._proposals = Proposals(self._origins, self._planner, clock, self._origins.open_api)
        self.reverts = Reverts(store, self._orders, self._proposals, clock)
        self._deployments = Deployments(store, self._orders, self.reverts, clock)
        commits = Commits(
            store, self._origins, self._planner, self._activation, clock, self._after_write, self._proposals
        )
        self._writes = FlowWrites(store, commits)
        self._file_writes = GitFileWrites(store, commits)
        self.namespaces = Namespaces(store, commits)
        self.dashboards = DashboardWrites(store, commits)

    # repositories and environments

    def ensure_declared(self) -> None:
        """Write what the settings declare to the store; see `Origins.declare`."""
        self._origins.declare()

    def repository(self, name: str) -> Source:
        """Return the open source of a repository; its `repository` has the lock. Raises `NotFoundError`."""
        return self._origins.get(name)

    def report_source(self, name: str) -> Source:
        """Return the open source that reports of a repository are written through. Raises `NotFoundError`."""
        return self._origins.for_reports(name)

    def trim_reports(self, name: str, most_bytes: int) -> bool:
        """Throw the mirror for reports away when it is larger; True when its source must be asked for again."""
        return self._origins.trim_reports(name, most_bytes)

    def credentials(self, name: str) -> Repository:
        """Return a repository with its secrets in the clear. Raises `NotFoundError`."""
        return self._origins.credentials(name)

    @property
    def reports_ref(self) -> str:
        """Return the branch of every repository that only the report writer moves."""
        return self._settings.reports.ref

    def environment(self, name: str) -> Environment:
        """Return an environment. Raises `NotFoundError` `environment.missing`."""
        found = self._store.read(lambda db: db.environments.get(name))
        if found is None:
            raise NotFoundError("environment.missing", f"there is no environment {name!r}", hint="mainstem sync status")
        return found

    def _followed(self, name: str) -> Environment:
        """Return an environment that follows a ref. Raises as `environment`, and `ConflictError` for a preview."""
        found = self.environment(name)
        if found.previews is not None:
            raise ConflictError(
                "preview.order.refused",
                f"{name} is the preview of change request {found.change}, and follows that alone",
                hint="/mainstem preview in a comment makes it anew",
            )
        return found

    def status(self) -> list[Environment]:
        """Return all environments as they are, by name."""
        return self._store.read(lambda db: db.environments.all())

    def history(self, environment: str, limit: int = 50) -> list[Revision]:
        """Return the latest revisions of an environment, the newest first. Raises `NotFoundError`."""
        self.environment(environment)
        return self._store.read(lambda db: db.revisions.list(environment, limit))

    def file_reader(self) -> GitNamespaceFiles:
        """Return the reader of namespace files at any commit."""

        def place_of(name: str) -> tuple[Source, str, str] | None:
            environment = self._store.read(lambda db: db.environments.get(name))
            if environment is None:
                return None
            place = self._origins.for_reviews if environment.previews else self._origins.get
            return place(environment.repository), environment.following, environment.path

        return GitNamespaceFiles(place_of)

    def file_writer(self) -> GitFileWrites:
        """Return the writer of namespace files, each write of which is a commit."""
        return self._file_writes

    def flow_writer(self) -> FlowWrites:
        """Return the writer of flows, each write of which is a commit."""
        return self._writes

    def close(self) -> None:
        """Close all repositories."""
        self._trials.close()
        self._reviewer.close()
        self._origins.close()

    def maintain(self, name: str, **limits: int) -> bool:
        """Compact the repository `name` where it is one of our own making; True when there was something to do.

        `limits` are those of `GitRepository.compact`.
        """
        source = self._origins.get(name)
        return self._origins.is_ours(name) and source.repository.compact(**limits)

    # change requests

    def review(self, name: str, results: Iterable[RevisionResult] = ()) -> bool:
        """Answer the change requests of a repository that want it; False when one must be tried again.

        Where one of `results` is a new active commit, those that are open for its ref want it.
        """
        for result in results:
            if result.outcome in {Outcome.ACTIVE, Outcome.QUARANTINED}:
                self._reviewer.want_open(self.environment(result.environment))
        return self._reviewer.look(name)

    def review_again(self, name: str, number: int) -> bool:
        """Answer one change request, whether or not anything has changed since the last time."""
        now = self._clock()
        self._store.write(lambda db: db.reviews.want(name, number, now, anew=True))
        return self._reviewer.look(name)

    # orders

    def pin_of(self, environment: str) -> Pin | None:
        """Return what keeps an environment where it is, or None."""
        return self._activation.pin(environment)

    def stay(self, environment: str, commit: str | None, **order: Any) -> RevisionResult:
        """Bring an environment to a commit and keep it there; see `Orders.stay`."""
        self._followed(environment)
        result = self._orders.stay(environment, commit, **order)
        self._announce(result)
        return result

    def resume(self, environment: str, *, actor: str, reason: str | None = None) -> list[RevisionResult]:
        """Let an environment follow its ref again, from now on.

        Raises:
            NotFoundError: `environment.missing`.
            ConflictError: `environment.pinned.not` when nothing keeps it.
        """
        repository = self._followed(environment).repository
        if not self._orders.resume(environment, actor=actor, reason=reason):
            raise ConflictError("environment.pinned.not", f"environment {environment} follows its ref already")
        return self.reconcile_repository(repository, actor=actor, reason="manual")

    def expire_pins(self) -> list[str]:
        """Take away the pins and previews that have run out; return the repositories that are to be looked at.

        Those are among them whose commits or change requests have new results of tests.
        """
        self._previews.expire()
        return [*self._orders.expire(), *self._reviewer.ended(), *self._trials.ended()]

    def take_back_failing(self) -> None:
        """Undo the last deployment of each environment whose runs fail beyond what its settings allow."""
        for result in self._deployments.take_back(self._settings.environments):
            self._announce(result)

    # drift

    def drift(self, environment: str) -> Plan | None:
        """Return the plan that would undo what has drifted; see `Drift.find`."""
        return self._drift.find(self._followed(environment).name)

    def heal(self, environment: str, *, actor: str, reason: str) -> RevisionResult:
        """Bring the flows of an environment back to its active commit; see `Drift.heal`."""
        result = self._drift.heal(self._followed(environment).name, actor=actor, reason=reason)
        self._announce(result)
        return result

    def check_drift(self, repository: str) -> None:
        """Look at the environments of a repository for drift, and do what each of them says about it."""
        modes = {each.name: each.drift for each in self._settings.environments}
        for environment in self._store.read(lambda db: db.environments.of_repository(repository)):
            result = self._drift.check(environment.name, modes.get(environment.name, "report"))
            if result is not None:
                log.warning("drift was healed", extra={"environment": environment.name})
                self._announce(result)

    # reconciling

    def reconcile_repository(self, name: str, *, actor: str, reason: str = "poll") -> list[RevisionResult]:
        """Bring every environment of a repository to the commit that its ref names, with one fetch.

        A commit that was refused or held before is not planned again unless `reason` is `manual` or `api`. An error
        of one environment, or of the repository, becomes a result with outcome FAILED; what is active stays active.

        Raises:
            NotFoundError: `repository.missing`.
        """
        environments = self._store.read(lambda db: db.environments.of_repository(name))
        found: dict[str, RevisionResult] = {}
        inquiry, is_forced = Inquiry(), reason in _FORCING

        def look(inquiry: Inquiry) -> None:
            concerned = [each for each in environments if inquiry.concerns(each.name)]
            for each in concerned:  # what a look before came to counts no more, be it that this one fails
                found.pop(each.name, None)
            with source.repository.lock:
                heads = source.heads(sorted({environment.ref for environment in environments}))
                for each in concerned:
                    found[each.name] = self._reconcile(source, each, heads, actor, inquiry, is_forced=is_forced)

        try:
            source = self._origins.get(name)
            self._checks.asking(inquiry, look)
        except MainstemError as error:
            if not environments:
                raise
            log.warning("a repository cannot be read", extra={"repository": name, "code": error.code})
            found |= {each.name: self._failed(each, error) for each in environments if each.name not in found}
        results = [found[each.name] for each in environments]
        if any(each.plan is not None and len(each.plan.changes) >= LARGE for each in results):
            give_back()
        return results

    def _reconcile(
        self,
        source: Source,
        known: Environment,
        heads: Mapping[str, str],
        actor: str,
        inquiry: Inquiry,
        *,
        is_forced: bool,
    ) -> RevisionResult:
        started = perf_counter()
        environment = self.environment(known.name)  # read again under the lock: a push may have moved it
        following = self.following(environment, heads)
        head = following.commit
        if head is None:
            return self._detached(environment, following)
        named = (environment.followed, environment.followed_commit)
        if following.ref is not None and head == environment.active and named != (following.ref, head):
            self._store.write(partial(_follow, environment.name, following.ref, head))
        if self._standing.is_settled(environment, head, is_forced=is_forced):
            return RevisionResult(environment.name, Outcome.UNCHANGED, head, environment.active)
        try:
            source.fetch(following.ref or environment.ref, head)
            plan = replace(self._planner.plan(source, environment.name, head), followed=following.ref)
            return self.apply(plan, actor=actor, started=started, inquiry=inquiry, is_forced=is_forced)
        except MainstemError as error:
            if error.code == RACED:  # another process was faster with the same repository: nothing is wrong
                return RevisionResult(environment.name, Outcome.UNCHANGED, head, self.environment(known.name).active)
            return self._failed(environment, error, head)

    def following(self, environment: Environment, heads: Mapping[str, str]) -> Following:
        """Return what an environment is to be at, when these are the heads of its repository."""
        moved = {each.name for each in self._settings.environments if each.moved_tags == "follow"}
        return Following.of(environment, heads, follows_moved_tags=environment.name in moved)

    def _detached(self, environment: Environment, following: Following) -> RevisionResult:
        now, message, code = self._clock(), following.reason, following.code
        if environment.active is None:
            self._store.write(lambda db: db.environments.set_state(environment.name, "OK", message, checked_at=now))
            return RevisionResult(environment.name, Outcome.UNCHANGED, message=message)
        self._store.write(
            lambda db: db.environments.set_state(
                environment.name, "DETACHED", message, held=environment.held, checked_at=now
            )
        )
        return RevisionResult(environment.name, Outcome.FAILED, None, environment.active, code=code, message=message)

    def _failed(self, environment: Environment, error: MainstemError, head: str | None = None) -> RevisionResult:
        """Say what went wrong, and leave the state as it is by now."""

        def note(db: Session) -> str | None:
            now = db.environments.get(environment.name) or environment
            db.environments.set_state(now.name, now.state, f"{error.code}: {error}", held=now.held)
            return now.active

        active = self._store.write(note)
        return RevisionResult(environment.name, Outcome.FAILED, head, active, code=error.code, message=str(error))

    # plans

    def plan(self, environment: str, commit: str | None = None, *, allowed_deletions: Sequence[FlowKey] = ()) -> Plan:
        """Return the plan of a commit, or of what the ref names now, for an environment. Nothing is changed.

        Raises:
            NotFoundError: `environment.missing`, `repository.ref.missing`, `repository.commit.missing`.
            FetchError: the repository cannot be read.
        """
        found = self._followed(environment)
        source = self._origins.get(found.repository)
        with source.repository.lock:
            if commit is None or commit not in source.repository:
                commit = self._fetched(source, found, commit)
            return self._planner.plan(source, environment, commit, allowed_deletions=allowed_deletions)

    def apply(
        self,
        plan: Plan,
        *,
        started: float | None = None,
        inquiry: Inquiry | None = None,
        is_forced: bool = False,
        **said: Any,
    ) -> RevisionResult:
        """Activate a plan, or write down why not; see `Activation.apply`. `started` is a `perf_counter`.

        See `Checks.gate` for the `inquiry`. When it `is_forced` tests that failed before are run once more.
        """
        begun = perf_counter() if started is None else started
        gate = partial(self._checks.gate, inquiry=inquiry, is_anew=is_forced)
        result = self._activation.apply(plan, seconds=lambda: perf_counter() - begun, gate=gate, **said)
        if inquiry is None or not inquiry.is_open(plan.environment):
            self._announce(result)
        return result

    def allow_deletes(self, environment: str, commit: str, actor: str) -> RevisionResult:
        """Activate the held revision `commit` (seven digits or more), deletions and all.

        Raises:
            ConflictError: `environment.held.other` when another commit is held, or none.
        """
        source = self._origins.get(self.environment(environment).repository)
        return self._checks.asking(Inquiry(), partial(self._allowed, source, environment, commit, actor))

    def _allowed(self, source: Source, environment: str, commit: str, actor: str, inquiry: Inquiry) -> RevisionResult:
        with source.repository.lock:
            held = self.environment(environment).held
            if held is None or len(commit) < _SHORTEST_SHA or not held.startswith(commit.lower()):
                raise ConflictError(
                    "environment.held.other",
                    f"environment {environment} does not hold commit {commit!r}",
                    hint=f"it holds {held[:12]}" if held else "it holds none; mainstem sync status",
                )
            started = perf_counter()
            plan = self._planner.plan(source, environment, held)
            said = {"actor": actor, "allow_deletes": True}
            return self.apply(plan, started=started, inquiry=inquiry, is_forced=True, **said)

    def _fetched(self, source: Source, environment: Environment, commit: str | None) -> str:
        following = self.following(environment, source.heads([environment.ref]))
        head = following.commit
        if head is None:
            raise NotFoundError("repository.ref.missing", following.reason or f"{environment.ref} is not there")
        if commit is not None and not (len(commit) >= _SHORTEST_SHA and head.startswith(commit.lower())):
            raise NotFoundError("repository.commit.missing", f"there is no commit {commit!r} here")
        source.fetch(following.ref or environment.ref, head)
        return head

    # writes

    def write_flow(self, source: str, **options: Any) -> FlowVersion:
        """Commit one flow and return its active version; see `FlowWrites.write`."""
        return self._writes.write([source], **options)[0]

    def write_flows(self, sources: Sequence[str], **options: Any) -> list[FlowVersion]:
        """Commit several flows of one environment together; see `FlowWrites.write`."""
        return self._writes.write(sources, **options)

    def delete_flow(self, namespace: str, flow_id: str, **options: Any) -> None:
        """Delete a flow by a commit; see `FlowWrites.delete`."""
        self._writes.delete([(namespace, flow_id)], **options)

    def delete_flows(self, keys: Sequence[FlowKey], **options: Any) -> None:
        """Delete flows of one environment by one commit; see `FlowWrites.delete`."""
        self._writes.delete(keys, **options)

    def _after_write(self, result: RevisionResult, repository: str) -> None:
        self._announce(result)
        others = self._store.read(lambda db: db.environments.of_repository(repository))
        if len(others) > 1:
            self.reconcile_repository(repository, actor="mainstem", reason="write")

    def _announce(self, result: RevisionResult) -> None:
        fields: dict[str, Any] = {
            "environment": result.environment,
            "commit": result.commit,
            "outcome": result.outcome.value,
            "seconds": round(result.seconds, 4),
        }
        log.info("revision reconciled", extra=fields)
        if result.outcome.is_active:
            self._catalogue.invalidate()
            if self._on_applied is not None:
                self._on_applied(result)
