from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from sync.commit_record import Author
from sync.mirror import Budget, MirrorSource
from sync.remote import Credentials
from sync.sources import FetchError

MAIN = "refs/heads/main"
FILES: dict[str, str | None] = {"flows/a.yaml": "id: a\n", "flows/b.yaml": "id: b\n", "other/big.bin": "x" * 5000}


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[Callable[..., MirrorSource]]:
    opened: list[MirrorSource] = []

    def open_one(url: str, **options: Any) -> MirrorSource:
        opened.append(MirrorSource(url, tmp_path / "mirror" / f"{len(opened)}.git", **options))
        return opened[-1]

    yield open_one
    for each in opened:
        each.close()


def fetched(source: MirrorSource) -> str:
    commit = source.heads([MAIN])[MAIN]
    source.fetch(MAIN, commit)
    return commit


@pytest.mark.parametrize("sends", ["some blobs", "all blobs"])
def test_a_mirror_brings_the_newest_commit_and_the_blobs_that_count(
    git_server: Any, work_tree: Any, mirror: Any, sends: str
) -> None:
    sha = work_tree.write(FILES)
    work_tree.push(git_server.repository("flows.git", allow_filter=sends == "some blobs"))
    source = mirror(f"{git_server.url}/flows.git")

    commit = fetched(source)
    listing = source.repository.listing(commit, "flows")
    source.ensure(listing.files.values())

    assert commit == sha
    assert source.repository.blob(listing.files["flows/b.yaml"]) == b"id: b\n"
    outside = source.repository.listing(commit, "other").files["other/big.bin"]
    assert (outside in source.repository) is (sends == "all blobs")


def test_a_later_fetch_brings_the_commits_since_and_only_changed_blobs(
    git_server: Any, work_tree: Any, mirror: Any
) -> None:
    served = git_server.repository("flows.git")
    first = work_tree.write(FILES)
    work_tree.push(served)
    source = mirror(f"{git_server.url}/flows.git")
    fetched(source)
    work_tree.write({"flows/a.yaml": "id: a2\n"})
    third = work_tree.write({"flows/c.yaml": "id: c\n"})
    work_tree.push(served)

    commit = fetched(source)
    listing = source.repository.listing(commit, "flows")
    source.ensure(listing.files.values())

    assert commit == third
    assert source.repository.is_ancestor(first, third)
    assert source.repository.blob(listing.files["flows/a.yaml"]) == b"id: a2\n"


def test_the_same_head_is_not_fetched_again(git_server: Any, work_tree: Any, mirror: Any) -> None:
    work_tree.write(FILES)
    work_tree.push(git_server.repository("flows.git"))
    source = mirror(f"{git_server.url}/flows.git")
    fetched(source)
    git_server.requests.clear()

    fetched(source)

    assert not [body for _, _, body in git_server.requests if b"want " in body]


def test_a_rewritten_history_is_fetched_and_known_as_such(git_server: Any, work_tree: Any, mirror: Any) -> None:
    served = git_server.repository("flows.git")
    work_tree.write({"readme": "r"})
    old = work_tree.write(FILES)
    work_tree.push(served)
    source = mirror(f"{git_server.url}/flows.git")
    fetched(source)
    work_tree.reset("HEAD~1")
    work_tree.write({"flows/z.yaml": "id: z\n"})
    work_tree.push(served, "--force")

    commit = fetched(source)

    assert not source.repository.is_ancestor(old, commit)
    assert set(source.repository.listing(commit, "flows").files) == {"flows/z.yaml"}


def test_an_empty_repository_has_no_heads(git_server: Any, mirror: Any) -> None:
    git_server.repository("empty.git")

    assert mirror(f"{git_server.url}/empty.git").heads([MAIN]) == {}


@pytest.mark.parametrize(
    ("credentials", "kind", "expected"),
    [
        (Credentials("ann", "s3cret"), "generic", ("ann", "s3cret")),
        (Credentials(None, "tok3n"), "github", ("x-access-token", "tok3n")),
    ],
)
def test_credentials_travel_in_the_header_and_never_in_the_url(
    git_server: Any, work_tree: Any, mirror: Any, basic_header: Any, credentials: Credentials, kind: str, expected: Any
) -> None:
    work_tree.write(FILES)
    work_tree.push(git_server.repository("flows.git"))
    git_server.authorization = basic_header(*expected)

    fetched(mirror(f"{git_server.url}/flows.git", credentials=credentials, kind=kind))

    assert all(expected[1] not in path for _, path, _ in git_server.requests)


def test_a_bearer_token_is_sent_as_one(git_server: Any, work_tree: Any, mirror: Any) -> None:
    work_tree.write(FILES)
    work_tree.push(git_server.repository("flows.git"))
    git_server.authorization = "Bearer tok3n"

    assert fetched(mirror(f"{git_server.url}/flows.git", credentials=Credentials("bearer", "tok3n")))


def test_wrong_credentials_are_named_without_being_shown(git_server: Any, mirror: Any) -> None:
    git_server.repository("flows.git")
    git_server.authorization = "Basic nobody"
    source = mirror(f"{git_server.url}/flows.git", credentials=Credentials("ann", "s3cret"))

    with pytest.raises(FetchError) as caught:
        source.heads([MAIN])

    assert caught.value.code == "repository.access.denied"
    assert "s3cret" not in f"{caught.value} {caught.value.__cause__} {caught.value.__context__}"


def test_an_unreachable_repository_is_a_typed_error(mirror: Any) -> None:
    with pytest.raises(FetchError) as caught:
        mirror("http://127.0.0.1:9/flows.git").heads([MAIN])

    assert caught.value.code == "repository.unreachable"


def test_a_repository_that_is_not_there_is_a_typed_error(git_server: Any, mirror: Any) -> None:
    with pytest.raises(FetchError) as caught:
        mirror(f"{git_server.url}/absent.git").heads([MAIN])

    assert caught.value.code == "repository.missing"


def test_a_fetch_that_brings_too_much_is_stopped(git_server: Any, work_tree: Any, mirror: Any) -> None:
    work_tree.write({"flows/a.yaml": os.urandom(20_000).hex()})
    work_tree.push(git_server.repository("flows.git", allow_filter=False))
    source = mirror(f"{git_server.url}/flows.git", budget=Budget(max_bytes=2_000))

    with pytest.raises(FetchError) as caught:
        fetched(source)

    assert caught.value.code == "repository.budget.exceeded"


def test_a_server_that_sends_nonsense_is_a_typed_error(git_server: Any, mirror: Any) -> None:
    (git_server.root / "page.git").mkdir()

    with pytest.raises(FetchError):
        mirror(f"{git_server.url}/page.git").heads([MAIN])


def committed(source: MirrorSource, parent: str | None, files: dict[str, bytes | None]) -> str:
    at = datetime(2026, 11, 22, tzinfo=UTC)
    return source.repository.commit_changes(parent, files, author=Author("m", "m@x"), message="m", at=at)


def test_a_commit_on_a_partial_mirror_is_pushed_with_what_it_changed(
    git_server: Any, work_tree: Any, mirror: Any
) -> None:
    served = git_server.repository("flows.git")
    work_tree.write({**FILES, "flows/deep/er/x.yaml": "x"})
    work_tree.push(served)
    source = mirror(f"{git_server.url}/flows.git")
    base = fetched(source)
    middle = committed(source, base, {"flows/a.yaml": b"id: new\n", "flows/deep/er/x.yaml": None})
    tip = committed(source, middle, {"flows/n/m.yaml": b"id: m\n"})

    done = source.push(MAIN, base, tip)
    late = source.push(MAIN, base, middle)
    orphan = source.push("refs/heads/reports", None, committed(source, None, {"README.md": b"board"}))

    assert (done, late, orphan) == (True, False, True)
    assert source.heads([MAIN]) == {MAIN: tip}
    work_tree.pull(served)
    assert (work_tree.path / "flows/a.yaml").read_text() == "id: new\n"
    assert not (work_tree.path / "flows/deep").exists()
    assert git_server.fsck("flows.git") == ""


def test_a_push_that_the_server_forbids_is_a_typed_error(git_server: Any, work_tree: Any, mirror: Any) -> None:
    served = git_server.repository("flows.git")
    work_tree.write(FILES)
    work_tree.push(served)
    (served / "hooks").mkdir(exist_ok=True)
    hook = served / "hooks/update"
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    source = mirror(f"{git_server.url}/flows.git")
    base = fetched(source)

    with pytest.raises(FetchError) as caught:
        source.push(MAIN, base, committed(source, base, {"x": b"y"}))

    assert caught.value.code == "repository.push.refused"
