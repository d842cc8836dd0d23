from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from runner.errors import ConflictError, MainstemError
from sync.mirror import MirrorSource
from sync.reports.branch import ReportBranch
from sync.reports.racing import MOST_TRIES
from sync.repository import GitRepository
from sync.sources import FetchError, LocalSource, Source

REF = "refs/heads/mainstem-reports"
AT = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)


class Interrupted(LocalSource):
    """A repository in which somebody else commits right before each of the first pushes."""

    def __init__(self, repository: GitRepository, other: Callable[[int], None], times: int) -> None:
        super().__init__(repository)
        self.other = other
        self.left = times
        self.pushes = 0

    def push(self, ref: str, expected: str | None, new: str, *, known: str | None = None) -> bool:
        self.pushes += 1
        if self.left:
            self.left -= 1
            self.other(self.pushes)
        return super().push(ref, expected, new, known=known)


def _commit(branch: ReportBranch, files: dict[str, str | None], **options: Any) -> str:
    changes = {name: None if text is None else text.encode() for name, text in files.items()}
    return branch.commit(changes, message="reports: test", at=AT, **options)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "flows.git"


@pytest.fixture
def repository(path: Path) -> Iterator[GitRepository]:
    found = GitRepository.open_or_init(path)
    yield found
    found.close()


@pytest.fixture
def mirrors(tmp_path: Path, git_server: Any) -> Iterator[Callable[[str], Source]]:
    """Open mirrors of a repository elsewhere, as servers of their own would."""
    opened: list[MirrorSource] = []

    def make(name: str) -> Source:
        opened.append(MirrorSource(f"{git_server.url}/{name}", tmp_path / f"mirror{len(opened)}.git"))
        return opened[-1]

    yield make
    for each in opened:
        each.close()


def test_the_first_commit_makes_a_branch_without_a_past(
    path: Path, repository: GitRepository, branch_of: Any, run_git: Any
) -> None:
    branch = ReportBranch(LocalSource(repository), REF)
    before = branch.look(["a.md"])

    _commit(branch, {"a.md": "a", "b/c.md": "c"})

    assert before is None
    assert branch_of(path).files().keys() == {".mainstem-reports", "a.md", "b/c.md"}
    assert branch.look(["a.md", "b/c.md", "b", "none"]) == frozenset({"a.md", "b/c.md"})
    assert run_git(path, "fsck", "--strict", "--no-dangling") == ""


def test_nothing_new_is_no_commit(repository: GitRepository) -> None:
    branch = ReportBranch(LocalSource(repository), REF)
    first = _commit(branch, {"a.md": "a"})

    again = _commit(branch, {"a.md": "a", "none.md": None})

    assert again == first


def test_a_folder_is_removed_as_a_whole(path: Path, repository: GitRepository, branch_of: Any) -> None:
    branch = ReportBranch(LocalSource(repository), REF)
    _commit(branch, {"runs/1/a.md": "a", "runs/1/b/c.md": "c", "runs/2/d.md": "d"})

    _commit(branch, {"runs/1": None})

    assert branch_of(path).files().keys() == {".mainstem-reports", "runs/2/d.md"}


def test_who_was_slower_writes_the_tree_anew_on_the_others_commit(
    path: Path, repository: GitRepository, branch_of: Any
) -> None:
    _commit(ReportBranch(LocalSource(repository), REF), {"README.md": "0"})
    other = ReportBranch(LocalSource(repository), REF)
    source = Interrupted(
        repository, lambda number: void(_commit(other, {f"other{number}.md": "x", "README.md": "other"})), 3
    )
    pauses: list[float] = []

    _commit(ReportBranch(source, REF, pause=pauses.append), {"mine.md": "y", "README.md": "mine"})

    files = branch_of(path).files()
    assert files | {".mainstem-reports": ""} == {
        ".mainstem-reports": "",
        "README.md": "mine",
        "mine.md": "y",
        "other1.md": "x",
        "other2.md": "x",
        "other3.md": "x",
    }
    assert len(branch_of(path).commits()) == 5
    assert len(pauses) == 3
    assert max(pauses) <= 1


def void(_: object) -> None:
    """Give nothing."""


def test_after_twenty_lost_races_the_reports_wait(repository: GitRepository) -> None:
    other = ReportBranch(LocalSource(repository), REF)
    source = Interrupted(repository, lambda number: void(_commit(other, {"o.md": str(number)})), 1_000)

    with pytest.raises(ConflictError) as caught:
        _commit(ReportBranch(source, REF, pause=void), {"a.md": "a"})

    assert caught.value.code == "report.branch.busy"
    assert source.pushes == MOST_TRIES


def test_a_restart_leaves_the_files_and_forgets_how_they_came(
    path: Path, repository: GitRepository, branch_of: Any, run_git: Any
) -> None:
    branch = ReportBranch(LocalSource(repository), REF)
    old = _commit(branch, {"a.md": "a"})

    new = _commit(branch, {"b.md": "b"}, restart=True)

    assert branch_of(path).head() == new
    assert branch_of(path).files().keys() == {".mainstem-reports", "a.md", "b.md"}
    assert run_git(path, "rev-list", "--all").split() == [new]
    assert old != new


def test_a_branch_of_somebody_else_is_not_touched(path: Path, repository: GitRepository, branch_of: Any) -> None:
    theirs = repository.commit_changes(None, {"thesis.md": b"years of work"}, author=_author(), message="thesis", at=AT)
    repository.set_head(REF, None, theirs)

    with pytest.raises(ConflictError) as caught:
        _commit(ReportBranch(LocalSource(repository), REF), {"README.md": "a"}, restart=True)

    assert caught.value.code == "report.branch.foreign"
    assert branch_of(path).head() == theirs


def _author() -> Any:
    from sync.commit_record import Author

    return Author("Ann", "ann@example.org")


def test_a_branch_that_is_checked_out_is_refused_at_once(tmp_path: Path, run_git: Any) -> None:
    run_git(tmp_path, "init", "-q", "-b", "mainstem-reports", "work")
    pauses: list[float] = []

    source = LocalSource.at(tmp_path / "work")

    with pytest.raises(FetchError) as caught:
        _commit(ReportBranch(source, REF, pause=pauses.append), {"a.md": "a"})

    source.close()
    assert caught.value.code == "repository.push.refused"
    assert pauses == []


def test_reports_are_pushed_to_a_repository_elsewhere(git_server: Any, mirrors: Any, branch_of: Any) -> None:
    path = git_server.repository("w.git")
    branch = ReportBranch(mirrors("w.git"), REF)

    first = _commit(branch, {"a.md": "a", "runs/1.md": "1"})
    second = _commit(branch, {"runs/2.md": "2", "runs/1.md": None})

    assert branch_of(path).head() == second != first
    assert branch_of(path).files().keys() == {".mainstem-reports", "a.md", "runs/2.md"}
    assert git_server.fsck("w.git") == ""


def test_a_mirror_that_lost_its_files_goes_on_from_what_is_there(git_server: Any, mirrors: Any, branch_of: Any) -> None:
    path = git_server.repository("w.git")
    _commit(ReportBranch(mirrors("w.git"), REF), {f"runs/{number}.md": str(number) for number in range(20)})

    _commit(ReportBranch(mirrors("w.git"), REF), {"runs/new.md": "new"})

    assert len(branch_of(path).files()) == 22
    assert len(branch_of(path).commits()) == 2
    assert git_server.fsck("w.git") == ""


@pytest.mark.parametrize("is_elsewhere", [False, True])
def test_every_commit_of_several_servers_is_on_the_branch(
    path: Path, git_server: Any, mirrors: Any, branch_of: Any, *, is_elsewhere: bool
) -> None:
    where = git_server.repository("w.git") if is_elsewhere else path
    GitRepository.open_or_init(path).close()
    sources = [mirrors("w.git") if is_elsewhere else LocalSource.at(path) for _ in range(3)]
    start = threading.Barrier(3)

    def write(number: int) -> None:
        branch = ReportBranch(sources[number], REF)
        start.wait(10)
        for count in range(5):
            _commit(branch, {f"runs/{number}-{count}.jsonl": "{}", "README.md": f"{number}-{count}"})

    with ThreadPoolExecutor(3) as threads:
        for future in [threads.submit(write, number) for number in range(3)]:
            future.result(100)
    for source in sources:
        source.close()

    files = branch_of(where).files()
    assert sorted(name for name in files if name.startswith("runs/")) == sorted(
        f"runs/{number}-{count}.jsonl" for number in range(3) for count in range(5)
    )
    assert len(branch_of(where).commits()) == 15


def test_a_server_that_keeps_histories_gets_a_commit_with_a_parent_instead(
    git_server: Any, mirrors: Any, branch_of: Any, run_git: Any
) -> None:
    path = git_server.repository("w.git")
    run_git(path, "config", "receive.denyNonFastForwards", "true")
    branch = ReportBranch(mirrors("w.git"), REF, pause=void)
    _commit(branch, {"a.md": "a"})

    _commit(branch, {"b.md": "b"}, restart=True)

    assert len(branch_of(path).commits()) == 2
    assert "b.md" in branch_of(path).files()


def test_a_server_that_forgets_histories_gets_one_commit(git_server: Any, mirrors: Any, branch_of: Any) -> None:
    path = git_server.repository("w.git")
    branch = ReportBranch(mirrors("w.git"), REF, pause=void)
    _commit(branch, {"a.md": "a"})

    _commit(branch, {"b.md": "b"}, restart=True)

    assert len(branch_of(path).commits()) == 1
    assert branch_of(path).files().keys() == {".mainstem-reports", "a.md", "b.md"}
    assert git_server.fsck("w.git") == ""


def test_a_hook_that_refuses_is_heard_at_once_and_named(git_server: Any, mirrors: Any, branch_of: Any) -> None:
    path = git_server.repository("w.git")
    hook = path / "hooks" / "pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho protected branch >&2\nexit 1\n")
    hook.chmod(0o755)
    pauses: list[float] = []

    with pytest.raises(FetchError) as caught:
        _commit(ReportBranch(mirrors("w.git"), REF, pause=pauses.append), {"a.md": "a"})

    assert caught.value.code == "repository.push.refused"
    assert pauses == []
    assert not branch_of(path).exists()


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/x.git", "{server}/none.git"])
def test_a_repository_that_is_away_is_an_error_with_a_code(git_server: Any, tmp_path: Path, url: str) -> None:
    source = MirrorSource(url.format(server=git_server.url), tmp_path / "mirror.git")

    with pytest.raises(MainstemError) as caught:
        _commit(ReportBranch(source, REF), {"a.md": "a"})

    assert caught.value.code.startswith("repository.")
    source.close()
