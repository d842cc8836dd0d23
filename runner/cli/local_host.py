"""What commands without a server offer to expressions and tasks: secrets, an empty key-value store, files on disk."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runner.executions.models import LogEntry
    from runner.services import Host
    from runner.store import Store


def open_host(
    room: Path,
    environ: Mapping[str, str],
    *,
    files: Path,
    store: Store | None = None,
    task_runner: str | None = None,
) -> Host:
    """Return a host that keeps everything in `room`.

    Secrets are those of `SECRET_*` and of `secrets.yaml` in the home; namespace files lie below `files`.

    Raises:
        InvalidError: the settings or the secrets are not acceptable.
    """
    from runner.key_values import MemoryKeyValues
    from runner.namespace_files import DirectoryNamespaceFiles
    from runner.services import Host
    from runner.settings import Settings

    settings = Settings.load(environ=environ, default_task_runner=task_runner)
    secrets = settings.home / "secrets.yaml"
    if secrets.exists():
        shutil.copy2(secrets, room / "secrets.yaml")
    # A storage that a server uses is not written to by runs that it knows nothing of.
    changed = {"home": room, "work": room / "work", "storage": None}
    return Host.open(
        settings.model_copy(update=changed),
        MemoryKeyValues(),
        environment=environ,
        files=DirectoryNamespaceFiles(files),
        **_store_ports(store),
    )


def _store_ports(store: Store | None) -> dict[str, Any]:
    if store is None:
        return {}
    from runner.store import LogQuery

    def error_logs(execution_id: str) -> list[LogEntry]:
        store.logs.flush()
        return store.logs.last(LogQuery(execution_id=execution_id, min_level="ERROR"), 100)

    return {
        "log": lambda entry: store.logs.append([entry]),
        "execution_of": lambda execution_id: store.read(lambda db: db.executions.get(execution_id)),
        "runs_of": lambda execution_id: store.read(lambda db: db.executions.runs(execution_id)),
        "error_logs_of": error_logs,
        "store": store,
    }
