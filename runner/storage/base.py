"""Which storage the settings name."""

from __future__ import annotations

from importlib.metadata import entry_points
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

from runner.errors import InvalidError
from runner.plugin import Storage
from runner.settings import Settings
from runner.storage.local import LocalStorage

GROUP = "mainstem.storage"


def open_storage(settings: Settings) -> Storage:
    """Return the storage that `settings.storage` names, by default the folder `storage` of the home.

    The setting is a path, a `file://` URL, or a URL whose scheme is the name of an entry point of `mainstem.storage`;
    that one is called with the URL.

    Raises:
        InvalidError: `settings.storage.unknown`.
    """
    place = settings.storage or str(settings.home / "storage")
    scheme = urlsplit(place).scheme
    if scheme in {"", "file"}:
        return LocalStorage(Path(place.removeprefix("file://")).absolute())
    for entry in entry_points(group=GROUP, name=scheme):
        return cast("Storage", entry.load()(place))
    raise InvalidError(
        "settings.storage.unknown",
        f"no storage is installed for {scheme}://",
        hint="give a path, or install a package that registers it under mainstem.storage",
    )
