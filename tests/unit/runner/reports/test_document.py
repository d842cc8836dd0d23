from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from runner.executions.models import TriggerInfo
from runner.reports.details import Artifact, Origin
from runner.reports.document import run_document
from runner.states import State

SOURCE = """\
id: report
namespace: weather
tasks:
  - id: chart
    type: core.log.Log
    message: "{{ secret('TOKEN') }} {{ secret( \\"DB_PASSWORD\\" ) }} {{ secret('TOKEN') }}"
"""
ORIGIN = Origin("hosted", "http://127.0.0.1:8420/git/flows.git", "refs/heads/main", "flows")


def test_a_document_says_how_a_run_went(runs: Any) -> None:
    chart = runs.task("chart", value="LGA", error="no rows")

    document = run_document(
        runs.details(
            runs=(chart,),
            attempts=(runs.attempt(chart),),
            outputs={chart.id: {"exitCode": 1}},
            logs={chart.id: (runs.log(chart, "no rows"),)},
            artifacts=(Artifact("chart", "f.csv", 3, "ab"),),
            good=runs.row(-1, id="good1"),
            changes=("tasks.x added",),
        ),
        runs.mask,
    )

    assert json.loads(json.dumps(document)) == document
    assert document["schema"] == "mainstem.run/1"
    assert document["state"]["current"] == "FAILED"
    assert document["trigger"] == {
        "id": "nightly",
        "type": "io.kestra.plugin.core.trigger.Schedule",
        "variables": {},
    }
    assert document["taskRunList"][0] | {"state": None} == {
        "id": chart.id,
        "taskId": "chart",
        "parentTaskRunId": None,
        "value": "LGA",
        "iteration": None,
        "state": None,
        "runner": "core.runner.Process",
        "error": "no rows",
        "attempts": [{"number": 1, "state": "FAILED", "exitCode": 1, "failureReason": "APP_EXIT"}],
        "outputs": {"exitCode": 1},
        "log": [{"date": "2026-03-01T12:00:00+00:00", "level": "ERROR", "message": "no rows"}],
    }
    assert document["sinceLastGoodRun"]["id"] == "good1"
    assert document["sinceLastGoodRun"]["changes"] == ["tasks.x added"]
    assert document["artifacts"] == [{"taskId": "chart", "name": "f.csv", "size": 3, "sha256": "ab"}]


def test_a_document_holds_what_repeating_the_run_needs(runs: Any) -> None:
    execution = runs.execution(inputs={"day": "2026-03-01", "rows": [1, 2], "data": "kestra:///a/b.csv"})

    document = run_document(runs.details(execution, source=SOURCE, origin=ORIGIN), runs.mask)

    assert document["inputs"] == {"day": "2026-03-01", "rows": [1, 2], "data": "kestra:///a/b.csv"}
    assert document["hiddenInputs"] == []
    assert document["fileInputs"] == ["data"]
    assert document["flow"] == {
        "namespace": "weather",
        "id": "report",
        "revision": 3,
        "repository": {
            "name": "hosted",
            "url": "http://127.0.0.1:8420/git/flows.git",
            "ref": "refs/heads/main",
            "path": "flows",
            "commit": execution.commit,
        },
        "secrets": ["DB_PASSWORD", "TOKEN"],
        "source": SOURCE,
    }


def test_every_secret_is_masked_wherever_it_stands(runs: Any) -> None:
    secret = "see s3cret-value here"
    chart = runs.task("chart", value=secret, error=secret)
    execution = runs.execution(
        inputs={"text": secret, "token": "hidden by its type"},
        outputs={secret: [secret]},
        labels={"team": secret},
        error=secret,
        trigger=TriggerInfo("hook", "Webhook", {"body": {secret: secret}}),
    )
    details = replace(
        runs.details(execution),
        runs=(chart,),
        outputs={chart.id: {"x": secret}},
        logs={chart.id: (runs.log(chart, secret),)},
        artifacts=(Artifact("chart", secret, 1),),
        secret_inputs=frozenset({"token"}),
        source=f"# {secret}",
        good=runs.row(-1),
        changes=(secret,),
    )

    document = run_document(details, runs.mask)

    text = json.dumps(document)
    assert "s3cret" not in text
    assert "hidden by its type" not in text
    assert document["hiddenInputs"] == ["text", "token"]


def test_an_input_that_is_too_long_must_be_given_again(runs: Any) -> None:
    execution = runs.execution(inputs={"long": "x" * 600_000, "short": "y"})

    document = run_document(runs.details(execution), runs.mask)

    assert document["inputs"] == {"long": "(left out: 600,000 characters)", "short": "y"}
    assert document["hiddenInputs"] == ["long"]


def test_a_document_of_a_huge_run_is_a_few_megabytes(runs: Any) -> None:
    tasks = tuple(
        runs.task("each", State.SUCCESS if number % 100 else State.FAILED, id=f"r{number}", value="v" * 100_000)
        for number in range(3_000)
    )
    lines = tuple(runs.log(tasks[0], "x" * 1_000_000) for _ in range(30))

    document = run_document(
        runs.details(
            runs.execution(outputs={f"o{number}": "x" * 15_000 for number in range(1_000)}),
            runs=tasks,
            outputs={task.id: {"x": "y" * 10_000} for task in tasks},
            logs={task.id: lines for task in tasks[:1_000:100]},
        ),
        runs.mask,
    )

    assert len(json.dumps(document)) < 5_000_000
    assert len(document["taskRunList"]) == 1_000
    assert sum(run["state"]["current"] == "FAILED" for run in document["taskRunList"]) == 30
    assert document["taskRunsLeftOut"] == 2_000
