"""Single checks of the doctor, each on real parts."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NoReturn

import pytest

from runner.executions.models import Execution
from runner.settings import EnvironmentSettings, RepositorySettings, Settings
from runner.states import State
from runner.store.records import Revision
from sync.origins import Origins
from sync.reports.ledger_notes import NOTES, LedgerLine
from sync.reports.notes import NoteBook
from sync.reports.writer_name import named
from tests.servers.store import fresh_store
from webhooks.checkup.finding import Patient, Weight
from webhooks.checkup.machine import check_clock
from webhooks.checkup.repositories import check_repositories
from webhooks.checkup.runners import Needs, check_bodies, check_docker, check_groups, check_process

BAD_REPOSITORY = RepositorySettings(name="far", url="http://127.0.0.1:1/flows.git")


@pytest.fixture
def patient(tmp_path: Path) -> Iterator[Patient]:
    settings = Settings(home=tmp_path)
    store = fresh_store(settings.database_url)
    yield Patient(settings, {"PATH": "/usr/bin:/bin"}, store=store)
    store.close()


def with_repositories(patient: Patient, **more: object) -> Patient:
    environments = (
        EnvironmentSettings(name="default", repository="hosted"),
        EnvironmentSettings(name="other", repository="far", namespaces=("far",)),
    )
    changed = {"repositories": (BAD_REPOSITORY,), "environments": environments, **more}
    settings = patient.settings.model_copy(update=changed)
    assert patient.store is not None
    Origins(patient.store, settings, patient.home).declare()
    return Patient(settings, patient.environment, store=patient.store)


def test_a_repository_that_cannot_be_reached_is_an_error(patient: Patient) -> None:
    found = list(check_repositories(with_repositories(patient)))

    assert [finding.weight for finding in found] == [Weight.OK, Weight.ERROR, Weight.WARNING]
    assert found[0].message == "hosted: main is empty, nothing has been pushed yet"
    assert found[1].message.startswith("far/other: ")


@pytest.mark.parametrize(("runner", "expected"), [("process", 1), ("docker", 0)])
def test_owners_that_share_a_process_runner_are_named(patient: Patient, runner: str, expected: int) -> None:
    found = check_repositories(with_repositories(patient, default_task_runner=runner))

    assert len([finding for finding in found if finding.subject == "isolation"]) == expected


def test_a_commit_that_is_not_active_yet_is_named(patient: Patient) -> None:
    with_repositories(patient)
    assert patient.store is not None
    origins = Origins(patient.store, patient.settings, patient.home)
    repository = origins.get("hosted").repository
    raw = repository.raw
    from dulwich.objects import Tree

    tree = Tree()
    raw.object_store.add_object(tree)
    commit = raw.get_worktree().commit(message=b"one", tree=tree.id, author=b"A <a@b.c>", committer=b"A <a@b.c>")
    raw.refs[b"refs/heads/main"] = commit  # type: ignore[index]  # dulwich's own types for refs
    origins.close()

    found = next(iter(check_repositories(patient)))

    assert found.weight is Weight.WARNING
    assert found.message == f"hosted: main at {commit.decode()[:7]}, active is nothing"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("SELECT 1", None),
        ("DELETE FROM revisions WHERE id = 2", f"the note of row 2 on {'b' * 7} is not in the ledger any more"),
        (
            f"UPDATE revisions SET digest = '{'0' * 64}' WHERE id = 2",
            f"the note of row 2 on {'b' * 7} says another digest than the ledger does now",
        ),
    ],
)
def test_a_ledger_that_says_other_than_its_notes_is_an_error(
    patient: Patient, change: str, expected: str | None
) -> None:
    with_repositories(patient)
    store, origins = patient.store, Origins(patient.store, patient.settings, patient.home)  # type: ignore[arg-type]
    assert store is not None
    at = datetime.now(UTC)
    for commit in ("a" * 40, "b" * 40):
        row = Revision("default", commit, "ACTIVE", at)
        store.write(lambda db, row=row: db.revisions.add(row))  # type: ignore[misc]  # bound at once
    rows = store.read(lambda db: db.revisions.list("default"))
    lines = {row.commit: [str(LedgerLine.of(row, named(store), str))] for row in rows}
    NoteBook(origins.get("hosted"), NOTES).append(lines, message="ledger", at=at)
    origins.close()
    with sqlite3.connect(patient.home / "state.db") as database:
        database.execute(change)
    database.close()

    found = [finding.message for finding in check_repositories(patient) if "note of row" in finding.message]

    assert found == ([] if expected is None else [f"default: {expected}"])


def test_a_program_behind_a_closed_folder_keeps_bodies_of_others_out(patient: Patient, tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    (closed / "sh").write_text("#!/bin/true\n")
    (closed / "sh").chmod(0o755)
    own = Patient(patient.settings, {"PATH": str(closed)}, uid=None)
    others = Patient(patient.settings, {"PATH": str(closed)}, uid=200_000)
    needs = Needs()
    needs.programs["sh"].add("company.team.plain")

    fine, refused = list(check_process(own, needs)), list(check_process(others, needs))

    assert fine[-1].weight is Weight.OK
    assert "sh" in fine[-1].message
    assert refused[0].weight is Weight.ERROR
    assert f"{closed}/sh may not be executed by bodies (uid 200000)" in refused[0].message
    assert "1 flow needs it" in refused[0].message


def test_a_program_that_bodies_pass_over_for_another_one_is_no_trouble(patient: Patient, tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    (closed / "sh").write_text("#!/bin/true\n")
    (closed / "sh").chmod(0o755)
    needs = Needs()
    needs.programs["sh"].add("company.team.plain")

    found = list(check_process(Patient(patient.settings, {"PATH": f"{closed}:/usr/bin:/bin"}, uid=200_000), needs))

    assert Weight.ERROR not in [finding.weight for finding in found]
    assert any(finding.message.startswith("process: sh") for finding in found if finding.weight is Weight.OK)


def test_images_that_are_not_there_are_named(patient: Patient, optional: Callable[[str, str], NoReturn]) -> None:
    needs = Needs()
    needs.runners["scripts.runner.docker.Docker"] = 1
    needs.images["company/never-made:1"].add("company.team.plain")

    found = list(check_docker(Patient(patient.settings, os.environ), needs))
    if "daemon does not answer" in found[0].message:
        optional("docker", found[0].message)

    assert [finding.weight for finding in found] == [Weight.OK, Weight.WARNING]
    assert found[1].message == "docker: the image company/never-made:1 is not there, and 1 flow names it"


def test_bodies_of_the_same_user_can_read_the_home_and_those_of_others_must_not(patient: Patient) -> None:
    patient.home.chmod(0o755)
    opened = check_bodies(Patient(patient.settings, {}, uid=200_000))
    patient.home.chmod(0o700)
    closed = check_bodies(Patient(patient.settings, {}, uid=200_000))

    same = check_bodies(Patient(patient.settings, {}, uid=None))

    assert [opened.weight, closed.weight, same.weight] == [Weight.ERROR, Weight.OK, Weight.WARNING]
    assert "secrets.yaml" in same.message


@pytest.mark.parametrize(("wish", "weight"), [("auto", Weight.OK), ("none", Weight.OK), ("/nowhere", Weight.WARNING)])
def test_only_control_groups_that_somebody_asked_for_are_missed(patient: Patient, wish: str, weight: Weight) -> None:
    process = patient.settings.process_runner.model_copy(update={"cgroup": wish})
    settings = patient.settings.model_copy(update={"process_runner": process})

    found = check_groups(Patient(settings, {}, running={"pid": os.getpid()}))

    assert (found.subject, found.weight) == ("cgroups", weight)


def test_a_clock_that_went_back_is_an_error(patient: Patient) -> None:
    before = check_clock(patient)
    later = datetime.now(UTC) + timedelta(hours=1)
    execution = Execution("e", "company.team", "plain", 1, State.CREATED, later)
    assert patient.store is not None
    patient.store.write(lambda db: db.executions.insert(execution))

    found = check_clock(patient)

    assert before.weight is Weight.OK
    assert found.weight is Weight.ERROR
    assert "but an execution was created at" in found.message
