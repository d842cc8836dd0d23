"""The broker is a doorbell: Dramatiq over a Redis list, woken by the list itself.

A message carries ids only, and everything it rings for stands in the store. So a message that is popped and lost costs
a few seconds until the sweeper rings again, never work. That allows the simplest transport there is: `RPUSH`, and a
consumer that blocks in `BLMPOP`. Dramatiq's own Redis broker polls with a back-off (280 ms at the median when idle),
and its acknowledgements, delays, retries and dead letters would repeat what the store does already.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterable
from typing import Any

import dramatiq
import redis
from dramatiq.broker import Broker, Consumer, MessageProxy
from dramatiq.errors import ConnectionClosed
from dramatiq.message import Message

NAMESPACE = "mainstem"
MOST_WAITING = 100_000  # messages kept in one queue; older ones are dropped, since the store rings again
_FORGOTTEN_S = 3_600  # a list that others serve is gone so long after the last message: the store rings again
_TIMEOUT_MS = 1_000
# A listener waits without end, so the system has to notice for it that the other end is gone: after twenty seconds.
_KEEP_ALIVE = {socket.TCP_KEEPIDLE: 10, socket.TCP_KEEPINTVL: 5, socket.TCP_KEEPCNT: 2}
_ANSWER_S = 10.0  # the longest wait for a server that hangs or cannot be reached any more


def connect(url: str) -> redis.Redis:
    """Return a client that gives up after ten seconds on a server that does not answer."""
    options: dict[str, Any] = {}
    if not url.startswith("unix:"):
        options = {"socket_keepalive": True, "socket_keepalive_options": _KEEP_ALIVE}
    return redis.Redis.from_url(url, socket_timeout=_ANSWER_S, socket_connect_timeout=5, **options)


class DoorbellBroker(Broker):
    """A Dramatiq broker whose queues are plain Redis lists. Works with any server that has `BLMPOP` (7.0)."""

    def __init__(self, url: str) -> None:
        # No default middleware: the store keeps time limits, retries and results.
        super().__init__(middleware=[])
        self.client = connect(url)
        self.queues: set[str] = set()
        self.is_quiet = False

    def key(self, queue_name: str) -> str:
        """Return the Redis key of a queue."""
        return f"{NAMESPACE}:{queue_name}"

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = _TIMEOUT_MS) -> Consumer:
        """Return a consumer that holds at most `prefetch` messages and waits `timeout` milliseconds for one."""
        return _DoorbellConsumer(self, queue_name, prefetch, timeout)

    def declare_queue(self, queue_name: str) -> None:
        """Make a queue known to the workers of this process; again is no error."""
        if queue_name not in self.queues:
            self.emit_before("declare_queue", queue_name)
            self.queues.add(queue_name)
            self.emit_after("declare_queue", queue_name)

    def enqueue(self, message: Message[Any], *, delay: int | None = None) -> Message[Any]:
        """Send one message. `delay` is refused: timers live in the store."""
        assert delay is None, "timers live in the store"
        self.enqueue_many([message])
        return message

    def enqueue_many(self, messages: Iterable[Message[Any]]) -> None:
        """Send messages in one round trip. Raises `redis.RedisError` when the server does not take them."""
        by_queue: dict[str, list[bytes]] = {}
        for message in messages:
            by_queue.setdefault(message.queue_name, []).append(message.encode())
        pipeline = self.client.pipeline(transaction=False)
        for queue_name, encoded in by_queue.items():
            pipeline.rpush(self.key(queue_name), *encoded)
            pipeline.ltrim(self.key(queue_name), -MOST_WAITING, -1)
            if queue_name not in self.queues:  # it may be of a group that nobody serves, now or ever
                pipeline.expire(self.key(queue_name), _FORGOTTEN_S)
        pipeline.execute()

    def get_declared_queues(self) -> set[str]:
        """Return the names of the queues."""
        return set(self.queues)

    def get_declared_delay_queues(self) -> set[str]:
        """Return nothing: there are no delays."""
        return set()

    def flush(self, queue_name: str) -> None:
        """Drop the messages of a queue."""
        self.client.delete(self.key(queue_name))

    def flush_all(self) -> None:
        """Drop the messages of all queues."""
        for queue_name in self.queues:
            self.flush(queue_name)

    def depth(self, queue_name: str) -> int:
        """Return how many messages wait in a queue."""
        return int(self.client.llen(self.key(queue_name)))

    def quiet(self) -> None:
        """Let the consumers of this process take no further messages: others are to have them."""
        self.is_quiet = True

    def close(self) -> None:
        """Let go of the connections."""
        self.client.close()


class _DoorbellConsumer(Consumer):
    def __init__(self, broker: DoorbellBroker, queue_name: str, prefetch: int, timeout: int) -> None:
        self._broker = broker
        self._key = broker.key(queue_name)
        self._prefetch = prefetch
        self._timeout_s = timeout / 1000
        self._fetched: list[bytes] = []
        self._outstanding = 0
        self._room = threading.Condition()

    def ack(self, message: MessageProxy) -> None:  # noqa: ARG002 - Dramatiq's interface
        """Count a message as done; the server knows nothing of it any more."""
        with self._room:
            self._outstanding -= 1
            self._room.notify()

    nack = ack

    def requeue(self, messages: Iterable[MessageProxy]) -> None:
        """Put back the messages that a worker which stops has not begun with, for others to take."""
        with contextlib.suppress(redis.RedisError):  # the store rings for them again
            self._broker.enqueue_many([proxy._message for proxy in messages])  # noqa: SLF001 - it has no other door

    def __next__(self) -> MessageProxy | None:
        if not self._fetched:
            self._fetched = self._fetch()
        if not self._fetched:
            return None
        with self._room:
            self._outstanding += 1
        return MessageProxy(Message.decode(self._fetched.pop(0)))

    def _fetch(self) -> list[bytes]:
        with self._room:
            if self._outstanding >= self._prefetch and not self._room.wait_for(
                lambda: self._outstanding < self._prefetch, self._timeout_s
            ):
                return []
            if self._broker.is_quiet:
                self._room.wait(self._timeout_s / 10)
                return []
            room = self._prefetch - self._outstanding
        try:
            found: Any = self._broker.client.blmpop(self._timeout_s, 1, self._key, direction="LEFT", count=room)
        except redis.TimeoutError:
            return []
        except redis.RedisError as error:
            raise ConnectionClosed(error) from None  # type: ignore[no-untyped-call]  # Dramatiq's
        return list(found[1]) if found else []

    def close(self) -> None:
        """Nothing to let go of: connections belong to the broker."""


def make_worker(
    broker: DoorbellBroker, *, threads: int, prefetch: int, queues: set[str] | None = None
) -> dramatiq.Worker:
    """Return a worker (not started) for `queues` (all of `broker`), with a prefetch fit for the length of its work."""
    worker = dramatiq.Worker(broker, queues=queues, worker_timeout=_TIMEOUT_MS, worker_threads=threads)
    # Set on the object: Dramatiq's own setting is one environment variable, read at import, for every worker.
    worker.queue_prefetch = prefetch
    return worker
