"""What stays on the branch, and for how long."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from runner.states import State

Start = Callable[..., Any]


def test_only_the_last_twenty_good_runs_of_a_flow_keep_their_pages(server: Any) -> None:
    first = server.ended().id
    for _ in range(5):
        for _ in range(6):
            server.now += timedelta(seconds=1)
            server.ended()
        server.write()

    pages = [name for name in server.branch.files() if name.endswith(".md") and "/weather/report/" in name]

    runs = [name for name in pages if name.startswith("runs/")]
    assert len(runs) == 21
    assert any(first in name for name in runs)  # it was the first of its revision
    assert len(server.branch.runs()) == 31
    assert server.branch.dead_links() == []


def test_with_include_all_every_run_has_a_page(start: Start) -> None:
    server = start(include="all")
    server.deploy("weather.report")
    ids = {server.ended().id for _ in range(30)}
    server.write()
    for _ in range(25):
        ids.add(server.ended().id)
    server.write()

    pages = {name.rpartition("/")[2].removesuffix(".md") for name in server.branch.files() if name.endswith(".md")}

    assert ids <= pages


def test_pages_and_rows_go_after_the_days_that_are_kept(start: Start) -> None:
    server = start(retention_days=3)
    server.deploy("weather.report")
    old = server.ended(state=State.FAILED)
    server.write()

    server.now += timedelta(days=3)
    server.ended()
    server.write()
    kept = server.branch.runs()
    server.now += timedelta(days=1)
    server.ended()
    server.write()

    assert old.id in kept
    assert old.id not in server.branch.runs()
    assert not [name for name in server.branch.files() if name.startswith("runs/2026/03/10")]
    assert server.branch.dead_links() == []


def test_a_run_that_is_told_after_its_day_is_gone_leaves_nothing_behind(start: Start) -> None:
    server = start(retention_days=3)
    server.deploy("weather.report")
    server.ended(ended_at=server.now - timedelta(days=9), state=State.FAILED)

    server.write()

    assert not [name for name in server.branch.files() if name.startswith("runs/2026/03/01")]
    assert len(server.branch.runs()) == 1


def test_no_more_pages_stay_than_are_allowed(start: Start) -> None:
    server = start(max_pages=10)
    server.deploy("weather.report")
    ids = []
    for _ in range(4):
        for _ in range(4):
            server.now += timedelta(seconds=1)
            ids.append(server.ended(state=State.FAILED).id)
        server.write()

    pages = [name for name in server.branch.files() if name.endswith(".json") and name.startswith("runs/")]

    assert sorted(name.rpartition("/")[2].removesuffix(".json") for name in pages) == sorted(ids[-10:])
    assert server.branch.dead_links() == []


def test_beyond_the_rows_of_an_hour_runs_are_counted_exactly(start: Start) -> None:
    server = start(max_rows_per_hour=10)
    server.deploy("weather.report")
    for _ in range(8):
        server.ended()
    server.write()
    for _ in range(5):
        server.ended()
    bad = server.ended(state=State.FAILED)
    server.write()
    server.ended()
    server.write(hours=1)

    lines = server.branch.lines()

    counted = [line for line in lines if "counts" in line]
    assert counted == [{"environment": "default", "namespace": "weather", "flow": "report", "counts": {"SUCCESS": 4}}]
    assert len(server.branch.runs()) == 8 + 2 + 1
    assert bad.id in server.branch.runs()
    assert server.counts() == {"weather/report": {"SUCCESS": 14, "FAILED": 1}}


def test_at_the_end_of_the_month_the_branch_starts_again_without_its_history(server: Any, run_git: Any) -> None:
    march = server.ended().id
    server.write()
    old = server.branch.head()
    server.now += timedelta(days=22)
    april = server.ended().id
    server.write()

    assert server.branch.commits() == ["reports: 1 run, 0 failed [skip ci]"]
    assert server.branch.runs() == sorted([march, april])
    reachable = run_git(server.branch.path, "rev-list", "--all").split()
    assert old not in reachable
    server.ended()
    server.write()
    assert len(server.branch.commits()) == 2


def test_a_board_lists_the_flows_that_are_deployed_now(server: Any) -> None:
    server.deploy("weather.old", "weather.fresh")
    server.ended("weather.old")
    server.write()
    server.service.delete_flow("weather", "old", actor="ann")
    server.ended("weather.report")
    server.write()

    board = server.branch.files()["default/README.md"]

    assert "`weather.report`" in board
    assert "| `weather.fresh` | never\u00a0ran |" in board
    assert "weather.old" not in board
    assert server.branch.dead_links() == []


def test_a_flow_that_is_gone_and_long_quiet_is_forgotten(start: Start) -> None:
    server = start(retention_days=3)
    server.deploy("weather.report", "weather.old")
    server.ended("weather.old")
    server.write()
    server.service.delete_flow("weather", "old", actor="ann")
    server.now += timedelta(days=2)
    server.ended()
    server.write()
    kept = server.branch.files()
    server.now += timedelta(days=2)
    server.ended()
    server.write()

    assert "flows/weather/old/README.md" in kept
    assert not [name for name in server.branch.files() if name.startswith("flows/weather/old")]
    assert set(server.counts()) == {"weather/report"}
