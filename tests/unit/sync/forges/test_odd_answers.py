"""Answers that no documentation has: each route of each forge either reads them as nothing, or says what is odd."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from typing import Any

import pytest

from runner.store.records import Repository
from sync.forges.answers import MOST_BYTES
from sync.forges.api import ApiError, Check, Draft, ForgeApi
from sync.forges.apis import api_of
from sync.forges.check_states import CheckState
from tests.servers.answering import Answering

JSON = "application/json"
DRAFT = Draft("topic", "main", "title", "text")
SAID = b'{"id": 1, "body": "x", "user": null, "author": [], "state": {}, "head": 7, "source": "x", "content": null}'
ODD = {
    "null": (JSON, b"null"),
    "list": (JSON, b"[]"),
    "list of null": (JSON, b"[null]"),
    "list of texts": (JSON, b'["x"]'),
    "number": (JSON, b"7"),
    "text": (JSON, b'"x"'),
    "bare object": (JSON, b"{}"),
    "values null": (JSON, b'{"values": null, "statuses": 7, "check_runs": null, "next": 7}'),
    "values odd": (JSON, b'{"values": [{}], "statuses": [7], "check_runs": [{}], "next": "http://["}'),
    "wrong parts": (JSON, SAID),
    "list of wrong parts": (JSON, b"[" + SAID + b"]"),
    "page": ("text/html", b"<html>maintenance</html>"),
    "cut": (JSON, b'{"id": '),
    "nothing": (JSON, b""),
    "not utf-8": (JSON, b'{"id": "\xff\xfe"}'),
    "deep": (JSON, b"[" * 100_000),
    "huge number": (JSON, b'{"id": ' + b"9" * 5_000 + b"}"),
    "of another kind": ("image/png", b"\x89PNG\r\n"),
}
REMARK = b'{"issue_url": "x/7", "user": {"id": 1, "login": "ann"}, "created_at": "2026-03-10T12:00:00Z"}'
ROUTES: dict[str, Callable[[ForgeApi], Any]] = {
    "change": lambda api: api.change(7),
    "remark": lambda api: api.remark(7, "1"),
    "find_comment": lambda api: api.find_comment(7, "x"),
    "check_states": lambda api: api.check_states("1" * 40, ["ci"]),
    "find_open": lambda api: api.find_open("topic", "main"),
    "open_change": lambda api: api.open_change(DRAFT),
    "add_comment": lambda api: api.add_comment(7, "x"),
    "edit_comment": lambda api: api.edit_comment(7, "1", "x"),
    "set_status": lambda api: api.set_status("1" * 40, Check("ci", is_good=True, summary="x")),
}


def api(kind: str, url: str) -> ForgeApi:
    given = Repository("r", "https://forge.example/acme/flows.git", kind=kind, api_url=url, api_token="s3cret")
    made = api_of(given)
    assert made is not None
    return made


@pytest.mark.parametrize("kind", ["github", "gitlab", "gitea", "bitbucket"])
def test_no_answer_of_a_forge_is_a_failure_of_ours(answering: Answering, kind: str) -> None:
    outcomes: dict[tuple[str, str], Any] = {}
    messages: list[str] = []

    with api(kind, answering.url) as forge:
        for name, (sort, content) in ODD.items():
            answering.otherwise = (200, sort, content)
            for route, ask in ROUTES.items():
                try:
                    outcomes[name, route] = ask(forge)
                except ApiError as error:
                    outcomes[name, route] = error.code
                    messages.append(error.message)

    assert {outcomes[name, "change"] for name in ODD} == {"forge.answer.odd"}
    assert {outcomes["page", route] for route in ROUTES} == {"forge.answer.odd"}
    assert "s3cret" not in "".join(messages)
    states = [outcomes[name, "check_states"] for name in ODD]
    assert CheckState.GREEN not in [state for each in states if isinstance(each, dict) for state in each.values()]


def test_what_was_odd_is_said(answering: Answering) -> None:
    with api("github", answering.url) as forge:
        said = []
        for sort, content in (ODD["page"], ODD["bare object"], ODD["wrong parts"], (JSON, b" " * (MOST_BYTES + 1))):
            answering.otherwise = (200, sort, content)
            with pytest.raises(ApiError) as caught:
                forge.change(7)
            said.append(caught.value.message)

    place = "https://forge.example answers oddly to GET repos/acme/flows/pulls/7: "
    assert [each.removeprefix(place) for each in said] == [
        "it is no JSON that can be read, but text/html: '<html>maintenance</html>'",
        "it has no 'head'",
        "it has no 'base'",
        "it is larger than 32 MiB",
    ]


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        (gzip.compress(REMARK), "ann"),
        (gzip.compress(b" " * (MOST_BYTES + 1)), "forge.answer.odd"),
        (gzip.compress(b"{}" * 1_000)[:-20], "forge.answer.odd"),
        (b'{"id": 1}', "forge.unreachable"),
    ],
    ids=["whole", "a bomb", "cut", "no gzip at all"],
)
def test_a_packed_answer_is_unpacked_once_and_in_bounds(answering: Answering, content: bytes, wanted: str) -> None:
    answering.otherwise = (200, JSON, content)
    answering.headers["content-encoding"] = "gzip"

    with api("github", answering.url) as forge:
        try:
            found: Any = forge.remark(7, "1").name
        except ApiError as error:
            found = error.code

    assert found == wanted


NOBODY = {"id": None, "uuid": None, "login": "ann", "username": "ann", "nickname": "ann", "type": "user"}
NOWHERE = {"id": None, "uuid": None, "full_name": "acme/flows"}
BRANCH = {"sha": "1" * 40, "ref": "main", "branch": {"name": "main"}, "commit": {"hash": "1" * 40}}
WITHOUT_IDS: dict[str, Any] = {
    "issue_url": "x/7",
    "created_at": "2026-03-10T12:00:00Z",
    "created_on": "2026-03-10T12:00:00Z",
    "content": {"raw": "x"},
    "user": NOBODY,
    "author": NOBODY,
    "permission": "admin",
    "sha": "1" * 40,
    "target_branch": "main",
    "head": {**BRANCH, "repo": NOWHERE},
    "base": {**BRANCH, "repo": NOWHERE},
    "source": {**BRANCH, "repository": NOWHERE},
    "destination": {**BRANCH, "repository": NOWHERE},
    "source_project_id": None,
    "target_project_id": None,
    "state": "opened",
    "source_branch": "topic",
    **NOBODY,
}


@pytest.mark.parametrize("kind", ["github", "gitlab", "gitea", "bitbucket"])
def test_what_has_no_id_is_nobody_and_nothing_of_the_same(answering: Answering, kind: str) -> None:
    answering.say("1", WITHOUT_IDS)
    answering.say("7", WITHOUT_IDS)
    answering.say("user", NOBODY)
    answering.say("comments", [WITHOUT_IDS])
    answering.say("notes", [WITHOUT_IDS])
    answering.say("permission", WITHOUT_IDS)
    outcomes: dict[str, Any] = {}

    with api(kind, answering.url) as forge:
        for route in ("remark", "find_comment", "change"):
            try:
                outcomes[route] = ROUTES[route](forge)
            except ApiError as error:
                outcomes[route] = error.code

    odd = "forge.answer.odd"
    assert (outcomes["remark"], outcomes["find_comment"]) == (odd, odd)
    # Gitea compares the numbers of two repositories itself, and takes no numbers for a fork.
    assert outcomes["change"] == odd or outcomes["change"].is_fork
