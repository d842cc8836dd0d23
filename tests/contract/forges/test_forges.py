"""What holds for every forge: `sender` goes through all of them, with our own payloads and real signatures."""

from __future__ import annotations

import contextlib
import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import pytest

from sync.forges.base import (
    ChangeRequest,
    Comment,
    Event,
    Forge,
    Headers,
    Ignored,
    Notice,
    PayloadError,
    Ping,
    RefDeleted,
    RefMoved,
    UnprovenError,
)
from sync.forges.registry import forge_of, kinds

_ODD: tuple[Any, ...] = (None, [], {}, "", 0, True, "\ud800", "refs/heads/../../x", "-" * 3000)
NOW = datetime(2026, 11, 2, 9, 15, 30, tzinfo=UTC)
OTHER = "whsec_b3RoZXIgdGhpcnR5LXR3byBieXRlcyBvZiBhIGtleSE="


def forge_for(sender: Any) -> Forge:
    forge = forge_of(sender.kind)
    assert forge is not None
    return forge


def headers_of(sent: Any, **changes: str | None) -> Headers:
    given = {**sent.headers, **{name.replace("_", "-"): text for name, text in changes.items()}}
    return Headers([(name, text) for name, text in given.items() if text is not None])


def read(sender: Any, shape: str) -> Notice:
    forge, sent = forge_for(sender), sender.send(shape, at=NOW)
    headers = headers_of(sent)
    return forge.parse(forge.verify(headers, sent.body, [sender.secret], NOW), headers, sent.body)


def test_every_kind_of_repository_has_a_sender_here(forges: Any) -> None:
    assert {sender.kind for sender in forges.SENDERS.values()} == set(kinds())


def test_a_delivery_that_is_signed_well_is_proven_and_keeps_its_id(sender: Any) -> None:
    sent = sender.send(delivery="d-1", at=NOW)

    proof = forge_for(sender).verify(headers_of(sent), sent.body, [sender.secret], NOW)

    assert proof.delivery_id == "d-1"


@pytest.mark.parametrize("place", [0, 1])
def test_either_of_two_secrets_counts_while_one_is_replaced(sender: Any, place: int) -> None:
    sent = sender.send(delivery="d-1", at=NOW)
    secrets = [OTHER, OTHER]
    secrets[place] = sender.secret

    assert forge_for(sender).verify(headers_of(sent), sent.body, secrets, NOW).delivery_id == "d-1"


def test_another_secret_proves_nothing(sender: Any) -> None:
    sent = sender.send(at=NOW)

    with pytest.raises(UnprovenError):
        forge_for(sender).verify(headers_of(sent), sent.body, [OTHER, "another"], NOW)


def test_no_secret_at_all_proves_nothing_not_even_an_empty_signature(sender: Any) -> None:
    sent = sender.send(at=NOW, secret="whsec_" if sender.secret.startswith("whsec_") else None)

    for secrets in ([], [""]):
        with pytest.raises(UnprovenError):
            forge_for(sender).verify(headers_of(sent), sent.body, secrets, NOW)


def test_a_body_that_was_changed_proves_nothing(sender: Any) -> None:
    if sender.name == "gitlab-token":
        return  # a token that travels in the clear covers no body; docs/webhooks.md says so
    sent = sender.send(at=NOW)

    for body in (sent.body[:-1], sent.body + b" ", json.dumps(json.loads(sent.body), indent=1).encode()):
        with pytest.raises(UnprovenError):
            forge_for(sender).verify(headers_of(sent), body, [sender.secret], NOW)


def proofs(sender: Any) -> Iterator[str]:
    marks = ("signature", "token")
    names = [name for name in sender.send(at=NOW).headers if name.endswith(marks) or name == "x-hub-signature-256"]
    counted = {"gitea": "x-gitea-signature", "forgejo": "x-forgejo-signature"}.get(sender.name)
    return iter([counted] if counted else names)


def test_a_signature_that_is_missing_empty_mutilated_or_doubled_proves_nothing(sender: Any) -> None:
    sent, forge = sender.send(at=NOW), forge_for(sender)

    for name in proofs(sender):
        good = sent.headers[name]
        wrong = [None, "", good[:-1], good.upper(), "sha1=" + good, f"\t{good}", "\xe9\xff", good + "\xe9", "=" * 4000]
        for text in wrong:
            headers = headers_of(sent, **{"x-gitea-signature": None, name: text})
            with pytest.raises(UnprovenError):
                forge.verify(headers, sent.body, [sender.secret], NOW)
        doubled = Headers([*sent.headers.items(), (name.title(), good)])
        with pytest.raises(UnprovenError):
            forge.verify(doubled, sent.body, [sender.secret], NOW)


def test_a_signed_time_far_from_the_clock_proves_nothing(sender: Any) -> None:
    sent = sender.send(at=NOW)
    is_timed = "webhook-timestamp" in sent.headers

    for away in (timedelta(minutes=6), timedelta(minutes=-6), timedelta(days=400)):
        if is_timed:
            with pytest.raises(UnprovenError):
                forge_for(sender).verify(headers_of(sent), sent.body, [sender.secret], NOW + away)
        else:
            proof = forge_for(sender).verify(headers_of(sent), sent.body, [sender.secret], NOW + away)
            assert proof.delivery_id


def test_an_id_that_no_forge_would_give_is_replaced_by_one_of_the_body(sender: Any) -> None:
    sent = sender.send(delivery="x" * 500, at=NOW)

    found = forge_for(sender).verify(headers_of(sent), sent.body, [sender.secret], NOW).delivery_id

    assert found.startswith("sha256:")


def expected(sender: Any, shape: str, forges: Any) -> Event | type[Event]:
    says_before, says_forced = sender.name in {"github", "bitbucket"}, sender.kind in {"github", "bitbucket", "generic"}
    is_git_tea = sender.kind in {"gitea", "forgejo"}
    new_head = None if sender.kind == "bitbucket" else forges.AFTER
    main: dict[str, Any] = {"ref": "refs/heads/main", "before": forges.BEFORE, "after": forges.AFTER}
    events: dict[str, Event | type[Event]] = {
        "push": RefMoved(**main, forced=False if says_before else None),
        "several": RefMoved("refs/heads/topic", None, forges.AFTER, forced=False),
        "tag": RefMoved("refs/tags/v1.0.0", None, forges.AFTER, forced=False if says_before else None),
        "created": RefMoved("refs/tags/v1.0.0", None, forges.AFTER),
        "deletion": RefDeleted("refs/heads/old", None if is_git_tea else forges.BEFORE),
        "forced": RefMoved(**main, forced=True if says_forced else None),
        "change_opened": ChangeRequest(7, "refs/heads/main", new_head),
        "change_updated": ChangeRequest(7, "refs/heads/main", new_head),
        "change_closed": ChangeRequest(7, "refs/heads/main", is_open=False),
        "change_labeled": Ignored,
        "comment": Comment(7, "700", "/mainstem test", "{7421}" if sender.kind == "bitbucket" else "7421", "ann"),
        "comment_edited": Ignored,
        "comment_quoted": Ignored,
        "ping": Ping(),
        "uninteresting": Ignored,
    }
    return events[shape]


def test_every_shape_of_payload_says_what_happened_to_the_ref(sender: Any, forges: Any) -> None:
    for shape in sender.shapes:
        notice, wanted = read(sender, shape), expected(sender, shape, forges)

        if isinstance(wanted, type):
            assert isinstance(notice.events[0], wanted), shape
        else:
            assert notice.events[0] == wanted, shape


def test_a_push_names_its_repository_and_the_account_that_pushed(sender: Any) -> None:
    notice = read(sender, "push")

    assert (notice.repository, notice.actor) == ("acme/flows", "ann")


def test_a_form_with_the_payload_in_it_is_read_like_json(sender: Any) -> None:
    body = urlencode({"payload": json.dumps(sender.payload("push"))}).encode()
    sent, forge = sender.send(at=NOW, body=body), forge_for(sender)
    headers = headers_of(sent, **{"content-type": "application/x-www-form-urlencoded; charset=utf-8"})

    notice = forge.parse(forge.verify(headers, body, [sender.secret], NOW), headers, body)

    assert notice == read(sender, "push")


def mutations(content: Any) -> Iterator[Any]:
    """Every way to lose, empty or replace one part of a document."""
    if isinstance(content, dict):
        for key, part in content.items():
            rest = {name: value for name, value in content.items() if name != key}
            yield rest
            yield from ({**rest, key: other} for other in _ODD)
            for changed in mutations(part):
                yield {**rest, key: changed}
    elif isinstance(content, list):
        yield [*content, *content]
        for place, part in enumerate(content):
            yield [*content[:place], None, *content[place + 1 :]]
            for changed in mutations(part):
                yield [*content[:place], changed, *content[place + 1 :]]


def test_a_payload_that_lacks_or_garbles_any_part_is_read_or_refused_never_a_failure(sender: Any) -> None:
    forge, outcomes = forge_for(sender), {"read": 0, "refused": 0}

    for shape in sender.shapes:
        sent = sender.send(shape, at=NOW)
        headers = headers_of(sent)
        proof = forge.verify(headers, sent.body, [sender.secret], NOW)
        for changed in mutations(sender.payload(shape)):
            body = json.dumps(changed).encode()
            try:
                notice = forge.parse(proof, headers, body)
            except PayloadError:
                outcomes["refused"] += 1
            else:
                assert notice.events
                outcomes["read"] += 1

    assert min(outcomes.values()) > 10, outcomes


def test_bytes_at_random_are_refused_never_a_failure(sender: Any) -> None:
    forge, sent, chance = forge_for(sender), sender.send(at=NOW), random.Random(7)
    headers = headers_of(sent)
    proof = forge.verify(headers, sent.body, [sender.secret], NOW)

    for _ in range(300):
        body = bytearray(sent.body)
        for _ in range(chance.randrange(1, 5)):
            body[chance.randrange(len(body))] = chance.randrange(256)
        with contextlib.suppress(PayloadError):
            assert forge.parse(proof, headers, bytes(body)).events
