"""Changes that are proposed: a branch with a commit on it, pushed, and the change request that the forge opens for it.

The name of the branch is made from what is changed, so that a second wish about the same files goes on where an open
change request stands, and a new one begins once that is merged or closed. The forge is asked before anything is pushed:
where it does not answer, nothing is left behind.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any, Final

from runner.errors import ConflictError, MainstemError
from runner.reports.text import code, unlinked
from runner.store.records import Environment, Repository
from sync.commit_record import Author
from sync.edits import Edit, Edits, check_faults, differs
from sync.forges.api import ApiError, Draft, ForgeApi, Opened
from sync.origins import Origins
from sync.plan import FlowKey, Plan
from sync.planning import Planner
from sync.refs import is_pattern
from sync.reviews.text import CUT, Reviewed, section, within
from sync.sources import Source

BRANCHES: Final = "refs/heads/"
OURS: Final = "mainstem/"
"""What the names of our branches begin with."""
_MOST_TRIES: Final = 5
_MOST_NAME: Final = 60
_MOST_TITLE: Final = 120
_DIGITS: Final = 8
_NO_NAME: Final = re.compile(r"[^A-Za-z0-9_-]+")
_SUFFIXES: Final = frozenset({".yaml", ".yml"})


class ProposalError(MainstemError):
    """A change cannot be proposed since the forge does not take part; codes `proposal.*`."""

    status = 502


@dataclass(frozen=True, slots=True)
class Proposal:
    """A change that waits for its review. `number` and `url` are None in a repository that no forge we know has."""

    environment: str
    branch: str
    commit: str
    number: int | None = None
    url: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the change request as the API shows it."""
        return {"url": self.url, "number": self.number, "branch": self.branch}


@dataclass(frozen=True, slots=True)
class Wish:
    """What somebody wants to change in the repository of an environment.

    Args:
        environment: whose ref the change is for.
        edit: decides on the newest commit of that ref what is written.
        message: of the commit; its first line is the title of the change request.
        actor: who asks for it.
        deletions: flows that are deleted by name.
        branch: the name of the branch; without it, made from the files.
        reason: why, for the text of the change request.
    """

    environment: Environment
    edit: Edit
    message: str
    actor: str
    deletions: Collection[FlowKey] = ()
    branch: str | None = None
    reason: str | None = None

    @property
    def title(self) -> str:
        """Return the title, of which a forge makes neither mentions nor references."""
        return unlinked(self.message.partition("\n")[0], _MOST_TITLE)


@dataclass(frozen=True, slots=True)
class _Pushed:
    """What stands on the branch now."""

    commit: str
    plan: Plan
    edits: Edits


@dataclass(frozen=True, slots=True)
class Proposals:
    """Proposes changes. While a forge is asked, the lock of the repository is free for others.

    `open_api` opens the API of a repository at its forge; None for those that have none.
    """

    origins: Origins
    planner: Planner
    clock: Callable[[], datetime]
    open_api: Callable[[Repository], ForgeApi | None]

    def make(self, wish: Wish) -> Proposal | None:
        """Propose what somebody wants; None when neither the ref nor an open change request lacks it.

        Raises:
            FlowError: `flow.invalid` with the problems; nothing is pushed.
            AccessError: `signature.writes.refused` when commits must be signed, and the server cannot, or what it
                would go on from is not.
            ConflictError: `proposal.base.none`; `repository.head.moved` when others were faster, again and again.
            FetchError: the repository cannot be reached, or takes no such branch.
            ProposalError: `proposal.forge.away`, nothing is pushed; `proposal.unopened`, the branch is.
        """
        environment = wish.environment
        base = _base_of(environment)
        source = self.origins.get(environment.repository)
        with self.open_api(self.origins.credentials(environment.repository)) or contextlib.nullcontext() as api:
            branch = wish.branch or self._branch(source, wish)
            known = _looked_for(api, branch, base)
            pushed = self._pushed(source, wish, branch, known, has_forge=api is not None)
            if pushed is None:
                return None
            made = Proposal(environment.name, branch, pushed.commit)
            if api is None:
                return made
            text = _text(wish, pushed, api.most_comment)
            opened = _opened(api, Draft(branch, base, wish.title, text), known)
            return Proposal(environment.name, branch, pushed.commit, opened.number, opened.url)

    def _branch(self, source: Source, wish: Wish) -> str:
        with source.repository.lock:
            head = self._head(source, wish.environment, wish.environment.ref)
            return branch_of(wish.environment, wish.edit(source, head))

    @staticmethod
    def _head(source: Source, environment: Environment, ref: str) -> str:
        head = source.heads([ref]).get(ref)
        if head is None:
            raise _no_base(environment, "has no commit yet")
        source.fetch(ref, head)
        return head

    def _pushed(
        self, source: Source, wish: Wish, branch: str, known: Opened | None, *, has_forge: bool
    ) -> _Pushed | None:
        """Bring the branch to where the wish is fulfilled on it; None when it is without any branch."""
        ref = BRANCHES + branch
        for _ in range(_MOST_TRIES):
            with source.repository.lock:
                base = self._head(source, wish.environment, wish.environment.ref)
                edits = wish.edit(source, base)
                tip = source.heads([ref]).get(ref)
                if tip is not None:
                    source.fetch(ref, tip)
                on = _start(source, base, tip, edits, is_open=known is not None if has_forge else None)
                if not differs(source.repository.listing(on, "").files, edits):
                    return None if on == base else self._planned(source, wish, on, edits)
                made = self._planned(source, wish, self._committed(source, wish, on, edits), edits)
                if source.push(ref, tip, made.commit, known=on):
                    return made
        raise ConflictError("repository.head.moved", f"{branch} is moved by others all the time", hint="try again")

    def _committed(self, source: Source, wish: Wish, on: str, edits: Edits) -> str:
        lines = [unlinked(line) for line in wish.message.splitlines()]
        message = "\n".join([*lines, "", f"Requested-by: {unlinked(wish.actor)}", ""])
        author = Author(wish.actor, f"{wish.actor}@users.mainstem.local")
        sign = self.planner.signer(source, wish.environment.name, on)
        return source.repository.commit_changes(on, edits, author=author, message=message, at=self.clock(), sign=sign)

    def _planned(self, source: Source, wish: Wish, commit: str, edits: Edits) -> _Pushed:
        plan = self.planner.plan(source, wish.environment.name, commit, allowed_deletions=wish.deletions)
        check_faults(plan, edits)
        return _Pushed(commit, plan, edits)


def branch_of(environment: Environment, edits: Edits) -> str:
    """Return the name of the branch for a change of files: always the same one for the same files.

    It says what the change is about as far as it can, such as `mainstem/team.load-1f3a9c2e`.
    """
    paths = sorted(edits)
    digest = hashlib.sha256("\0".join([environment.name, *paths]).encode("utf-8", "surrogateescape")).hexdigest()
    what = _stem(environment, paths[0]) if len(paths) == 1 else f"{len(paths)}-files"
    return f"{OURS}{what or 'change'}-{digest[:_DIGITS]}"


def _stem(environment: Environment, path: str) -> str:
    below = path.removeprefix(f"{environment.path.strip('/')}/")
    place = PurePosixPath(below)
    parts = (place.with_suffix("") if place.suffix in _SUFFIXES else place).parts
    clean = (_NO_NAME.sub("-", piece).strip("-") for part in parts for piece in part.split("."))
    return ".".join(piece for piece in clean if piece)[:_MOST_NAME].strip(".-").removesuffix(".lock")


def _start(source: Source, base: str, tip: str | None, edits: Edits, *, is_open: bool | None) -> str:
    """Return the commit that a proposal is made on: the branch while its change request is open, else the base.

    Where nobody knows whether one is open (None), a branch that is not in the base yet counts as open. A branch that
    holds just what is wanted is what an earlier try left behind.
    """
    if tip is None:
        return base
    repository = source.repository
    is_left = repository.commit(tip).parents == (base,) and not differs(repository.listing(tip, "").files, edits)
    goes_on = not repository.is_ancestor(tip, base) if is_open is None else is_open
    return tip if goes_on or is_left else base


def _base_of(environment: Environment) -> str:
    """Return the branch that an environment follows. Raises `ConflictError` `proposal.base.none`."""
    if not environment.ref.startswith(BRANCHES) or is_pattern(environment.ref):
        raise _no_base(environment, "is no one branch")
    return environment.ref.removeprefix(BRANCHES)


def _no_base(environment: Environment, reason: str) -> ConflictError:
    return ConflictError(
        "proposal.base.none",
        f"environment {environment.name} follows {environment.ref}, which {reason}: nothing can be proposed for it",
        hint="push to its repository",
    )


def _looked_for(api: ForgeApi | None, branch: str, base: str) -> Opened | None:
    try:
        return api.find_open(branch, base) if api is not None else None
    except ApiError as error:
        raise ProposalError(
            "proposal.forge.away",
            f"nothing is proposed, since the forge cannot be asked: {error.message} [{error.code}]",
            hint=error.hint or "try again later",
        ) from None


def _opened(api: ForgeApi, draft: Draft, known: Opened | None) -> Opened:
    try:
        return api.propose(draft, known)
    except ApiError as error:
        raise ProposalError(
            "proposal.unopened",
            f"the branch {draft.branch} is pushed, but not its change request: {error.message} [{error.code}]",
            hint=error.hint or "do the same again, which goes on with that branch, or open it by hand",
        ) from None


def _text(wish: Wish, pushed: _Pushed, most: int) -> str:
    """Return the text of the change request: who asks, why, and what it would change."""
    lines = [f"Asked for by {code(wish.actor)} through Mainstem."]
    if wish.reason:
        lines.append(f"Why: {code(wish.reason)}")
    lines += ["", *section(Reviewed(wish.environment.name, pushed.plan))]
    count = len(pushed.edits)
    end = f"\n\n<sub>{count} file{'s' * (count != 1)}; asked for again while this is open, it is written anew.</sub>"
    return within("\n".join(lines).rstrip(), most - len(end), CUT) + end
