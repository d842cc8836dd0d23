"""What the API of a forge says of a change request, where the stand-ins of the reviews do not say it."""

from __future__ import annotations

from typing import Any

import pytest

from sync.forges.gitea_api import is_own_branch

AGIT = {"label": "", "ref": "refs/pull/7/head", "sha": "0" * 40, "repo_id": 1}
BASE = {"label": "main", "ref": "main", "sha": "1" * 40, "repo_id": 1}
BRANCH = {**AGIT, "label": "topic", "ref": "topic"}


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ({"head": BRANCH, "base": BASE}, True),
        ({"head": BRANCH, "base": BASE, "flow": 0}, True),
        ({"head": {**BRANCH, "repo_id": 2}, "base": BASE}, False),
        ({"head": AGIT, "base": BASE}, False),
        ({"head": {**AGIT, "label": "mallory/topic"}, "base": BASE}, False),
        ({"head": {**BRANCH, "label": ""}, "base": BASE}, False),
        ({"head": BRANCH, "base": BASE, "flow": 1}, False),
        ({"head": {"sha": "0" * 40}, "base": {"ref": "main"}}, False),
    ],
)
def test_at_gitea_only_a_branch_of_the_repository_itself_is_of_somebody_who_may_push(
    found: dict[str, Any], *, expected: bool
) -> None:
    assert is_own_branch(found) is expected
