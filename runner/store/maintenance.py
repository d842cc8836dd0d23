"""Backup and restore of an embedded server: one archive with everything of its home, made while it works."""

from __future__ import annotations

import os
import shutil
import tarfile
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import IO, Final

import orjson

from runner import home_parts
from runner.errors import StoreError
from runner.store import migration
from runner.store.sqlite import copy, demand_whole
from runner.store.statements import POSTGRESQL

_STATE: Final = "state.db"
_LOGS: Final = "logs.db"
_MANIFEST: Final = "backup.json"
_FORMAT: Final = 1
_MOST_MANIFEST_BYTES: Final = 65_536


@dataclass(frozen=True, slots=True)
class Archive:
    """What a backup holds: the version of its tables, when it was begun, its parts by name with bytes and files."""

    schema: str
    at: str
    parts: dict[str, tuple[int, int]]


def backup(url: str, target: Path, *, logs_url: str | None = None, home: Path | None = None) -> Archive:
    """Write the store at `url` and what belongs to it in `home` to the archive `target`, also under load.

    Commits that happen meanwhile may be missing; logs and files may be a moment newer than the state. Without `home`
    it is the databases only.

    Raises:
        StoreError: `store.backup.postgresql`; `store.backup.exists`; `store.backup.denied`; what `demand_current`
            raises; what `home_parts.stage` raises.
    """
    parsed = migration.parse(url)
    if parsed.get_backend_name() == POSTGRESQL:
        raise StoreError(
            "store.backup.postgresql",
            "a PostgreSQL store is backed up by PostgreSQL's own tools",
            hint="run: pg_dump --format=custom --file=mainstem.dump DATABASE",
        )
    if target.exists():
        raise StoreError("store.backup.exists", f"{target} exists already", hint="name a new file")
    if migration.schema_version(url) is None:
        migration.demand_current(url)
    state = migration.sqlite_path(parsed)
    logs = migration.sqlite_path(migration.parse(logs_url)) if logs_url else state.with_name(_LOGS)
    try:
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".backup-") as folder:
            return _write(target, Path(folder), url, (state, logs), home)
    except OSError as error:
        raise StoreError("store.backup.denied", f"{target} cannot be written: {error.strerror}") from error


def _write(target: Path, folder: Path, url: str, databases: tuple[Path, Path], home: Path | None) -> Archive:
    copies, now = folder / "copies", datetime.now(UTC)
    copies.mkdir()
    state, logs = databases
    copy(state, copies / _STATE)
    if logs.exists():
        copy(logs, copies / _LOGS)
    if home is not None:
        home_parts.stage(home, copies)
    version = migration.schema_version(url)
    assert version is not None
    found = Archive(version, now.isoformat(timespec="seconds"), _parts(copies))
    packed = folder / "archive"
    _pack(packed, copies, orjson.dumps({"format": _FORMAT, "schema": found.schema, "at": found.at}))
    packed.rename(target)  # whoever finds the archive finds it complete
    return found


def _parts(folder: Path) -> dict[str, tuple[int, int]]:
    """Return the bytes and the number of files of each entry of `folder`."""
    found = {}
    for entry in sorted(folder.iterdir()):
        files = [entry] if entry.is_file() else [path for path in entry.rglob("*") if path.is_file()]
        found[entry.name] = (sum(path.stat().st_size for path in files), len(files))
    return found


def _pack(archive: Path, copies: Path, manifest: bytes) -> None:
    with os.fdopen(os.open(archive, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
        with tarfile.open(fileobj=file, mode="w") as tar:
            entry = tarfile.TarInfo(_MANIFEST)
            entry.size = len(manifest)
            tar.addfile(entry, BytesIO(manifest))
            for path in sorted(path for path in copies.rglob("*") if path.is_file()):
                _add(tar, path, path.relative_to(copies).as_posix())
        file.flush()
        os.fsync(file.fileno())


def _add(tar: tarfile.TarFile, path: Path, name: str) -> None:
    # Not by `tar.add`: it would write a second link to a file as a link, and the owner's name into the archive.
    entry = tarfile.TarInfo(name)
    with path.open("rb") as source:
        status = os.fstat(source.fileno())
        entry.size, entry.mtime, entry.mode = status.st_size, int(status.st_mtime), 0o600
        tar.addfile(entry, source)


def restore(archive: Path, home: Path) -> Archive:
    """Unpack a backup into `home`, which must hold nothing of what it brings; give what it holds.

    Raises:
        StoreError: `store.restore.occupied`, `store.restore.invalid`, `store.file.corrupt`, `store.schema.new`.
    """
    for name in (_STATE, _LOGS, *home_parts.FOLDERS, *home_parts.FILES):
        if (home / name).exists():
            raise StoreError(
                "store.restore.occupied", f"{home / name} exists", hint="restore into an empty home, or move it away"
            )
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home, prefix=".restore-") as folder:
        unpacked = Path(folder)
        version, at = _unpack(archive, unpacked)
        if version not in migration.known_versions():
            raise StoreError(
                "store.schema.new",
                f"{archive} has schema {version}, this program knows only {migration.HEAD}",
                hint="restore it with the program that wrote it, or a newer one",
            )
        for path in sorted(unpacked.glob("*.db")):
            demand_whole(path)
        found = Archive(version, at, _parts(unpacked))
        home_parts.complete(unpacked)
        # The state comes last: a home without it counts as empty, should this be interrupted.
        for name in sorted(found.parts, key=lambda name: name == _STATE):
            (unpacked / name).rename(home / name)
    return found


def _unpack(archive: Path, folder: Path) -> tuple[str, str]:
    """Write the members below `folder`; return the version of the tables and the moment of the backup."""
    manifest: object = None
    try:
        with tarfile.open(archive, mode="r:") as tar:
            for entry in tar:
                source = tar.extractfile(entry) if entry.isreg() else None
                if source is None or not _is_ours(entry.name):
                    raise _invalid(archive, f"holds {entry.name!r}")
                if entry.name == _MANIFEST:
                    manifest = orjson.loads(source.read(_MOST_MANIFEST_BYTES))
                    continue
                _unpack_file(folder / entry.name, source)
    except (tarfile.TarError, orjson.JSONDecodeError, FileExistsError, NotADirectoryError) as error:
        raise _invalid(archive, str(error)) from error
    except FileNotFoundError:
        raise _invalid(archive, "is not there") from None
    version = manifest.get("schema") if isinstance(manifest, dict) else None
    if not isinstance(manifest, dict) or not isinstance(version, str) or not (folder / _STATE).exists():
        raise _invalid(archive, "holds no store")
    return version, str(manifest.get("at"))


def _unpack_file(path: Path, source: IO[bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        shutil.copyfileobj(source, file)
        os.fsync(file.fileno())


def _is_ours(name: str) -> bool:
    parts: Sequence[str] = PurePosixPath(name).parts
    if name.startswith("/") or not parts or ".." in parts or str(PurePosixPath(name)) != name:
        return False
    if len(parts) == 1:
        return name in {_MANIFEST, _STATE, _LOGS, *home_parts.FILES}
    return parts[0] in home_parts.FOLDERS


def _invalid(archive: Path, reason: str) -> StoreError:
    return StoreError(
        "store.restore.invalid", f"{archive} is no backup: {reason}", hint="give a file made by: mainstem db backup"
    )
