"""What every test may use: the one way to leave out what this machine lacks, and the forges that deliver webhooks."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

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


def _load(name: str) -> ModuleType:
    """Load a module beside this file; tests are no package, so that the installed wheel is what they import."""
    spec = importlib.util.spec_from_file_location(f"mainstem_tests_{name}", Path(__file__).parent / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their own module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def forges() -> Any:
    """Give `tests/forges.py`: senders of webhook deliveries, with their payloads and signatures."""
    return _load("forges")


@pytest.fixture(params=["github", "gitlab-token", "gitlab-signing", "gitea", "forgejo", "bitbucket", "generic"])
def sender(request: pytest.FixtureRequest, forges: Any) -> Any:
    """Give each forge that delivers, one after the other."""
    return forges.SENDERS[request.param]
