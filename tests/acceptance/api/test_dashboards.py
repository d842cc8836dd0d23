"""Dashboards from a push to the published client: what git says is what people see, and a mistake changes nothing."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.acceptance.api.test_kestrapy import python  # noqa: F401 - a fixture
from tests.servers.git import git

NIGHT = """\
id: night_of_the_push
title: TITLE
charts:
  - id: states
    type: io.kestra.plugin.core.dashboard.chart.Pie
    chartOptions: {displayName: States, colorByColumn: state}
    data:
      type: io.kestra.plugin.core.dashboard.data.Executions
      columns:
        state: {field: STATE}
        total: {agg: COUNT}
"""
PROGRAM = """
import json, sys
from kestrapy import KestraClient

host, token, source = sys.argv[1:]
dashboards = KestraClient(host=host, token=token, timeout=20).dashboards
found = dashboards.search_dashboards("main", page=1, size=5, q="of the PUSH", sort=["title:asc"])
one = dashboards.dashboard("night_of_the_push", "main")
good = dashboards.validate_dashboard("main", source).constraints
bad = dashboards.validate_chart("main", "id: a").constraints
home = dashboards.default_dashboards("main")["defaultHomeDashboard"]
print(json.dumps([found["total"], one["title"], one["charts"][0]["chartOptions"], one["sourceCode"], good, bad, home]))
"""


def push(server: Any, work: Path, text: str | None) -> str:
    """Push the dashboard, or its removal, and return what the server says."""
    file = work / "flows/_dashboards/night.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.unlink() if text is None else file.write_text(text)
    git(work, "add", "-A")
    git(work, "commit", "-q", "-m", "the night")
    done = subprocess.run(
        ["git", "-C", work, "push", "origin", "HEAD:main"], capture_output=True, text=True, timeout=60, check=False
    )
    return done.stderr


@pytest.mark.timeout(240)
def test_a_pushed_dashboard_is_planned_seen_by_the_client_and_gone_with_its_file(
    server: Any,
    python: str,  # noqa: F811 - the fixture's value
    tmp_path: Path,
) -> None:
    work, source = tmp_path / "work", NIGHT.replace("TITLE", "Night of the push")
    address = f"{server.url.replace('://', f'://x:{server.token}@')}/git/flows.git"
    git(tmp_path, "clone", "-q", address, str(work))
    came = push(server, work, source)
    refused = push(server, work, source.replace("field: STATE", "field: STAET"))
    seen = subprocess.run(
        [python, "-c", PROGRAM, server.url, server.token, source],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    went = push(server, work, None)

    assert "+ dashboard night_of_the_push  new      'Night of the push'" in came
    assert "flows/_dashboards/night.yaml:10:24  dashboard.field.unknown" in refused
    assert seen.returncode == 0, seen.stderr
    assert json.loads(seen.stdout) == [
        1,
        "Night of the push",
        {"displayName": "States", "colorByColumn": "state"},
        source,
        None,
        "1:1: 'type' is missing",
        None,
    ]
    assert "- dashboard night_of_the_push  removed" in went


EXAMPLE = Path(__file__).parents[3] / "examples/flows/ops/_dashboards/season.yaml"
FLOW = """\
id: count
namespace: season.counted
inputs: [{id: good, type: BOOLEAN, defaults: true}]
tasks:
  - {id: fail, type: core.execution.Fail, condition: "{{ inputs.good ? 'false' : 'true' }}", errorMessage: no ring}
"""


@pytest.mark.timeout(120)
def test_the_charts_of_the_example_count_what_was_run(server: Any) -> None:
    main, yaml = f"{server.url}/api/v1/main", {"content-type": "application/x-yaml"}
    with httpx.Client(headers={"authorization": f"Bearer {server.token}"}, timeout=30) as client:
        client.post(f"{main}/dashboards", content=EXAMPLE.read_bytes(), headers=yaml).raise_for_status()
        client.post(f"{main}/flows", content=FLOW, headers=yaml).raise_for_status()
        run = f"{main}/executions/season.counted/count?wait=true"
        states = [
            client.post(run, data={"good": good}).json()["state"]["current"] for good in ("true", "false", "true")
        ]
        charts, view = f"{main}/dashboards/season/charts", {"namespace": "season.counted"}
        pie, days, good, errors = (
            client.post(f"{charts}/{name}", json=view).json()["results"]
            for name in ("states", "days", "good", "errors")
        )
        table = client.post(f"{charts}/states/export", json=view).text

    assert states == ["SUCCESS", "FAILED", "SUCCESS"]
    assert pie == [{"state": "SUCCESS", "total": 2}, {"state": "FAILED", "total": 1}]
    assert sum(row["total"] for row in days) == 3
    assert good == [{"value": pytest.approx(200 / 3)}]
    assert [row["flow"] for row in errors] == ["count"] * len(errors)
    assert any("no ring" in row["message"] for row in errors)
    assert table == "state,total\r\nSUCCESS,2\r\nFAILED,1\r\n"
