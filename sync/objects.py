"""The object store of a repository that several threads read at once."""

from __future__ import annotations

import contextlib
import logging
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, TypeVar

from dulwich.object_store import DiskObjectStore, ObjectReachabilityProvider
from dulwich.objects import ObjectID
from dulwich.pack import Pack, PackFileDisappeared
from dulwich.repo import Repo

T = TypeVar("T")

log = logging.getLogger(__name__)

_MOST_CACHED_BYTES: Final = 1 << 20
"""Of the bases of deltas, for each pack. The library keeps up to 96 MB of what was read, and we read a file once."""


class SharedObjectStore(DiskObjectStore):
    """A store whose packs are opened, looked up and closed by one thread at a time.

    The library opens the index and the data of a pack when they are first asked for, without a lock: two threads that
    ask together open both files twice and forget one pair, and a thread that drops a pack closes it under another that
    reads from it. What is left outside the lock, reading from packs that are open, goes over mapped memory.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._opening = threading.RLock()
        super().__init__(*arguments, **options)

    @property
    def packs(self) -> list[Pack]:
        """The packs that are there now; the library gives those too that another process has put into a new one."""
        with self._opening:
            self._update_pack_cache()
            return list(self._iter_cached_packs())

    def get_reachability_provider(self, prefer_bitmaps: bool = False) -> ObjectReachabilityProvider:  # noqa: FBT001, FBT002 - the library's interface
        """Return what walks from commit to commit, whatever is preferred.

        Where one pack has a bitmap, as git's maintenance leaves it, the library opens that of every other pack too, and
        ends a fetch with the file that is not there.
        """
        del prefer_bitmaps
        return super().get_reachability_provider(prefer_bitmaps=False)

    def absent(self, ids: Iterable[ObjectID]) -> list[ObjectID]:
        """Return those that are not here; packs are looked for once, where each question for one would look again."""
        with self._opening:
            packs = list(self.packs)
            unpacked = [sha for sha in ids if not any(sha in pack for pack in packs)]
        return [sha for sha in unpacked if not self.contains_loose(sha)]

    def _lookup_in_packs(self, lookup: Callable[[Pack], T]) -> T:
        with self._opening:
            return super()._lookup_in_packs(lookup)

    def _iter_cached_packs(self) -> Iterator[Pack]:
        with self._opening:
            return iter([_opened(pack) for pack in super()._iter_cached_packs()])

    def _update_pack_cache(self) -> list[Pack]:
        with self._opening:
            return [_opened(pack) for pack in super()._update_pack_cache()]

    def _add_cached_pack(self, base_name: str, pack: Pack) -> None:
        with self._opening:
            super()._add_cached_pack(base_name, pack)

    def _clear_cached_packs(self) -> None:
        with self._opening:
            super()._clear_cached_packs()


def _opened(pack: Pack) -> Pack:
    """Open both files of `pack`; one that another process has just removed is left for whoever reads it to notice."""
    with contextlib.suppress(PackFileDisappeared):
        _ = pack.index, pack.data
    return pack


def open_repository(path: str) -> Repo:
    """Return the repository at `path` with a store that threads may share.

    Raises:
        NotGitRepository: When there is none.
    """
    repo = Repo(path)
    store = SharedObjectStore.from_config(repo.object_store.path, repo.get_config())
    store.delta_base_cache_limit = _MOST_CACHED_BYTES
    repo.object_store.close()
    repo.object_store = store
    return repo


def collect_garbage(repo: Repo) -> bool:
    """Put the objects of `repo` into few files; False when git could not.

    Git does it where there is one, keeping what is younger than two weeks though nothing names it; without git
    everything is kept.
    """
    git = shutil.which("git")
    if git is None:
        repo.object_store.repack()
        return True
    command = [git, "-C", repo.path, "-c", "repack.writeBitmaps=false", "gc", "--quiet", "--prune=2.weeks.ago"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if done.returncode:
        log.warning("git gc failed", extra={"path": repo.path, "output": done.stderr[-500:].decode("utf-8", "replace")})
    return not done.returncode
