from __future__ import annotations

from pathlib import Path

import pytest

from runner.errors import NotFoundError
from runner.namespace_files import DirectoryNamespaceFiles, NoNamespaceFiles


def write(root: Path, *paths: str) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(path)


def test_files_are_found_in_every_layout(tmp_path: Path) -> None:
    write(
        tmp_path,
        "company.team/_files/a.sql",
        "company.team/files/deep/b.sql",
        "company/team/scripts/c.py",
        "company/team/flow.yaml",
        "company/team/.git/config",
        "company.other/d.py",
    )
    files = DirectoryNamespaceFiles(tmp_path)

    assert files.list(None, None, "company.team") == ["a.sql", "deep/b.sql", "scripts/c.py"]
    assert files.read(None, None, "company.team", "/deep/b.sql") == b"company.team/files/deep/b.sql"
    assert files.list(None, None, "absent") == []


@pytest.mark.parametrize("path", ["absent", "../other/d.py", "link", "", "/", "folder/../../x"])
def test_nothing_outside_the_namespace_can_be_read(tmp_path: Path, path: str) -> None:
    write(tmp_path, "n/_files/a", "other/d.py")
    (tmp_path / "n" / "_files" / "link").symlink_to(tmp_path / "other" / "d.py")

    with pytest.raises(NotFoundError) as caught:
        DirectoryNamespaceFiles(tmp_path).read(None, None, "n", path)

    assert caught.value.code == "namespace.file.missing"


def test_without_files_every_namespace_is_empty() -> None:
    assert NoNamespaceFiles().list(None, None, "n") == []
    with pytest.raises(NotFoundError):
        NoNamespaceFiles().read(None, None, "n", "a")
