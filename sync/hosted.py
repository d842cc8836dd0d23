"""The hosted repository: what `git fetch` and `git push` say to it, and what it answers.

Around the handlers of dulwich for the protocol, with rules of our own for what a push may do. dulwich takes a failed
compare-and-set of a ref for success, so of two pushes from one base both would be told ok and one would be lost;
here one lock is held from validation to the change of the ref, and its result is checked.
"""

from __future__ import annotations

import io
import logging
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any, BinaryIO, Final

from dulwich.errors import ApplyDeltaError, ChecksumMismatch, GitProtocolError, HangupException, ObjectFormatException
from dulwich.objects import ObjectID
from dulwich.protocol import (
    CAPABILITY_ATOMIC,
    CAPABILITY_FILTER,
    CAPABILITY_SIDE_BAND_64K,
    SIDE_BAND_CHANNEL_PROGRESS,
    ReceivableProtocol,
)
from dulwich.refs import Ref
from dulwich.server import Backend, ReceivePackHandler, UploadPackHandler

from runner.errors import InvalidError, MainstemError, Problem
from runner.flows.diagnostics import block
from runner.store.records import Environment
from sync.activation import Outcome
from sync.following import MOVED
from sync.names import is_ref
from sync.packs import check_pack
from sync.plan import Plan
from sync.plan_text import branch, plan_lines, problem_lines, short
from sync.refs import fits, is_followed, is_pattern, would_follow
from sync.reports.ledger_notes import NOTES
from sync.reports.run_notes import RUN_NOTES
from sync.repository import GitRepository
from sync.service import SyncService

log = logging.getLogger(__name__)

RECEIVE: Final = "git-receive-pack"
UPLOAD: Final = "git-upload-pack"
SERVICES: Final = frozenset({RECEIVE, UPLOAD})
_ZERO: Final = "0" * 40
_PUSHABLE: Final = ("refs/heads/", "refs/tags/", "refs/notes/")
# What indexing a broken pack raises inside the library.
_PACK_ERRORS: Final = (
    MainstemError,
    OSError,
    AssertionError,
    ChecksumMismatch,
    ApplyDeltaError,
    ObjectFormatException,
    KeyError,
    ValueError,
    zlib.error,
)

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class _Command:
    """What a push wants of one ref; `old` or `new` is None where it makes or deletes it."""

    ref: str
    old: str | None
    new: str | None

    @classmethod
    def of(cls, old: bytes, new: bytes, ref: bytes) -> _Command:
        """Return the command of a line of the protocol."""
        shas = [None if sha.decode() == _ZERO else sha.decode() for sha in (old, new)]
        return cls(ref.decode("utf-8", "replace"), *shas)


class HostedRepository:
    """Answers git's two services for one repository of a `SyncService`."""

    def __init__(self, service: SyncService, name: str = "hosted", *, allow_forced: bool = False) -> None:
        self.service = service
        self.name = name
        self.allow_forced = allow_forced

    @property
    def repository(self) -> GitRepository:
        """Return the repository itself."""
        return self.service.repository(self.name).repository

    def advertise(self, service: str) -> bytes:
        """Return the refs and capabilities for the beginning of a conversation with `service`."""
        answer = io.BytesIO()
        protocol = ReceivableProtocol(io.BytesIO().read, answer.write)
        protocol.write_pkt_line(f"# service={service}\n".encode())
        protocol.write_pkt_line(None)
        self._handler(service, protocol, advertise=True).handle()
        return answer.getvalue()

    def answer(self, service: str, body: BinaryIO, write: Callable[[bytes], None], *, actor: str) -> None:
        """Carry out one request of `service`; what it answers goes to `write` as it comes.

        Raises:
            InvalidError: `git.request.invalid` when the body does not speak the protocol.
        """

        def out(data: bytes) -> int:
            write(data)
            return len(data)

        protocol = ReceivableProtocol(body.read, out, rbufsize=1)
        try:
            self._handler(service, protocol, body=body, actor=actor).handle()
        except (GitProtocolError, HangupException, AssertionError, ValueError, KeyError) as error:
            # What a client sends that is no git protocol ends in any of these inside the library.
            raise InvalidError("git.request.invalid", f"this is no request of {service}: {error}") from error

    def receive(self, commands: list[_Command], body: BinaryIO, actor: str, say: Say) -> Iterator[tuple[bytes, bytes]]:
        """Carry out a push: yield the state of the pack, then that of each ref, as the protocol reports them."""
        try:
            if any(command.new for command in commands):
                self._index(body)
        except _PACK_ERRORS as error:
            yield b"unpack", " ".join(str(error).split())[:200].encode() or b"broken pack"
            return
        yield b"unpack", b"ok"
        with self.repository.lock:
            followed = {environment.ref for environment in self._environments()}
            if not any(is_followed(command.ref, followed) for command in commands):
                say(f"no environment follows {branch(commands[0].ref)}; followed: {_names(followed)}")
            for command in commands:
                reason = self._carried_out(command, actor, say)
                yield command.ref.encode(), reason.encode() if reason else b"ok"

    def _carried_out(self, command: _Command, actor: str, say: Say) -> str | None:
        try:
            return self._update(command, actor, say)
        except MainstemError as error:
            say(f"{error.code}: {error}")
            return error.code
        except Exception:  # the boundary to the client: it must hear of this ref, whatever went wrong
            log.exception("a push failed", extra={"ref": command.ref, "actor": actor})
            return "internal error, see the server's log"

    def _update(self, command: _Command, actor: str, say: Say) -> str | None:
        """Change one ref; return why not, or None. The repository's lock is held."""
        started = perf_counter()
        repository = self.repository
        environments = self._affected(command)
        # Of the tags that fit a pattern each is a release of its own; `_moved` says which of them may move.
        keeps_history = any(each.ref == command.ref or command.ref.startswith("refs/heads/") for each in environments)
        reason = self._refusal(command, is_followed=bool(environments), keeps_history=keeps_history)
        reason = reason or self._moved(command, environments)
        if reason is not None:
            return reason
        if command.new is None:
            gone = command.old is not None and repository.remove_head(command.ref, command.old)
            return None if gone else "fetch first"
        commit = repository.peeled(command.new)
        plans = [self._plan(each, command.ref, commit) for each in environments]
        for environment, plan in zip(environments, plans, strict=True):
            if plan.errors and len(plans) > 1:
                say(f"environment {plan.environment}:")
            self._say_plan(plan, say)
            if environment.reject_invalid and not plan.is_whole:
                say(f"revision {short(plan.commit)} refused: {_problems(plan)}. {short(plan.base)} stays active.")
                return f"{_problems(plan)}, see above"
        if not repository.set_head(command.ref, command.old, command.new):
            return "fetch first"
        for plan in plans:
            self._apply(plan, actor, started, say if len(plans) == 1 else _named(plan.environment, say))
        self._say_passed_over(command.ref, environments, say)
        return None

    def _affected(self, command: _Command) -> list[Environment]:
        """Return the environments that follow a ref, or will when it is there."""
        known, ref = self.repository.heads(), command.ref
        return [
            each
            for each in self._environments()
            if ref in {each.ref, each.following} or (command.new and would_follow(each, ref, known))
        ]

    def _moved(self, command: _Command, environments: Sequence[Environment]) -> str | None:
        """Return why a tag that environments follow by a pattern stays where it is, or None."""
        if command.new is None:
            return None
        heads = {command.ref: self.repository.peeled(command.new)}
        found = [self.service.following(each, heads) for each in environments if each.followed == command.ref]
        return (
            "a tag that an environment follows cannot be moved" if any(each.code == MOVED for each in found) else None
        )

    def _plan(self, environment: Environment, ref: str, commit: str) -> Plan:
        plan = self.service.plan(environment.name, commit)
        return replace(plan, followed=ref) if is_pattern(environment.ref) else plan

    def _say_passed_over(self, ref: str, moved: Sequence[Environment], say: Say) -> None:
        """Tell of the environments whose pattern a ref fits, and which do not follow it."""
        for each in self._environments():
            if is_pattern(each.ref) and fits(each.ref, ref) and each.name not in {one.name for one in moved}:
                now = f"stays at {branch(each.followed)}" if each.followed else "takes no pre-releases"
                say(f"environment {each.name} {now}: {branch(ref)} is not the highest version of {branch(each.ref)}")

    def _apply(self, plan: Plan, actor: str, started: float, say: Say) -> None:
        try:
            result = self.service.apply(plan, actor=actor, started=started)
        except MainstemError as error:
            # The ref has moved; polling finds it and tries again.
            log.warning("a pushed revision was not applied", extra={"commit": plan.commit, "code": error.code})
            say(f"revision {short(plan.commit)} is not active yet: {error}")
            return
        count = result.plan.counts.total() if result.plan else 0
        for line in result.lines:
            tail = f": {count} changed" if result.outcome in {Outcome.ACTIVE, Outcome.QUARANTINED} else ""
            say(line + tail)

    def _say_plan(self, plan: Plan, say: Say) -> None:
        if not plan.errors:
            for line in plan_lines(plan):
                say(line)
        sources = _Sources(self.repository, plan.commit)
        for line in problem_lines(plan.problems, sources.frame):
            say(line)

    def _refusal(self, command: _Command, *, is_followed: bool, keeps_history: bool) -> str | None:
        """Return why a ref must stay as it is, or None."""
        if not command.ref.startswith(_PUSHABLE) or not is_ref(command.ref):
            return "funny refname"
        if command.ref == self.service.reports_ref:
            return "only the server writes this branch"
        if command.ref in {NOTES, RUN_NOTES}:
            return "only the server writes these notes"
        if self.repository.raw_head(command.ref) != command.old:
            return "fetch first"
        if command.new is None:
            kind = "tag" if command.ref.startswith("refs/tags/") else "branch"
            return f"a {kind} that an environment follows cannot be deleted" if is_followed else None
        return self._unfit(command.ref, command.old, command.new, is_followed=is_followed, keeps_history=keeps_history)

    def _unfit(self, ref: str, old: str | None, new: str, *, is_followed: bool, keeps_history: bool) -> str | None:
        """Return why a ref must not name `new`, or None."""
        repository = self.repository
        if new not in repository:
            return "its commit was not sent"
        if ref.startswith("refs/heads/") or is_followed:
            tip = repository.peeled(new)
            reason = repository.check_tree(tip) or repository.check_history(tip)
            if reason is not None:
                return reason
        if keeps_history and old and not self.allow_forced and not repository.is_ancestor(old, new):
            return "the history of a branch that an environment follows cannot be rewritten"
        return None

    def _index(self, body: BinaryIO) -> None:
        start = body.tell()
        check_pack(body)
        body.seek(start)
        with self.repository.packing:
            self.repository.raw.object_store.add_thin_pack(body.read, None)

    def _environments(self) -> list[Environment]:
        return [each for each in self.service.status() if each.repository == self.name]

    def _handler(self, service: str, protocol: ReceivableProtocol, *, advertise: bool = False, **about: Any) -> Any:
        backend = _OneRepository(self.repository)
        if service == RECEIVE:
            return _Receive(backend, protocol, hosted=self, advertise_refs=advertise, **about)
        return _Upload(backend, ["/"], protocol, stateless_rpc=True, advertise_refs=advertise)


def _named(environment: str, say: Say) -> Say:
    """Return what says a line as one of an environment, where a push moves several."""
    return lambda line: say(f"{environment}: {line}")


class _OneRepository(Backend):
    """A backend with one repository, whatever path is asked for."""

    def __init__(self, repository: GitRepository) -> None:
        self._repository = repository

    def open_repository(self, path: str) -> Any:  # noqa: ARG002 - the library's interface
        return self._repository.raw


class _Upload(UploadPackHandler):
    """Fetch and clone, without partial clones: the library would advertise a filter it carries out slowly."""

    def capabilities(self) -> list[bytes]:
        return [capability for capability in super().capabilities() if capability != CAPABILITY_FILTER]


class _Receive(ReceivePackHandler):
    """Push: the library reads the commands and reports, `HostedRepository.receive` does the work in between."""

    def __init__(
        self,
        backend: Backend,
        protocol: ReceivableProtocol,
        *,
        hosted: HostedRepository,
        advertise_refs: bool,
        body: BinaryIO | None = None,
        actor: str = "",
    ) -> None:
        super().__init__(backend, ["/"], protocol, stateless_rpc=True, advertise_refs=advertise_refs)
        self._hosted = hosted
        self._body = body
        self._actor = actor

    def capabilities(self) -> list[bytes]:
        # Without `atomic`: refs are carried out one by one, each with its own answer.
        return [capability for capability in super().capabilities() if capability != CAPABILITY_ATOMIC]

    def _apply_pack(self, refs: list[tuple[ObjectID, ObjectID, Ref]]) -> Iterator[tuple[bytes, bytes]]:
        assert self._body is not None
        yield from self._hosted.receive([_Command.of(*ref) for ref in refs], self._body, self._actor, self._say)

    def _say(self, text: str) -> None:
        if self.has_capability(CAPABILITY_SIDE_BAND_64K):
            line = "".join(char if char.isprintable() or char == "\n" else "?" for char in text)
            self.proto.write_sideband(SIDE_BAND_CHANNEL_PROGRESS, line.encode() + b"\n")


class _Sources:
    """The files of a commit, for the lines of source under a problem."""

    def __init__(self, repository: GitRepository, commit: str) -> None:
        self._repository = repository
        self._commit = commit

    def frame(self, problem: Problem) -> list[str]:
        """Return the block of a problem as lines."""
        return block(problem, self._source(problem)).splitlines()

    def _source(self, problem: Problem) -> str | None:
        blob = self._repository.find(self._commit, problem.file) if problem.file else None
        try:
            return self._repository.blob(blob).decode("utf-8", "replace") if blob else None
        except InvalidError:
            return None


def _names(refs: set[str]) -> str:
    return ", ".join(sorted(branch(ref) for ref in refs)) or "none"


def _problems(plan: Plan) -> str:
    return f"{len(plan.errors)} problem{'s' if len(plan.errors) != 1 else ''}"
