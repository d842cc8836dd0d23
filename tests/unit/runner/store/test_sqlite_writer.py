from __future__ import annotations

import threading
import weakref
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from runner.store.connection import Connection
from runner.store.sqlite import SqliteEngine


class Load:
    """What a unit of work carries: a plan of thousands of flows, say."""


def kept(load: Load, _connection: Connection) -> Load:
    return load


def test_the_writer_holds_nothing_of_what_it_has_written(tmp_path: Path) -> None:
    engine = SqliteEngine(tmp_path / "state.db", lambda: datetime(2026, 11, 22, tzinfo=UTC))
    load, is_gone = Load(), threading.Event()
    weakref.finalize(load, is_gone.set)

    engine.write(partial(kept, load))
    del load

    assert is_gone.wait(10)
    engine.close()
