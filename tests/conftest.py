"""What every test may use: the one way to leave out what this machine lacks, and the forges that deliver webhooks."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import hypothesis
import pytest
from hypothesis import HealthCheck

from tests import forges as forge_senders


def pytest_configure() -> None:
    """Say what holds for all tests of a process."""
    _hear_signals()
    # On a busy machine any example may wait for a processor, and drawing ten of them too.
    hypothesis.settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    hypothesis.settings.load_profile("busy")


def _hear_signals() -> None:
    """Give programs that tests start the signals of a terminal, also where the tests run in the background.

    A shell without job control starts background jobs with these two ignored, what is ignored stays so in all children,
    and those that tests interrupt would go on.
    """
    for number in (signal.SIGINT, signal.SIGQUIT):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the long forms to those who ask for them."""
    if "MAINSTEM_TEST_LONG" in os.environ:
        return
    long = [item for item in items if item.get_closest_marker("long")]
    items[:] = [item for item in items if item not in long]
    config.hook.pytest_deselected(items=long)


def absent(name: str, reason: str) -> NoReturn:
    """Skip the test since `name` is not on this machine, or fail it where MAINSTEM_TEST_REQUIRE lists `name`."""
    if name in os.environ.get("MAINSTEM_TEST_REQUIRE", "").replace(" ", "").split(","):
        pytest.fail(f"{name} is required here: {reason}", pytrace=False)
    pytest.skip(f"{name}: {reason}")


@pytest.fixture(scope="session")
def optional() -> Callable[[str, str], NoReturn]:
    """Give `absent`, for fixtures that need a server which a laptop may not have."""
    return absent


@pytest.fixture(scope="module")
def frozen_heap() -> Iterator[None]:
    """Keep the collector off what other tests left: going through all of it takes long where a thread is timed."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def control_group(optional: Callable[[str, str], NoReturn]) -> Iterator[Path]:
    """Give a control group (v2) of the machine for one test; whatever is in it at the end is killed."""
    from tests.servers.control_groups import group_of_tests, hierarchy

    found = hierarchy()
    if found is None:
        optional("cgroups", "there is no hierarchy of control groups v2 that this user may change")
    with group_of_tests(found) as path:
        yield path


@pytest.fixture(scope="session")
def forges() -> Any:
    """Give `tests/forges.py`: senders of webhook deliveries, with their payloads and signatures."""
    return forge_senders


@pytest.fixture(params=["github", "gitlab-token", "gitlab-signing", "gitea", "forgejo", "bitbucket", "generic"])
def sender(request: pytest.FixtureRequest, forges: Any) -> Any:
    """Give each forge that delivers, one after the other."""
    return forges.SENDERS[request.param]
