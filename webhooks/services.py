"""What the HTTP side is given: the parts of the running server."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from runner.access import AccessControl
from runner.metrics import Process
from runner.settings import Settings
from webhooks.routes import Mounted

if TYPE_CHECKING:
    from runner.executions.engine import Engine
    from runner.flows.catalogue import Catalogue
    from runner.services import Host
    from runner.store import Store
    from sync.service import SyncService


def _nothing_missing() -> list[str]:
    return []


@dataclass(slots=True)
class Services:
    """The parts that handlers use.

    `ready` returns what is missing for work to be done, one sentence each, and nothing when all is well. `mounted` are
    applications of other modules (hosted git, forge receivers), which prove their callers themselves. `process` returns
    what the process says of itself in `/metrics`. `closing` is set when the server stops: streams and callers that wait
    end then.
    """

    settings: Settings
    store: Store
    engine: Engine
    catalogue: Catalogue
    sync: SyncService | None
    access: AccessControl
    host: Host
    process: Callable[[], Process]
    ready: Callable[[], list[str]] = _nothing_missing
    mounted: tuple[Mounted, ...] = ()
    closing: threading.Event = field(default_factory=threading.Event)
