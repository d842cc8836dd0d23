"""Backup and restore of an embedded store: one archive with both files, made while the server works."""

from __future__ import annotations

import os
import shutil
import tarfile
import tempfile
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Final

import orjson

from runner.errors import StoreError
from runner.store import migration
from runner.store.sqlite import copy, demand_whole
from runner.store.statements import POSTGRESQL

_STATE: Final = "state.db"
_LOGS: Final = "logs.db"
_MANIFEST: Final = "backup.json"
_FORMAT: Final = 1
_MOST_MANIFEST_BYTES: Final = 65_536


def backup(url: str, target: Path, *, logs_url: str | None = None) -> None:
    """Write the store at `url` to the archive `target`, consistent in itself, also under load.

    Commits that happen meanwhile may be missing; logs may be a moment newer than the state.

    Raises:
        StoreError: `store.backup.postgresql`; `store.backup.exists`; what `demand_current` raises.
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
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".backup-") as folder:
        copies = Path(folder)
        copy(state, copies / _STATE)
        if logs.exists():
            copy(logs, copies / _LOGS)
        manifest = {"format": _FORMAT, "schema": migration.schema_version(url), "at": datetime.now(UTC).isoformat()}
        archive = copies / "archive"
        _pack(archive, copies, orjson.dumps(manifest))
        archive.rename(target)  # whoever finds the archive finds it complete


def _pack(archive: Path, copies: Path, manifest: bytes) -> None:
    with os.fdopen(os.open(archive, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
        with tarfile.open(fileobj=file, mode="w") as tar:
            entry = tarfile.TarInfo(_MANIFEST)
            entry.size = len(manifest)
            tar.addfile(entry, BytesIO(manifest))
            for path in sorted(copies.glob("*.db")):
                tar.add(path, arcname=path.name, recursive=False)
        file.flush()
        os.fsync(file.fileno())


def restore(archive: Path, home: Path) -> str:
    """Unpack a backup into `home`, which must hold no store; give the schema version it has.

    Raises:
        StoreError: `store.restore.occupied`, `store.restore.invalid`, `store.file.corrupt`.
    """
    for name in (_STATE, _LOGS):
        if (home / name).exists():
            raise StoreError(
                "store.restore.occupied", f"{home / name} exists", hint="restore into an empty home, or move it away"
            )
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home, prefix=".restore-") as folder:
        unpacked = Path(folder)
        version = _unpack(archive, unpacked)
        for path in sorted(unpacked.glob("*.db")):
            demand_whole(path)
        # The state comes last: a home without it counts as empty, should this be interrupted.
        for name in (_LOGS, _STATE):
            if (unpacked / name).exists():
                (unpacked / name).rename(home / name)
    return version


def _unpack(archive: Path, folder: Path) -> str:
    version = None
    try:
        with tarfile.open(archive, mode="r:") as tar:
            for entry in tar:
                source = tar.extractfile(entry) if entry.isreg() else None
                if source is None or entry.name not in {_MANIFEST, _STATE, _LOGS}:
                    raise _invalid(archive, f"holds {entry.name!r}")
                if entry.name == _MANIFEST:
                    version = orjson.loads(source.read(_MOST_MANIFEST_BYTES)).get("schema")
                    continue
                descriptor = os.open(folder / entry.name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
                with os.fdopen(descriptor, "wb") as file:
                    shutil.copyfileobj(source, file)
                    os.fsync(file.fileno())
    except (tarfile.TarError, orjson.JSONDecodeError, FileExistsError, AttributeError) as error:
        raise _invalid(archive, str(error)) from error
    if not isinstance(version, str) or not (folder / _STATE).exists():
        raise _invalid(archive, "holds no store")
    return version


def _invalid(archive: Path, reason: str) -> StoreError:
    return StoreError(
        "store.restore.invalid", f"{archive} is no backup: {reason}", hint="give a file made by: mainstem db backup"
    )
