from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from sync.forges.base import (
    ChangeRequest,
    Event,
    Headers,
    Ignored,
    Notice,
    PayloadError,
    Ping,
    RefDeleted,
    RefMoved,
    change_number,
)
from sync.forges.registry import forge_of
from sync.forges.verdict import Verdict, is_named, judge

URL = "https://git.example.org/acme/flows.git"
MAIN, OLD = "refs/heads/main", "refs/heads/old"
FOLLOWS = frozenset({MAIN})
AFTER = "a" * 40
NOW = datetime(2026, 11, 2, 9, 15, 30, tzinfo=UTC)


def verdict(*events: Event, repository: str | None = "acme/flows", names_repository: bool = True) -> Verdict:
    return judge(Notice(events, repository), URL, FOLLOWS, names_repository=names_repository)


def test_a_move_of_a_ref_that_an_environment_follows_is_accepted() -> None:
    found = verdict(RefMoved(MAIN, None, AFTER))

    assert found == Verdict("ACCEPTED", None, MAIN, None, AFTER)


def test_a_change_request_for_a_followed_ref_is_accepted_under_a_ref_of_its_own() -> None:
    found = verdict(ChangeRequest(7, MAIN, AFTER))

    assert found == Verdict("ACCEPTED", None, "refs/pull/7/head", None, AFTER)
    assert change_number(found.ref) == 7


def test_a_change_request_for_another_branch_or_repository_is_ignored() -> None:
    other_branch = verdict(ChangeRequest(7, OLD, AFTER))
    other_repository = verdict(ChangeRequest(7, MAIN, AFTER), repository="someone/flows")

    assert (other_branch.result, other_branch.reason) == ("IGNORED", f"no environment follows {OLD}")
    assert (other_repository.result, other_repository.reason) == (
        "IGNORED",
        "it is about the repository someone/flows",
    )
    with pytest.raises(PayloadError, match="names no repository"):
        verdict(ChangeRequest(7, MAIN, AFTER), repository=None)


@pytest.mark.parametrize("ref", [None, "refs/heads/main", "refs/pull/0/head", "refs/pull/7/merge", "refs/pull/x/head"])
def test_other_refs_are_no_change_requests(ref: str | None) -> None:
    assert change_number(ref) is None


def test_the_followed_ref_counts_among_several() -> None:
    found = verdict(RefMoved("refs/heads/topic", None, AFTER), RefDeleted(OLD), RefMoved(MAIN, None, AFTER))

    assert (found.result, found.ref) == ("ACCEPTED", MAIN)


def test_the_end_of_a_followed_ref_is_worth_a_look() -> None:
    assert verdict(RefDeleted(MAIN, AFTER)).result == "ACCEPTED"


def test_a_ref_that_nobody_follows_is_ignored_such_as_the_reports() -> None:
    found = verdict(RefMoved("refs/heads/mainstem-reports", None, AFTER))

    assert (found.result, found.reason) == ("IGNORED", "no environment follows refs/heads/mainstem-reports")


def test_a_push_to_another_repository_is_ignored_whatever_its_ref() -> None:
    found = verdict(RefMoved(MAIN, None, AFTER), repository="acme/other")

    assert (found.result, found.reason) == ("IGNORED", "it is about the repository acme/other")


def test_a_ping_and_other_events_say_why_nothing_is_done() -> None:
    assert verdict(Ping(), repository=None) == Verdict("IGNORED", "ping")
    assert verdict(Ignored("nothing is done for 'star'")).reason == "nothing is done for 'star'"


def test_a_push_without_a_name_is_malformed_where_the_forge_always_gives_one() -> None:
    with pytest.raises(PayloadError):
        verdict(RefMoved(MAIN), repository=None)

    assert verdict(RefMoved(MAIN), repository=None, names_repository=False).result == "ACCEPTED"


@pytest.mark.parametrize(
    ("url", "name", "is_same"),
    [
        (URL, "acme/flows", True),
        (URL, "Acme/Flows", True),
        (URL, "acme/flows.git", True),
        ("git@git.example.org:acme/flows.git", "acme/flows", True),
        ("https://example.org/gitlab/group/sub/flows.git", "group/sub/flows", True),
        ("https://example.org/gitlab/group/sub/flows.git", "sub/flows", True),
        ("file:///srv/flows.git", "acme/anything", True),
        (URL, "flows", False),
        (URL, "evil/acme/flows", False),
        (URL, "/flows", False),
        (URL, "", False),
        (URL, "e/flows", False),
    ],
)
def test_a_repository_is_known_by_the_last_segments_of_its_address(url: str, name: str, *, is_same: bool) -> None:
    assert is_named(url, name) is is_same


@pytest.mark.parametrize(
    ("follows", "ref", "result"),
    [
        ("refs/tags/v*", "refs/tags/v1.0.0", "ACCEPTED"),
        ("refs/tags/v*", "refs/tags/w1.0.0", "IGNORED"),
        ("refs/heads/release/*", "refs/heads/release/2", "ACCEPTED"),
    ],
)
def test_a_ref_that_fits_a_pattern_is_followed(follows: str, ref: str, result: str) -> None:
    moved, gone = (
        judge(Notice((event,), "acme/flows"), URL, {follows}, names_repository=True)
        for event in (RefMoved(ref, None, AFTER), RefDeleted(ref))
    )

    assert (moved.result, gone.result, moved.ref) == (result, result, ref)


@pytest.mark.parametrize("shape", ["tag", "created", "deletion"])
def test_every_forge_tells_of_tags_that_come_and_go(forges: Any, shape: str) -> None:
    found = {}
    for name, sender in forges.SENDERS.items():
        if shape not in sender.events:
            continue
        # A tag that goes is told of as a branch that goes, but for its name.
        body = json.dumps(sender.payload(shape)).replace("refs/heads/old", "refs/tags/v1.0.0")
        body = body.replace('"old", "ref_type": "branch"', '"v1.0.0", "ref_type": "tag"')
        body = body.replace('"name": "old", "type": "branch"', '"name": "v1.0.0", "type": "tag"')
        body = body.replace('"object_kind": "push"', '"object_kind": "tag_push"')
        sent = sender.send(shape, body=body.encode(), at=NOW)
        forge, headers = forge_of(sender.kind), Headers(sent.headers.items())
        assert forge is not None
        proof = forge.verify(headers, sent.body, [sender.secret], NOW)
        notice = forge.parse(proof, headers, sent.body)
        found[name] = judge(notice, URL, {"refs/tags/v*"}, names_repository=forge.names_repository)

    assert {name: (each.result, each.ref) for name, each in found.items()} == dict.fromkeys(
        found, ("ACCEPTED", "refs/tags/v1.0.0")
    )
