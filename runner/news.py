"""What one process tells the others at once: which executions changed, what to stop, where to look.

News travel by the broker's publish and subscribe and may be lost at any time: whoever is told something here would
find it in the store soon after. So a heartbeat finds runs that are to be stopped, followers look twice a second, the
scheduler each second, and repositories are polled.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Iterable
from typing import Any, Final

import orjson
import redis
from redis.client import PubSub

from runner.broker import NAMESPACE, connect
from runner.ids import new_id

log = logging.getLogger(__name__)

Heard = Callable[[list[str]], object]
CHANGED: Final = "changed"
STOP: Final = "stop"
TIMERS: Final = "timers"
REPOSITORIES: Final = "repositories"

_MOST_WAITING: Final = 10_000
_LISTEN_S: Final = 1.0
_AGAIN_S: Final = 1.0


class News:
    """Tells and hears topics with texts, mostly ids. Telling never waits and never fails."""

    def __init__(self, url: str) -> None:
        self._own = new_id()
        self._client = connect(url)
        self._handlers: dict[str, Heard] = {}
        self._waiting: queue.Queue[tuple[str, str] | None] = queue.Queue(_MOST_WAITING)
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=target, name=name, daemon=True)
            for name, target in (("news-out", self._send), ("news-in", self._listen))
        ]

    def on(self, topic: str, heard: Heard) -> None:
        """Call `heard` with the texts that other processes tell under a topic. Say so before `start`."""
        self._handlers[topic] = heard

    def start(self) -> None:
        """Begin to tell and to listen."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End; what was not told yet is told first, when the broker takes it."""
        self._stopping.set()
        try:
            self._waiting.put_nowait(None)
        except queue.Full:
            log.debug("news are dropped at the end")
        for thread in self._threads:
            if thread.is_alive():
                thread.join(2 * _LISTEN_S)
        self._client.close()

    def tell(self, topic: str, texts: Iterable[str]) -> None:
        """Tell the other processes. Dropped when more waits than the broker takes."""
        try:
            for text in texts:
                self._waiting.put_nowait((topic, text))
        except queue.Full:
            log.debug("news are dropped", extra={"topic": topic})

    def _send(self) -> None:
        while (first := self._waiting.get()) is not None:
            batch = [first]
            while not self._waiting.empty() and (item := self._waiting.get()) is not None:
                batch.append(item)
            by_topic: dict[str, dict[str, None]] = {}
            for topic, text in batch:
                by_topic.setdefault(topic, {})[text] = None
            self._publish(by_topic)
            if self._stopping.is_set():
                return

    def _publish(self, by_topic: dict[str, dict[str, None]]) -> None:
        try:
            for topic, texts in by_topic.items():
                self._client.publish(_channel(topic), orjson.dumps([self._own, *texts]))
        except redis.RedisError as error:
            log.debug("news are lost", extra={"error": str(error)})

    def _listen(self) -> None:
        while self._handlers and not self._stopping.is_set():
            try:
                with PubSub(self._client.connection_pool, ignore_subscribe_messages=True) as subscription:
                    subscription.subscribe(*map(_channel, self._handlers))
                    while not self._stopping.is_set():
                        self._hear(subscription.get_message(timeout=_LISTEN_S))
            except (redis.RedisError, OSError) as error:
                log.debug("news are not heard", extra={"error": str(error)})
                self._stopping.wait(_AGAIN_S)

    def _hear(self, message: Any) -> None:
        if not message or message.get("type") != "message":
            return
        try:
            sender, *texts = orjson.loads(message["data"])
            topic = message["channel"].decode().removeprefix(_channel(""))
            if sender != self._own:
                self._handlers[topic]([str(text) for text in texts])
        except Exception:  # whatever somebody says, or a handler does with it, must not end the listening
            log.exception("news could not be used")


def _channel(topic: str) -> str:
    return f"{NAMESPACE}:news:{topic}"
