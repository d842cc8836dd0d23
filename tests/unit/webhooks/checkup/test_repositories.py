"""What the doctor says of environments by the state that they are in."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from runner.errors import MainstemError
from runner.store.records import Environment
from webhooks.checkup.finding import Weight
from webhooks.checkup.repositories import _environment

HEAD, OTHER = "a" * 40, "b" * 40


@dataclass
class Origin:
    """A repository with one tag."""

    tags: dict[str, str]

    def get(self, _name: str) -> Origin:
        return self

    def heads(self, _refs: object) -> dict[str, str]:
        if not self.tags:
            raise MainstemError("repository.unreachable", "nobody answers")
        return self.tags


@pytest.mark.parametrize(
    ("state", "commit", "words", "weight"),
    [
        ("OK", HEAD, "r/prod: refs/tags/v1 at aaaaaaa, in sync", Weight.OK),
        ("WAITING", HEAD, "waits for its checks", Weight.WARNING),
        ("DEGRADED", HEAD, "is not activated, aaaaaaa stays active", Weight.WARNING),
        ("DETACHED", OTHER, "the tag v1 was moved from aaaaaaa to bbbbbbb", Weight.WARNING),
        ("OK", OTHER, "at bbbbbbb, active is aaaaaaa", Weight.WARNING),  # a moved tag that is followed
        ("DETACHED", None, "nobody answers", Weight.ERROR),
    ],
)
def test_a_state_is_told_with_what_to_do(state: str, commit: str | None, words: str, weight: Weight) -> None:
    environment = Environment(
        "prod",
        "r",
        ref="refs/tags/v*",
        active=HEAD,
        state=state,
        message="waits for its checks",
        followed="refs/tags/v1",
        followed_commit=HEAD,
    )
    origin = Origin({"refs/tags/v1": commit} if commit else {})

    finding = _environment(environment, origin)  # type: ignore[arg-type]  # all that is asked of the origins

    assert words in finding.message
    assert finding.weight is weight
