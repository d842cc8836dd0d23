"""Which of the comments that begin with our marker is ours: anybody may write one that begins so."""

from __future__ import annotations

from typing import Any

import pytest

from runner.store.records import Repository
from sync.forges.api import ApiError, ForgeApi
from sync.forges.apis import api_of
from tests.servers.answering import Answering

MARKER = "<!-- mainstem -->"
OURS = {"id": 4711, "client_id": "Iv1.ours", "slug": "mainstem"}
OTHERS = {"id": 15368, "client_id": "Iv1.others", "slug": "github-actions"}


class Tokens:
    """Tokens of an app."""

    def __init__(self, app_id: str) -> None:
        self.app_id = app_id

    def token(self) -> str:
        return "ghs_1"

    def renewed(self, refused: str) -> str:
        return refused


def api(kind: str, url: str, tokens: Tokens | None = None) -> ForgeApi:
    given = Repository("r", "https://forge.example/acme/flows.git", kind=kind, api_url=url, api_token="t")
    made = api_of(given, tokens)
    assert made is not None
    return made


def comment(number: int, kind: str, app: Any = None) -> dict[str, Any]:
    return {
        "id": number,
        "body": f"{MARKER} plan",
        "user": {"id": number, "type": kind},
        "performed_via_github_app": app,
    }


@pytest.mark.parametrize("app_id", ["4711", "Iv1.ours"])
def test_a_comment_of_another_app_is_not_taken_for_that_of_ours(answering: Answering, app_id: str) -> None:
    others = [comment(1, "Bot", OTHERS), comment(2, "Bot"), comment(3, "User", OURS), comment(4, "User")]
    with api("github", answering.url, Tokens(app_id)) as github:
        answering.say("comments", others)
        without = github.find_comment(7, MARKER)
        answering.say("comments", [*others, comment(5, "Bot", OURS)])

        found = github.find_comment(7, MARKER)

    assert (without, found) == (None, "5")


@pytest.mark.parametrize("kind", ["github", "bitbucket"])
@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_token_without_an_account_takes_nobodys_comment_for_its_own(
    answering: Answering, kind: str, status: int
) -> None:
    answering.say("user", {"message": "no user"}, status)
    rows = [{**comment(1, "Bot", OTHERS), "content": {"raw": f"{MARKER} plan"}}]
    answering.say("comments", {"values": rows} if kind == "bitbucket" else rows)

    with api(kind, answering.url) as forge:
        found = forge.find_comment(7, MARKER)

    assert found is None


@pytest.mark.parametrize("kind", ["github", "bitbucket"])
def test_a_forge_that_limits_us_is_not_taken_for_one_that_knows_no_account(answering: Answering, kind: str) -> None:
    answering.say("user", {"message": "You have exceeded a secondary rate limit"}, 403)

    with api(kind, answering.url) as forge, pytest.raises(ApiError) as caught:
        forge.find_comment(7, MARKER)

    assert caught.value.code == "forge.limited"


@pytest.mark.parametrize("kind", ["github", "gitlab", "gitea", "bitbucket"])
def test_a_comment_of_somebody_else_that_begins_like_ours_is_not_ours(answering: Answering, kind: str) -> None:
    answering.say("user", {"id": 900, "uuid": "{900}"})
    rows = [
        {
            "id": number,
            "body": MARKER,
            "content": {"raw": MARKER},
            "user": {"id": who, "uuid": f"{{{who}}}", "type": "User"},
            "author": {"id": who},
        }
        for number, who in enumerate([666, 77, 900], 1)
    ]
    end = "notes" if kind == "gitlab" else "comments"
    answering.say(end, {"values": rows} if kind == "bitbucket" else rows)

    with api(kind, answering.url) as forge:
        found = forge.find_comment(7, MARKER)

    assert found == "3"
