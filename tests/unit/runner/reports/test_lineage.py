"""OpenLineage events, read by OpenLineage's own client and taken by a server that it sends them to."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from openlineage.client import OpenLineageClient
from openlineage.client.event_v2 import Job, Run, RunEvent, RunState
from openlineage.client.facet_v2 import (
    error_message_run,
    job_type_job,
    nominal_time_run,
    parent_run,
    source_code_location_job,
)
from openlineage.client.serde import Serde
from openlineage.client.transport.http import HttpConfig, HttpTransport

from runner.executions.models import TriggerInfo
from runner.reports.details import CommitNote, Origin
from runner.reports.lineage import run_events, run_id
from runner.states import State

ORIGIN = Origin("forge", "https://git.example.org/team/flows.git", "refs/heads/main", "flows")
FACETS = {
    "parent": parent_run.ParentRunFacet,
    "nominalTime": nominal_time_run.NominalTimeRunFacet,
    "errorMessage": error_message_run.ErrorMessageRunFacet,
    "jobType": job_type_job.JobTypeJobFacet,
    "sourceCodeLocation": source_code_location_job.SourceCodeLocationJobFacet,
}


def facets(given: dict[str, Any]) -> dict[str, Any]:
    """Return facets as the client's own models, which refuse a field that they do not know or lack."""
    return {
        name: FACETS[name](**{key: value for key, value in values.items() if not key.startswith("_")})
        for name, values in given.items()
    }


def read(event: dict[str, Any]) -> RunEvent:
    job, run = event["job"], event["run"]
    return RunEvent(
        eventType=RunState[event["eventType"]],
        eventTime=event["eventTime"],
        producer=event["producer"],
        run=Run(runId=run["runId"], facets=facets(run["facets"])),
        job=Job(namespace=job["namespace"], name=job["name"], facets=facets(job["facets"])),
    )


@pytest.fixture
def failed(runs: Any) -> Any:
    """A run of two tasks of which one failed."""
    good, bad = runs.task("fetch", State.SUCCESS), runs.task("chart", error="no rows, s3cret-value")
    note = CommitNote("4f2c9ab", url="https://git.example.org/team/flows/commit/4f2c9ab")
    cause = {"executionId": "above", "namespace": "weather.all", "flowId": "nightly"}
    trigger = TriggerInfo("part", "io.kestra.plugin.core.flow.Subflow", cause)
    execution = runs.execution(error="no rows, s3cret-value", parent_execution_id="above", trigger=trigger)
    return runs.details(execution=execution, runs=(good, bad), origin=ORIGIN, commit=note)


def test_the_run_and_each_task_start_and_end(runs: Any, failed: Any) -> None:
    events = [read(each) for each in run_events(failed, runs.mask)]

    assert [(event.eventType.name, event.job.name) for event in events] == [
        ("START", "report"), ("FAIL", "report"),
        ("START", "report.fetch"), ("COMPLETE", "report.fetch"),
        ("START", "report.chart"), ("FAIL", "report.chart"),
    ]  # fmt: skip
    whole, task = events[1], events[5]
    assert {event.job.namespace for event in events} == {"weather"}
    assert task.run.facets["parent"].run["runId"] == whole.run.runId == run_id("01jd8w")
    above = whole.run.facets["parent"]
    assert (above.run["runId"], above.job) == (run_id("above"), {"namespace": "weather.all", "name": "nightly"})
    assert whole.run.facets["errorMessage"].message == "no rows, ******"
    source = task.job.facets["sourceCodeLocation"]
    assert (source.repoUrl, source.version, source.branch) == (ORIGIN.url, "4f2c9ab" + "0" * 33, "main")


def test_the_schemas_named_are_those_of_the_client(runs: Any, failed: Any) -> None:
    for event in run_events(failed, runs.mask):
        theirs = Serde.to_dict(read(event))

        assert event["schemaURL"] == theirs["schemaURL"]
        for ours, known in ((event["run"], theirs["run"]), (event["job"], theirs["job"])):
            for name, facet in ours["facets"].items():
                without = {key: value for key, value in facet.items() if not key.startswith("_")}
                assert without.items() <= known["facets"][name].items()
                assert facet["_schemaURL"].rpartition("/")[2] == known["facets"][name]["_schemaURL"].rpartition("/")[2]


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        (State.SUCCESS, "COMPLETE"),
        (State.WARNING, "COMPLETE"),
        (State.FAILED, "FAIL"),
        (State.KILLED, "ABORT"),
        (State.CANCELLED, "ABORT"),
    ],
)
def test_every_end_has_its_event(runs: Any, state: State, kind: str) -> None:
    events = list(run_events(runs.details(execution=runs.execution(state=state)), runs.mask))

    assert [event["eventType"] for event in events] == ["START", kind]


@pytest.fixture
def collector() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A server that keeps the events posted to it."""
    taken: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            taken.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(201)
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            del args

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", taken
    server.shutdown()
    server.server_close()
    thread.join()


def test_the_client_sends_what_was_written(runs: Any, failed: Any, collector: tuple[str, list[dict[str, Any]]]) -> None:
    url, taken = collector
    client = OpenLineageClient(transport=HttpTransport(HttpConfig(url=url)))
    events = list(run_events(failed, runs.mask))

    for event in events:
        client.emit(read(event))
    client.close()

    assert [(each["eventType"], each["run"]["runId"], each["job"]["name"]) for each in taken] == [
        (each["eventType"], each["run"]["runId"], each["job"]["name"]) for each in events
    ]
