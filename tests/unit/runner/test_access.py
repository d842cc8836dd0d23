from __future__ import annotations

import base64
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.access import (
    INSTANCE_WIDE,
    WEAKEST_ROLE,
    AccessControl,
    Identity,
    Permission,
    Role,
    allows,
    covers,
    secret_of,
)
from runner.errors import AccessError
from runner.store import Session, Store
from tests.servers.store import fresh_store

SEGMENT = st.text("ab-_", min_size=1, max_size=3)
NAMESPACE = st.lists(SEGMENT, min_size=1, max_size=4).map(".".join)


@pytest.mark.parametrize(
    ("prefixes", "namespace", "is_covered"),
    [
        (("company",), "company", True),
        (("company",), "company.team", True),
        (("company",), "company-evil", False),
        (("company",), "companyx.team", False),
        (("company.team",), "company", False),
        (("a.b",), "a..b", False),
        (("a",), "A", False),
        (("",), "a", False),
        ((), "a", False),
        (("*",), "anything", True),
        (("x", "a"), "a.b", True),
    ],
)
def test_namespaces_are_compared_by_segments(prefixes: tuple[str, ...], namespace: str, *, is_covered: bool) -> None:
    assert covers(prefixes, namespace) is is_covered


@given(NAMESPACE, NAMESPACE)
def test_a_prefix_covers_exactly_itself_and_what_follows_a_dot(prefix: str, namespace: str) -> None:
    assert covers([prefix], namespace) is (namespace + ".").startswith(prefix + ".")


@pytest.mark.parametrize("permission", list(WEAKEST_ROLE))
def test_every_stronger_role_may_do_what_a_weaker_one_may(permission: Permission) -> None:
    answers = [allows(Identity("x", role, ("*",)), permission, "a.b") for role in Role]

    assert answers == sorted(answers)
    assert answers[-1] is True


@pytest.mark.parametrize("permission", sorted(INSTANCE_WIDE))
def test_what_belongs_to_the_instance_needs_a_token_for_all_namespaces(permission: Permission) -> None:
    assert not allows(Identity("x", Role.ADMIN, ("a",)), permission)
    assert allows(Identity("x", Role.ADMIN, ("*",)), permission)


@pytest.mark.parametrize("permission", [Permission.PUBLIC, Permission.OWN_PROOF])
def test_a_permission_without_a_role_is_never_granted_by_one(permission: Permission) -> None:
    assert not allows(Identity("x", Role.ADMIN, ("*",)), permission)


@pytest.mark.parametrize(
    ("header", "secret"),
    [
        (None, None),
        ("", None),
        ("Bearer", None),
        ("Bearer ", None),
        ("Bearer abc", "abc"),
        ("bearer   abc ", "abc"),
        ("Basic " + base64.b64encode(b"git:abc").decode(), "abc"),
        ("Basic " + base64.b64encode(b"git:").decode(), None),
        ("Basic " + base64.b64encode(b"nocolon").decode(), None),
        ("Basic %%%", None),
        ("Basic " + base64.b64encode(b"git:\xff\xfe").decode(), None),
        ("Digest abc", None),
    ],
)
def test_the_secret_is_read_from_bearer_and_basic(header: str | None, secret: str | None) -> None:
    assert secret_of(header) == secret


def test_a_token_that_is_revoked_while_it_is_looked_up_counts_no_longer(tmp_path: Path) -> None:
    store = fresh_store(f"sqlite:///{tmp_path}/state.db", durability="off")
    with closing(store):
        access = RevokedMeanwhile(store)
        secret, _ = access.create("ann", "viewer")
        access.authenticate(f"Bearer {secret}")  # looked up before it was revoked

        with pytest.raises(AccessError) as caught:
            access.authenticate(f"Bearer {secret}")

    assert caught.value.code == "access.token.invalid"


class RevokedMeanwhile(AccessControl):
    """Access whose token is revoked by another thread right after it was read from the store."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self._store = _Between(store, lambda: self.revoke("ann"))  # type: ignore[assignment]  # stands in between


class _Between:
    """A store; something happens once, after the first read."""

    def __init__(self, store: Store, happens: Callable[[], None]) -> None:
        self._inner, self._happens, self.write, self.submit = store, happens, store.write, store.submit

    def read(self, unit: Callable[[Session], Any]) -> Any:
        found, happens, self._happens = self._inner.read(unit), self._happens, lambda: None
        happens()
        return found
