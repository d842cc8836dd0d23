"""Which storage the settings name."""

from __future__ import annotations

from importlib.metadata import entry_points
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

from runner.errors import InvalidError
from runner.plugin import Storage
from runner.settings import Settings
from runner.storage.bucket import BucketStorage
from runner.storage.local import LocalStorage
from task_runners.errors import TaskRunnerError
from task_runners.staging.object_store import KINDS, ObjectStore, open_object_store

GROUP = "mainstem.storage"


def open_bucket(settings: Settings) -> ObjectStore:
    """Return the object store that `settings.storage` names.

    Raises:
        InvalidError: what is wrong with its address or its options, or which extra is not installed.
    """
    assert settings.storage is not None
    try:
        return open_object_store(settings.storage, settings.storage_options)
    except TaskRunnerError as error:
        raise InvalidError(error.code, error.message, hint=error.hint) from None


def open_storage(settings: Settings) -> Storage:
    """Return the storage that `settings.storage` names, by default the folder `storage` of the home.

    The setting is a path, a `file://` URL, the address of a bucket (`s3://`, `gs://`, `az://`), or a URL whose scheme
    is the name of an entry point of `mainstem.storage`; that one is called with the URL. No network is needed.

    Raises:
        InvalidError: `settings.storage.unknown`, or what is wrong with the address or the options of a bucket.
    """
    place = settings.storage or str(settings.home / "storage")
    scheme = urlsplit(place).scheme
    if scheme in {"", "file"}:
        return LocalStorage(Path(place.removeprefix("file://")).absolute())
    if scheme in KINDS:
        return BucketStorage(open_bucket(settings))
    for entry in entry_points(group=GROUP, name=scheme):
        return cast("Storage", entry.load()(place))
    raise InvalidError(
        "settings.storage.unknown",
        f"no storage is installed for {scheme}://",
        hint="give a path or a bucket (s3://, gs://, az://), or install what registers it under mainstem.storage",
    )
