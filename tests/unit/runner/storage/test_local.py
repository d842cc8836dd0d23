from __future__ import annotations

import io
import os
import stat
from pathlib import Path

import pytest

from runner.errors import InvalidError, NotFoundError
from runner.settings import Settings
from runner.storage.base import open_storage
from runner.storage.local import LocalStorage


def test_files_and_folders_are_for_the_owner_only(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path / "storage")

    storage.put("kestra:///a/b", io.BytesIO(b"x"))

    modes = [stat.S_IMODE(place.stat().st_mode) for place in (tmp_path / "storage" / "a", tmp_path / "storage" / "a/b")]
    assert modes == [0o700, 0o600]


def test_a_link_is_neither_read_nor_written_through(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    storage = LocalStorage(tmp_path / "storage")
    (tmp_path / "storage" / "link").symlink_to(outside)
    (tmp_path / "storage" / "file").symlink_to(outside / "secret")

    for uri in ("kestra:///link/secret", "kestra:///file"):
        with pytest.raises(NotFoundError):
            storage.open(uri)
    with pytest.raises(InvalidError):
        storage.put("kestra:///link/new", io.BytesIO(b"x"))
    storage.put("kestra:///file", io.BytesIO(b"x"))

    assert (outside / "secret").read_bytes() == b"secret"
    assert sorted(path.name for path in outside.iterdir()) == ["secret"]


def test_a_pipe_in_the_folder_does_not_block_a_reader(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    os.mkfifo(tmp_path / "pipe")

    with pytest.raises(NotFoundError):
        storage.open("kestra:///pipe")


def test_a_file_cannot_be_a_folder(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    storage.put("kestra:///a", io.BytesIO(b"x"))

    with pytest.raises(InvalidError, match="below a file"):
        storage.put("kestra:///a/b", io.BytesIO(b"x"))


def test_the_settings_name_a_folder_or_a_scheme(tmp_path: Path) -> None:
    open_storage(Settings(home=tmp_path / "home"))
    open_storage(Settings(storage=str(tmp_path / "plain")))
    open_storage(Settings(storage=f"file://{tmp_path}/url"))

    assert [(tmp_path / name).is_dir() for name in ("home/storage", "plain", "url")] == [True, True, True]
    with pytest.raises(InvalidError, match="no storage is installed for ftp"):
        open_storage(Settings(storage="ftp://host/folder"))
