from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import pytest

from runner.reports.board import MOST_ROWS, BoardEnvironment, BoardFlow, board, day_page, flow_page, root_page
from runner.reports.record import FlowRecord, folded
from runner.states import State


def _record(runs: Any, flow: str, *rows: Any) -> FlowRecord:
    record, _ = folded(FlowRecord("weather", flow), rows)
    return record


def _cells(page: str, start: str) -> list[str]:
    line = next(line for line in page.splitlines() if line.startswith(f"| {start}"))
    return [cell.strip().replace("\u00a0", " ").replace("\u2060", "") for cell in line.strip("|").split(" | ")]


def _environment(*flows: BoardFlow) -> BoardEnvironment:
    return BoardEnvironment("prod", "refs/heads/main", "4f2c9ab" + "0" * 33, "OK", flows)


def test_a_board_has_a_row_for_each_flow_those_that_failed_first(runs: Any) -> None:
    good = _record(runs, "ingest", runs.row(1, flow="ingest", id="good"))
    bad = _record(runs, "report", runs.row(0, seconds=4.2), runs.row(2, state=State.FAILED, id="bad"))
    flows = [
        BoardFlow("weather", "ingest", good, runs.now + timedelta(hours=1)),
        BoardFlow("weather", "fresh"),
        BoardFlow("weather", "report", bad),
    ]

    page = board(_environment(*flows), runs.now, {"runs/2026/03/01/weather/report/bad"})

    names = [line.split("`")[1] for line in page.splitlines() if line.startswith(("| [`", "| `"))]
    assert names == ["weather.report", "weather.ingest", "weather.fresh"]
    assert _cells(page, "[`weather.report`") == [
        "[`weather.report`](../flows/weather/report/README.md)",
        "✗ FAILED",
        "[Mar 1 12:02](../runs/2026/03/01/weather/report/bad.md)",
        "▫️" * 13 + "🟥",
        "50.0 %",
        "4.2 s",
        "",
    ]
    assert _cells(page, "[`weather.ingest`")[1:3] == ["✓ SUCCESS", "Mar 1 12:01"]
    assert _cells(page, "[`weather.ingest`")[-1] == "Mar 1 13:00"
    assert _cells(page, "`weather.fresh`")[1:] == ["never ran", "", "", "", "", ""]
    assert page.startswith("# prod at `4f2c9ab`\n")


def test_a_flow_that_never_was_good_shows_no_usual_duration(runs: Any) -> None:
    record = _record(runs, "report", runs.row(1, state=State.FAILED))

    page = board(_environment(BoardFlow("weather", "report", record)), runs.now, ())

    assert _cells(page, "[`weather.report`")[4:6] == ["0 %", ""]
    assert "no good run yet" in flow_page(record, runs.now, (), None)


@pytest.mark.parametrize(
    ("durations", "words"),
    [
        ((4.2,), "4.2 s"),
        ((0.1, 0.1, 0.12), "100 / 120 ms"),
        ((0.1, 0.1, 4.0), "100 ms / 4.0 s"),
        ((60.0, 60.0, 65.0), "1 m 0 s / 1 m 5 s"),
        ((0.0, 0.0), "< 1 ms"),
    ],
)
def test_usual_durations_name_a_unit_once(runs: Any, durations: tuple[float, ...], words: str) -> None:
    record = FlowRecord("weather", "report", recent=(runs.row(),), seconds=durations)

    page = board(_environment(BoardFlow("weather", "report", record)), runs.now, ())

    assert _cells(page, "[`weather.report`")[5] == words


def test_nearly_always_good_is_not_always_good(runs: Any) -> None:
    record = FlowRecord("weather", "report", days={"2026-03-01": {"SUCCESS": 99_999, "FAILED": 1}})

    assert "99.9 %" in flow_page(record, runs.now, (), None)


def test_a_board_of_very_many_flows_stays_short_enough_for_a_forge(runs: Any) -> None:
    record = _record(runs, "report", runs.row(1, namespace="n" * 150, flow="f" * 100, id="i" * 100))
    flows = [BoardFlow("n" * 150, f"{number:0100}", record, runs.now) for number in range(MOST_ROWS + 7)]

    page = board(_environment(*flows), runs.now, {runs.row(1, namespace="n" * 150, flow="f" * 100, id="i" * 100).stem})

    assert len(page.encode()) < 500_000
    assert "7 more flows have pages below `flows/`." in page


def test_the_page_of_a_flow_shows_its_badge_figures_and_last_runs(runs: Any) -> None:
    record = _record(
        runs, "report", *(runs.row(minute, commit="c0ffee1" * 5) for minute in range(30)),
        runs.row(40, state=State.FAILED, error="chart: a|b <img>", trigger="nightly"),
    )  # fmt: skip

    page = flow_page(record, runs.now, {runs.row(40).stem}, runs.now + timedelta(days=1))

    assert page.startswith("# `weather.report`\n\n![state of the last run](badge.svg)\n")
    assert "success in 14 days 96.8 % · p50 1.0 s · p95 1.0 s · next run 2026-03-02 12:00:00 UTC" in page
    assert "last failure [2026-03-01 12:40:00 UTC](../../../runs/2026/03/01/weather/report/run40.md)" in page
    assert page.count("\n| ") == 2 + 20
    assert r"chart: a\|b &lt;img&gt;" in page
    assert "| Mar\u00a01 12:29 | ✓\u00a0SUCCESS |  | 1 | `c0ffee1` | 1.0\u00a0s |  |" in page


def test_the_root_page_has_a_row_for_each_environment(runs: Any) -> None:
    record = _record(runs, "report", runs.row(1), runs.row(2, state=State.KILLED))
    environments = [
        _environment(BoardFlow("weather", "report", record), BoardFlow("weather", "fresh")),
        BoardEnvironment("new", "refs/heads/dev|x", None, "DEGRADED", ()),
    ]

    page = root_page(environments, runs.now)

    assert "| [prod](prod/README.md) | `main` | `4f2c9ab` | OK | 2 | 2 | 1 | 2026-03-01 12:02:00 UTC |" in page
    assert r"| [new](new/README.md) | `dev\|x` |  | DEGRADED | 0 | 0 | 0 |  |" in page


def test_the_page_of_a_day_counts_the_runs_of_each_flow() -> None:
    page = day_page(date(2026, 3, 1), {("b", "x"): {"SUCCESS": 2}, ("a", "y"): {"FAILED": 1, "SUCCESS": 3}})

    assert page == (
        "# 2026-03-01 (UTC)\n\n"
        "| flow | SUCCESS | FAILED | all |\n| --- | --- | --- | --- |\n"
        "| `a.y` | 3 | 1 | 4 |\n| `b.x` | 2 |  | 2 |\n"
    )


def test_the_page_of_a_day_with_very_many_flows_stays_short(runs: Any) -> None:
    page = day_page(date(2026, 3, 1), {("n" * 150, f"{number:0100}"): {"SUCCESS": 1} for number in range(1_003)})

    assert "3 more flows ran" in page
    assert len(page.encode()) < 500_000
