"""What every test may use: the one way to leave out what this machine lacks."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import NoReturn

import pytest


def absent(name: str, reason: str) -> NoReturn:
    """Skip the test since `name` is not on this machine, or fail it where MAINSTEM_TEST_REQUIRE lists `name`."""
    if name in os.environ.get("MAINSTEM_TEST_REQUIRE", "").replace(" ", "").split(","):
        pytest.fail(f"{name} is required here: {reason}", pytrace=False)
    pytest.skip(f"{name}: {reason}")


@pytest.fixture(scope="session")
def optional() -> Callable[[str, str], NoReturn]:
    """Give `absent`, for fixtures that need a server which a laptop may not have."""
    return absent
