"""Engines that jobs ran at are known after a restart, without what leads there being readable in the store."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from runner.engines import Engines
from runner.key_values import MemoryKeyValues
from runner.secrets.encryption import Encryption
from runner.services import Host
from runner.settings import Settings
from task_runners.base import TaskRunner
from task_runners.docker import Docker
from task_runners.kubernetes.runner import Kubernetes
from tests.servers.store import fresh_store

NOW = datetime(2026, 11, 26, tzinfo=UTC)
PASSWORD = "tr0ub4dor"
ELSEWHERE = Docker.model_validate({"host": "tcp://build-7:2376", "networkMode": "none"})
CLUSTER = Kubernetes.model_validate(
    {
        "namespace": "batch",
        "config": {"masterUrl": "https://cluster.example", "username": "ann", "password": PASSWORD},
        "waitUntilRunning": "PT5M",
    }
)


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    store = fresh_store(f"sqlite:///{tmp_path / 'state.db'}", durability="normal")
    settings = Settings(home=tmp_path / "home", work=tmp_path / "work")
    made = Host.open(settings, MemoryKeyValues(), environment={}, store=store)
    yield replace(made, clock=lambda: NOW)
    store.close()


def later(host: Host, **given: int) -> Host:
    return replace(host, clock=lambda: NOW + timedelta(**given))


def said(runners: Iterable[TaskRunner]) -> list[dict[str, Any]]:
    """Return the properties of task runners in the order of their types: two are equal only with the same clients."""
    return [each.model_dump() for each in sorted(runners, key=lambda each: each.type)]


def rows(host: Host) -> int:
    assert host.store is not None
    return len(host.store.read(lambda db: db.engines.all()))


def test_what_led_to_an_engine_is_known_to_the_next_process_as_it_was(host: Host) -> None:
    engines = Engines(host)
    for runner in (ELSEWHERE, CLUSTER):
        engines.note(runner)

    found = Engines(later(host, days=13)).all()

    assert said(found) == said([CLUSTER, ELSEWHERE])


def test_a_password_that_leads_to_an_engine_is_not_readable_in_the_store(host: Host, tmp_path: Path) -> None:
    Engines(host).note(CLUSTER)
    assert host.store is not None

    host.store.close()

    kept = b"".join(path.read_bytes() for path in tmp_path.glob("state.db*"))
    assert PASSWORD.encode() not in kept
    assert b"cluster.example" not in kept


@pytest.mark.parametrize(
    ("runner", "count"),
    [
        (ELSEWHERE.model_copy(update={"image": "other", "user": "1000"}), 1),
        (ELSEWHERE.model_copy(update={"host": "tcp://build-8:2376"}), 2),
        (CLUSTER, 2),
    ],
)
def test_jobs_at_one_engine_are_remembered_once(host: Host, runner: TaskRunner, count: int) -> None:
    engines = Engines(host)

    for each in (ELSEWHERE, runner, ELSEWHERE):
        engines.note(each)

    assert (len(engines.all()), rows(host)) == (count, count)


def test_an_engine_without_jobs_is_forgotten_after_two_weeks(host: Host) -> None:
    Engines(host).note(ELSEWHERE)
    much_later = later(host, days=15)

    seen = Engines(much_later).all()

    Engines(much_later).note(CLUSTER)
    assert seen == []
    assert rows(host) == 1


def test_an_engine_in_use_is_remembered_from_its_last_job_on(host: Host) -> None:
    clock = [NOW]
    engines = Engines(replace(host, clock=lambda: clock[0]))
    engines.note(ELSEWHERE)
    clock[0] += timedelta(days=10)
    engines.note(ELSEWHERE)

    found = Engines(later(host, days=20)).all()

    assert said(found) == said([ELSEWHERE])


def test_no_more_engines_are_remembered_than_can_be_looked_after(host: Host) -> None:
    moments = iter(range(1_000))
    engines = Engines(replace(host, clock=lambda: NOW + timedelta(seconds=next(moments))))

    for number in range(70):
        engines.note(Docker(host=f"tcp://build-{number}:2376"))

    known = {each.host for each in Engines(later(host, hours=1)).all() if isinstance(each, Docker)}
    assert known == {f"tcp://build-{number}:2376" for number in range(6, 70)}
    assert len(engines.all()) == rows(host) == 64


def test_an_engine_that_cannot_be_opened_does_not_hide_the_others(host: Host) -> None:
    Engines(replace(host, encryption=Encryption(b"k" * 32))).note(CLUSTER)
    Engines(host).note(ELSEWHERE)

    found = Engines(host).all()

    assert said(found) == said([ELSEWHERE])
