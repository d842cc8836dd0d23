"""Commits that the server itself makes to the repository of an environment: valid and active before they are told."""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from time import perf_counter

from runner.errors import AccessError, ConflictError, MainstemError
from runner.flows.namespace_defaults import NamespaceDefaults
from runner.reports.text import unlinked
from runner.store import Store
from runner.store.records import Environment
from sync.activation import Activation, RevisionResult
from sync.commit_record import Author
from sync.edits import Edit, check_faults, differs
from sync.layout import Layout, layout_of
from sync.origins import Origins
from sync.plan import FlowKey, Plan
from sync.plan_text import pinned_line
from sync.planning import Planner, read_layout
from sync.proposals import Proposal, Proposals, Wish
from sync.refs import is_pattern

Proposed = Callable[[Proposal], None]
"""Hears of the proposal that was made in place of a commit."""

MOVED = "repository.head.moved"


@dataclass(frozen=True, slots=True)
class Commits:
    """Commits edits under the lock that pushes take too, and activates them."""

    store: Store
    origins: Origins
    planner: Planner
    activation: Activation
    clock: Callable[[], datetime]
    applied: Callable[[RevisionResult, str], None]
    proposals: Proposals

    def commit(
        self,
        environment: Environment,
        edit: Edit,
        *,
        actor: str,
        message: str,
        deletions: Collection[FlowKey] = (),
        proposed: Proposed | None = None,
    ) -> RevisionResult | None:
        """Commit what `edit` says to the ref of `environment` and activate it; None when nothing changes by it.

        In an environment that takes only proposals one is made instead, and `proposed` is told of it. Nothing is active
        then, so whoever does not listen is refused.

        Raises:
            FlowError: `flow.invalid` with the problems; nothing is committed.
            ConflictError: `environment.held`, `environment.pinned`; `repository.head.moved` when somebody was faster.
            AccessError: `environment.writes.refused`, `environment.writes.unchecked`; `signature.writes.refused` when
                commits must be signed, and the server cannot, or the head is not.
            ProposalError: as `Proposals.make`.
        """
        check_writes(environment, may_propose=proposed is not None)
        if environment.writes == "propose":
            wish = Wish(environment, edit, message, actor, deletions)
            made = self.proposals.make(wish)
            if made is not None and proposed is not None:
                proposed(made)
            return None
        self._check_pin(environment)
        result = self._committed(environment, edit, actor, message, deletions)
        if result is not None:  # others that follow the repository are looked at, so it is let go of first
            self.applied(result, environment.repository)
        return result

    def _committed(
        self, environment: Environment, edit: Edit, actor: str, message: str, deletions: Collection[FlowKey]
    ) -> RevisionResult | None:
        source = self.origins.get(environment.repository)
        repository = source.repository
        with repository.lock:
            started = perf_counter()
            head = source.heads([environment.ref]).get(environment.ref)
            if head is not None:
                source.fetch(environment.ref, head)
            edits = edit(source, head)
            files = repository.listing(head, "").files if head is not None else {}
            if not differs(files, edits) and not deletions:
                return None
            author = Author(actor, f"{actor}@users.mainstem.local")
            text = "\n".join(map(unlinked, message.splitlines()))  # names of files may be those of issues at a forge
            commit = repository.commit_changes(
                head,
                edits,
                author=author,
                message=text,
                at=self.clock(),
                sign=self.planner.signer(source, environment.name, head),
            )
            plan = self.planner.plan(source, environment.name, commit, allowed_deletions=deletions)
            check_faults(plan, edits)
            _check_held(plan)
            _demand_unchecked(plan)
            if not source.push(environment.ref, head, commit):
                raise ConflictError(MOVED, f"{environment.ref} was moved meanwhile", hint="try again")
            return self.activation.apply(plan, actor=actor, seconds=lambda: perf_counter() - started)

    def _check_pin(self, environment: Environment) -> None:
        pin = self.activation.pin(environment.name)
        if pin is not None:
            raise ConflictError(
                "environment.pinned",
                f"environment {environment.name} is {pinned_line(pin)}",
                hint=f"mainstem sync resume {environment.name}",
            )

    def defaults(self, environment: Environment) -> NamespaceDefaults:
        """Return the plugin defaults and variables of the active commit.

        Whoever asks seldom waits: plans have read them before. A process that makes none fetches the commit once.
        """
        known = self.planner.known_defaults(environment)
        if known is not None or environment.active is None:
            return known or NamespaceDefaults()
        source = self.origins.get(environment.repository)
        with source.repository.lock:
            if environment.active not in source.repository:
                with suppress(MainstemError):  # away: who asks gets what is known here, which is nothing
                    source.fetch(environment.following, environment.active)
            return self.planner.defaults(source, environment)

    def layout(self, environment: Environment) -> Layout:
        """Return where flows and files stand in what is active, and where new ones go."""
        source = self.origins.get(environment.repository)
        active = environment.active
        is_known = active is not None and active in source.repository
        return read_layout(source, active or "", environment.path) if is_known else layout_of(environment.path, None)


def check_writes(environment: Environment, *, may_propose: bool = False) -> None:
    """Demand that an environment takes commits from here, or proposals from who can make do with them.

    Raises:
        AccessError: `environment.writes.refused`.
        ConflictError: `environment.writes.elsewhere`.
    """
    if is_pattern(environment.ref) or environment.ref.startswith("refs/tags/"):
        raise AccessError(
            "environment.writes.refused",
            f"environment {environment.name} follows {environment.ref}, and the server makes no releases",
            hint="push the change to a branch, and tag it",
        )
    if environment.writes == "refuse":
        raise AccessError(
            "environment.writes.refused",
            f"environment {environment.name} takes no writes but those of git",
            hint="push to its repository",
        )
    if environment.writes == "propose" and not may_propose:
        # The log of a task shows messages alone, so this one says what to do too.
        raise ConflictError(
            "environment.writes.elsewhere",
            f"environment {environment.name} takes changes only as proposals, which no task makes: commit them to a "
            f"branch of repository {environment.repository}, with git.Push or by hand, and open a change request to "
            f"{environment.ref.removeprefix('refs/heads/')}; or write by the API, which proposes",
        )


def _demand_unchecked(plan: Plan) -> None:
    """Refuse a commit of ours where checks are required: nobody can have run them on it.

    Raises:
        AccessError: `environment.writes.unchecked`.
    """
    if plan.required or plan.tests:
        names = ", ".join([*plan.required, *(["the tests of its flows"] if plan.tests else [])])
        message = f"environment {plan.environment} activates commits whose checks are green: {names}"
        raise AccessError("environment.writes.unchecked", message, hint="push to its repository")


def _check_held(plan: Plan) -> None:
    if plan.held:
        raise ConflictError(
            "environment.held",
            f"environment {plan.environment} is held since {plan.held}",
            hint="mainstem sync run --allow-deletes, or push the flows again",
        )
