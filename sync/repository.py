"""A bare git repository: read trees and blobs, commit without a work tree, move refs by compare-and-set.

Nothing is ever checked out. Paths and file names come from people we do not trust, so a listing refuses what could
escape a folder (`..`, `.git`, symlinks, submodules) instead of following it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import stat
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, Self

from dulwich.errors import MissingCommitError, NotGitRepository, ObjectFormatException
from dulwich.file import FileLocked
from dulwich.graph import can_fast_forward
from dulwich.object_store import tree_lookup_path
from dulwich.objects import Blob, Commit, ObjectID, ShaFile, Tag, Tree
from dulwich.refs import Ref
from dulwich.repo import Repo

from runner.errors import ConflictError, InvalidError, NotFoundError, Problem
from sync.commit_record import Author, CommitRecord
from sync.names import MAX_DEPTH, MAX_FILE_BYTES, SUBMODULE, check_sha, is_safe_name, is_sha, refusal
from sync.objects import SharedObjectStore, collect_garbage, open_repository

log = logging.getLogger(__name__)

_CACHED_TREES: Final = 20_000
_CACHED_LISTINGS: Final = 8
_MOST_PACKS: Final = 50
_MOST_LOOSE: Final = 5_000
_PACKED_FROM: Final = 16
_STALE_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Listing:
    """The files below a folder of a commit: `files` maps whole paths to blob ids; `tree` is None for no such folder."""

    tree: str | None
    files: Mapping[str, str]
    problems: tuple[Problem, ...] = ()


def blob_id(content: bytes) -> str:
    """Return the id that git gives to `content`."""
    return Blob.from_string(content).id.decode()


class GitRepository:
    """One bare repository that stays open. Reads may come from any thread; writers hold `lock`.

    The lock is per object, and there is one object per repository in a process: pushes, commits of the API and the
    report writer exclude each other by it. `packing` is held while a pack is added or packs are put together.
    """

    def __init__(self, repo: Repo, path: Path) -> None:
        self._repo = repo
        self.path = path
        self.lock = threading.RLock()
        self.packing = threading.Lock()
        self._trees: OrderedDict[str, tuple[tuple[str, int, str], ...]] = OrderedDict()
        self._clean: OrderedDict[str, None] = OrderedDict()
        self._whole: set[str] = set()
        self._listings: OrderedDict[tuple[str, str], Listing] = OrderedDict()

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open the repository at `path`, bare or the work tree of one.

        Raises:
            NotFoundError: `repository.missing`.
        """
        try:
            return cls(open_repository(str(path)), path)
        except (NotGitRepository, PermissionError) as error:
            raise NotFoundError("repository.missing", f"there is no git repository at {path}") from error

    @classmethod
    def open_or_init(cls, path: Path, *, durable: bool = False) -> Self:
        """Open the bare repository at `path`; make it first, with HEAD on `main`, when there is none.

        With `durable` objects are on the disk before a ref names them, so that a power cut leaves no broken branch.
        """
        if not (path / "HEAD").exists():
            path.mkdir(parents=True, exist_ok=True)
            Repo.init_bare(str(path), default_branch=b"main").close()
        found = cls.open(path)
        if durable:
            found.raw.object_store.fsync_object_files = True
        return found

    def close(self) -> None:
        """Close the files of the packs."""
        self._repo.close()

    @property
    def raw(self) -> Repo:
        """Return the library's own object, for the transports in `sync`."""
        return self._repo

    def compact(self, *, most_packs: int = _MOST_PACKS, most_loose: int = _MOST_LOOSE) -> bool:
        """Put what many pushes and reports left behind into few files, when there is much of it; True when it did.

        Git does it where there is one, keeping what is younger than two weeks though nothing names it; without git
        everything is kept.
        """
        store = self._repo.object_store
        if store.count_pack_files() <= most_packs and store.count_loose_objects() <= most_loose:
            return False
        with self.lock, self.packing:
            return collect_garbage(self._repo)

    # refs

    def head(self, ref: str) -> str | None:
        """Return the commit that `ref` names, or None when there is no such ref. Tags are followed."""
        found = self.raw_head(ref)
        return self.peeled(found) if found else None

    def raw_head(self, ref: str) -> str | None:
        """Return what `ref` names itself, a tag object too, or None."""
        try:
            return self._repo.refs[Ref(ref.encode())].decode()
        except KeyError:
            return None

    def set_head(self, ref: str, expected: str | None, new: str) -> bool:
        """Move `ref` from `expected` (None: it must not exist) to `new`; False when somebody was faster."""
        name = Ref(ref.encode())
        try:
            if expected is None:
                return bool(self._repo.refs.add_if_new(name, ObjectID(new.encode())))
            return bool(self._repo.refs.set_if_equals(name, ObjectID(expected.encode()), ObjectID(new.encode())))
        except FileLocked as error:  # another process is moving it at this moment, or was killed while it did
            _remove_stale(Path(os.fsdecode(error.lockfilename)))
            return False

    def remove_head(self, ref: str, expected: str) -> bool:
        """Delete `ref` if it still names `expected`."""
        return bool(self._repo.refs.remove_if_equals(Ref(ref.encode()), ObjectID(expected.encode())))

    def heads(self) -> dict[str, str]:
        """Return all refs with what they name."""
        return {name.decode(): sha.decode() for name, sha in self._repo.get_refs().items()}

    def is_checked_out(self, ref: str) -> bool:
        """Whether `ref` is the branch of a work tree."""
        return not self._repo.bare and Ref(ref.encode()) in self._repo.refs.follow(Ref(b"HEAD"))[0]

    # objects

    def __contains__(self, sha: str) -> bool:
        return is_sha(sha) and ObjectID(sha.encode()) in self._repo.object_store

    def absent(self, shas: Iterable[str]) -> list[str]:
        """Return those objects that are not here, in their order, each once."""
        store = self._repo.object_store
        assert isinstance(store, SharedObjectStore)
        return [sha.decode() for sha in store.absent(ObjectID(sha.encode()) for sha in dict.fromkeys(shas))]

    def commit(self, sha: str) -> CommitRecord:
        """Return the commit `sha`.

        Raises:
            NotFoundError: `repository.commit.missing`.
            InvalidError: `repository.commit.malformed` when it is none that git would write.
        """
        found = self._object(check_sha(sha))
        if not isinstance(found, Commit):
            raise NotFoundError("repository.commit.missing", f"there is no commit {sha} in {self.path.name}")
        try:
            return CommitRecord.of(found)
        except (ObjectFormatException, AttributeError, TypeError):  # no author, no tree, no time, or no number for one
            message = f"commit {sha[:7]} is malformed: it lacks an author, a time or a tree"
            raise InvalidError("repository.commit.malformed", message, hint="git fsck names it; commit anew") from None

    def raw_commit(self, sha: str) -> bytes:
        """Return the bytes of the commit `sha`, exactly those that its id is the hash of.

        Raises:
            NotFoundError: `repository.commit.missing` when it is not here, or is not what its id says.
        """
        try:
            kind, raw = self._repo.object_store.get_raw(ObjectID(check_sha(sha).encode()))
        except KeyError:
            kind, raw = 0, b""
        if kind != Commit.type_num or ShaFile.from_raw_string(kind, raw).id.decode() != sha:
            raise NotFoundError("repository.commit.missing", f"there is no commit {sha} in {self.path.name}")
        return raw

    def blob(self, sha: str, *, limit: int = MAX_FILE_BYTES) -> bytes:
        """Return the content of a blob.

        Raises:
            NotFoundError: `repository.blob.missing`.
            InvalidError: `repository.file.large` when it has more than `limit` bytes.
        """
        found = self._object(sha)
        if not isinstance(found, Blob):
            raise NotFoundError("repository.blob.missing", f"there is no blob {sha} in {self.path.name}")
        content = found.as_raw_string()
        if len(content) > limit:
            raise InvalidError("repository.file.large", f"a file has {len(content):,} bytes; the limit is {limit:,}")
        return content

    def listing(self, commit: str, folder: str = "") -> Listing:
        """Return the files of `commit` below `folder`; what is refused stands in its problems and not in its files."""
        tree = self._subtree(self.commit(commit).tree, folder)
        if tree is None:
            return Listing(None, {})
        key = (tree, folder)
        known = self._listings.get(key)
        if known is None:
            known = self._listings[key] = self._listed(tree, folder)
            if len(self._listings) > _CACHED_LISTINGS:
                self._listings.popitem(last=False)
        return known

    def _listed(self, tree: str, folder: str) -> Listing:
        files: dict[str, str] = {}
        problems: list[Problem] = []
        prefix = f"{folder.strip('/')}/" if folder.strip("/") else ""
        for place, name, mode, sha in self._walk(tree, prefix, 0):
            refused = refusal(place, name, mode, len(files))
            if refused is not None:
                problems.append(refused)
                if refused.code == "repository.files.many":
                    break
            elif not stat.S_ISDIR(mode):
                files[sys.intern(place + name)] = sha  # listings of commits after one another differ in few
        return Listing(tree, files, tuple(problems))

    def find(self, commit: str, path: str) -> str | None:
        """Return the blob id of the file `path` in `commit`, or None."""
        mode, sha = self.entry(commit, path)
        return sha if stat.S_ISREG(mode) else None

    def entry(self, commit: str, path: str) -> tuple[int, str]:
        """Return the mode and the id of what stands at `path` in `commit`; 0 and nothing when that is not there."""
        try:
            mode, sha = tree_lookup_path(
                self._repo.object_store.__getitem__, ObjectID(self.commit(commit).tree.encode()), path.encode()
            )
        except (KeyError, NotADirectoryError, ValueError):
            return 0, ""
        return mode, sha.decode()

    def check_tree(self, commit: str) -> str | None:
        """Return why the tree of `commit` must not be accepted (a missing object, an impossible name), or None.

        Subtrees that were found good are remembered by id, so that the cost is that of what changed.
        """
        found = self._object(commit)
        if not isinstance(found, Commit):
            return "not a commit"
        return self._check_subtree(found.tree.decode(), 0)

    def check_history(self, commit: str) -> str | None:
        """Return which ancestor of `commit` is missing, or None. Commits that were found whole are remembered."""
        found: list[str] = []
        waiting = [commit]
        seen: set[str] = set()
        while waiting:
            sha = waiting.pop()
            if sha in self._whole or sha in seen:
                continue
            seen.add(sha)
            known = self._object(sha)
            if not isinstance(known, Commit):
                return f"commit {sha[:7]} is missing"
            found.append(sha)
            waiting += [parent.decode() for parent in known.parents]
        self._whole.update(found)
        return None

    def is_ancestor(self, old: str, new: str) -> bool:
        """Whether `old` is `new` or one of its ancestors, as far as the history is here."""
        if old == new:
            return True
        try:
            return bool(can_fast_forward(self._repo, ObjectID(old.encode()), ObjectID(new.encode())))
        except (KeyError, MissingCommitError, ObjectFormatException, TypeError):
            return False

    def new_objects(self, old: str | None, new: str) -> list[ShaFile]:
        """Return the objects that whoever has `old` needs for `new`: commits on the way, and what they changed.

        Only what changed is opened: a partial mirror does not hold the other files. A commit without parents, which
        restarts a branch, is compared with `old` too.
        """
        store = self._repo.object_store
        found: dict[str, ShaFile] = {}
        waiting = [new]
        while waiting:
            sha = waiting.pop()
            if sha == old or sha in found:
                continue
            record = self.commit(sha)
            found[sha] = store[ObjectID(sha.encode())]
            base = record.parents[0] if record.parents else old
            before = self.commit(base).tree if base else None
            for each in self._changed_objects(before, record.tree):
                found[each] = store[ObjectID(each.encode())]
            waiting += record.parents
        return list(found.values())

    def _changed_objects(self, before: str | None, after: str) -> Iterator[str]:
        if before == after:
            return
        yield after
        known = {name: sha for name, _, sha in self._entries(before)} if before else {}
        for name, mode, sha in self._entries(after):
            if known.get(name) == sha or mode == SUBMODULE:
                continue
            if stat.S_ISDIR(mode):
                yield from self._changed_objects(known.get(name) if self._is_tree(known.get(name)) else None, sha)
            else:
                yield sha

    def _is_tree(self, sha: str | None) -> bool:
        return sha is not None and isinstance(self._object(sha), Tree)

    def commit_changes(
        self,
        parent: str | None,
        changes: Mapping[str, bytes | None],
        *,
        author: Author,
        message: str,
        at: datetime,
        sign: Callable[[bytes], bytes | None] = lambda _payload: None,
    ) -> str:
        """Write a commit on `parent` that sets (or, for None, removes) whole paths, and return its id.

        No ref is moved. Bytes are stored exactly as they are given. Folders that become empty vanish. `sign` returns
        the signature of the bytes of the commit, or None; what it raises leaves nothing behind.
        """
        tree = self.commit(parent).tree if parent else None
        written: list[ShaFile] = []
        root = self._edited(tree, {tuple(path.split("/")): content for path, content in changes.items()}, written)
        commit = Commit()
        commit.tree = root
        commit.parents = [ObjectID(parent.encode())] if parent else []
        commit.author = author.as_bytes()
        commit.committer = Author("Mainstem", "mainstem@localhost").as_bytes()
        commit.author_time = commit.commit_time = int(at.timestamp())
        commit.author_timezone = commit.commit_timezone = 0
        commit.encoding = b"UTF-8"
        commit.message = message.encode()
        signature = sign(commit.as_raw_string())
        if signature is not None:
            commit.gpgsig = signature.rstrip(b"\n")
        self.add({obj.id: obj for obj in (*written, commit)}.values())
        return commit.id.decode()

    def add(self, objects: Collection[ShaFile]) -> None:
        """Store objects: a few as files of their own, many as one pack, which is written and synced once."""
        store = self._repo.object_store
        if len(objects) < _PACKED_FROM:
            with contextlib.suppress(FileLocked):  # another process writes the same one, or was killed while it did
                for obj in objects:
                    store.add_object(obj)
                return
        with self.packing:
            store.add_objects([(obj, None) for obj in objects])

    def _edited(
        self, tree: str | None, changes: Mapping[tuple[str, ...], bytes | None], written: list[ShaFile]
    ) -> ObjectID:
        edited = Tree()
        for name, mode, sha in self._entries(tree) if tree else ():
            edited.add(name.encode("utf-8", "surrogateescape"), mode, ObjectID(sha.encode()))
        folders: dict[str, dict[tuple[str, ...], bytes | None]] = {}
        for path, content in changes.items():
            if not is_safe_name(path[0]):
                raise InvalidError("repository.name.refused", f"{'/'.join(path)!r} cannot be the path of a file")
            if len(path) > 1:
                folders.setdefault(path[0], {})[path[1:]] = content
            else:
                self._set_file(edited, path[0].encode(), content, written)
        for folder, inner in folders.items():
            key = folder.encode()
            old = edited[key] if key in edited else None  # noqa: SIM401 - a Tree has no `get`
            if old is not None and not stat.S_ISDIR(old[0]):
                raise ConflictError("repository.path.occupied", f"{folder!r} is a file, not a folder")
            child = self._edited(old[1].decode() if old else None, inner, written)
            if child == Tree().id:
                if old is not None:
                    del edited[key]
            else:
                edited[key] = (stat.S_IFDIR, child)
        written.append(edited)
        return edited.id

    @staticmethod
    def _set_file(tree: Tree, name: bytes, content: bytes | None, written: list[ShaFile]) -> None:
        if content is None:
            if name in tree:
                del tree[name]
            return
        blob = Blob.from_string(content)
        written.append(blob)
        mode = tree[name][0] if name in tree and stat.S_ISREG(tree[name][0]) else 0o100644
        tree[name] = (mode, blob.id)

    def _object(self, sha: str) -> ShaFile | None:
        try:
            return self._repo.object_store[ObjectID(sha.encode())]
        except (KeyError, ObjectFormatException):
            return None

    def peeled(self, sha: str) -> str:
        """Return what the tag object `sha` names in the end, or `sha` itself."""
        found = self._object(sha)
        for _ in range(8):  # tags of tags; git itself has no limit, a loop cannot exist but a long chain can
            if not isinstance(found, Tag):
                break
            sha = found.object[1].decode()
            found = self._object(sha)
        return sha

    def _subtree(self, tree: str, folder: str) -> str | None:
        current = tree
        for part in [part for part in folder.split("/") if part]:
            inner = next((sha for name, mode, sha in self._entries(current) if name == part and stat.S_ISDIR(mode)), "")
            if not inner:
                return None
            current = inner
        return current

    def _entries(self, tree: str) -> tuple[tuple[str, int, str], ...]:
        known = self._trees.get(tree)
        if known is None:
            found = self._object(tree)
            if not isinstance(found, Tree):
                raise NotFoundError("repository.tree.missing", f"tree {tree} is not in {self.path.name}")
            known = tuple((e.path.decode("utf-8", "surrogateescape"), e.mode, e.sha.decode()) for e in found.items())
            self._trees[tree] = known
            if len(self._trees) > _CACHED_TREES:
                self._trees.popitem(last=False)
        return known

    def _walk(self, tree: str, place: str, depth: int) -> Iterator[tuple[str, str, int, str]]:
        for name, mode, sha in self._entries(tree):
            yield place, name, mode, sha
            if stat.S_ISDIR(mode) and is_safe_name(name) and depth < MAX_DEPTH:
                yield from self._walk(sha, f"{place}{name}/", depth + 1)

    def _check_subtree(self, tree: str, depth: int) -> str | None:
        if tree in self._clean:
            return None
        if depth > MAX_DEPTH:
            return f"folders are nested deeper than {MAX_DEPTH}"
        try:
            entries = self._entries(tree)
        except NotFoundError:
            return f"tree {tree[:7]} is missing"
        for name, mode, sha in entries:
            reason = self._check_entry(name, mode, sha, depth)
            if reason:
                return reason
        self._clean[tree] = None
        if len(self._clean) > _CACHED_TREES:
            self._clean.popitem(last=False)
        return None

    def _check_entry(self, name: str, mode: int, sha: str, depth: int) -> str | None:
        if not is_safe_name(name):
            return f"the name {name!r} is not allowed in a tree"
        if stat.S_ISDIR(mode):
            return self._check_subtree(sha, depth + 1)
        if mode != SUBMODULE and sha not in self:
            return f"blob {sha[:7]} is missing"
        return None


def _remove_stale(lock: Path) -> None:
    """Remove the lock of a ref that nobody can still hold: git holds one for milliseconds."""
    with contextlib.suppress(FileNotFoundError):
        if time.time() - lock.stat().st_mtime > _STALE_S:
            log.warning("a lock was left behind and is removed", extra={"path": str(lock)})
            lock.unlink()
