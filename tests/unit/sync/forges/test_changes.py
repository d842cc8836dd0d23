"""Change requests through the API of each forge, and how its limits and pages are kept, over sockets."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from runner.metrics import Process, of_process, render
from runner.store import Store
from runner.store.records import Repository
from sync.forges.api import ApiError, Check, Draft, ForgeApi
from sync.forges.apis import api_of
from sync.forges.limits import LIMITS, Limit, is_limited, limit_of, wait_s
from tests.servers.dialects import TOKEN
from tests.servers.git import git
from tests.servers.store import fresh_store

KINDS = ("github", "gitlab", "gitea", "forgejo", "bitbucket")
DRAFT = Draft("mainstem/a-1", "main", "Write w.a", "text")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(fresh_store(f"sqlite:///{tmp_path / 'state.db'}", durability="off")) as opened:
        yield opened


@pytest.fixture
def api(forge: Any) -> Iterator[ForgeApi]:
    empty = git(forge.bare, "hash-object", "-t", "tree", "-w", "/dev/null")
    commit = git(forge.bare, "commit-tree", empty, "-m", "first")
    for branch in ("main", DRAFT.branch, "mainstem/b-2"):
        git(forge.bare, "update-ref", f"refs/heads/{branch}", commit)
    repository = Repository(
        f"changes-{forge.kind}",
        "https://git.example.org/acme/flows.git",
        forge.kind,
        api_url=forge.url,
        api_token=TOKEN,
    )
    found = api_of(repository)
    assert found is not None
    found._sleep = lambda _seconds: None
    with found:
        yield found


@pytest.mark.parametrize("forge", KINDS, indirect=True)
def test_a_change_request_is_opened_found_and_written_anew(forge: Any, api: ForgeApi) -> None:
    before = api.find_open(DRAFT.branch, "main")

    opened = api.propose(DRAFT)
    found = api.find_open(DRAFT.branch, "main")
    other = api.find_open("mainstem/b-2", "main")
    again = api.propose(Draft(DRAFT.branch, "main", "Write w.a once more", "more"), found)
    forge.pulls[opened.number].state = "merged"

    assert (before, other) == (None, None)
    assert opened == found == again
    assert opened.url.startswith(f"{forge.url}/acme/flows/")
    assert opened.url.endswith(f"/{opened.number}")
    assert [(pull.title, pull.text) for pull in forge.opened] == [("Write w.a once more", "more")]
    assert api.find_open(DRAFT.branch, "main") is None


@pytest.mark.parametrize("forge", KINDS, indirect=True)
def test_a_status_is_undecided_then_red_then_green(forge: Any, api: ForgeApi) -> None:
    seen = []
    for check in (
        Check("mainstem/e", is_good=True, summary="tests run", is_pending=True),
        Check("mainstem/e", is_good=False, summary="bad", url=api.comment_url(7, "700")),
        Check("mainstem/e", is_good=True, summary="good"),
    ):
        api.set_status("c" * 40, check)
        seen.append(forge.status("c" * 40, "mainstem/e"))

    assert [each["is_good"] for each in seen] == [None, False, True]
    assert [each["summary"] for each in seen] == ["tests run", "bad", "good"]
    assert seen[1]["url"].startswith("https://git.example.org/acme/flows/")
    assert seen[1]["url"].endswith("700")


@pytest.mark.parametrize("forge", KINDS, indirect=True)
def test_a_change_request_that_somebody_opened_at_the_same_moment_is_taken(forge: Any, api: ForgeApi) -> None:
    theirs = api.open_change(Draft(DRAFT.branch, "main", "theirs", ""))

    ours = api.propose(DRAFT, known=None)

    assert ours == theirs
    assert [pull.title for pull in forge.opened] == [DRAFT.title]


@pytest.mark.parametrize("forge", ["gitea"], indirect=True)
def test_an_open_change_request_is_found_behind_many_others(forge: Any, api: ForgeApi) -> None:
    for number in range(1, 53):
        forge.open(number, "main")

    opened = api.propose(DRAFT)

    assert api.find_open(DRAFT.branch, "main") == opened


@pytest.mark.parametrize("forge", ["github"], indirect=True)
@pytest.mark.parametrize(
    ("headers", "least_s"),
    [
        ({"retry-after": "28"}, 28),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "{soon}"}, 27),
    ],
)
def test_a_forge_that_limits_us_is_asked_again_when_it_says(
    forge: Any, api: ForgeApi, headers: dict[str, str], least_s: float
) -> None:
    waited: list[float] = []
    api._sleep = waited.append
    began = time.time()
    soon = str(int(began) + 28)
    forge.failures = [(403, {name: value.format(soon=soon) for name, value in headers.items()})]

    opened = api.open_change(DRAFT)

    passed_s = time.time() - began
    assert opened.number
    assert len(waited) == 1
    assert least_s - passed_s <= waited[0] <= 28


@pytest.mark.parametrize("forge", ["github"], indirect=True)
def test_a_limit_that_lasts_is_told_at_once_and_is_no_lack_of_rights(forge: Any, api: ForgeApi) -> None:
    forge.failures = [(403, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(int(time.time()) + 3000)})]

    with pytest.raises(ApiError) as caught:
        api.open_change(DRAFT)

    assert caught.value.code == "forge.limited"
    assert "it takes more in" in caught.value.message
    assert len(forge.calls) == 1


@pytest.mark.parametrize("forge", ["github"], indirect=True)
def test_what_is_left_of_a_limit_is_a_figure_afterwards(forge: Any, api: ForgeApi, store: Store) -> None:
    forge.limits = {"x-ratelimit-limit": "5000", "x-ratelimit-remaining": "4321", "x-ratelimit-reset": "1900000000"}

    api.find_open(DRAFT.branch, "main")

    found = LIMITS.all()["changes-github"]
    process = Process("up", datetime.now(UTC), left={"r": (found.remaining, found.reset_s), "s": (7, None)})
    text = render(of_process(process, store, datetime.now(UTC)))
    assert found == Limit(4321, datetime(2030, 3, 17, 17, 46, 40, tzinfo=UTC), 5000)
    assert 'mainstem_forge_requests_left{repository="r"} 4321' in text
    assert 'mainstem_forge_requests_left{repository="s"} 7' in text
    assert text.count("mainstem_forge_limit_reset_timestamp_seconds{") == 1


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"x-ratelimit-remaining": "many"}, None),
        ({"x-ratelimit-remaining": "-1"}, None),
        ({"x-ratelimit-remaining": "5", "x-ratelimit-reset": "9" * 40}, Limit(5)),
        (
            {"ratelimit-remaining": "5", "ratelimit-reset": "1900000000"},
            Limit(5, datetime(2030, 3, 17, 17, 46, 40, tzinfo=UTC)),
        ),
    ],
)
def test_headers_that_say_nothing_of_use_are_no_limit(headers: dict[str, str], expected: Limit | None) -> None:
    assert limit_of(headers) == expected


@pytest.mark.parametrize(
    ("status", "headers", "text", "limited", "least"),
    [
        (429, {}, "", True, 2.0),
        (403, {}, "You have exceeded a secondary rate limit.", True, 60.0),
        (403, {}, "Resource not accessible", False, 2.0),
        (403, {"x-ratelimit-remaining": "12"}, "Resource not accessible", False, 2.0),
        (429, {"ratelimit-remaining": "0", "ratelimit-reset": "20"}, "", True, 15.0),
        (429, {"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, "", True, 0.0),
        (503, {"retry-after": "nonsense"}, "", False, 2.0),
    ],
)
def test_an_answer_says_whether_it_is_a_limit_and_how_long_to_wait(
    status: int, headers: dict[str, str], text: str, *, limited: bool, least: float
) -> None:
    answer = httpx.Response(status, headers=headers, text=text)

    assert is_limited(answer) is limited
    assert least <= wait_s(answer, 2.0) <= least + 5
