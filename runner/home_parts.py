"""What of a home belongs into a backup beside its databases, and how it is taken while a server works.

Whoever calls this has copied the database before: everything that the copy names is in the files then, since the
server writes a file before the row that names it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from runner.errors import StoreError
from runner.home import TOKEN_FILE

FILES: Final = (TOKEN_FILE, "secrets.yaml", "encryption.key", "known_hosts")
GIT: Final = "git"
STORAGE: Final = "storage"
FOLDERS: Final = (GIT, STORAGE)

_MOST_TRIES: Final = 10
_INCOMING: Final = ".incoming-"  # what the storage calls a file that is being written
_TEMPORARY: Final = "tmp"  # what git calls one


def stage(home: Path, target: Path) -> None:
    """Put the kept files and folders of `home` into the folder `target`, as links where that is possible.

    Raises:
        StoreError: `store.backup.moving` when the hosted repository was packed again and again meanwhile.
    """
    for name in FILES:
        if (home / name).is_file():
            shutil.copyfile(home / name, target / name)
    for repository in sorted((home / GIT).glob("*/")):
        _stage_repository(repository, target / GIT / repository.name)
    for path in _files(home / STORAGE):
        if not path.name.startswith(_INCOMING):
            try:
                _take(path, target / path.relative_to(home))
            except FileNotFoundError:
                continue  # purged since, with its execution


def complete(folder: Path) -> None:
    """Make the folders that git wants in a repository, also where no file was in them."""
    for repository in (folder / GIT).glob("*/"):
        for name in ("refs/heads", "refs/tags", "objects/info", "objects/pack"):
            (repository / name).mkdir(parents=True, exist_ok=True)


def _stage_repository(source: Path, target: Path) -> None:
    for _ in range(_MOST_TRIES):
        try:
            for path in _git_files(source):
                if not (path.name.startswith(_TEMPORARY) or path.suffix == ".lock"):
                    _take(path, target / path.relative_to(source))
        except FileNotFoundError:
            # Git has packed meanwhile; what is gone is in a pack that the next walk sees.
            shutil.rmtree(target, ignore_errors=True)
            continue
        return
    raise StoreError(
        "store.backup.moving", f"{source} changed faster than it could be copied", hint="take the backup again"
    )


def _git_files(repository: Path) -> Iterator[Path]:
    """Yield the files of a repository in the order in which none that is needed can be missed.

    Git writes a ref after its objects, packed refs before the loose ones go, and a pack before the loose objects go.
    So: loose refs, everything else, loose objects, packs, each listed when those before have been copied.
    """
    refs, objects = repository / "refs", repository / "objects"
    packs = objects / "pack"
    yield from _files(refs)
    yield from _files(repository, leave_out=(refs, objects))
    yield from _files(objects, leave_out=(packs,))
    yield from _files(packs)


def _files(folder: Path, leave_out: tuple[Path, ...] = ()) -> Iterator[Path]:
    """Yield the files below `folder`; links are left out."""
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if Path(place, name) not in leave_out)
        for name in sorted(names):
            path = Path(place, name)
            if not path.is_symlink():
                yield path


def _take(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        # Files of git and of the storage are replaced, never written to again, so a link keeps what is there now.
        target.hardlink_to(source)
    except FileNotFoundError:
        raise
    except OSError:
        shutil.copyfile(source, target)
