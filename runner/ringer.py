"""Sends rings to the broker: many ids in few messages, and none lost while the broker is away.

Rings gather while earlier messages are being worked on. At most `cap` messages of executions are out at a time, each
carrying many ids: under load the bursts grow instead of the number of messages (without the cap a burst rarely holds
more than one execution, and the prototype of this design failed at a third of the load). A message that was lost with
the broker stops counting after a second.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

import redis
from dramatiq.message import Message

from runner.broker import DoorbellBroker

log = logging.getLogger(__name__)

BURST = 32  # executions in one message
_LOST_AFTER_S = 1.0
_RETRY_S = 0.2


class Ringer:
    """Coalesces items into messages, on a thread of its own. Safe for any thread."""

    def __init__(self, broker: DoorbellBroker, name: str, *, cap: int | None, burst: int = BURST) -> None:
        self._broker = broker
        self._cap = cap
        self._burst = burst
        self._waiting: dict[Any, None] = {}  # an ordered set: an id that is rung twice is sent once
        self._out: dict[int, float] = {}
        self._tokens = itertools.count()
        self._changed = threading.Condition()
        self._stopping = False
        self._message_of: Callable[[list[Any], int], Message[Any]] | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self, message_of: Callable[[list[Any], int], Message[Any]]) -> None:
        """Begin to send: `message_of` gives the message for a list of items and a token for `answered`."""
        self._message_of = message_of
        self._thread.start()

    def stop(self) -> None:
        """Stop sending; what waits is in the store and will be rung for by others."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(timeout=5)

    def ring(self, items: Iterable[Any]) -> None:
        """Have items sent soon."""
        with self._changed:
            for item in items:
                self._waiting[item] = None
            self._changed.notify()

    def answered(self, token: int) -> None:
        """Count a message as worked on."""
        with self._changed:
            self._out.pop(token, None)
            self._changed.notify()

    @property
    def waiting(self) -> int:
        """How many items wait to be sent."""
        return len(self._waiting)

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._stopping and not (self._waiting and self._has_room()):
                    self._changed.wait(timeout=_LOST_AFTER_S if self._waiting else None)
                if self._stopping:
                    return
                batch = list(itertools.islice(self._waiting, self._burst))
                for item in batch:
                    del self._waiting[item]
                token = next(self._tokens)
                self._out[token] = time.monotonic()
            self._send(batch, token)

    def _has_room(self) -> bool:
        if self._cap is None:
            self._out.clear()
            return True
        limit = time.monotonic() - _LOST_AFTER_S
        for token in [token for token, at in self._out.items() if at < limit]:
            del self._out[token]
        return len(self._out) < self._cap

    def _send(self, batch: list[Any], token: int) -> None:
        assert self._message_of is not None
        try:
            self._broker.enqueue(self._message_of(batch, token))
        except redis.RedisError as error:
            log.warning("the broker does not take messages", extra={"error": str(error)})
            self.answered(token)
            self.ring(batch)
            with self._changed:
                if not self._stopping:
                    self._changed.wait(_RETRY_S)
