"""Notes that servers and people append to, read by git itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from runner.errors import ConflictError
from sync.commit_record import Author
from sync.mirror import MirrorSource
from sync.reports.notes import MOST_BYTES, NoteBook
from sync.repository import GitRepository
from sync.sources import FetchError, LocalSource, Source

REF = "refs/notes/mainstem"
AT = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[GitRepository]:
    found = GitRepository.open_or_init(tmp_path / "flows.git")
    yield found
    found.close()


@pytest.fixture
def commit(repository: GitRepository) -> str:
    author = Author("Ann", "ann@example.org")
    found = repository.commit_changes(None, {"a.yaml": b"a"}, author=author, message="x", at=AT)
    assert repository.set_head("refs/heads/main", None, found)
    return found


def add(source: Source, lines: dict[str, list[str]], **options: Any) -> str | None:
    return NoteBook(source, REF, **options).append(lines, message="ledger\n", at=AT)


def note(run_git: Any, repository: GitRepository, commit: str) -> list[str]:
    lines: list[str] = run_git(repository.path, "notes", "--ref", REF, "show", commit).splitlines()
    return lines


def test_git_shows_the_lines_below_their_commit(repository: GitRepository, commit: str, run_git: Any) -> None:
    add(LocalSource(repository), {commit: ["one", "two"]})

    shown = run_git(repository.path, "log", "--notes=mainstem", "main")

    assert "Notes (mainstem):\n    one\n    two\n" in shown
    assert run_git(repository.path, "fsck", "--strict", "--no-dangling") == ""


def test_a_line_that_is_there_is_not_written_twice(repository: GitRepository, commit: str, run_git: Any) -> None:
    source = LocalSource(repository)
    first = add(source, {commit: ["one", "one"]})

    again = add(source, {commit: ["one"]})
    more = add(source, {commit: ["one", "two"]})

    assert again == first != more
    assert note(run_git, repository, commit) == ["one", "two"]


@pytest.mark.parametrize("fanout", [0, 300])
def test_what_people_wrote_stays_however_git_keeps_it(
    repository: GitRepository, commit: str, run_git: Any, fanout: int
) -> None:
    run_git(repository.path, "notes", "--ref", REF, "add", "-m", "looked at by Bob", commit)
    for number in range(0, fanout, 300):
        _fill(repository, run_git, number + fanout)

    add(LocalSource(repository), {commit: ["one"]})

    assert note(run_git, repository, commit) == ["looked at by Bob", "one"]
    assert len(run_git(repository.path, "notes", "--ref", REF, "list").splitlines()) == fanout + 1


def _fill(repository: GitRepository, run_git: Any, count: int) -> None:
    """Have git itself rewrite the notes of many objects, which it puts into folders."""
    book = NoteBook(LocalSource(repository), REF)
    book.append({f"{number:040x}": ["x"] for number in range(1, count)}, message="x", at=AT)
    blob = run_git(repository.path, "rev-parse", "main:a.yaml").strip()
    run_git(repository.path, "notes", "--ref", REF, "add", "-m", "x", blob)


@pytest.mark.parametrize("said", [b"looked at by Bob", b"\nlooked at\n\nby Bob", b"caf\xe9\n", b"one\r\n\x00\n", b"\n"])
def test_a_note_of_somebody_else_stays_byte_for_byte(repository: GitRepository, commit: str, said: bytes) -> None:
    author = Author("Bob", "bob@example.org")
    head = repository.commit_changes(None, {commit: said}, author=author, message="x", at=AT)
    assert repository.set_head(REF, None, head)

    after = add(LocalSource(repository), {commit: ["line"]})

    assert after is not None
    blob = repository.find(after, commit)
    assert blob is not None
    assert repository.blob(blob, limit=MOST_BYTES) == said.removesuffix(b"\n") + b"\nline\n"


def test_whoever_was_slower_appends_to_what_the_other_wrote(
    repository: GitRepository, commit: str, run_git: Any
) -> None:
    class Slower(LocalSource):
        left = 3

        def push(self, ref: str, expected: str | None, new: str, *, known: str | None = None) -> bool:
            if self.left:
                self.left -= 1
                add(LocalSource(repository), {commit: [f"other {self.left}"]})
            return super().push(ref, expected, new, known=known)

    pauses: list[float] = []

    add(Slower(repository), {commit: ["mine"]}, pause=pauses.append)

    assert note(run_git, repository, commit) == ["other 2", "other 1", "other 0", "mine"]
    assert len(pauses) == 3


def test_whoever_never_wins_says_so(repository: GitRepository, commit: str) -> None:
    class Never(LocalSource):
        def push(self, ref: str, expected: str | None, new: str, *, known: str | None = None) -> bool:
            del ref, expected, new, known
            return False

    with pytest.raises(ConflictError, match="moved by others") as raised:
        add(Never(repository), {commit: ["mine"]}, pause=lambda _: None)

    assert raised.value.code == "report.branch.busy"


def test_a_note_that_is_full_stays_as_it_is_and_others_are_written(
    repository: GitRepository, commit: str, run_git: Any
) -> None:
    source = LocalSource(repository)
    add(source, {commit: ["x" * (MOST_BYTES - 10)]})

    add(source, {commit: ["one more line"], "b" * 40: ["one"]})

    assert len(note(run_git, repository, commit)) == 1
    assert len(run_git(repository.path, "notes", "--ref", REF, "list").splitlines()) == 2


@pytest.fixture
def mirrors(tmp_path: Path, git_server: Any) -> Iterator[Callable[[], Source]]:
    """Open mirrors of a repository elsewhere, as servers of their own would."""
    opened: list[MirrorSource] = []

    def make() -> Source:
        opened.append(MirrorSource(f"{git_server.url}/flows.git", tmp_path / f"mirror{len(opened)}.git"))
        return opened[-1]

    yield make
    for each in opened:
        each.close()


def test_servers_that_append_to_one_note_elsewhere_lose_no_line(
    mirrors: Callable[[], Source], git_server: Any, run_git: Any
) -> None:
    bare = git_server.repository("flows.git")
    sources = [mirrors() for _ in range(3)]

    def write(number: int) -> None:
        for count in range(4):
            add(sources[number], {"c" * 40: [f"server {number} line {count}"]})

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(write, range(3)))

    lines = run_git(bare, "show", f"{REF}:cc/{'c' * 38}").splitlines()
    assert sorted(lines) == [f"server {server} line {count}" for server in range(3) for count in range(4)]
    assert {commit: sorted(found) for commit, found in NoteBook(mirrors(), REF).read()} == {"c" * 40: sorted(lines)}


@pytest.mark.parametrize(("rule", "length"), [('git merge-base --is-ancestor "$2" "$3"', "5"), ("true", "1")])
def test_servers_that_begin_a_month_together_lose_no_line_whether_or_not_histories_are_kept(
    mirrors: Callable[[], Source], git_server: Any, run_git: Any, rule: str, length: str
) -> None:
    bare = git_server.repository("flows.git")
    sources = [mirrors() for _ in range(2)]
    for source in sources:
        add(source, {"c" * 40: ["the month before"]})
    hook = bare / "hooks" / "update"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\nexec {rule}\n")
    hook.chmod(0o755)

    def write(number: int) -> None:
        for count in range(2):
            book = NoteBook(sources[number], REF)
            book.append({"c" * 40: [f"{number} {count}"]}, message="runs\n", at=AT, restart=True)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(write, range(2)))

    before, *lines = run_git(bare, "show", f"{REF}:cc/{'c' * 38}").splitlines()
    assert (before, sorted(lines)) == ("the month before", ["0 0", "0 1", "1 0", "1 1"])
    assert run_git(bare, "rev-list", "--count", REF).strip() == length


def test_a_server_that_refuses_the_ref_is_told_of(mirrors: Callable[[], Source], git_server: Any) -> None:
    bare = git_server.repository("flows.git")
    hook = bare / "hooks" / "pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho notes are not wanted >&2; exit 1\n")
    hook.chmod(0o755)

    with pytest.raises(FetchError) as raised:
        add(mirrors(), {"c" * 40: ["one"]})

    assert raised.value.code == "repository.push.refused"
