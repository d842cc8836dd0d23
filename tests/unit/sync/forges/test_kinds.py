"""What is peculiar to one forge, and the way to another package's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import EntryPoint
from typing import Any

import pytest

from sync.forges import registry
from sync.forges.base import Headers, Ignored, PayloadError, Ping, Proof, RefDeleted, RefMoved, UnprovenError, shown
from sync.forges.bitbucket import Bitbucket
from sync.forges.generic import Generic
from sync.forges.gitea import Gitea
from sync.forges.github import GitHub
from sync.forges.gitlab import GitLab

NOW = datetime(2026, 11, 2, 9, 15, 30, tzinfo=UTC)
NO_HEADERS = Headers([])


def parsed(forge: Any, event: str, content: Any) -> Any:
    return forge.parse(Proof("d", event), NO_HEADERS, json.dumps(content).encode())


def test_github_s_older_sha1_header_counts_for_nothing(forges: Any) -> None:
    sent = forges.SENDERS["github"].send()
    signature = sent.headers.pop("x-hub-signature-256")

    with pytest.raises(UnprovenError, match="X-Hub-Signature-256 is missing"):
        GitHub().verify(Headers([*sent.headers.items(), ("x-hub-signature", signature)]), sent.body, ["s"], NOW)


def test_the_name_of_a_ref_is_bounded() -> None:
    push = {"before": "0" * 40, "after": "a" * 40, "repository": {"full_name": "team/flows"}}

    longest = parsed(GitHub(), "push", push | {"ref": "refs/" + "a" * 1000})

    assert [event.ref for event in longest.events] == ["refs/" + "a" * 1000]
    for ref in ("refs/" + "a" * 1001, "refs/", "refs/a\n", "refs/a b", "main"):
        with pytest.raises(PayloadError):
            parsed(GitHub(), "push", push | {"ref": ref})


def test_a_signing_token_is_never_accepted_as_a_token_that_travels_in_the_clear(forges: Any) -> None:
    headers = Headers([("x-gitlab-token", forges.SIGNING_SECRET), ("x-gitlab-event", "Push Hook")])

    with pytest.raises(UnprovenError):
        GitLab().verify(headers, b"{}", [forges.SIGNING_SECRET], NOW)
    with pytest.raises(UnprovenError):
        GitLab().verify(headers, b"{}", [forges.SIGNING_SECRET, "older"], NOW)


def test_a_signature_counts_while_gitlab_s_webhook_moves_from_token_to_signature(forges: Any) -> None:
    secrets = [forges.SIGNING_SECRET, forges.SECRET]
    signed = forges.SENDERS["gitlab-signing"].send(delivery="d-1", at=NOW)
    with_token = forges.SENDERS["gitlab-token"].send(delivery="d-2")

    proofs = [GitLab().verify(Headers(sent.headers.items()), sent.body, secrets, NOW) for sent in (signed, with_token)]

    assert [proof.delivery_id for proof in proofs] == ["d-1", "d-2"]


def test_events_that_share_gitlab_s_event_id_are_told_apart_by_their_bodies() -> None:
    headers = Headers([("x-gitlab-token", "s"), ("x-gitlab-event-uuid", "u-1")])

    ids = [GitLab().verify(headers, body, ["s"], NOW).delivery_id for body in (b"{}", b"[]", b"{}")]

    assert ids[0] == ids[2] != ids[1]
    assert ids[0].startswith("u-1:")


def test_gitlab_s_kind_is_read_from_the_body_which_the_signature_covers(forges: Any) -> None:
    content = forges.SENDERS["gitlab-token"].payload("tag")

    notice = parsed(GitLab(), "Push Hook", content)

    assert notice.events == (RefMoved("refs/tags/v1.0.0", None, forges.AFTER),)
    with pytest.raises(PayloadError, match="object_kind is missing"):
        parsed(GitLab(), "Push Hook", {"ref": "refs/heads/main"})


def test_forgejo_s_own_signature_is_the_one_that_counts(forges: Any) -> None:
    sent = forges.SENDERS["forgejo"].send()
    headers = Headers({**sent.headers, "x-forgejo-signature": "0" * 64}.items())

    with pytest.raises(UnprovenError, match="X-Forgejo-Signature"):
        Gitea().verify(headers, sent.body, [forges.SECRET], NOW)


def test_one_bitbucket_push_may_move_several_refs(forges: Any) -> None:
    notice = parsed(Bitbucket(), "repo:push", forges.SENDERS["bitbucket"].payload("several"))

    refs = [event.ref for event in notice.events]

    assert refs == ["refs/heads/topic", "refs/heads/main"]


def test_a_bitbucket_change_with_neither_end_is_passed_over() -> None:
    content = {"push": {"changes": [None, {"new": None, "old": None}]}}

    assert isinstance(parsed(Bitbucket(), "repo:push", content).events[0], Ignored)
    assert isinstance(parsed(Bitbucket(), "repo:push", {"push": None}).events[0], Ignored)


def test_a_named_branch_of_an_old_bitbucket_repository_is_a_head(forges: Any) -> None:
    end = {"name": "main", "type": "named_branch", "target": {"hash": forges.BEFORE}}

    notice = parsed(Bitbucket(), "repo:push", {"push": {"changes": [{"new": None, "old": end}]}})

    assert notice.events == (RefDeleted("refs/heads/main", forges.BEFORE),)


def test_bitbucket_s_connection_test_has_no_json_to_read() -> None:
    assert Bitbucket().parse(Proof("d", "diagnostics:ping"), NO_HEADERS, b"").events == (Ping(),)


def test_the_generic_form_names_its_kind_in_the_body(forges: Any) -> None:
    notice = parsed(Generic(), "", {"type": "build.finished"})

    assert notice.kind == "build.finished"
    assert isinstance(notice.events[0], Ignored)


@pytest.mark.parametrize("forge", [GitHub(), Gitea(), Bitbucket()], ids=["github", "gitea", "bitbucket"])
def test_a_delivery_that_names_no_event_is_malformed(forge: Any) -> None:
    with pytest.raises(PayloadError, match="is missing"):
        parsed(forge, "", {})


@pytest.mark.parametrize(
    ("ref", "is_read"),
    [
        ("refs/heads/main", True),
        ("refs/heads/ü/y", True),
        ("main", False),
        ("--upload-pack=sh", False),
        ("refs/heads/a b", False),
        ("refs/heads/a\n", False),
        ("refs/heads/" + "a" * 2000, False),
        (7, False),
        (None, False),
    ],
)
def test_a_ref_is_a_full_name_or_the_push_is_malformed(ref: Any, *, is_read: bool) -> None:
    if is_read:
        assert parsed(GitHub(), "push", {"ref": ref}).events == (RefMoved(ref),)
    else:
        with pytest.raises(PayloadError, match="ref"):
            parsed(GitHub(), "push", {"ref": ref})


@pytest.mark.parametrize("after", ["--upload-pack=sh", "abc", "A" * 40, "f" * 41, 7])
def test_a_commit_id_is_one_or_the_push_is_malformed(after: Any) -> None:
    with pytest.raises(PayloadError, match="after"):
        parsed(GitHub(), "push", {"ref": "refs/heads/main", "after": after})


def test_names_of_others_are_shown_as_one_bounded_line() -> None:
    assert shown("a\nb\x1b[31m\u202e") == "ab[31m"
    assert shown("x" * 500) == "x" * 200
    assert shown("\n") is None


class _Other(Generic):
    """The forge of another package."""


@pytest.fixture
def others(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    module, group = __name__, registry.GROUP
    found = [EntryPoint("other", f"{module}:_Other", group), EntryPoint("broken", "nowhere:Nothing", group)]
    found += [EntryPoint("github", f"{module}:_Other", group), EntryPoint("odd", "builtins:dict", group)]

    def entry_points(group: str, name: str | None = None) -> list[EntryPoint]:
        return [entry for entry in found if name in {None, entry.name}]

    monkeypatch.setattr(registry, "entry_points", entry_points)
    monkeypatch.setattr(EntryPoint, "load", lambda entry: {"other": _Other, "odd": dict}[entry.name])
    registry.forge_of.cache_clear()
    yield
    registry.forge_of.cache_clear()


@pytest.mark.usefixtures("others")
def test_a_package_may_add_a_kind_but_not_replace_one_of_ours() -> None:
    assert isinstance(registry.forge_of("other"), _Other)
    assert isinstance(registry.forge_of("github"), GitHub)
    assert registry.forge_of("broken") is registry.forge_of("odd") is None
    assert "other" in registry.kinds()


def test_the_hosted_repository_has_no_forge() -> None:
    assert registry.forge_of("hosted") is None
