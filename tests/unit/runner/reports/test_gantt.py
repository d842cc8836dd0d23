from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from runner.reports.gantt import gantt
from runner.states import State


def test_a_bar_says_when_a_task_ran_and_how_it_ended(runs: Any) -> None:
    later = runs.now + timedelta(seconds=2)
    tasks = [runs.task("fetch", State.SUCCESS), runs.task("chart", started_at=later, ended_at=later, value="LGA")]

    text, left_out = gantt(tasks, later, runs.mask)

    assert text.splitlines() == [
        "gantt",
        "    dateFormat YYYY-MM-DDTHH:mm:ss.SSS",
        "    axisFormat %M:%S.%L",
        "    section tasks",
        "    ✓ fetch :done, t0, 2026-03-01T12:00:00.000, 2026-03-01T12:00:02.000",
        "    ✗ chart LGA :crit, t1, 2026-03-01T12:00:02.000, 2026-03-01T12:00:02.001",
    ]
    assert left_out == 0


def test_the_axis_of_a_longer_run_has_no_milliseconds(runs: Any) -> None:
    text, _ = gantt([runs.task(ended_at=runs.now + timedelta(hours=2))], runs.now, runs.mask)

    assert "axisFormat %H:%M:%S" in text


def test_of_many_runs_the_sixty_longest_are_shown_in_order(runs: Any) -> None:
    tasks = [
        runs.task(
            f"t{number}",
            started_at=runs.now + timedelta(seconds=number),
            ended_at=runs.now + timedelta(seconds=2 * number),
        )
        for number in range(100)
    ]

    text, left_out = gantt(tasks, runs.now, runs.mask)

    names = [line.split()[1] for line in text.splitlines()[4:]]
    assert names == [f"t{number}" for number in range(40, 100)]
    assert left_out == 40


def test_what_never_started_is_no_bar_and_what_has_not_ended_lasts_till_the_end(runs: Any) -> None:
    open_run = runs.task("open", State.KILLED, ended_at=None)

    text, _ = gantt([runs.task(started_at=None), open_run], runs.now + timedelta(seconds=5), runs.mask)

    assert text.splitlines()[4:] == ["    ✗ open :crit, t0, 2026-03-01T12:00:00.000, 2026-03-01T12:00:05.000"]
    assert gantt([runs.task(started_at=None)], runs.now, runs.mask) == ("", 0)


def test_a_secret_is_masked_in_the_name_of_a_bar(runs: Any) -> None:
    text, _ = gantt([runs.task(value="s3cret-\x00value")], runs.now, runs.mask)

    assert "    ✗ chart ______ :crit" in text


@pytest.mark.parametrize("word", ["section", "title", "click", "dateFormat", "excludes", "gantt", "2026-03-01"])
def test_a_name_is_never_a_word_of_the_language(runs: Any, word: str) -> None:
    text, _ = gantt([runs.task(word, value='t0 call alert("x"):;#\ngantt')], runs.now, runs.mask)

    line = text.splitlines()[4]
    assert line.startswith(f"    ✗ {word}")
    assert line.count(":crit") == 1
    assert not set('"();#') & set(line)
