from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from runner.executions.models import TriggerInfo
from runner.reports.details import Artifact, CommitNote
from runner.reports.run_page import run_page
from runner.states import State

COMMIT = CommitNote("4f2c9ab" + "0" * 33, "shorter timeout", "Ann", "https://git.example.org/w/commit/4f2c9ab")


def _page(make: Any, execution: Any = None, /, **fields: Any) -> str:
    return run_page(make.details(execution, **fields), make.mask)


def _headline(page: str) -> str:
    return next(line for line in page.splitlines() if line.startswith("> "))


def test_the_top_line_tells_what_when_why_and_from_where(runs: Any) -> None:
    page = _page(runs, commit=COMMIT, median_s=86.4)

    assert page.startswith("# `weather.report`\n\n> ")
    assert _headline(page) == (
        "> **✗ weather.report failed** in 1 m 42 s (18 % slower than its last 20, 1 m 26 s in the middle)"
        " · schedule `nightly` of 2026-03-01 12:00:00 UTC"
        " · revision 3, commit [`4f2c9ab`](https://git.example.org/w/commit/4f2c9ab) “shorter timeout” by Ann"
        " · environment prod · 2026-03-01 12:00:00 UTC"
    )


@pytest.mark.parametrize(
    ("usual", "words"),
    [
        (102.0, "as long as its last 20"),
        (204.0, "50 % faster than its last 20"),
        (34.0, "3 times as long as its last 20"),
        (0.01, "1.02e+04 times as long as its last 20"),
    ],
)
def test_the_duration_is_compared_with_what_is_usual(runs: Any, usual: float, words: str) -> None:
    assert words in _headline(_page(runs, median_s=usual))


@pytest.mark.parametrize(
    ("trigger", "labels", "words"),
    [
        (None, {}, "started by hand or by the API"),
        (None, {"system.username": "ann"}, "started by ann"),
        (TriggerInfo("hook", "io.kestra.plugin.core.trigger.Webhook"), {}, "webhook `hook`"),
    ],
)
def test_the_top_line_says_who_or_what_started_the_run(runs: Any, trigger: Any, labels: Any, words: str) -> None:
    execution = runs.execution(trigger=trigger, labels=labels, schedule_date=None)

    assert f" · {words} · " in _headline(_page(runs, execution))


def test_what_failed_comes_first_with_its_last_lines(runs: Any) -> None:
    fetch, chart = runs.task("fetch", State.SUCCESS), runs.task("chart", value="LGA", attempts=2)
    lines = tuple(runs.log(chart, f"line {number}") for number in range(40))

    page = _page(
        runs,
        runs=(fetch, chart),
        attempts=(runs.attempt(chart, 1), runs.attempt(chart, 2, exit_code=137)),
        logs={chart.id: lines},
    )

    assert r"**chart \[LGA\]** failed after 2 attempts: exit code 137, core.runner.Process runner" in page
    assert "12:00:00 ERROR line 10\n" in page
    assert "line 9\n" not in page
    assert page.index("**chart") < page.index("```text") < page.index("Repeat it") < page.index("## Tasks")
    assert "Repeat it: `mainstem run --from-execution 01jd8w --until chart`" in page


@pytest.mark.parametrize(
    ("attempt", "error", "words"),
    [
        ({}, "Command failed with exit code 1", "exit code 1, core.runner.Process runner"),
        ({}, "no rows for LGA", "exit code 1, no rows for LGA, core.runner.Process runner"),
        ({"exit_code": None, "failure_reason": "TIMEOUT", "handle": None}, "took too long", "TIMEOUT, took too long"),
        ({"exit_code": 137, "failure_reason": "OOM"}, None, "exit code 137, OOM, core.runner.Process runner"),
        ({"exit_code": None, "failure_reason": None, "handle": None, "message": "lost"}, None, "lost"),
    ],
)
def test_a_failure_says_each_cause_once(runs: Any, attempt: Any, error: str | None, words: str) -> None:
    task = runs.task(error=error)

    page = _page(runs, runs=(task,), attempts=(runs.attempt(task, **attempt),))

    assert f"**chart** failed after 1 attempt: {words}\n" in page


def test_a_failure_says_in_which_tasks_it_lies(runs: Any) -> None:
    outer = runs.task("airports")
    inner = runs.task("each_*day*", value="LGA", parent_id=outer.id)
    chart = runs.task("chart", parent_id=inner.id)

    page = _page(runs, runs=(outer, inner, chart))

    assert r"**chart** in airports / each\_\*day\* \[LGA\] failed after 1 attempt" in page


def test_a_run_without_a_failed_task_says_its_own_error(runs: Any) -> None:
    page = _page(runs, runs.execution(error="the flow already runs 1 executions, its limit"))

    assert "The run ended with: the flow already runs 1 executions, its limit" in page


def test_many_failures_are_counted(runs: Any) -> None:
    tasks = tuple(runs.task(f"t{number}") for number in range(12))

    page = _page(runs, runs=tasks)

    assert page.count(" failed after 1 attempt") == 10
    assert "2 more tasks failed; the table names them." in page


def test_what_changed_since_the_last_good_run_is_told(runs: Any) -> None:
    good = runs.row(-60, commit="91e02d4" + "0" * 33, id="good1")

    page = _page(
        runs,
        good=good,
        changes=("tasks.load.timeout PT5M -> PT2M",),
        compare_url="https://git.example.org/w/compare/a...b",
    )

    assert (
        "last good run 2026-03-01 11:00:00 UTC `good1` · changed since: `tasks.load.timeout PT5M -> PT2M`, "
        "commits [`91e02d4..4f2c9ab`](https://git.example.org/w/compare/a...b)"
    ) in page


def test_nothing_changed_and_nothing_was_good_are_told_too(runs: Any) -> None:
    same = runs.execution()

    assert "no good run before this one" in _page(runs)
    assert "nothing of the flow changed since" in _page(runs, good=runs.row(-60, commit=same.commit))


def test_the_first_good_run_of_a_revision_says_what_is_new(runs: Any) -> None:
    execution = runs.execution(state=State.SUCCESS)

    page = _page(runs, execution, good=runs.row(-60), changes=("tasks.new added",), is_first_of_revision=True)

    assert "the first run of this revision · changed since: `tasks.new added`" in page
    assert "last good run" not in page


def test_the_table_has_a_row_for_each_task_run(runs: Any) -> None:
    chart = runs.task("chart", value="a|b")
    skipped = runs.task("skip", State.SKIPPED, started_at=None, ended_at=None)

    page = _page(runs, runs=(chart, skipped), attempts=(runs.attempt(chart),))

    assert (
        "| `chart` `a\\|b` | ✗\u00a0FAILED | 1 | core.runner.Process | 12:00:00 | 2.0\u00a0s | 1 |\n"
        "| `skip` | -\u00a0SKIPPED |  |  |  |  |  |\n"
    ) in f"{page}\n"


def test_inputs_outputs_labels_and_artifacts_are_shown(runs: Any) -> None:
    task = runs.task("fetch", State.SUCCESS)
    execution = runs.execution(
        inputs={"day": "2026-03-01", "long": "x\ny"},
        outputs={"rows": 8_730},
        labels={"team": "data", "system.correlationId": "01jd8w"},
    )

    page = _page(
        runs,
        execution,
        runs=(task,),
        outputs={task.id: {"uri": "kestra:///f.csv", "vars": {}, "files": [], "none": None}},
        artifacts=(Artifact("fetch", "f.csv", 412_000, "ab" * 32), Artifact("fetch", "big.bin", 5 << 30)),
    )

    assert "## Inputs\n\n`day`: `2026-03-01`\n\n`long`:\n\n```text\nx\ny\n```" in page
    assert "## Outputs\n\n`rows`: `8730`" in page
    assert "## Labels\n\n`team`: `data`" in page
    assert "correlationId" not in page
    assert '```text\nfetch: {"uri": "kestra:///f.csv"}\n```' in page
    assert f"| `fetch` | `f.csv` | 412 kB | `{'ab' * 32}` |" in page
    assert "| `fetch` | `big.bin` | 5.37 GB | `not read: too large` |" in page


def test_the_links_lead_to_the_flow_and_the_json(runs: Any) -> None:
    page = _page(runs)

    assert "[all runs of the flow](../../../../../../flows/weather/report/README.md) · [as JSON](01jd8w.json)" in page


def test_a_server_with_a_public_address_is_linked_to(runs: Any) -> None:
    details = runs.details(page_url="https://flows.example.org/ui/main/executions/weather/report/01jd8w")

    page = run_page(details, runs.mask)

    assert " · [on the server](https://flows.example.org/ui/main/executions/weather/report/01jd8w)\n" in page


def test_every_secret_is_masked_wherever_it_stands(runs: Any) -> None:
    secret = "see s3cret-value here"
    chart = runs.task("chart", value=secret, error=secret)
    execution = runs.execution(
        inputs={"text": secret, "token": "hidden by its type"},
        outputs={secret: [secret]},
        labels={"team": secret},
        error=secret,
        trigger=TriggerInfo("hook", "Webhook", {"body": secret}),
    )

    page = run_page(
        replace(
            runs.details(execution),
            runs=(chart,),
            attempts=(runs.attempt(chart, message=secret),),
            outputs={chart.id: {"x": secret, "s3cret-value": 1}},
            logs={chart.id: (runs.log(chart, secret), runs.log(chart, "s3cr\x1b[0met-\x00value"))},
            artifacts=(Artifact("chart", secret, 1),),
            secret_inputs=frozenset({"token"}),
            commit=CommitNote("c" * 40, secret, secret),
            good=runs.row(-1),
            changes=(secret,),
        ),
        runs.mask,
    )

    assert "s3cret" not in page
    assert "hidden by its type" not in page
    assert "`token`: `******`" in page


def test_a_page_stays_below_half_a_megabyte_whatever_it_is_about(runs: Any) -> None:
    wide = "\N{PILE OF POO}" * 50_000
    tasks = tuple(runs.task(f"t{number}", value=wide, error=wide) for number in range(300))
    execution = runs.execution(
        inputs={f"i{number}": wide for number in range(500)},
        outputs={f"o{number}": wide for number in range(500)},
        error=wide,
    )
    lines = tuple(runs.log(tasks[0], wide) for _ in range(30))

    page = _page(
        runs,
        execution,
        runs=tasks,
        logs={task.id: lines for task in tasks},
        outputs={task.id: {"x": wide} for task in tasks[:3]},
        changes=(wide,) * 30,
        good=runs.row(-1),
    )

    assert len(page.encode()) < 500_000
    assert "The page would be too long for a forge: the rest stands in the JSON." in page


def test_very_many_task_runs_are_cut_with_their_number(runs: Any) -> None:
    tasks = tuple(
        runs.task("each", State.SUCCESS, id=f"r{number}", value=str(number), ended_at=runs.now + timedelta(seconds=1))
        for number in range(1_000)
    )

    page = _page(runs, runs.execution(state=State.SUCCESS), runs=tasks)

    assert "800 more task runs stand in the JSON." in page
    assert "The 60 longest task runs of 1000." in page
