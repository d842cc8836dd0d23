from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.servers.application import api, git_api, make_services

MOST_S = 1.0  # CPU time of the whole process: the machine is shared
MOST_MB = 100


def _memory_mb(name: str) -> float:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) / 1024


@contextmanager
def _bounded() -> Iterator[None]:
    # What is there already is not walked in the time that counts, and walked once only: it is much, and cases are many.
    gc.collect()
    gc.freeze()
    Path("/proc/self/clear_refs").write_text("5")  # from here on the peak counts anew
    before, started = _memory_mb("VmRSS"), time.process_time()
    yield
    taken, grown = time.process_time() - started, _memory_mb("VmHWM") - before
    assert taken < MOST_S, f"took {taken:.2f} s"
    assert grown < MOST_MB, f"grew by {grown:.0f} MB"


@pytest.fixture(autouse=True, scope="module")
def _thaw() -> Iterator[None]:
    """Let the collector see everything again when a module has ended."""
    yield
    gc.unfreeze()


@pytest.fixture
def bounded() -> Callable[[], object]:
    """What happens inside takes less than a second and 100 MB."""
    return _bounded
