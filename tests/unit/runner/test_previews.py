"""The names of previews, and what runs in one may not do."""

from __future__ import annotations

import pytest

from runner.errors import ConflictError, ExpressionError
from runner.previews import base_of, demand_inside, environment_of, is_of_fork, preview_of, root_of
from runner.secrets.base import Secrets
from runner.secrets.environment import EnvironmentSecrets


def test_the_namespace_of_a_preview_names_its_change_request_and_its_base() -> None:
    found = preview_of(7, "company.team")

    assert (found, root_of(found), base_of(found)) == ("preview.pr-7.company.team", "preview.pr-7", "company.team")


@pytest.mark.parametrize(
    "namespace", ["preview", "preview.pr-", "preview.pr-0.a", "preview.x", "a.preview.pr-7", "previews.pr-7.a"]
)
def test_other_namespaces_are_no_previews(namespace: str) -> None:
    assert (root_of(namespace), base_of(namespace)) == (None, None)


def test_the_environment_tells_forks_apart() -> None:
    assert is_of_fork(environment_of("production", 7, is_fork=True))
    assert not is_of_fork(environment_of("production", 7, is_fork=False))
    assert not is_of_fork("production")
    assert not is_of_fork(None)


@pytest.mark.parametrize("child", ["company.team", "preview.pr-8.company.team", "preview"])
def test_a_preview_starts_nothing_outside_of_itself(child: str) -> None:
    demand_inside("company.team", child)
    demand_inside("preview.pr-7.a", "preview.pr-7.b")

    with pytest.raises(ConflictError, match="may not start flows"):
        demand_inside("preview.pr-7.company.team", child)


def test_secrets_for_every_namespace_are_not_asked_where_only_own_ones_count() -> None:
    secrets = Secrets([EnvironmentSecrets({"KEY": "of everybody"})])

    assert secrets.get("preview.pr-7.a", "key") == "of everybody"
    with pytest.raises(ExpressionError, match="Cannot find secret"):
        secrets.get("preview.pr-7.a", "key", apart=True)
