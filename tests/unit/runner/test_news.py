"""The broker between processes: news, messages that a stopping worker leaves to others, a server that hangs."""

from __future__ import annotations

import os
import queue
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dramatiq
import pytest
import redis

from runner import broker as broker_module
from runner.broker import DoorbellBroker, make_worker
from runner.news import News
from task_runners.supervisor import Supervisor
from task_runners.valkey import EmbeddedValkey


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[EmbeddedValkey]:
    with Supervisor() as supervisor:
        server = EmbeddedValkey(tmp_path, supervisor).start()
        yield server
        server.stop()


@pytest.fixture
def process(valkey: EmbeddedValkey) -> Iterator[Callable[..., News]]:
    started: list[News] = []

    def start(**handlers: Any) -> News:
        news = News(valkey.url)
        for topic, heard in handlers.items():
            news.on(topic, heard)
        news.start()
        started.append(news)
        return news

    yield start
    for news in started:
        news.stop()


def told_until_heard(news: News, heard: queue.Queue[list[str]], text: str, seconds: float = 60.0) -> list[str]:
    """Tell something again and again: a listener needs a moment until it listens."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        news.tell("changed", [text])
        try:
            return heard.get(timeout=0.1)
        except queue.Empty:
            continue
    raise AssertionError(f"{text} was never heard")


def test_what_one_process_tells_the_others_hear_and_it_does_not_hear_itself(process: Callable[..., News]) -> None:
    here: queue.Queue[list[str]] = queue.Queue()
    there: queue.Queue[list[str]] = queue.Queue()
    teller = process(changed=here.put)
    process(changed=there.put)

    heard = told_until_heard(teller, there, "e1")

    assert heard == ["e1"]
    assert here.empty()


def test_news_are_heard_again_after_the_broker_was_killed(valkey: EmbeddedValkey, process: Callable[..., News]) -> None:
    heard: queue.Queue[list[str]] = queue.Queue()
    teller = process()
    process(changed=heard.put)
    told_until_heard(teller, heard, "before")
    assert valkey.pid is not None
    os.kill(valkey.pid, signal.SIGKILL)

    while told_until_heard(teller, heard, "after") != ["after"]:
        continue


def test_a_listener_that_fails_goes_on_listening(process: Callable[..., News]) -> None:
    heard: queue.Queue[list[str]] = queue.Queue()

    def fail_once(texts: list[str]) -> None:
        heard.put(texts)
        if texts == ["bad"]:
            raise ValueError(texts)

    teller = process()
    process(changed=fail_once)

    first = told_until_heard(teller, heard, "bad")
    while (second := told_until_heard(teller, heard, "good")) == ["bad"]:
        continue

    assert (first, second) == (["bad"], ["good"])


def test_a_stopping_worker_leaves_what_it_has_not_begun_to_others(valkey: EmbeddedValkey) -> None:
    begun: queue.Queue[str] = queue.Queue()
    go_on: queue.Queue[None] = queue.Queue()
    broker = DoorbellBroker(valkey.url)

    def work(name: str) -> None:
        begun.put(name)
        go_on.get(timeout=60)

    actor: Any = dramatiq.actor(actor_name="work", queue_name="tasks", broker=broker)(work)
    worker = make_worker(broker, threads=1, prefetch=3)
    worker.start()
    for name in ("a", "b", "c"):
        actor.send(name)
    first = begun.get(timeout=60)
    while broker.depth("tasks"):
        time.sleep(0.01)

    broker.quiet()
    actor.send("d")
    go_on.put(None)
    worker.stop(timeout=5_000)

    raw: Any = broker.client.lrange(broker.key("tasks"), 0, -1)
    waiting = [dramatiq.Message.decode(each).args[0] for each in raw]
    done = {first, *(begun.get() for _ in range(begun.qsize()))}
    broker.close()
    assert sorted(done | set(waiting)) == ["a", "b", "c", "d"]
    assert "d" in waiting


def test_a_broker_that_does_not_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker_module, "_ANSWER_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        broker = DoorbellBroker(f"redis://127.0.0.1:{silent.getsockname()[1]}/0")

        with pytest.raises(redis.RedisError):
            broker.depth("tasks")

    broker.close()
