"""An in-toto statement with SLSA provenance, read by in-toto's own models."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from google.protobuf.json_format import Parse
from in_toto_attestation.predicates.provenance.v1 import provenance_pb2
from in_toto_attestation.v1.statement import Statement
from in_toto_attestation.v1.statement_pb2 import Statement as Message

from runner.reports.details import Artifact, Origin
from runner.reports.provenance import provenance
from runner.states import State

ORIGIN = Origin("forge", "https://git.example.org/team/flows.git", "refs/heads/main", "flows")
FILES = (Artifact("chart", "chart.png", 3, "ab" * 32), Artifact("chart", "huge.csv", 1 << 40))


def details(runs: Any, state: State = State.SUCCESS, **fields: Any) -> Any:
    execution = runs.execution(state=state, inputs={"station": "LGA", "token": "typed", "note": "s3cret-value"})
    values = {"artifacts": FILES, "origin": ORIGIN, "secret_inputs": frozenset({"token"})} | fields
    return runs.details(execution=execution, **values)


def test_the_statement_says_which_files_come_from_which_commit(runs: Any) -> None:
    found = provenance(details(runs), runs.mask)

    statement = Statement.copy_from_pb(Parse(json.dumps(found), Message()))
    statement.validate()
    assert [(each.name, dict(each.digest)) for each in statement.pb.subject] == [
        ("chart/chart.png", {"sha256": "ab" * 32})
    ]
    assert statement.pb.predicate_type == "https://slsa.dev/provenance/v1"
    assert found is not None
    read = Parse(json.dumps(found["predicate"]), provenance_pb2.Provenance())
    (source,) = read.build_definition.resolved_dependencies
    assert source.uri == "git+https://git.example.org/team/flows.git@refs/heads/main"
    assert dict(source.digest) == {"gitCommit": "4f2c9ab" + "0" * 33}
    assert read.run_details.metadata.invocation_id == "01jd8w"
    assert read.run_details.metadata.finished_on.ToJsonString() == "2026-03-01T12:01:42Z"


def test_inputs_are_there_without_secrets(runs: Any) -> None:
    found = provenance(details(runs), runs.mask)

    assert found is not None
    inputs = found["predicate"]["buildDefinition"]["externalParameters"]["inputs"]
    assert inputs == {"station": "LGA", "token": "******", "note": "******"}


@pytest.mark.parametrize(
    ("state", "files"),
    [
        (State.FAILED, FILES),
        (State.SUCCESS, ()),
        (State.SUCCESS, FILES[1:]),
        (State.SUCCESS, (replace(FILES[0], is_own=False),)),
    ],
)
def test_without_files_of_a_good_run_there_is_no_statement(
    runs: Any, state: State, files: tuple[Artifact, ...]
) -> None:
    assert provenance(details(runs, state, artifacts=files), runs.mask) is None
