"""A bare, partial mirror of a repository elsewhere: the newest commits, their trees, and only the blobs that count.

One commit and its trees are fetched without blobs (`blob:none`), then exactly the blobs below the flow path. The
blobs are asked for without saying what we have, since a server takes the blobs of a known commit as known. A server
without partial fetch sends one whole commit; one without shallow fetch, everything, within the budget.
"""

from __future__ import annotations

import logging
import tempfile
import time
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, TypeVar

from dulwich.client import GitClient, HTTPUnauthorized, Urllib3HttpGitClient
from dulwich.errors import GitProtocolError, HangupException, NotGitRepository
from dulwich.objects import ObjectID
from dulwich.pack import UnpackedObject, pack_objects_to_data
from dulwich.refs import Ref
from urllib3.exceptions import HTTPError

from runner.errors import InvalidError, MainstemError
from sync.checked import Reach
from sync.names import check_sha, is_ref
from sync.packs import check_pack
from sync.refs import beginning, is_followed, is_pattern
from sync.remote import Credentials, Tokens, connect, without_credentials
from sync.repository import GitRepository
from sync.sources import FetchError
from sync.ssh import SshClient

log = logging.getLogger(__name__)

_BLOBS_A_REQUEST: Final = 5_000
_MOST_PACKS: Final = 50
# What servers say when the ref was moved between looking and writing.
_FASTER: Final = ("fetch first", "non-fast-forward", "cannot lock ref", "failed to update ref", "stale")
_SPOOL_BYTES: Final = 4 << 20
_INCREMENT_BYTES: Final = 32 << 20
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Budget:
    """How much one fetch may bring, and how long it may take; `is_stopped` says that nobody waits for it any more."""

    max_bytes: int = 512 << 20
    max_seconds: float = 300.0
    is_stopped: Callable[[], bool] = bool


class _BudgetSpentError(Exception):
    """More bytes or seconds than one fetch may take, or nobody waits for it."""


class _MovedError(Exception):
    """The ref names something else by now."""


class _NothingKnown:
    """Says to a server that we have nothing, so that it sends every object we name."""

    shallow: frozenset[ObjectID] = frozenset()
    unshallow: frozenset[ObjectID] = frozenset()

    def __next__(self) -> ObjectID | None:
        return None

    def ack(self, sha: ObjectID) -> None:
        """Hear that the server knows an object."""

    def nak(self) -> None:
        """Hear that it knows none."""

    def update_shallow(self, new: Any, gone: Any) -> None:
        """Keep the mirror's boundary as it is: blobs do not move it."""


class MirrorSource:
    """A `Source` over the network. `repository` holds what was fetched so far and can be thrown away at any time."""

    def __init__(
        self,
        url: str,
        path: Path,
        *,
        kind: str = "generic",
        credentials: Credentials | None = None,
        budget: Budget | None = None,
        reach: Reach | None = None,
        tokens: Tokens | None = None,
    ) -> None:
        self.url = url
        self.repository = GitRepository.open_or_init(path)
        self._kind = kind
        self._credentials = credentials or Credentials()
        self._budget = budget or Budget()
        self._reach = reach
        self._tokens = tokens
        self._here: set[str] = set()
        self._connection: tuple[GitClient, str] | None = None

    def heads(self, refs: Collection[str]) -> dict[str, str]:
        """Return the commits that `refs` name there now; tags are peeled. Raises `FetchError`."""
        found = self._refs([beginning(ref) for ref in refs])
        patterns = [ref for ref in refs if is_pattern(ref)]
        shown = [name.decode("utf-8", "replace") for name in found if not name.endswith(b"^{}")] if patterns else []
        heads = {}
        for ref in (*refs, *(name for name in shown if is_followed(name, patterns) and is_ref(name))):
            sha = found.get(Ref(f"{ref}^{{}}".encode())) or found.get(Ref(ref.encode()))
            if sha:
                heads[ref] = check_sha(sha.decode())
        return heads

    def default_ref(self) -> str | None:
        """Return the branch that the server shows first, None when it does not say. Raises `FetchError`."""
        found = self._over(lambda client, path: client.get_refs(path, ref_prefix=[b"HEAD"]))
        named = found.symrefs.get(Ref(b"HEAD"))
        return named.decode() if named else None

    def refs(self, prefixes: Collection[str]) -> dict[str, str]:
        """Return all refs that begin with one of `prefixes`, and what they name; tags as they are."""
        found = self._refs(prefixes)
        return {
            name.decode("utf-8", "replace"): check_sha(sha.decode())
            for name, sha in found.items()
            if sha and not name.endswith(b"^{}") and name.decode("utf-8", "replace").startswith(tuple(prefixes))
        }

    def _refs(self, prefixes: Collection[str]) -> dict[Ref, ObjectID | None]:
        encoded = [prefix.encode() for prefix in prefixes]
        return dict(self._over(lambda client, path: client.get_refs(path, ref_prefix=encoded).refs))

    def fetch(self, ref: str, commit: str) -> None:
        """Bring `commit` and its trees. Raises `FetchError`."""
        if commit in self.repository and self.repository.head(ref) == commit:
            return
        raw = self.repository.raw
        whole, increment = self._budget.max_bytes, min(_INCREMENT_BYTES, self._budget.max_bytes)
        attempts: list[tuple[int | None, int]] = [(1, whole), (None, whole)]
        if raw.refs.as_dict(Ref(b"refs/heads")):
            # Without a depth the commits since the last one come too, which tells a rewritten history from a push.
            attempts.insert(0, (None, increment))
        self._first_that_works(commit, attempts)
        if commit not in self.repository:
            raise FetchError("repository.commit.missing", f"{self._shown} did not send commit {commit}")
        raw.refs[Ref(ref.encode())] = ObjectID(commit.encode())
        if raw.object_store.count_pack_files() > _MOST_PACKS:
            # Not by git: it would miss the blobs that were left out on purpose.
            with self.repository.packing:
                raw.object_store.repack()

    def fetch_whole(self, commits: Collection[str], depth: int | None) -> None:
        """Bring commits with all their files, and the `depth` last commits of each history or, for None, all of it.

        Raises `FetchError`.
        """
        self._download(list(commits), _NothingKnown(), self._budget.max_bytes, depth=depth)
        lost = next((commit for commit in commits if commit not in self.repository), None)
        if lost is not None:
            raise FetchError("repository.commit.missing", f"{self._shown} did not send commit {lost}")

    def fetch_history(self, commit: str) -> None:
        """Bring all commits before `commit`, without trees and files where the server can leave them out.

        Raises `FetchError`.
        """
        self._download([commit], _NothingKnown(), self._budget.max_bytes, leaving_out=b"tree:0")

    def bring(self, commit: str) -> None:
        """Make a commit readable that no ref may name any more. Raises `FetchError`."""
        if commit not in self.repository:
            self.fetch_whole([commit], 1)

    def ensure(self, blobs: Iterable[str]) -> None:
        """Bring the blobs that are not here yet. Raises `FetchError`."""
        missing = self.repository.absent(blob for blob in blobs if blob not in self._here)
        for start in range(0, len(missing), _BLOBS_A_REQUEST):
            wanted = missing[start : start + _BLOBS_A_REQUEST]
            self._download(wanted, _NothingKnown(), self._budget.max_bytes)
        if lost := self.repository.absent(missing):
            raise FetchError("repository.blob.missing", f"{self._shown} did not send blob {lost[0]}")
        self._here.update(missing)

    def push(self, ref: str, expected: str | None, new: str, *, known: str | None = None) -> bool:
        """Move `ref` there from `expected` to `new`; False when somebody was faster. Raises `FetchError`.

        `known` is a commit that is there already and that `new` begins at, where that is not `expected`.
        """
        name, wanted = Ref(ref.encode()), ObjectID(new.encode())

        def moved(there: dict[Ref, ObjectID]) -> dict[Ref, ObjectID]:
            if there.get(name) != (ObjectID(expected.encode()) if expected else None):
                raise _MovedError
            return {name: wanted}

        def objects(*_have: Any, **_options: Any) -> tuple[int, Iterator[UnpackedObject]]:
            # Named by us and not found by the library, which would look for blobs that a partial mirror has not.
            new_ones = self.repository.new_objects(known or expected, new)
            return pack_objects_to_data([(each, None) for each in new_ones], deltify=False)

        try:
            result = self._over(lambda client, path: client.send_pack(path, moved, objects))
        except _MovedError:
            return False
        answer = (result.ref_status or {}).get(ref.encode())
        if answer is None:
            self.repository.raw.refs[name] = wanted
            return True
        if any(reason in answer for reason in _FASTER):
            return False
        text = without_credentials(answer, self._credentials.password)
        raise FetchError("repository.push.refused", f"{self._shown} refuses {ref}: {text}")

    def close(self) -> None:
        """Close the mirror and the connections it kept."""
        self._disconnect()
        self.repository.close()

    def _disconnect(self) -> None:
        if self._connection is not None and isinstance(self._connection[0], Urllib3HttpGitClient):
            self._connection[0].pool_manager.clear()
        self._connection = None

    def _first_that_works(self, commit: str, attempts: Sequence[tuple[int | None, int]]) -> None:
        walker = self.repository.raw.get_graph_walker
        for number, (depth, most) in enumerate(attempts, start=1):
            try:
                self._download([commit], walker(), most, depth=depth, leaving_out=b"blob:none")
            except FetchError as error:
                is_increment = number == 1 and len(attempts) > 2
                spent = error.code == "repository.budget.exceeded" and is_increment
                refused = error.code == "repository.protocol.refused" and number < len(attempts)
                if not spent and not refused:
                    raise
                log.info("a fetch is tried in another way", extra={"repository": self._shown, "code": error.code})
            else:
                return

    def _download(
        self,
        wanted: Sequence[str],
        walker: Any,
        max_bytes: int,
        *,
        depth: int | None = None,
        leaving_out: bytes | None = None,
    ) -> None:
        raw = self.repository.raw
        meter = _Meter(max_bytes, time.monotonic() + self._budget.max_seconds, self._budget.is_stopped)
        with tempfile.SpooledTemporaryFile(max_size=_SPOOL_BYTES, dir=str(self.repository.path)) as spool:

            def take(data: bytes) -> int:
                meter.count(len(data))
                return spool.write(data)

            result = self._over(
                lambda client, path: client.fetch_pack(
                    path,
                    lambda *_args, **_options: [ObjectID(sha.encode()) for sha in wanted],
                    walker,
                    take,
                    depth=depth,
                    filter_spec=leaving_out,
                )
            )
            if spool.tell():
                spool.seek(0)
                self._check(spool)
                spool.seek(0)
                self._asked(lambda: raw.object_store.add_thin_pack(spool.read, None))
        raw.update_shallow(result.new_shallow, result.new_unshallow)

    def _check(self, spool: Any) -> None:
        try:
            check_pack(spool)
        except InvalidError as error:
            raise FetchError(error.code, f"{self._shown}: {error}", hint=error.hint) from error

    def _over(self, call: Callable[[GitClient, bytes], T]) -> T:
        """Return what `call` gives over a connection; once more with another token where ours has run out."""
        connected = self._connect()
        try:
            return self._once(call, *connected)
        except FetchError as error:
            if self._tokens is None or error.code != "repository.access.denied":
                raise
        refused = self._credentials.password or ""
        self._take(lambda tokens: tokens.renewed(refused))
        return self._once(call, *self._connect())

    def _once(self, call: Callable[[GitClient, bytes], T], client: GitClient, path: str) -> T:
        return self._asked(lambda: call(client, path.encode()))

    def _take(self, ask: Callable[[Tokens], str]) -> None:
        """Take a token as the password from now on. Raises `FetchError` when there is none."""
        assert self._tokens is not None
        try:
            token = ask(self._tokens)
        except MainstemError as error:
            raise FetchError(
                "repository.access.denied", f"{self._shown}: {error.message} [{error.code}]", hint=error.hint
            ) from None
        if token != self._credentials.password:
            self._credentials = replace(self._credentials, password=token)
            self._disconnect()

    def _connect(self) -> tuple[GitClient, str]:
        if self._tokens is not None:
            self._take(lambda tokens: tokens.token())
        if self._connection is None:
            self._connection = connect(self.url, self._kind, self._credentials, self._reach)
        return self._connection

    @property
    def _shown(self) -> str:
        return without_credentials(self.url, self._credentials.password)

    def _asked(self, call: Callable[[], T]) -> T:
        """Return what `call` gives; what it raises becomes a `FetchError` without credentials in it."""
        try:
            return call()
        except _BudgetSpentError as error:
            raise FetchError(
                "repository.budget.exceeded",
                f"{self._shown}: {error}",
                hint="is the flow path right, and does the server allow partial fetches (uploadpack.allowFilter)?",
            ) from None
        except HTTPUnauthorized:
            raise FetchError(
                "repository.access.denied", f"{self._shown} wants other credentials", hint="check username and password"
            ) from None
        except NotGitRepository:
            raise FetchError("repository.missing", f"there is no repository at {self._shown}") from None
        except GitProtocolError as error:
            raise self._protocol_error(error) from None
        except (OSError, ValueError, KeyError, AssertionError, zlib.error, HTTPError) as error:
            # The library lets plain errors of parsing through when a server sends nonsense.
            text = without_credentials(str(error) or type(error).__name__, self._credentials.password)
            raise FetchError("repository.unreachable", f"{self._shown} cannot be read: {text}") from None
        finally:
            if self._connection is not None and isinstance(self._connection[0], SshClient):
                self._connection[0].end()

    def _protocol_error(self, error: GitProtocolError) -> FetchError:
        text = without_credentials(" ".join(str(error).split()), self._credentials.password)
        if "Host key verification failed" in text or "host key is known" in text:
            return FetchError(
                "repository.host.unverified",
                f"{self._shown}: the key of the host is not the one that is known, or none is known",
                hint="compare its key with what its operator publishes, then put that into known_hosts",
            )
        if " 403 " in f"{text} " or "Permission denied" in text:
            return FetchError("repository.access.denied", f"{self._shown} refuses: {text[:300]}")
        if isinstance(error.__cause__, HTTPError) or isinstance(error, HangupException):
            return FetchError("repository.unreachable", f"{self._shown} cannot be reached: {text[:300]}")
        return FetchError("repository.protocol.refused", f"{self._shown} answers: {text[:300]}")


class _Meter:
    """Counts what arrives and stops a fetch that brings or takes too much."""

    def __init__(self, max_bytes: int, until: float, is_stopped: Callable[[], bool]) -> None:
        self._left = max_bytes
        self._max_bytes = max_bytes
        self._until = until
        self._is_stopped = is_stopped

    def count(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise _BudgetSpentError(f"a fetch brought more than {self._max_bytes:,} bytes")
        if time.monotonic() > self._until:
            raise _BudgetSpentError("a fetch took too long")
        if self._is_stopped():
            raise _BudgetSpentError("the fetch was stopped")
