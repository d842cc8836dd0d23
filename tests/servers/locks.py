"""What several test processes of one machine share, such as a container engine, one at a time."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def only_one(name: str) -> Iterator[None]:
    """Wait until no other process is inside for this name."""
    with (Path(tempfile.gettempdir()) / f"mainstem-tests-{os.getuid()}-{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # closing gives it back
        yield
