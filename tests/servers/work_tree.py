"""A clone of a repository, and a person who works in it."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.servers.git import git


@dataclass
class WorkTree:
    """A clone in which a person edits, commits and pushes."""

    path: Path

    def write(self, files: dict[str, str | None], message: str = "change") -> str:
        for name, text in files.items():
            target = self.path / name
            if text is None:
                target.unlink()
            else:
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(text)
        git(self.path, "add", "-A")
        git(self.path, "commit", "-q", "--allow-empty", "-m", message)
        return git(self.path, "rev-parse", "HEAD")

    def reset(self, revision: str) -> None:
        git(self.path, "reset", "-q", "--hard", revision)

    def pull(self, source: str | Path) -> None:
        git(self.path, "pull", "-q", "--ff-only", str(source), "main")

    def push(self, target: str | Path, *options: str) -> None:
        git(self.path, "push", "-q", *options, str(target), "HEAD:refs/heads/main")


@pytest.fixture
def work_tree(tmp_path: Path) -> WorkTree:
    path = tmp_path / "work"
    path.mkdir()
    git(path, "init", "-q", "-b", "main")
    return WorkTree(path)


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@pytest.fixture
def basic_header() -> Any:
    return basic
